/* SPDX-License-Identifier: Apache-2.0 */
/* Splits large pages and adds tables on demand; AMD APM vol. 2 §5.3. */
#include "paging.h"

#include "x86.h"

#define TABLES	    4
#define PTE_PRESENT 1u
#define PTE_USER    4u
#define PTE_LARGE   0x80u
#define PTE_FLAGS   0x1fu /* present, writable, user, PWT, PCD: the same bits on both levels */
#define PTE_ADDR    0x000ffffffffff000ull

extern uint64_t rt_pdpt[];
extern uint64_t rt_pd[]; /* entry.S: four tables in a row, for 4 GiB */

static uint64_t tables[TABLES][512] __attribute__((aligned(4096)));
static unsigned used;

static uint64_t *split(uint64_t *pde)
{
	uint64_t *table;

	if (used == TABLES)
		return NULL;
	table = tables[used++];
	for (uint64_t i = 0; i < 512; i++)
		table[i] = ((*pde & PTE_ADDR) + i * 4096) | (*pde & PTE_FLAGS);
	*pde = (uint64_t)table | PTE_FLAGS >> 2; /* present, writable, user: the leaf decides */
	return table;
}

bool page_set(uint64_t addr, enum page_access access)
{
	uint64_t *pde = &rt_pd[addr >> 21];
	uint64_t *table = *pde & PTE_LARGE ? split(pde) : (uint64_t *)(*pde & PTE_ADDR);
	uint64_t *pte;

	if (!table)
		return false;
	pte = &table[addr >> 12 & 511];
	*pte |= PTE_PRESENT | PTE_USER;
	if (access == PAGE_SUPERVISOR)
		*pte &= ~(uint64_t)PTE_USER;
	if (access == PAGE_ABSENT)
		*pte &= ~(uint64_t)PTE_PRESENT;
	invlpg(addr);
	return true;
}

bool page_map_high(uint64_t addr)
{
	uint64_t gib = addr >> 30;

	if (gib >= 512 || (!rt_pdpt[gib] && used == TABLES))
		return false;
	if (rt_pdpt[gib])
		return true;
	for (uint64_t i = 0; i < 512; i++)
		tables[used][i] = gib << 30 | i << 21 | PTE_LARGE | PTE_FLAGS >> 2;
	rt_pdpt[gib] = (uint64_t)tables[used++] | PTE_FLAGS >> 2;
	return true;
}
