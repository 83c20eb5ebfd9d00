# SPDX-License-Identifier: Apache-2.0
#
# make            build/minivm
# make demo       install what is missing, build, boot the embedded guest and run a few commands in it
# make shell      the same guest with a shell for you
# make test       everything that .ci/run runs; make test-long for the rest
# make unit asan tsan fuzz lint guest bench install clean

V ?= 0
Q := $(if $(filter 1,$(V)),,@)
B ?= build
CC ?= gcc
AR ?= ar
PREFIX ?= /usr/local

WARN := -Wall -Wextra -Wshadow -Wmissing-prototypes -Wpointer-arith -Wcast-qual -Wundef -Werror
HARDEN := -fstack-protector-strong -D_FORTIFY_SOURCE=2 -fstack-clash-protection -fcf-protection
OPT ?= -O2 -g
CPPFLAGS += -Iinclude -D_GNU_SOURCE
CFLAGS_ALL = -std=gnu17 $(WARN) $(OPT) $(HARDEN_FLAGS) -fPIE -pthread $(SAN) $(CFLAGS)
HARDEN_FLAGS ?= $(HARDEN)
LIBS := -linih -ljansson -lfdt -lzstd -llzma -llz4 -lz -lmd
# A static PIE starts in 14 system calls instead of 75 (docs/architecture.md "Linking").
LINK_KIND ?= -static-pie
LDFLAGS_ALL = -pthread -Wl,-z,relro,-z,now $(SAN) $(LDFLAGS)

LIB_SRC := $(filter-out vmm/main.c,$(wildcard vmm/*.c)) $(wildcard boot/*.c) \
	$(wildcard devices/*.c) $(wildcard devices/*/*.c)
LIB_OBJ := $(LIB_SRC:%.c=$(B)/obj/%.o)
UNIT_SRC := $(wildcard tests/unit/*.c)
UNIT_OBJ := $(UNIT_SRC:%.c=$(B)/obj/%.o)

VERSION := 0.1.0

.PHONY: all
all: $(B)/minivm

$(B)/obj/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC      $<"
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

$(B)/obj/vmm/cli.o: override CPPFLAGS += -DMINIVM_VERSION='"$(VERSION)"'

$(B)/libminivm.a: $(LIB_OBJ)
	@echo "  AR      $@"
	$(Q)rm -f $@
	$(Q)$(AR) rcs $@ $^

$(B)/minivm: $(B)/obj/vmm/main.o $(B)/libminivm.a vmm/running.ld
	@echo "  LD      $@"
	$(Q)$(CC) $(LINK_KIND) $(LDFLAGS_ALL) -Wl,-T,vmm/running.ld -o $@ $(filter-out %.ld,$^) $(LIBS)

# --- unit tests (criterion, no KVM) ---

CRITERION ?= -lcriterion
$(B)/unit: $(UNIT_OBJ) $(B)/libminivm.a $(filter %.o,$(CRITERION))
	@echo "  LD      $@"
	$(Q)$(CC) -pie $(LDFLAGS_ALL) -o $@ $^ $(LIBS) $(filter -l%,$(CRITERION))

.PHONY: unit
unit: $(B)/unit
	$(Q)$(B)/unit -j2 --timeout 30 $(UNIT_ARGS)

.PHONY: asan asan-build tsan
asan-build:
	$(Q)$(MAKE) B=build/asan SAN="-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer" \
		OPT="-O1 -g" HARDEN_FLAGS= LINK_KIND=-pie build/asan/minivm build/asan/unit
asan: asan-build
	$(Q)tests/run-unit.sh build/asan/unit

# criterion does not start under ThreadSanitizer: tests/tsan stands in for it. -Wno-tsan: gcc warns
# of every memory fence. setarch -R: the sanitizer's memory map and address randomisation collide.
tsan:
	$(Q)$(MAKE) B=build/tsan SAN="-fsanitize=thread" OPT="-O1 -g" HARDEN_FLAGS= LINK_KIND=-pie \
		CPPFLAGS="-Itests/tsan -Iinclude -D_GNU_SOURCE" CFLAGS="-Wno-tsan -Wno-dangling-pointer -Wno-maybe-uninitialized" \
		CRITERION=build/tsan/obj/tests/tsan/runner.o build/tsan/minivm build/tsan/unit
	$(Q)tests/run-unit.sh setarch -R build/tsan/unit

# --- fuzzing (libFuzzer, clang) ---

FUZZ_TIME ?= 20
FUZZ_SRC := $(wildcard tests/fuzz/fuzz_*.c)
FUZZ_BIN := $(FUZZ_SRC:tests/fuzz/%.c=build/fuzz/%)

.PHONY: fuzz fuzz-build
fuzz-build:
	$(Q)$(MAKE) B=build/fuzz CC=clang SAN="-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all" \
		OPT="-O1 -g" HARDEN_FLAGS= LINK_KIND=-pie build/fuzz/libminivm.a $(FUZZ_BIN)
fuzz: fuzz-build
	$(Q)tests/run-fuzz.sh $(FUZZ_TIME) $(FUZZ_BIN)

build/fuzz/fuzz_%: tests/fuzz/fuzz_%.c $(B)/libminivm.a
	@echo "  FUZZ    $@"
	$(Q)clang $(CPPFLAGS) -std=gnu17 $(WARN) -O1 -g -fsanitize=fuzzer,address,undefined \
		-fno-sanitize-recover=all -o $@ $< build/fuzz/libminivm.a $(LIBS) -pthread

# --- the guest, payloads and suites ---

-include $(wildcard tests/*/rules.mk)

.PHONY: rootfs guest
rootfs:
	$(Q)$(MAKE) --no-print-directory -C guest-images rootfs OUT=$(abspath build/guest)
# The kernel in the tree is used as it is; this builds it anew and compares.
guest:
	$(Q)tests/deps.sh guest demo
	$(Q)$(MAKE) --no-print-directory -C guest-images all OUT=$(abspath build/guest)

# --- the two commands of the README, and what else a person types ---

.PHONY: demo shell test test-long test-build
demo shell:
	$(Q)tests/deps.sh demo
	$(Q)$(MAKE) --no-print-directory -j2 build/minivm rootfs
	$(Q)guest-images/demo.sh $@

test-build:
	$(Q)tests/deps.sh test
	$(Q)$(MAKE) --no-print-directory -j2 build/minivm build/unit suites payloads rootfs
	$(Q)$(MAKE) --no-print-directory -C guest-images OUT=$(abspath build/guest) \
		$(abspath build/guest)/test_words
	$(Q)$(MAKE) --no-print-directory -j2 asan-build
	$(Q)$(MAKE) --no-print-directory -j2 fuzz-build
test: test-build
	$(Q)tests/run-all.sh
test-long: test-build
	$(Q)tests/run-all.sh --long

# The man page and the completion come from the option table; a unit test compares them.
$(B)/gen-docs: $(B)/obj/docs/gen.o $(B)/libminivm.a
	@echo "  LD      $@"
	$(Q)$(CC) -pie $(LDFLAGS_ALL) -o $@ $^ $(LIBS)
.PHONY: docs
docs: $(B)/gen-docs
	$(Q)$(B)/gen-docs man docs/minivm.1.in > docs/minivm.1
	$(Q)$(B)/gen-docs bash > docs/minivm.bash-completion

.PHONY: install
install: $(B)/minivm
	install -D -m 755 $(B)/minivm $(DESTDIR)$(PREFIX)/bin/minivm
	install -D -m 644 docs/minivm.1 $(DESTDIR)$(PREFIX)/share/man/man1/minivm.1
	install -D -m 644 docs/minivm.bash-completion \
		$(DESTDIR)$(PREFIX)/share/bash-completion/completions/minivm
	install -d $(DESTDIR)$(PREFIX)/share/doc/minivm
	install -m 644 docs/*.md LICENSE $(DESTDIR)$(PREFIX)/share/doc/minivm

# --- lint ---

C_FILES = $(shell git ls-files '*.c' '*.h')

.PHONY: lint format
format:
	clang-format -i $(C_FILES)
lint:
	$(Q)tests/lint.sh

.PHONY: clean
clean:
	rm -rf build

-include $(LIB_OBJ:.o=.d) $(UNIT_OBJ:.o=.d) $(B)/obj/vmm/main.d $(B)/obj/docs/gen.d
