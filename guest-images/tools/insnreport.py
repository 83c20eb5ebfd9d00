#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Sum insncount's output by kernel function: insnreport.py COUNTS SYSTEM_MAP [ROWS]

Waiting that only TCG does (no kvm-clock there, so timers are calibrated by spinning) is left out
of the total and shown on a line of its own.
"""
import bisect
import re
import sys

WAITING = re.compile(r"calibrate|setup_boot_APIC_clock|delay_(loop|tsc)|pit_|^native_read_tsc|tsc_read_refs|quick_pit|"
                     r"pit_hpet_ptimer|^default_idle|^__udelay|^__const_udelay|^timer_irq_works|"
                     r"^mwait_idle|^rep_nop$|^do_idle|^acpi_idle|^lapic_cal|^poll_idle")
PHYS_START, PHYS_END, KERNEL_MAP = 0x1000000, 0x4000000, 0xffffffff80000000


def main():
    counts, system_map = sys.argv[1:3]
    rows = int(sys.argv[3]) if len(sys.argv) > 3 else 40
    symbols = []
    for line in open(system_map):
        addr, kind, name = line.split()
        if kind in "tTwW":
            symbols.append((int(addr, 16), name))
    symbols.sort()
    addrs = [s[0] for s in symbols]
    by_name = {}
    for line in open(counts):
        addr, n = line.split()
        addr = int(addr, 16)
        if PHYS_START <= addr < PHYS_END:
            addr += KERNEL_MAP
        if addr < KERNEL_MAP:
            continue
        i = bisect.bisect_right(addrs, addr) - 1
        name = symbols[i][1] if i >= 0 else "?"
        by_name[name] = by_name.get(name, 0) + int(n)
    waiting = sum(n for name, n in by_name.items() if WAITING.search(name))
    total = sum(by_name.values()) - waiting
    print(f"total {total / 1e6:.2f} M  (waiting left out: {waiting / 1e6:.2f} M)")
    for name, n in sorted(by_name.items(), key=lambda x: -x[1])[:rows]:
        print(f"{n / 1e6:8.3f} M  {100 * n / total:5.1f} %  {name}")


main()
