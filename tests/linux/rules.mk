# SPDX-License-Identifier: Apache-2.0
#
# Linux under minivm: the suite, the program that it runs inside the guest, and the vmlinux out of the
# bzImage in the tree. Included by the Makefile.

LINUX := tests/linux
LINUX_CC ?= musl-gcc
KERNEL_IMAGE := guest-images/kernel/bzImage

# Static and small: it is copied into each test's initrd, and fewer pages are touched at its start.
LINUX_CHECKS_SRC := $(wildcard $(LINUX)/guest/*.c)
$(B)/linux-checks: $(LINUX_CHECKS_SRC) $(wildcard $(LINUX)/guest/*.h) $(LINUX)/*content.h tests/lib/pattern.h \
		tests/lib/vsock_services.h
	@mkdir -p $(@D)
	@command -v $(LINUX_CC) >/dev/null || { echo "linux-checks: $(LINUX_CC) is missing: install musl-tools" >&2; exit 1; }
	@echo "  CC      $@"
	$(Q)$(LINUX_CC) -std=gnu17 $(WARN) -Os -D_GNU_SOURCE -Itests/lib -fno-pie \
		-fno-asynchronous-unwind-tables -idirafter /usr/include \
		-idirafter /usr/include/$(shell $(CC) -print-multiarch) \
		-static -no-pie -s -Wl,-z,noseparate-code,--build-id=none -o $@ $(LINUX_CHECKS_SRC)

# The programs that run on the host, or in the outer Linux, where there are no libraries.
LINUX_SUITE_OBJ := $(patsubst %.c,$(B)/obj/%.o,$(wildcard $(LINUX)/suite*.c) \
	tests/lib/tap.c tests/lib/disk.c tests/lib/proc.c tests/lib/stream.c tests/lib/vsock_peer.c)
$(LINUX_SUITE_OBJ): CPPFLAGS += -Itests/lib
$(B)/linux-suite: $(LINUX_SUITE_OBJ)
	@echo "  LD      $@"
	$(Q)$(CC) -static $(LDFLAGS_ALL) -o $@ $^ -ljansson

$(B)/extract-vmlinux: $(B)/obj/$(LINUX)/extract-vmlinux.o $(B)/libminivm.a
	@echo "  LD      $@"
	$(Q)$(CC) -pie $(LDFLAGS_ALL) -o $@ $^ $(LIBS)

$(B)/guest/vmlinux: $(KERNEL_IMAGE) $(B)/extract-vmlinux
	@mkdir -p $(@D)
	@echo "  UNPACK  $@"
	$(Q)$(B)/extract-vmlinux $< $@

# The same kernel packed in every way (pack.sh).
$(B)/repack-bzimage: $(B)/obj/$(LINUX)/repack-bzimage.o $(B)/libminivm.a
	@echo "  LD      $@"
	$(Q)$(CC) -pie $(LDFLAGS_ALL) -o $@ $^ $(LIBS)

$(B)/packed/done: $(KERNEL_IMAGE) $(B)/guest/vmlinux $(B)/repack-bzimage $(LINUX)/pack.sh
	@echo "  PACK    $(@D)"
	$(Q)$(LINUX)/pack.sh $(KERNEL_IMAGE) $(B)/guest/vmlinux $(B)/repack-bzimage $(@D)
	@touch $@

.PHONY: suites
suites: $(B)/linux-suite $(B)/linux-checks $(B)/guest/vmlinux $(B)/packed/done

-include $(LINUX_SUITE_OBJ:.o=.d) $(B)/obj/$(LINUX)/extract-vmlinux.d $(B)/obj/$(LINUX)/repack-bzimage.d
