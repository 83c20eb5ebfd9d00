# SPDX-License-Identifier: Apache-2.0
# The ACPI tables as files, for iasl (check.sh). Included by the Makefile.

$(B)/acpi-dump: $(B)/obj/tests/acpi/dump.o $(B)/libminivm.a
	@echo "  LD      $@"
	$(Q)$(CC) -pie $(LDFLAGS_ALL) -o $@ $^ $(LIBS)

suites: $(B)/acpi-dump

-include $(B)/obj/tests/acpi/dump.d
