# SPDX-License-Identifier: Apache-2.0
#
# The freestanding payloads and the program that runs them under minivm. Included by the Makefile.
#   make payloads      $(B)/guest/*.elf and $(B)/guest-suite
# Flags: kernel-mode code without red zone or vector registers, at the address it is linked for.

GUEST := tests/guest
GUEST_CFLAGS := -std=gnu17 $(WARN) -O2 -g -ffreestanding -fno-stack-protector -fno-pie -mno-red-zone \
	-mgeneral-regs-only -mcmodel=small -fcf-protection=none -fno-asynchronous-unwind-tables \
	-fno-strict-aliasing -U_FORTIFY_SOURCE -I$(GUEST)/rt -I$(GUEST)/virtio -I$(GUEST) -Itests/lib
GUEST_LDFLAGS := -nostdlib -static -Wl,--build-id=none -Wl,-z,noexecstack -Wl,-T,$(GUEST)/rt/link.ld

GUEST_RT_OBJ := $(patsubst %,$(B)/obj/%.o,$(basename \
	$(wildcard $(GUEST)/rt/*.c $(GUEST)/rt/*.S $(GUEST)/virtio/*.c)))
GUEST_NAMES := $(patsubst $(GUEST)/payloads/%.c,%,$(wildcard $(GUEST)/payloads/*.c))
GUEST_OBJ := $(GUEST_NAMES:%=$(B)/obj/$(GUEST)/payloads/%.o)
GUEST_ELF := $(GUEST_NAMES:%=$(B)/guest/%.elf)
SUITE_OBJ := $(patsubst %.c,$(B)/obj/%.o,$(wildcard tests/lib/*.c $(GUEST)/suite*.c))

$(GUEST_OBJ) $(filter $(B)/obj/$(GUEST)/%,$(GUEST_RT_OBJ)): CFLAGS_ALL = $(GUEST_CFLAGS)
$(SUITE_OBJ): CPPFLAGS += -I$(GUEST) -Itests/lib

$(B)/obj/$(GUEST)/rt/%.o: $(GUEST)/rt/%.S
	@mkdir -p $(@D)
	@echo "  AS      $<"
	$(Q)$(CC) $(GUEST_CFLAGS) -MMD -MP -c -o $@ $<

$(GUEST_ELF): $(B)/guest/%.elf: $(B)/obj/$(GUEST)/payloads/%.o $(GUEST_RT_OBJ) $(GUEST)/rt/link.ld
	@mkdir -p $(@D)
	@echo "  LD      $@"
	$(Q)$(CC) $(GUEST_LDFLAGS) -o $@ $(filter %.o,$^)

$(B)/guest-suite: $(SUITE_OBJ)
	@echo "  LD      $@"
	$(Q)$(CC) -static $(LDFLAGS_ALL) -o $@ $^

.PHONY: payloads
payloads: $(GUEST_ELF) $(B)/guest-suite

-include $(GUEST_OBJ:.o=.d) $(GUEST_RT_OBJ:.o=.d) $(SUITE_OBJ:.o=.d)
