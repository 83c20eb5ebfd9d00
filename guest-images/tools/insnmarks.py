#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""insnmarks.py MARKS SYSTEM_MAP [ROWS]: instructions from one mark of insncount to the next, the
largest first, then in order of time."""
import sys

names = {}
for line in open(sys.argv[2]):
    addr, _, name = line.split()
    names.setdefault(int(addr, 16), name)
marks = [(int(a, 16), int(n)) for a, n in (line.split() for line in open(sys.argv[1]))]
steps = [(b[1] - a[1], names.get(a[0], "?"), a[1]) for a, b in zip(marks, marks[1:])]
rows = int(sys.argv[3]) if len(sys.argv) > 3 else 40
for n, name, at in sorted(steps, reverse=True)[:rows]:
    print(f"{n / 1e6:8.3f} M  from {at / 1e6:8.3f} M  {name}")
