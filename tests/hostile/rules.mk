# SPDX-License-Identifier: Apache-2.0
#
# Bad input and hosts in a bad state. Included by the Makefile.

HOSTILE_SUITE_OBJ := $(patsubst %.c,$(B)/obj/%.o,$(wildcard tests/hostile/*.c) \
	tests/lib/tap.c tests/lib/disk.c tests/lib/proc.c tests/lib/stream.c)
$(HOSTILE_SUITE_OBJ): CPPFLAGS += -Itests/lib
$(B)/hostile-suite: $(HOSTILE_SUITE_OBJ) $(B)/libminivm.a
	@echo "  LD      $@"
	$(Q)$(CC) -static $(LDFLAGS_ALL) -o $@ $^ -lmd

.PHONY: suites
suites: $(B)/hostile-suite

-include $(HOSTILE_SUITE_OBJ:.o=.d)
