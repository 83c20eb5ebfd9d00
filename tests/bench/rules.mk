# SPDX-License-Identifier: Apache-2.0
#
# Benchmarks (docs/benchmarks.md). Included by the Makefile.
#   make bench       measure; the table, and build/bench.json

BENCH := tests/bench
BENCH_ROUNDS ?=

BENCH_OBJ := $(patsubst %,$(B)/obj/$(BENCH)/%.o,bench count figures figures_net figures_restore pss result vmm watch) \
	$(patsubst %,$(B)/obj/tests/lib/%.o,net_peer proc stream tap)
$(BENCH_OBJ): CPPFLAGS += -Itests/lib
$(B)/bench: $(BENCH_OBJ)
	@echo "  LD      $@"
	$(Q)$(CC) -static $(LDFLAGS_ALL) -o $@ $^ -ljansson -lm

# Not a PIE: whatever its start costs is too much.
$(B)/floor: $(B)/obj/$(BENCH)/floor.o
$(B)/floor-restore: $(B)/obj/$(BENCH)/floor_restore.o
FLOORS := $(B)/floor $(B)/floor-restore
$(FLOORS): $(B)/obj/$(BENCH)/floor_calls.o $(B)/libminivm.a
	@echo "  LD      $@"
	$(Q)$(CC) -static -no-pie $(LDFLAGS_ALL) -o $@ $(filter %.o,$^) $(B)/libminivm.a -lmd

$(B)/obj/$(BENCH)/first.o: $(BENCH)/first.S
	@mkdir -p $(@D)
	@echo "  AS      $<"
	$(Q)$(CC) $(GUEST_CFLAGS) -MMD -MP -c -o $@ $<
$(B)/bench-first.elf: $(B)/obj/$(BENCH)/first.o $(BENCH)/first.ld
	@echo "  LD      $@"
	$(Q)$(CC) -nostdlib -static -Wl,--build-id=none,-z,noexecstack,-z,max-page-size=4096 \
		-Wl,-T,$(BENCH)/first.ld -o $@ $<

.PHONY: bench bench-build
bench-build: $(B)/bench $(FLOORS) $(B)/bench-first.elf $(B)/guest/round_trip.elf $(B)/guest/net_rate.elf $(B)/minivm $(B)/guest/vmlinux
bench:
	$(Q)tests/deps.sh bench
	$(Q)$(MAKE) --no-print-directory -j2 bench-build rootfs
	$(Q)$(BENCH)/run.sh $(BENCH_ROUNDS)

# What the tests take of it.
suites: $(B)/bench $(FLOORS) $(B)/bench-first.elf $(B)/guest/round_trip.elf

-include $(BENCH_OBJ:.o=.d) $(patsubst %,$(B)/obj/$(BENCH)/%.d,floor floor_restore floor_calls)
