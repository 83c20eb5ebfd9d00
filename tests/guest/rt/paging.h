/* SPDX-License-Identifier: Apache-2.0 */
/* Changes to the identity map (2 MiB pages, all open to ring 3) of entry.S. */
#ifndef RT_PAGING_H
#define RT_PAGING_H

#include <stdbool.h>
#include <stdint.h>

enum page_access {
	PAGE_OPEN,	 /* both rings */
	PAGE_SUPERVISOR, /* ring 0 only */
	PAGE_ABSENT,
};

/*
 * For the 4 KiB page at `addr`, below 4 GiB. False: too many different 2 MiB regions were touched.
 * Other processors see it once they flush their TLB.
 */
bool page_set(uint64_t addr, enum page_access access);

/* Maps the GiB that `addr` lies in one to one, for memory above 4 GiB. False: no table left. */
bool page_map_high(uint64_t addr);

#endif
