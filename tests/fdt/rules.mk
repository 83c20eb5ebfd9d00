# SPDX-License-Identifier: Apache-2.0
# The device tree as a file, for dtc and fdtdump (check.sh). Included by the Makefile.

$(B)/fdt-dump: $(B)/obj/tests/fdt/dump.o $(B)/libminivm.a
	@echo "  LD      $@"
	$(Q)$(CC) -pie $(LDFLAGS_ALL) -o $@ $^ $(LIBS)

suites: $(B)/fdt-dump

-include $(B)/obj/tests/fdt/dump.d
