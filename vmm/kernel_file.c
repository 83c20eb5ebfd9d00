/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A kernel file on its way into guest memory (minivm/kernel_file.h).
 *
 * Theory of operation: with the cache warm, the file itself is opened (it must be readable) but not
 * read. Else it is read into memory of ours, since it may change under us, and its identity is
 * noted in the cache only if it was the same before and after the reading and its last change is
 * long enough ago: file time stamps are coarse, and a file that is changed twice within a tick of
 * the clock shows one stamp.
 */
#include "minivm/kernel_file.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "minivm/file.h"

#define KERNEL_FILE_MAX (1ull << 30)

/* Ticks are 10 ms at most; the rest is for file servers, whose clocks differ a little. */
#define SETTLED_SECONDS 2

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
	       a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

static bool settled(const struct stat *st)
{
	return st->st_ctim.tv_sec + SETTLED_SECONDS < time(NULL);
}

static uint64_t bytes_in_file(const struct kernel_image *image)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < image->count; i++)
		sum += image->segment[i].data.len;
	return sum;
}

/*
 * A kernel that unpacks itself is written to by the guest all over: nothing to be shared. One that
 * does not fit into memory is refused later; its segments may name the same bytes of the file many
 * times, so that an entry would be much larger than the file.
 */
static bool worth_caching(const struct kernel_image *image, uint64_t low_end)
{
	return image->info.image != BOOT_IMAGE_BZIMAGE_RAW && image->info.kernel_end <= low_end &&
	       bytes_in_file(image) >= KERNEL_CACHED_MIN;
}

/* The file was read: look for its content, else unpack and add it. */
static int take_content(struct kernel_file *k, const struct kernel_file_options *options,
			const struct kcache *cache, const struct stat *st, struct err *err)
{
	char hash[KCACHE_HASH_LEN];
	int ret;

	if (cache->dir >= 0 && k->file.len >= KERNEL_CACHED_MIN) {
		kcache_hash(k->file, hash);
		if (kcache_find_content(cache, hash, st, &k->entry)) {
			log_msg(options->log, LOG_LEVEL_DEBUG, "kernel cache: known content");
			return 0;
		}
	}
	ret = kernel_image_parse(k->file, options->low_end, &k->image, err);
	if (ret || cache->dir < 0 || !worth_caching(&k->image, options->low_end))
		return ret;
	/* A packed kernel may be smaller than what is in it. */
	if (k->file.len < KERNEL_CACHED_MIN)
		kcache_hash(k->file, hash);
	if (kcache_add(cache, hash, st, &k->image, &k->entry))
		log_msg(options->log, LOG_LEVEL_DEBUG, "kernel cache: added");
	return 0;
}

static int open_cached(const char *path, struct kernel_file *k,
		       const struct kernel_file_options *options, const struct kcache *cache,
		       struct err *err)
{
	struct stat before, after;
	int fd = file_open("kernel", path, KERNEL_FILE_MAX, &before, err);
	int ret = 0;

	if (fd < 0)
		return fd;
	if (kcache_find_file(cache, &before, &k->entry)) {
		log_msg(options->log, LOG_LEVEL_DEBUG, "kernel cache: known file");
		goto out;
	}
	ret = file_read_open("kernel", path, fd, &before, &k->file, err);
	if (ret)
		goto out;
	if (fstat(fd, &after)) {
		ret = err_sys(err, errno, "kernel %s: stat", path);
		goto out;
	}
	ret = take_content(k, options, cache,
			   same_file(&before, &after) && settled(&after) ? &after : NULL, err);
	if (ret)
		err_context(err, "kernel %s", path);
out:
	close(fd);
	return ret;
}

int kernel_file_open(const char *path, const struct kernel_file_options *options,
		     struct kernel_file *out, struct err *err)
{
	struct kcache cache = {.dir = -1, .log = options->log};
	int ret = 0;

	*out = (struct kernel_file){.entry.fd = -1};
	if (options->cached)
		ret = kcache_open(options->cache, options->log, &cache, err);
	if (!ret)
		ret = open_cached(path, out, options, &cache, err);
	kcache_close(&cache);
	return ret;
}

const struct kernel_image *kernel_file_image(const struct kernel_file *k)
{
	return k->entry.fd >= 0 ? &k->entry.image : &k->image;
}

/* The pages that hold the segment's bytes, mapped. */
static int map_segment(const struct kernel_file *k, unsigned i, struct guest_mem *mem,
		       struct err *err)
{
	const struct kernel_segment *s = &k->entry.image.segment[i];
	uint64_t first = s->paddr & ~(uint64_t)(GUEST_PAGE_SIZE - 1);
	uint64_t end =
	    (s->paddr + s->data.len + GUEST_PAGE_SIZE - 1) & ~(uint64_t)(GUEST_PAGE_SIZE - 1);

	return guest_mem_map_file(mem, GPA(first), end - first, k->entry.fd, k->entry.offset[i],
				  err);
}

/* For memory that cannot be mixed with mappings. */
static int read_segment(const struct kernel_file *k, unsigned i, struct guest_mem *mem,
			struct err *err)
{
	const struct kernel_segment *s = &k->entry.image.segment[i];
	uint8_t *host = guest_mem_slice(mem, GPA(s->paddr), s->data.len);
	uint64_t offset = k->entry.offset[i] + s->paddr % GUEST_PAGE_SIZE;
	int ret;

	if (!host)
		return err_set(err, ENOMEM, "no guest memory at %#llx",
			       (unsigned long long)s->paddr);
	ret = file_read_at(k->entry.fd, host, s->data.len, offset);
	return ret ? err_sys(err, -ret, "kernel cache: read") : 0;
}

int kernel_file_load(const struct kernel_file *k, struct guest_mem *mem, struct err *err)
{
	int ret = 0;

	if (k->entry.fd < 0)
		return kernel_image_load(&k->image, mem, err);
	for (unsigned i = 0; !ret && i < k->entry.image.count; i++) {
		if (k->entry.image.segment[i].data.len == 0)
			continue;
		ret = mem->pages == GUEST_PAGES_2M ? read_segment(k, i, mem, err)
						   : map_segment(k, i, mem, err);
	}
	return ret;
}

void kernel_file_close(struct kernel_file *k)
{
	kcache_entry_close(&k->entry);
	kernel_image_free(&k->image);
	file_free(&k->file);
}
