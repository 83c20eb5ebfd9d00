/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-balloon (VIRTIO 1.2 §5.5).
 *
 * Theory of operation. Pages that the driver puts into the balloon, and ranges that it reports as
 * free, are given back to the host (guest_mem_discard()); touched again they are zeroes, so nothing
 * has to happen when the driver takes pages out, and it need not tell first
 * (VIRTIO_BALLOON_F_MUST_TELL_HOST is not offered).
 *
 * Queues: 0 inflates, 1 deflates. Which of the others is what depends on what was negotiated, and
 * drivers and specification differ: Linux numbers those that it uses without gaps, the text keeps
 * the numbers. Both are served: 2 has statistics if those were negotiated, and each further one has
 * reports (there is no free page hint queue, the third kind).
 *
 * The statistics buffer belongs to the device until it wants fresh ones (§5.5.6.3). It stays in its
 * ring: it is popped, read and put back. When a timer says that it is time for news the driver gets
 * it back, fills it anew and kicks.
 *
 * The target may change while the guest runs. It is in place before the driver is told (§5.5.6:
 * a configuration change), and a driver that does not heed it is not told again.
 */
#include "minivm/virtio_balloon.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <linux/virtio_balloon.h>
#include <linux/virtio_ids.h>

#include "minivm/iov.h"
#include "minivm/counter.h"

enum {
	BALLOON_INFLATE,
	BALLOON_DEFLATE,
	BALLOON_STATS,
	BALLOON_QUEUES = 5,
};

#define BALLOON_QUEUE_SIZE 128u

/* What a turn may cost: a unit per chain, per range that is discarded, and per so many numbers. */
#define BALLOON_TURN	  512u
#define BALLOON_UNIT_PFNS 64u

#define BALLOON_PFNS_MAX  4096u /* of one chain: Linux sends 256 */
#define BALLOON_STATS_MAX 64u

#define BALLOON_BIT(f) (1ull << (f))

struct balloon_counts {
	_Atomic uint64_t inflated, deflated, reported, refused, stats_updates;
	_Atomic uint64_t stat[VIRTIO_BALLOON_STATS];
	_Atomic uint32_t told; /* of these, a bit each */
};

struct virtio_balloon {
	const struct guest_mem *mem;
	const struct log *log;
	struct loop *loop;
	_Atomic uint32_t target;   /* pages */
	_Atomic uint32_t actual;   /* the driver's; vCPU threads write it */
	_Atomic uint64_t stats_ns; /* how often statistics are asked for; 0: never, for good */

	/* The loop's. */
	struct virtio *virtio; /* NULL: not active */
	bool stats;	       /* queue 2 has statistics */
	bool paused;
	struct loop_timer timer; /* until statistics are asked for */
	bool reporting;
	unsigned spent; /* in this turn */
	struct vq_chain chain;
	uint32_t pfn[BALLOON_PFNS_MAX];

	struct balloon_counts count;
};

/* --- pages --- */

static bool is_page(const struct virtio_balloon *b, uint32_t pfn)
{
	return guest_mem_slice(b->mem, GPA((uint64_t)pfn * VIRTIO_BALLOON_PAGE),
			       VIRTIO_BALLOON_PAGE) != NULL;
}

/* Pages from `first` on, one behind the other; all of them exist, but they may be of two regions.
 */
static void discard_run(struct virtio_balloon *b, uint32_t first, uint32_t n)
{
	gpa_t gpa = GPA((uint64_t)first * VIRTIO_BALLOON_PAGE);

	b->spent++;
	if (guest_mem_discard(b->mem, gpa, (uint64_t)n * VIRTIO_BALLOON_PAGE) != -EFAULT)
		return;
	b->spent += n;
	for (uint32_t i = 0; i < n; i++)
		guest_mem_discard(b->mem, gpa_add(gpa, (uint64_t)i * VIRTIO_BALLOON_PAGE),
				  VIRTIO_BALLOON_PAGE);
}

/* Runs of neighbours go together: Linux gives them in falling order. */
static void discard_pages(struct virtio_balloon *b, uint32_t n)
{
	uint32_t first = 0, len = 0;

	for (uint32_t i = 0; i < n; i++) {
		uint32_t pfn = b->pfn[i];

		if (!is_page(b, pfn)) {
			count_add(&b->count.refused, 1);
			continue;
		}
		if (len > 0 && pfn == first + len) {
			len++;
		} else if (len > 0 && pfn + 1 == first) {
			first = pfn;
			len++;
		} else {
			if (len > 0)
				discard_run(b, first, len);
			first = pfn;
			len = 1;
		}
		count_add(&b->count.inflated, 1);
	}
	if (len > 0)
		discard_run(b, first, len);
}

/* --- what each queue's chains mean --- */

/* §5.5.6: 32-bit page numbers. What is beyond our bound stays where it is. */
static uint32_t take_pfns(struct virtio_balloon *b, const struct vq_chain *c)
{
	uint32_t n = c->readable_len / sizeof(b->pfn[0]);

	if (n > BALLOON_PFNS_MAX)
		n = BALLOON_PFNS_MAX;
	iov_gather(b->pfn, vq_readable(c), n * sizeof(b->pfn[0]));
	b->spent += n / BALLOON_UNIT_PFNS;
	return n;
}

static void inflate(struct virtio_balloon *b, const struct vq_chain *c)
{
	discard_pages(b, take_pfns(b, c));
}

static void deflate(struct virtio_balloon *b, const struct vq_chain *c)
{
	count_add(&b->count.deflated, c->readable_len / sizeof(b->pfn[0]));
}

/* §5.5.6.7: the buffers are the free memory itself, if that is what the driver has agreed to. */
static void report(struct virtio_balloon *b, const struct vq_chain *c)
{
	const struct iovec *iov = vq_writable(c);

	for (unsigned i = 0; b->reporting && i < c->n_writable; i++) {
		if (iov[i].iov_len == 0)
			continue;
		b->spent++;
		guest_mem_discard(b->mem, guest_mem_gpa(b->mem, iov[i].iov_base), iov[i].iov_len);
		count_add(&b->count.reported, iov[i].iov_len);
	}
}

/* §5.5.6.3: tags that we do not know are ignored. */
static void take_stats(struct virtio_balloon *b, const struct vq_chain *c)
{
	struct virtio_balloon_stat stat[BALLOON_STATS_MAX];
	uint32_t n = c->readable_len / sizeof(stat[0]);

	if (n > BALLOON_STATS_MAX)
		n = BALLOON_STATS_MAX;
	iov_gather(stat, vq_readable(c), n * sizeof(stat[0]));
	for (uint32_t i = 0; i < n; i++) {
		if (stat[i].tag >= VIRTIO_BALLOON_STATS)
			continue;
		atomic_store_explicit(&b->count.stat[stat[i].tag], stat[i].val,
				      memory_order_relaxed);
		/* Pairs with virtio_balloon_stats(): what is told has its value. */
		atomic_fetch_or_explicit(&b->count.told, 1u << stat[i].tag, memory_order_release);
	}
	count_add(&b->count.stats_updates, 1);
}

/* --- the queues --- */

typedef void chain_fn(struct virtio_balloon *b, const struct vq_chain *c);

static chain_fn *chain_function(unsigned queue)
{
	static chain_fn *const functions[] = {inflate, deflate};

	return queue < BALLOON_STATS ? functions[queue] : report;
}

/* Reads the one buffer and leaves it. -EPROTO, 0, or 1: to be looked at again. */
static int look_at_stats(struct virtio_balloon *b)
{
	struct virtqueue *vq = virtio_queue(b->virtio, BALLOON_STATS);
	int ret = vq_pop(vq, &b->chain);

	if (ret == 0)
		return vq_enable_notify(vq);
	if (ret < 0)
		return ret;
	take_stats(b, &b->chain);
	vq_unpop(vq);
	return 0;
}

/* -EPROTO, or 0. Afterwards the queue waits for a kick with the next buffer. */
static int ask_for_stats(struct virtio_balloon *b)
{
	struct virtqueue *vq = virtio_queue(b->virtio, BALLOON_STATS);
	int ret = vq_pop(vq, &b->chain);

	/* 0: the driver has not answered yet. */
	if (ret != 1)
		return ret;
	vq_push(vq, &b->chain, 0);
	if (vq_enable_notify(vq))
		ret = look_at_stats(b);
	virtio_signal_queue(b->virtio, BALLOON_STATS);
	return ret < 0 ? ret : 0;
}

static void stats_due(void *opaque)
{
	struct virtio_balloon *b = opaque;

	if (!b->virtio || !b->stats || b->paused)
		return;
	if (ask_for_stats(b) < 0)
		virtio_needs_reset(b->virtio);
	else
		loop_timer_arm(&b->timer, atomic_load(&b->stats_ns));
}

static void wait_for_stats(struct virtio_balloon *b)
{
	bool wait = b->virtio && b->stats && !b->paused;

	loop_timer_arm(&b->timer, wait ? atomic_load(&b->stats_ns) : 0);
}

/* Bounded; 1: there is more. */
static int drain(struct virtio_balloon *b, unsigned queue)
{
	struct virtqueue *vq = virtio_queue(b->virtio, queue);
	chain_fn *fn = chain_function(queue);

	vq_disable_notify(vq);
	for (b->spent = 0; b->spent < BALLOON_TURN; b->spent++) {
		int ret = vq_pop(vq, &b->chain);

		if (ret < 0)
			return ret;
		if (ret == 1) {
			fn(b, &b->chain);
			vq_push(vq, &b->chain, 0);
			continue;
		}
		if (!vq_enable_notify(vq))
			return 0;
		vq_disable_notify(vq);
	}
	return 1;
}

static void balloon_notify(void *dev, unsigned queue)
{
	struct virtio_balloon *b = dev;
	int ret;

	if (!b->virtio)
		return;
	ret = queue == BALLOON_STATS && b->stats ? look_at_stats(b) : drain(b, queue);
	virtio_signal_queue(b->virtio, queue);
	if (ret < 0)
		virtio_needs_reset(b->virtio);
	else if (ret > 0)
		virtio_notify_again(b->virtio, queue);
}

/* --- the device --- */

static uint64_t balloon_features(void *dev)
{
	(void)dev;
	return BALLOON_BIT(VIRTIO_BALLOON_F_STATS_VQ) |
	       BALLOON_BIT(VIRTIO_BALLOON_F_DEFLATE_ON_OOM) |
	       BALLOON_BIT(VIRTIO_BALLOON_F_REPORTING);
}

/* §5.5.4: what free page hints and poisoning would need is not there. */
#define BALLOON_CONFIG_LEN offsetof(struct virtio_balloon_config, free_page_hint_cmd_id)
#define BALLOON_ACTUAL	   offsetof(struct virtio_balloon_config, actual)

static void balloon_config_read(void *dev, uint32_t off, unsigned len, void *out)
{
	const struct virtio_balloon *b = dev;
	struct virtio_balloon_config config = {
	    .num_pages = atomic_load(&b->target),
	    .actual = atomic_load(&b->actual),
	};

	memcpy(out, (const uint8_t *)&config + off, len);
}

/* The driver writes `actual`, as a whole; the target is ours. */
static void balloon_config_write(void *dev, uint32_t off, unsigned len, const void *in)
{
	struct virtio_balloon *b = dev;
	uint32_t actual;

	if (off != BALLOON_ACTUAL || len != sizeof(actual))
		return;
	memcpy(&actual, in, sizeof(actual));
	atomic_store(&b->actual, actual);
}

static void balloon_activate(void *dev, struct virtio *virtio, uint64_t features)
{
	struct virtio_balloon *b = dev;

	b->virtio = virtio;
	b->stats = (features & BALLOON_BIT(VIRTIO_BALLOON_F_STATS_VQ)) != 0;
	b->reporting = (features & BALLOON_BIT(VIRTIO_BALLOON_F_REPORTING)) != 0;
	wait_for_stats(b);
}

static void balloon_reset(void *dev)
{
	struct virtio_balloon *b = dev;

	b->virtio = NULL;
	b->paused = false;
	atomic_store(&b->actual, 0);
	wait_for_stats(b);
}

static void balloon_destroy(void *dev)
{
	struct virtio_balloon *b = dev;

	loop_timer_destroy(&b->timer);
	free(b);
}

/* Nothing is in flight but for the timer. */
static void balloon_pause(void *dev)
{
	struct virtio_balloon *b = dev;

	b->paused = true;
	wait_for_stats(b);
}

static void balloon_resume(void *dev)
{
	struct virtio_balloon *b = dev;

	b->paused = false;
	wait_for_stats(b);
}

/* --- what may change while the guest runs --- */

static bool target_fits(const struct virtio_balloon *b, uint64_t bytes)
{
	return bytes % VIRTIO_BALLOON_PAGE == 0 && bytes < guest_mem_bytes(b->mem) &&
	       bytes / VIRTIO_BALLOON_PAGE <= UINT32_MAX;
}

/* The queue's buffer is asked for again and again, or never. */
static bool interval_fits(const struct virtio_balloon *b, uint64_t ns)
{
	return ns <= VIRTIO_BALLOON_STATS_MAX_NS && (ns == 0) == (atomic_load(&b->stats_ns) == 0);
}

/* Paused, too: neither queues nor guest memory are touched. */
static void tell_of_target(void *opaque)
{
	struct virtio_balloon *b = opaque;

	if (b->virtio)
		virtio_signal_config(b->virtio);
}

int virtio_balloon_set_target(struct virtio_balloon *b, uint64_t bytes)
{
	uint32_t pages = (uint32_t)(bytes / VIRTIO_BALLOON_PAGE);

	if (!target_fits(b, bytes))
		return -EINVAL;
	if (atomic_exchange(&b->target, pages) != pages)
		loop_call(b->loop, tell_of_target, b);
	return 0;
}

static void wait_anew(void *opaque)
{
	wait_for_stats(opaque);
}

int virtio_balloon_set_stats(struct virtio_balloon *b, uint64_t ns)
{
	if (!interval_fits(b, ns))
		return -EINVAL;
	atomic_store(&b->stats_ns, ns);
	loop_call(b->loop, wait_anew, b);
	return 0;
}

/* --- saving --- */

static int balloon_save(void *dev, struct state_writer *w, struct err *err)
{
	const struct virtio_balloon *b = dev;

	(void)err;
	state_put_u32(w, atomic_load(&b->target));
	state_put_u32(w, atomic_load(&b->actual));
	state_put_u64(w, atomic_load(&b->stats_ns));
	return 0;
}

static int balloon_restore(void *dev, struct state_reader *r, struct err *err)
{
	struct virtio_balloon *b = dev;
	uint32_t target = state_get_u32(r), actual = state_get_u32(r);
	uint64_t stats_ns = atomic_load(&b->stats_ns);

	/* Version 1 had the interval of the command line. */
	if (r->version >= 2)
		stats_ns = state_get_u64(r);
	if (!target_fits(b, (uint64_t)target * VIRTIO_BALLOON_PAGE))
		return state_bad(err, "a balloon of %u pages", target);
	if (!interval_fits(b, stats_ns))
		return state_bad(err, "balloon statistics every %llu ns",
				 (unsigned long long)stats_ns);
	atomic_store(&b->target, target);
	atomic_store(&b->actual, actual);
	atomic_store(&b->stats_ns, stats_ns);
	wait_for_stats(b);
	return 0;
}

const struct virtio_ops virtio_balloon_ops = {
    .name = "virtio-balloon",
    .guest_kconfig = "CONFIG_VIRTIO_BALLOON",
    .device_id = VIRTIO_ID_BALLOON,
    .queues = BALLOON_QUEUES,
    .queue_size_max = BALLOON_QUEUE_SIZE,
    .config_len = BALLOON_CONFIG_LEN,
    .features = balloon_features,
    .config_read = balloon_config_read,
    .config_write = balloon_config_write,
    .activate = balloon_activate,
    .notify = balloon_notify,
    .reset = balloon_reset,
    .destroy = balloon_destroy,
    .pause = balloon_pause,
    .resume = balloon_resume,
    .state_version = 2,
    .save = balloon_save,
    .restore = balloon_restore,
};

int virtio_balloon_new(const struct virtio_balloon_options *opt, struct virtio_balloon **out,
		       struct err *err)
{
	struct virtio_balloon *b = calloc(1, sizeof(*b));

	if (!b)
		return err_sys(err, ENOMEM, "virtio-balloon");
	b->mem = opt->mem;
	b->log = opt->log;
	b->loop = opt->loop;
	loop_timer_init(opt->loop, &b->timer, stats_due, b);
	atomic_store(&b->stats_ns, opt->stats_ns);
	atomic_store(&b->target, (uint32_t)(opt->target / VIRTIO_BALLOON_PAGE));
	*out = b;
	return 0;
}

void virtio_balloon_counters(const struct virtio_balloon *b, struct virtio_balloon_counters *out)
{
	const struct balloon_counts *c = &b->count;

	*out = (struct virtio_balloon_counters){
	    .target = (uint64_t)atomic_load(&b->target) * VIRTIO_BALLOON_PAGE,
	    .actual = (uint64_t)atomic_load(&b->actual) * VIRTIO_BALLOON_PAGE,
	    .inflated = count_read(&c->inflated),
	    .deflated = count_read(&c->deflated),
	    .reported = count_read(&c->reported),
	    .refused_pages = count_read(&c->refused),
	    .stats_updates = count_read(&c->stats_updates),
	    .free_memory = count_read(&c->stat[VIRTIO_BALLOON_S_MEMFREE]),
	    .available_memory = count_read(&c->stat[VIRTIO_BALLOON_S_AVAIL]),
	    .total_memory = count_read(&c->stat[VIRTIO_BALLOON_S_MEMTOT]),
	    .major_faults = count_read(&c->stat[VIRTIO_BALLOON_S_MAJFLT]),
	};
}

_Static_assert(VIRTIO_BALLOON_STATS == VIRTIO_BALLOON_S_HTLB_PGFAIL + 1, "the tags of §5.5.6.4");

const char *const virtio_balloon_stat_names[VIRTIO_BALLOON_STATS] = {
    [VIRTIO_BALLOON_S_SWAP_IN] = "swap_in",
    [VIRTIO_BALLOON_S_SWAP_OUT] = "swap_out",
    [VIRTIO_BALLOON_S_MAJFLT] = "major_faults",
    [VIRTIO_BALLOON_S_MINFLT] = "minor_faults",
    [VIRTIO_BALLOON_S_MEMFREE] = "free_memory",
    [VIRTIO_BALLOON_S_MEMTOT] = "total_memory",
    [VIRTIO_BALLOON_S_AVAIL] = "available_memory",
    [VIRTIO_BALLOON_S_CACHES] = "disk_caches",
    [VIRTIO_BALLOON_S_HTLB_PGALLOC] = "hugetlb_allocations",
    [VIRTIO_BALLOON_S_HTLB_PGFAIL] = "hugetlb_failures",
};

void virtio_balloon_stats(const struct virtio_balloon *b, struct virtio_balloon_stats *out)
{
	/* Pairs with take_stats(). */
	out->told = atomic_load_explicit(&b->count.told, memory_order_acquire);
	for (unsigned tag = 0; tag < VIRTIO_BALLOON_STATS; tag++)
		out->value[tag] = count_read(&b->count.stat[tag]);
	out->interval_ns = atomic_load(&b->stats_ns);
}
