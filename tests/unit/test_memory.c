/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory: layout around the hole, and that no address or length gets past a region. */
#include <criterion/criterion.h>

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "minivm/memory.h"

#define GIB (1ull << 30)

/* Two adjoining fake regions and one apart. */
static uint8_t low_bytes[2 * GUEST_PAGE_SIZE], next_bytes[GUEST_PAGE_SIZE],
    far_bytes[GUEST_PAGE_SIZE];

static struct guest_mem fake(void)
{
	struct guest_mem mem = {.count = 3};

	mem.region[0] = (struct guest_region){GPA(0x1000), sizeof(low_bytes), low_bytes};
	mem.region[1] = (struct guest_region){GPA(0x3000), sizeof(next_bytes), next_bytes};
	mem.region[2] =
	    (struct guest_region){GPA(-(uint64_t)GUEST_PAGE_SIZE), sizeof(far_bytes), far_bytes};
	return mem;
}

Test(memory, small_machine_is_one_zeroed_region)
{
	struct guest_mem mem;
	struct err err = {0};
	const uint8_t *p;

	cr_assert_eq(guest_mem_map(&mem, 16ull << 20, &err), 0, "%s", err.text);
	cr_assert_eq(mem.count, 1);
	cr_assert_eq(mem.region[0].gpa.v, 0);
	cr_assert_eq(guest_mem_bytes(&mem), 16ull << 20);
	cr_assert_eq(guest_mem_low_end(&mem), 16ull << 20);
	p = guest_mem_slice(&mem, GPA(0), 16ull << 20);
	cr_assert_not_null(p);
	cr_assert_eq(p[0] | p[4096] | p[(16 << 20) - 1], 0);
	guest_mem_unmap(&mem);
	cr_assert_eq(mem.count, 0);
	guest_mem_unmap(&mem);
}

Test(memory, big_machine_is_split_around_the_hole)
{
	struct guest_mem mem;
	struct err err = {0};

	cr_assert_eq(guest_mem_map(&mem, 5 * GIB, &err), 0, "%s", err.text);
	cr_assert_eq(mem.count, 2);
	cr_assert_eq(mem.region[0].len, 3 * GIB);
	cr_assert_eq(mem.region[1].gpa.v, 4 * GIB);
	cr_assert_eq(mem.region[1].len, 2 * GIB);
	cr_assert_eq(guest_mem_bytes(&mem), 5 * GIB);
	cr_assert_eq(guest_mem_low_end(&mem), 3 * GIB);
	cr_assert_null(guest_mem_slice(&mem, GPA(3 * GIB), 1));
	cr_assert_null(guest_mem_slice(&mem, GPA(4 * GIB - 1), 1));
	cr_assert_not_null(guest_mem_slice(&mem, GPA(4 * GIB), 2 * GIB));
	guest_mem_unmap(&mem);

	cr_assert_eq(guest_mem_map(&mem, 3 * GIB, &err), 0);
	cr_assert_eq(mem.count, 1);
	guest_mem_unmap(&mem);
}

Test(memory, impossible_sizes_are_refused)
{
	struct guest_mem mem;
	struct err err = {0};

	cr_assert_eq(guest_mem_map(&mem, 0, &err), -EINVAL);
	cr_assert_eq(guest_mem_map(&mem, 4097, &err), -EINVAL);
	cr_assert_eq(guest_mem_map(&mem, -(uint64_t)GUEST_PAGE_SIZE, &err), -ENOMEM);
	cr_assert_neq(err.text[0], '\0');
	cr_assert_eq(mem.count, 0, "a failed map must leave nothing behind");
}

Test(memory, slices_stay_inside_one_region)
{
	struct guest_mem mem = fake();

	cr_assert_eq(guest_mem_slice(&mem, GPA(0x1000), 0x2000), low_bytes);
	cr_assert_eq(guest_mem_slice(&mem, GPA(0x2fff), 1), low_bytes + 0x1fff);
	cr_assert_null(guest_mem_slice(&mem, GPA(0x2fff), 2), "across adjoining regions");
	cr_assert_null(guest_mem_slice(&mem, GPA(0xfff), 2));
	cr_assert_null(guest_mem_slice(&mem, GPA(0xfff), 0));
	cr_assert_null(guest_mem_slice(&mem, GPA(0), UINT64_MAX));
	cr_assert_null(guest_mem_slice(&mem, GPA(0x1000), UINT64_MAX), "length wraps");
	cr_assert_null(guest_mem_slice(&mem, GPA(0x1800), UINT64_MAX - 0x7ff),
		       "sum wraps to 0x1000");
	cr_assert_eq(guest_mem_slice(&mem, GPA(0x3000), 1), next_bytes);
	cr_assert_not_null(guest_mem_slice(&mem, GPA(0x4000), 0), "the end, with no length");
	cr_assert_null(guest_mem_slice(&mem, GPA(0x4000), 1));
	cr_assert_null(guest_mem_slice(&mem, GPA(0x4001), 0));
}

Test(memory, the_last_page_of_the_address_space)
{
	struct guest_mem mem = fake();

	cr_assert_eq(guest_mem_slice(&mem, GPA(UINT64_MAX), 1), far_bytes + 4095);
	cr_assert_null(guest_mem_slice(&mem, GPA(UINT64_MAX), 2));
	cr_assert_not_null(guest_mem_slice(&mem, GPA(UINT64_MAX - 4095), 4096));
}

Test(memory, copies_do_all_or_nothing)
{
	struct guest_mem mem = fake();
	uint8_t buf[4] = {1, 2, 3, 4};

	cr_assert_eq(guest_mem_write(&mem, GPA(0x2ffe), buf, 4), -EFAULT);
	cr_assert_eq(low_bytes[0x1ffe] | low_bytes[0x1fff] | next_bytes[0], 0);
	cr_assert_eq(guest_mem_write(&mem, GPA(0x2ffc), buf, 4), 0);
	cr_assert_eq(memcmp(low_bytes + 0x1ffc, buf, 4), 0);

	memset(buf, 9, sizeof(buf));
	cr_assert_eq(guest_mem_read(&mem, GPA(0x2ffe), buf, 4), -EFAULT);
	cr_assert_eq(buf[0], 9);
	cr_assert_eq(guest_mem_read(&mem, GPA(0x2ffc), buf, 4), 0);
	cr_assert_eq(buf[3], 4);

	cr_assert_eq(guest_mem_write(&mem, GPA(0x2ffc), NULL, 0), 0);
	cr_assert_eq(guest_mem_read(&mem, GPA(0x2ffc), NULL, 0), 0);
	cr_assert_eq(guest_mem_zero(&mem, GPA(0x2ffc), 5), -EFAULT);
	cr_assert_eq(low_bytes[0x1fff], 4);
	cr_assert_eq(guest_mem_zero(&mem, GPA(0x2ffd), 3), 0);
	cr_assert_eq(low_bytes[0x1ffc], 1);
	cr_assert_eq(low_bytes[0x1fff], 0);
}

/* A file of three pages: 1, 2, 3. */
static int three_pages(void)
{
	uint8_t page[GUEST_PAGE_SIZE];
	int fd = memfd_create("pages", MFD_CLOEXEC);

	cr_assert_geq(fd, 0);
	for (int i = 1; i <= 3; i++) {
		memset(page, i, sizeof(page));
		cr_assert_eq(write(fd, page, sizeof(page)), (ssize_t)sizeof(page));
	}
	return fd;
}

Test(memory, a_file_s_pages_are_the_guest_s_own)
{
	struct guest_mem mem;
	struct err err = {0};
	uint8_t *ram, byte = 0;
	int fd = three_pages();

	cr_assert_eq(guest_mem_map(&mem, 1u << 20, &err), 0, "%s", err.text);
	ram = guest_mem_slice(&mem, GPA(0), 1u << 20);
	cr_assert_eq(guest_mem_map_file(&mem, GPA(0x5000), 0x2000, fd, 0x1000, &err), 0, "%s",
		     err.text);
	cr_assert_eq(ram[0x4fff], 0);
	cr_assert_eq(ram[0x5000], 2);
	cr_assert_eq(ram[0x6fff], 3);
	cr_assert_eq(ram[0x7000], 0);
	ram[0x5000] = 99;
	cr_assert_eq(pread(fd, &byte, 1, 0x1000), 1);
	cr_assert_eq(byte, 2, "what a guest writes does not reach the file");
	guest_mem_unmap(&mem);
	close(fd);
}

Test(memory, a_file_outside_of_ram_is_refused)
{
	struct guest_mem mem;
	struct err err = {0};
	int fd = three_pages();

	cr_assert_eq(guest_mem_map(&mem, 1u << 20, &err), 0, "%s", err.text);
	cr_assert_eq(guest_mem_map_file(&mem, GPA(0xff000), 0x2000, fd, 0, &err), -ENOMEM);
	cr_assert_eq(guest_mem_map_file(&mem, GPA(-0x1000ull), 0x2000, fd, 0, &err), -ENOMEM);
	guest_mem_unmap(&mem);
	close(fd);
}

/* One huge page of the host can only stand behind one of the guest if both begin alike. */
Test(memory, transparent_huge_pages_are_possible)
{
	struct guest_mem mem;
	struct err err = {0};

	cr_assert_eq(guest_mem_map_pages(&mem, 16ull << 20, GUEST_PAGES_TRANSPARENT, &err), 0, "%s",
		     err.text);
	cr_assert_eq((uintptr_t)mem.region[0].host % GUEST_HUGE_PAGE_SIZE, 0);
	memset(mem.region[0].host, 1, mem.region[0].len);
	guest_mem_unmap(&mem);
}

/* Hosts without a reserve (most) say so at once; on others the memory is there. */
Test(memory, two_mib_pages_are_there_or_refused)
{
	struct guest_mem mem;
	struct err err = {0};
	int rc = guest_mem_map_pages(&mem, 4ull << 20, GUEST_PAGES_2M, &err);

	if (rc) {
		cr_assert_eq(rc, -ENOMEM);
		cr_assert_not_null(strstr(err.text, "nr_hugepages"), "%s", err.text);
		return;
	}
	memset(mem.region[0].host, 1, mem.region[0].len);
	cr_assert_eq(guest_mem_map_file(&mem, GPA(0), 0x1000, 0, 0, &err), -EOPNOTSUPP);
	guest_mem_unmap(&mem);
}

Test(memory, two_mib_pages_come_whole)
{
	struct guest_mem mem;
	struct err err = {0};

	cr_assert_eq(guest_mem_map_pages(&mem, 17ull << 20, GUEST_PAGES_2M, &err), -EINVAL);
}

/* --- giving pages back --- */

static bool page_resident(const uint8_t *p)
{
	unsigned char vec = 0;

	cr_assert_eq(mincore((void *)(uintptr_t)p, GUEST_PAGE_SIZE, &vec), 0);
	return vec & 1;
}

Test(memory, discarded_pages_are_zeroes_and_gone)
{
	struct guest_mem mem;
	struct err err = {0};
	uint8_t *p;

	cr_assert_eq(guest_mem_map(&mem, 1u << 20, &err), 0);
	p = guest_mem_slice(&mem, GPA(0), 1u << 20);
	memset(p, 0x5a, 1u << 20);
	cr_expect_eq(guest_mem_discard(&mem, GPA(0x2001), 0x2fff), 0, "two whole pages in it");
	cr_expect(page_resident(p + 0x2000));
	cr_expect(!page_resident(p + 0x3000));
	cr_expect(!page_resident(p + 0x4000));
	cr_expect(page_resident(p + 0x5000));
	cr_expect_eq(p[0x3000] | p[0x4fff], 0);
	cr_expect_eq(p[0x2fff] & p[0x5000], 0x5a);
	cr_expect_eq(guest_mem_discard(&mem, GPA(0x6001), 0xffe), 0, "no whole page");
	cr_expect_eq(p[0x6001], 0x5a);
	cr_expect_eq(guest_mem_discard(&mem, GPA(0xff000), 0x2000), -EFAULT);
	cr_expect_eq(guest_mem_discard(&mem, GPA(-0x1000ull), 0x2000), -EFAULT);
	cr_expect_eq(p[0xff000], 0x5a);
	guest_mem_unmap(&mem);
}

/* MADV_DONTNEED alone would bring the file's bytes back. */
Test(memory, discarded_pages_of_a_file_are_zeroes)
{
	uint8_t bytes[4 * GUEST_PAGE_SIZE];
	struct guest_mem mem;
	struct err err = {0};
	int fd = memfd_create("kernel", MFD_CLOEXEC);
	uint8_t *p;

	memset(bytes, 0x77, sizeof(bytes));
	cr_assert_eq(write(fd, bytes, sizeof(bytes)), (ssize_t)sizeof(bytes));
	cr_assert_eq(guest_mem_map(&mem, 1u << 20, &err), 0);
	cr_assert_eq(guest_mem_map_file(&mem, GPA(0x4000), 0x2000, fd, 0, &err), 0);
	cr_assert_eq(guest_mem_map_file(&mem, GPA(0x6000), 0x2000, fd, 0x2000, &err), 0);
	p = guest_mem_slice(&mem, GPA(0), 1u << 20);
	cr_expect_eq(guest_mem_discard(&mem, GPA(0x3000), 0x2000), 0);
	cr_expect_eq(guest_mem_discard(&mem, GPA(0x7000), 0x1000), 0);
	cr_expect_eq(p[0x4000] | p[0x4fff] | p[0x7000] | p[0x7fff], 0);
	cr_expect_eq(p[0x5000] & p[0x6fff], 0x77);
	p[0x4000] = 1; /* memory like any other */
	cr_expect_eq(guest_mem_discard(&mem, GPA(0x4000), 0x1000), 0);
	cr_expect_eq(p[0x4000], 0);
	guest_mem_unmap(&mem);
	close(fd);
}

/* More files than are remembered one by one: all of memory counts as a file's. */
Test(memory, many_files)
{
	uint8_t byte = 0x77;
	struct guest_mem mem;
	struct err err = {0};
	int fd = memfd_create("kernel", MFD_CLOEXEC);
	unsigned n = GUEST_SPANS_MAX + 3;
	uint8_t *p;

	cr_assert_eq(ftruncate(fd, GUEST_PAGE_SIZE), 0);
	cr_assert_eq(pwrite(fd, &byte, 1, 0), 1);
	cr_assert_eq(guest_mem_map(&mem, 1u << 20, &err), 0);
	for (unsigned i = 0; i < n; i++)
		cr_assert_eq(guest_mem_map_file(&mem, GPA(i * 0x2000), 0x1000, fd, 0, &err), 0);
	p = guest_mem_slice(&mem, GPA(0), 1u << 20);
	p[0x1000] = 0x5a;
	cr_expect_eq(guest_mem_discard(&mem, GPA(0), n * 0x2000u), 0);
	for (unsigned i = 0; i < 2 * n; i++)
		cr_expect_eq(p[i * 0x1000], 0, "page %u", i);
	guest_mem_unmap(&mem);
	close(fd);
}

Test(memory, host_addresses_and_back)
{
	struct guest_mem mem = fake();

	cr_expect_eq(guest_mem_gpa(&mem, low_bytes).v, 0x1000);
	cr_expect_eq(guest_mem_gpa(&mem, far_bytes + 5).v, -(uint64_t)GUEST_PAGE_SIZE + 5);
	cr_expect_eq(guest_mem_gpa(&mem, &mem).v, UINT64_MAX);
}

/* The kernel may put one mapping right behind another: the end of a region is none of its bytes. */
Test(memory, host_addresses_of_regions_that_adjoin)
{
	static uint8_t bytes[2 * GUEST_PAGE_SIZE];
	const struct guest_mem mem = {
	    .count = 2,
	    .region = {{GPA(0), GUEST_PAGE_SIZE, bytes},
		       {GPA(GUEST_MMIO_HOLE_END), GUEST_PAGE_SIZE, bytes + GUEST_PAGE_SIZE}},
	};

	cr_expect_eq(guest_mem_gpa(&mem, bytes + GUEST_PAGE_SIZE - 1).v, GUEST_PAGE_SIZE - 1);
	cr_expect_eq(guest_mem_gpa(&mem, bytes + GUEST_PAGE_SIZE).v, GUEST_MMIO_HOLE_END);
	cr_expect_eq(guest_mem_gpa(&mem, bytes + 2 * GUEST_PAGE_SIZE).v, UINT64_MAX);
}
