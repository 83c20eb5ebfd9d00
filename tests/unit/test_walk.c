/* SPDX-License-Identifier: Apache-2.0 */
/* The guest page walk: translations, every reason to fault, accessed and dirty bits. */
#include <criterion/criterion.h>
#include <pthread.h>

#include "assist_fake.h"

#define LIN 0xffff888000123000ull

static struct fake f;

static void setup(void)
{
	fake_init(&f);
}

static void teardown(void)
{
	fake_free(&f);
}

TestSuite(walk, .init = setup, .fini = teardown);

static enum walk_status walk(uint64_t linear, unsigned access, struct walk_result *r)
{
	struct walk_state s = fake_walk_state(&f);

	*r = (struct walk_result){0};
	return walk_translate(&f.mem, &s, linear, access, r);
}

static void expect_ok(uint64_t linear, unsigned access, uint64_t gpa, uint64_t left)
{
	struct walk_result r;

	cr_assert_eq(walk(linear, access, &r), WALK_OK, "%lx access %x: error code %x", linear,
		     access, r.error_code);
	cr_assert_eq(r.gpa.v, gpa, "%lx -> %lx", linear, r.gpa.v);
	cr_assert_eq(r.page_left, left);
}

static void expect_fault(uint64_t linear, unsigned access, uint32_t code)
{
	struct walk_result r;

	cr_assert_eq(walk(linear, access, &r), WALK_FAULT, "%lx access %x", linear, access);
	cr_assert_eq(r.error_code, code, "%lx access %x: %x instead of %x", linear, access,
		     r.error_code, code);
}

Test(walk, page_sizes)
{
	fake_map(&f, LIN, 0x234000, P | W);
	expect_ok(LIN + 0x123, 0, 0x234123, 0x1000 - 0x123);
	expect_ok(LIN + 0xfff, 0, 0x234fff, 1);

	*fake_pte(&f, 0x40000000, 2) = 0x200000 | P | W | PS;
	expect_ok(0x40000000 + 0x12345, 0, 0x212345, 0x200000 - 0x12345);

	*fake_pte(&f, 0x80000000, 3) = 0x40000000 | P | W | PS;
	expect_ok(0x80000000 + 0x1234567, 0, 0x41234567, 0x40000000 - 0x1234567);
}

Test(walk, pat_bit_of_large_pages_is_not_address)
{
	*fake_pte(&f, 0x40000000, 2) = 0x200000 | P | PS | 1u << 12;
	expect_ok(0x40000000, 0, 0x200000, 0x200000);
	*fake_pte(&f, 0x80000000, 3) = 0x40000000 | P | PS | 1u << 12;
	expect_ok(0x80000000, 0, 0x40000000, 0x40000000);
	fake_map(&f, LIN, 0x234000, P | PS); /* bit 7 is PAT at level 1 */
	expect_ok(LIN, 0, 0x234000, 0x1000);
}

Test(walk, five_levels)
{
	struct walk_result r;

	f.sregs.cr4 |= 1u << 12;
	fake_map(&f, 0x00ab888000123000ull, 0x234000, P);
	expect_ok(0x00ab888000123008ull, 0, 0x234008, 0xff8);
	cr_assert_eq(walk(0x0100000000000000ull, 0, &r), WALK_NONCANONICAL);
}

Test(walk, canonical)
{
	struct walk_result r;

	cr_assert_eq(walk(0x0000800000000000ull, 0, &r), WALK_NONCANONICAL);
	cr_assert_eq(walk(0xffff7fffffffffffull, 0, &r), WALK_NONCANONICAL);
	cr_assert(walk_canonical(0, 0x00007fffffffffffull));
	cr_assert(walk_canonical(0, 0xffff800000000000ull));
	cr_assert(!walk_canonical(0, 0x0000800000000000ull));
	cr_assert(walk_canonical(1u << 12, 0x00ffffffffffffffull));
	cr_assert(!walk_canonical(1u << 12, 0x0100000000000000ull));
}

Test(walk, only_long_mode_paging)
{
	struct walk_result r;

	fake_map(&f, LIN, 0x234000, P);
	f.sregs.efer &= ~(1ull << 10);
	cr_assert_eq(walk(LIN, 0, &r), WALK_UNSUPPORTED);
	f.sregs.efer |= 1u << 10;
	f.sregs.cr0 &= ~(1ull << 31);
	cr_assert_eq(walk(LIN, 0, &r), WALK_UNSUPPORTED);
}

Test(walk, not_present_at_each_level)
{
	static const unsigned levels[] = {4, 3, 2, 1};

	fake_map(&f, LIN, 0x234000, P | W | U);
	for (unsigned i = 0; i < 4; i++) {
		uint64_t *e = fake_pte(&f, LIN, levels[i]);
		uint64_t old = *e;

		*e &= ~1ull;
		expect_fault(LIN, 0, 0);
		expect_fault(LIN, WALK_WRITE, PF_ERR_WRITE);
		expect_fault(LIN, WALK_USER, PF_ERR_USER);
		expect_fault(LIN, WALK_USER | WALK_FETCH, PF_ERR_USER | PF_ERR_FETCH);
		*e = ~1ull; /* all else is ignored */
		expect_fault(LIN, 0, 0);
		*e = old;
	}
	expect_ok(LIN, WALK_USER | WALK_WRITE, 0x234000, 0x1000);
}

Test(walk, user_and_write_rights_are_the_and_of_all_levels)
{
	fake_map(&f, LIN, 0x234000, P | W | U);
	for (unsigned level = 1; level <= 4; level++) {
		uint64_t *e = fake_pte(&f, LIN, level);

		*e &= ~(uint64_t)U;
		expect_fault(LIN, WALK_USER, PF_ERR_PRESENT | PF_ERR_USER);
		expect_ok(LIN, WALK_WRITE, 0x234000, 0x1000);
		*e |= U;
		*e &= ~(uint64_t)W;
		expect_fault(LIN, WALK_USER | WALK_WRITE,
			     PF_ERR_PRESENT | PF_ERR_USER | PF_ERR_WRITE);
		expect_ok(LIN, WALK_USER, 0x234000, 0x1000);
		*e |= W;
		*e |= NX;
		expect_fault(LIN, WALK_USER | WALK_FETCH,
			     PF_ERR_PRESENT | PF_ERR_USER | PF_ERR_FETCH);
		expect_ok(LIN, WALK_USER | WALK_WRITE, 0x234000, 0x1000);
		*e &= ~NX;
	}
}

Test(walk, write_protect)
{
	fake_map(&f, LIN, 0x234000, P);
	expect_fault(LIN, WALK_WRITE, PF_ERR_PRESENT | PF_ERR_WRITE);
	f.sregs.cr0 &= ~(1ull << 16);
	expect_ok(LIN, WALK_WRITE, 0x234000, 0x1000);
	*fake_pte(&f, LIN, 1) |= U;
	expect_fault(LIN, WALK_WRITE | WALK_USER, PF_ERR_PRESENT | PF_ERR_WRITE | PF_ERR_USER);
}

Test(walk, smap)
{
	fake_map(&f, LIN, 0x234000, P | W | U);
	expect_fault(LIN, 0, PF_ERR_PRESENT);
	expect_fault(LIN, WALK_WRITE, PF_ERR_PRESENT | PF_ERR_WRITE);
	f.regs.rflags |= 1u << 18; /* AC */
	expect_ok(LIN, WALK_WRITE, 0x234000, 0x1000);
	expect_fault(LIN, WALK_IMPLICIT, PF_ERR_PRESENT);
	f.sregs.cr4 &= ~(1ull << 21);
	expect_ok(LIN, WALK_IMPLICIT, 0x234000, 0x1000);
	f.regs.rflags = 2;
	expect_ok(LIN, 0, 0x234000, 0x1000);
}

Test(walk, smep)
{
	fake_map(&f, LIN, 0x234000, P | U);
	expect_fault(LIN, WALK_FETCH, PF_ERR_PRESENT | PF_ERR_FETCH);
	f.sregs.cr4 &= ~(1ull << 20);
	expect_ok(LIN, WALK_FETCH, 0x234000, 0x1000);
	*fake_pte(&f, LIN, 1) = 0x234000 | P;
	f.sregs.cr4 |= 1u << 20;
	expect_ok(LIN, WALK_FETCH, 0x234000, 0x1000);
}

Test(walk, fetch_bit_needs_nx_or_smep)
{
	f.sregs.efer &= ~(1ull << 11);
	expect_fault(LIN, WALK_FETCH, PF_ERR_FETCH); /* SMEP */
	f.sregs.cr4 &= ~(1ull << 20);
	expect_fault(LIN, WALK_FETCH, 0);
	f.sregs.efer |= 1u << 11;
	expect_fault(LIN, WALK_FETCH, PF_ERR_FETCH);
}

Test(walk, reserved_bits)
{
	const uint32_t code = PF_ERR_PRESENT | PF_ERR_RESERVED;
	uint64_t *e;

	fake_map(&f, LIN, 0x234000, P | W | U);
	for (unsigned level = 1; level <= 4; level++) {
		e = fake_pte(&f, LIN, level);
		*e |= 1ull << 40; /* MAXPHYADDR is 40 */
		expect_fault(LIN, WALK_USER, code | PF_ERR_USER);
		*e &= ~(1ull << 40);
		*e |= 1ull << 51;
		expect_fault(LIN, WALK_USER | WALK_WRITE, code | PF_ERR_USER | PF_ERR_WRITE);
		*e &= ~(1ull << 51);
		*e |= 0x7ffull << 52; /* ignored */
		expect_ok(LIN, WALK_USER, 0x234000, 0x1000);
		*e &= ~(0x7ffull << 52);
		*e |= NX;
		f.sregs.efer &= ~(1ull << 11);
		expect_fault(LIN, WALK_USER, code | PF_ERR_USER);
		f.sregs.efer |= 1u << 11;
		*e &= ~NX;
	}
	*fake_pte(&f, LIN, 4) |= PS;
	expect_fault(LIN, WALK_USER, code | PF_ERR_USER);
}

Test(walk, reserved_bits_of_large_pages)
{
	const uint32_t code = PF_ERR_PRESENT | PF_ERR_RESERVED;

	for (unsigned bit = 13; bit <= 20; bit++) {
		*fake_pte(&f, 0x40000000, 2) = 0x200000 | P | PS | 1ull << bit;
		expect_fault(0x40000000, 0, code);
	}
	for (unsigned bit = 13; bit <= 29; bit++) {
		*fake_pte(&f, 0x80000000, 3) = 0x40000000 | P | PS | 1ull << bit;
		expect_fault(0x80000000, 0, code);
	}
}

Test(walk, gigabyte_pages_may_be_missing)
{
	struct walk_state s = fake_walk_state(&f);
	struct walk_result r;

	*fake_pte(&f, 0x80000000, 3) = 0x40000000 | P | PS;
	s.gigabyte_pages = false;
	cr_assert_eq(walk_translate(&f.mem, &s, 0x80000000, 0, &r), WALK_FAULT);
	cr_assert_eq(r.error_code, PF_ERR_PRESENT | PF_ERR_RESERVED);
}

Test(walk, five_level_top_entry_has_no_page_size)
{
	f.sregs.cr4 |= 1u << 12;
	fake_map(&f, LIN, 0x234000, P);
	*fake_pte(&f, LIN, 5) |= PS;
	expect_fault(LIN, 0, PF_ERR_PRESENT | PF_ERR_RESERVED);
}

Test(walk, tables_outside_of_ram_read_as_ones)
{
	f.sregs.cr3 = 0x10000000;
	expect_fault(LIN, 0, PF_ERR_PRESENT | PF_ERR_RESERVED);
	f.sregs.cr3 = FAKE_TABLES;
	fake_map(&f, LIN, 0x234000, P | W);
	*fake_pte(&f, LIN, 2) = FAKE_RAM | P | W;
	expect_fault(LIN, 0, PF_ERR_PRESENT | PF_ERR_RESERVED);
}

Test(walk, a_page_outside_of_ram_is_still_a_translation)
{
	fake_map(&f, LIN, 0xfee00000, P | W);
	expect_ok(LIN + 0x30, 0, 0xfee00030, 0x1000 - 0x30);
}

Test(walk, accessed_and_dirty)
{
	uint64_t *pte = fake_map(&f, LIN, 0x234000, P | W);

	expect_ok(LIN, WALK_PEEK | WALK_WRITE, 0x234000, 0x1000);
	cr_assert_eq(*pte, 0x234000u | P | W, "a peek leaves no trace");
	cr_assert(!(*fake_pte(&f, LIN, 4) & A));
	expect_ok(LIN, 0, 0x234000, 0x1000);
	cr_assert_eq(*pte, 0x234000u | P | W | A);
	for (unsigned level = 2; level <= 4; level++)
		cr_assert_eq(*fake_pte(&f, LIN, level) & (A | D), A);
	expect_ok(LIN, WALK_WRITE, 0x234000, 0x1000);
	cr_assert_eq(*pte, 0x234000u | P | W | A | D);
	for (unsigned level = 2; level <= 4; level++)
		cr_assert_eq(*fake_pte(&f, LIN, level) & (A | D), A, "dirty is the leaf's");
}

Test(walk, faults_leave_no_trace)
{
	uint64_t *pte = fake_map(&f, LIN, 0x234000, P);

	expect_fault(LIN, WALK_WRITE, PF_ERR_PRESENT | PF_ERR_WRITE);
	cr_assert_eq(*pte, 0x234000u | P);
	cr_assert_eq(*fake_pte(&f, LIN, 4) & A, 0);
}

Test(walk, cr3_low_bits_are_no_address)
{
	fake_map(&f, LIN, 0x234000, P);
	f.sregs.cr3 |= 0xfff | 1ull << 63;
	expect_ok(LIN, 0, 0x234000, 0x1000);
}

Test(walk, peek_crosses_pages)
{
	struct walk_state s = fake_walk_state(&f);
	uint8_t buf[8];

	fake_map(&f, LIN, 0x234000, P);
	fake_map(&f, LIN + 0x1000, 0x300000, P);
	memcpy(f.ram + 0x234ffd, "abc", 3);
	memcpy(f.ram + 0x300000, "defgh", 5);
	cr_assert(walk_peek(&f.mem, &s, LIN + 0xffd, 0, buf, 8));
	cr_assert_arr_eq(buf, "abcdefgh", 8);
	cr_assert(!walk_peek(&f.mem, &s, LIN + 0xffd, WALK_USER, buf, 8));
	cr_assert(!walk_peek(&f.mem, &s, LIN + 0x1ffd, 0, buf, 8), "next page is not mapped");
	fake_map(&f, LIN + 0x1000, 0xfee00000, P);
	cr_assert(!walk_peek(&f.mem, &s, LIN + 0xffd, 0, buf, 8), "next page is not RAM");
	cr_assert_eq(*fake_pte(&f, LIN, 1) & A, 0);
}

Test(walk, peek_at_the_end_of_the_address_space)
{
	struct walk_state s = fake_walk_state(&f);
	uint8_t buf[8];

	fake_map(&f, 0xfffffffffffff000ull, 0x234000, P);
	fake_map(&f, 0x00007ffffffff000ull, 0x234000, P);
	cr_assert(walk_peek(&f.mem, &s, 0xfffffffffffffff8ull, 0, buf, 8));
	cr_assert(!walk_peek(&f.mem, &s, 0xfffffffffffffff9ull, 0, buf, 8));
	cr_assert(!walk_peek(&f.mem, &s, 0x00007ffffffffff9ull, 0, buf, 8));
}

/* --- against another CPU that swaps the page out and in --- */

#define SWAPPED 0x123456789abc0802ull /* not present; bits 5 and 6 are part of a swap slot */

struct swapper {
	uint64_t *pte;
	bool stop;
	unsigned rounds, damaged;
};

static void *swap_out_and_in(void *arg)
{
	struct swapper *s = arg;

	while (!__atomic_load_n(&s->stop, __ATOMIC_RELAXED)) {
		uint64_t in = 0x234000u | P | W;

		__atomic_store_n(s->pte, SWAPPED, __ATOMIC_RELAXED);
		if (__atomic_exchange_n(s->pte, in, __ATOMIC_RELAXED) != SWAPPED)
			s->damaged++;
		s->rounds++;
	}
	return NULL;
}

Test(walk, entries_that_change_meanwhile_are_not_damaged)
{
	struct swapper s = {.pte = fake_map(&f, LIN, 0x234000, P | W)};
	unsigned seen[WALK_UNSUPPORTED + 1] = {0};
	pthread_t thread;

	cr_assert_eq(pthread_create(&thread, NULL, swap_out_and_in, &s), 0);
	for (unsigned i = 0; i < 200000; i++) {
		struct walk_result r;

		seen[walk(LIN, WALK_WRITE, &r)]++;
	}
	__atomic_store_n(&s.stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	cr_assert_eq(s.damaged, 0, "%u of %u", s.damaged, s.rounds);
	cr_assert_eq(seen[WALK_OK] + seen[WALK_FAULT] + seen[WALK_AGAIN], 200000);
}
