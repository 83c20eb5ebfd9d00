/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-blk (VIRTIO 1.2 §5.2) over a block back end.
 *
 * Theory of operation. A kick drains the queue on the disk's own loop: each request is carried out
 * in place by preadv/pwritev straight between the image and guest memory, completed, and one
 * question is asked at the end of the batch: does the driver want an interrupt? A turn is bounded;
 * what is left waits for the loop's next round, so that a reset is not kept waiting.
 *
 * Framing. Nothing is assumed about how a request is cut into descriptors (§2.7.4.1): the first 16
 * readable bytes are the header, the last writable byte is the status, what lies between is data.
 * Every chain is completed, whatever is wrong with it; without a writable byte there is just no
 * status.
 *
 * Used length. It promises the driver that so many bytes *from the start* of the writable buffers
 * were written (§2.7.8.2). Data and status in full: their sum. When a read failed, the status alone
 * was written, behind a hole: 0.
 *
 * Durability. With VIRTIO_BLK_F_FLUSH negotiated the driver says when data must be on stable
 * storage; without it, or as long as the driver wants no cache (`writeback` 0, with
 * VIRTIO_BLK_F_CONFIG_WCE), every write is made stable before it completes (§5.2.6.2).
 *
 * Discard and write zeroes name ranges, not data, so the limits in configuration space bound what
 * one may cost: a discard is a system call a range, zeroes may have to be written. All ranges of a
 * request are checked before the first is touched.
 *
 * Errors of the host are the guest's I/O errors, and a line in the log at a bounded rate.
 */
#include "minivm/virtio_blk.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <linux/virtio_blk.h>
#include <linux/virtio_ids.h>

#include "minivm/iov.h"
#include "minivm/counter.h"

/*
 * What one turn on the loop may cost: a unit per queue entry that is looked at and per 128 KiB of
 * data. So a reset waits for a few milliseconds of work, and for the request that is under way.
 */
#define BLK_TURN      64u
#define BLK_UNIT_DATA (128u << 10)

#define BLK_QUEUE_SIZE VQ_SIZE_MAX
/* The configuration space of VIRTIO 1.2 up to write_zeroes_may_unmap and its padding. */
#define BLK_CONFIG_LEN 60u
_Static_assert(sizeof(struct virtio_blk_config) >= BLK_CONFIG_LEN, "blk_config_read()");

/* Data segments beside header and status, so that a request fits into the ring without a table. */
#define BLK_SEG_MAX (BLK_QUEUE_SIZE - 2)
/* Bounds the time that one request takes; no driver misses longer segments. */
#define BLK_SIZE_MAX (1u << 20)
#define BLK_DATA_MAX (BLK_SEG_MAX * BLK_SIZE_MAX)

/* Discard: what it costs hardly depends on the length. Zeroes: they may have to be written. */
#define BLK_DISCARD_MAX	 (1u << 30) /* bytes of a range */
#define BLK_DISCARD_SEGS 16u
#define BLK_ZEROES_MAX	 (64u << 20)
#define BLK_ZEROES_SEGS	 1u
#define BLK_RANGE_COST	 8u /* in units of BLK_TURN */

struct blk_header {
	uint32_t type;
	uint32_t reserved;
	uint64_t sector;
};

/* One request, taken apart. */
struct blk_request {
	struct blk_header header;
	uint32_t data_len; /* bytes of iov */
	unsigned n;
	unsigned cost; /* in units of BLK_TURN, beside what its length costs */
	struct iovec iov[VQ_SIZE_MAX];
};

struct virtio_blk {
	struct block *backend;
	const struct log *log;
	char id[VIRTIO_BLK_ID_MAX];	 /* padded with NUL, not terminated */
	struct virtio_blk_config config; /* but for `wce` */

	/* Written by vCPU threads. */
	_Atomic bool has_wce; /* negotiated: the driver may write `wce` */
	_Atomic uint8_t wce;  /* §5.2.4 `writeback` */

	/* The loop's. */
	struct virtio *virtio; /* NULL: not active */
	uint64_t features;
	struct vq_chain chain;
	struct blk_request request;

	struct log_limit log_limit;
	_Atomic uint64_t requests;
	_Atomic uint64_t read_bytes;
	_Atomic uint64_t written_bytes;
	_Atomic uint64_t flushes;
	_Atomic uint64_t errors;
};

/* The last of the writable bytes; there is at least one. */
static uint8_t *last_byte(const struct vq_chain *c)
{
	const struct iovec *iov = &vq_writable(c)[c->n_writable - 1];

	while (iov->iov_len == 0)
		iov--;
	return (uint8_t *)iov->iov_base + iov->iov_len - 1;
}

static bool blk_has(const struct virtio_blk *blk, unsigned feature)
{
	return (blk->features & 1ull << feature) != 0;
}

/* §5.2.6.2: must a write be on stable storage before it completes? */
static bool write_through(const struct virtio_blk *blk)
{
	return !blk_has(blk, VIRTIO_BLK_F_FLUSH) ||
	       (blk_has(blk, VIRTIO_BLK_F_CONFIG_WCE) && atomic_load(&blk->wce) == 0);
}

/* --- requests: each returns a VIRTIO_BLK_S_* --- */

static uint8_t host_error(struct virtio_blk *blk, const char *what, int ret)
{
	log_guest(blk->log, &blk->log_limit, LOG_LEVEL_WARN, "disk %.*s: %s: %s", VIRTIO_BLK_ID_MAX,
		  blk->id, what, strerror(-ret));
	return VIRTIO_BLK_S_IOERR;
}

static bool on_disk(const struct virtio_blk *blk, uint64_t sector, uint64_t sectors)
{
	uint64_t capacity = blk->backend->size / BLOCK_SECTOR_SIZE;

	return sector <= capacity && sectors <= capacity - sector;
}

/* Whole sectors, inside the disk, and no more than the limits allow. */
static bool in_range(const struct virtio_blk *blk, const struct blk_request *req)
{
	return req->data_len % BLOCK_SECTOR_SIZE == 0 && req->data_len <= BLK_DATA_MAX &&
	       on_disk(blk, req->header.sector, req->data_len / BLOCK_SECTOR_SIZE);
}

/* What was written completes: 0, or -errno of making it stable. */
static int settle(struct virtio_blk *blk)
{
	return write_through(blk) ? blk->backend->ops->flush(blk->backend) : 0;
}

static uint8_t do_read(struct virtio_blk *blk, struct blk_request *req)
{
	int ret;

	if (!in_range(blk, req))
		return VIRTIO_BLK_S_IOERR;
	if (req->n == 0)
		return VIRTIO_BLK_S_OK;
	ret = blk->backend->ops->readv(blk->backend, req->iov, req->n,
				       req->header.sector * BLOCK_SECTOR_SIZE);
	if (ret < 0)
		return host_error(blk, "read", ret);
	count_add(&blk->read_bytes, req->data_len);
	return VIRTIO_BLK_S_OK;
}

static uint8_t do_write(struct virtio_blk *blk, struct blk_request *req)
{
	int ret;

	if (blk->backend->readonly || !in_range(blk, req))
		return VIRTIO_BLK_S_IOERR;
	if (req->n == 0)
		return VIRTIO_BLK_S_OK;
	ret = blk->backend->ops->writev(blk->backend, req->iov, req->n,
					req->header.sector * BLOCK_SECTOR_SIZE);
	if (ret < 0)
		return host_error(blk, "write", ret);
	count_add(&blk->written_bytes, req->data_len);
	ret = settle(blk);
	return ret < 0 ? host_error(blk, "flush after write", ret) : VIRTIO_BLK_S_OK;
}

/* --- ranges: discard and write zeroes --- */

#define RANGES_MAX	 BLK_DISCARD_SEGS
#define RANGE_FLAG_UNMAP 1u
_Static_assert(BLK_ZEROES_SEGS <= RANGES_MAX &&
		   RANGE_FLAG_UNMAP == VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
	       "§5.2.6");

struct range_kind {
	const char *what;
	unsigned feature;
	uint32_t flags;	      /* that it knows */
	uint32_t ranges_max;  /* of a request */
	uint32_t sectors_max; /* of a range */
	int (*run)(struct block *b, uint64_t off, uint64_t len, bool unmap);
};

static int run_discard(struct block *b, uint64_t off, uint64_t len, bool unmap)
{
	(void)unmap;
	return b->ops->discard(b, off, len);
}

static int run_zero(struct block *b, uint64_t off, uint64_t len, bool unmap)
{
	return b->ops->zero(b, off, len, unmap);
}

static const struct range_kind discard_kind = {
    "discard",	VIRTIO_BLK_F_DISCARD, 0, BLK_DISCARD_SEGS, BLK_DISCARD_MAX / BLOCK_SECTOR_SIZE,
    run_discard};
static const struct range_kind zeroes_kind = {
    "write zeroes",  VIRTIO_BLK_F_WRITE_ZEROES,		 RANGE_FLAG_UNMAP,
    BLK_ZEROES_SEGS, BLK_ZEROES_MAX / BLOCK_SECTOR_SIZE, run_zero};

/* §5.2.6.2: flags that are not known are not supported; OK if it can be carried out. */
static uint8_t check_range(const struct virtio_blk *blk, const struct range_kind *kind,
			   const struct virtio_blk_discard_write_zeroes *range)
{
	if ((range->flags & ~kind->flags) != 0)
		return VIRTIO_BLK_S_UNSUPP;
	if (range->num_sectors > kind->sectors_max ||
	    !on_disk(blk, range->sector, range->num_sectors))
		return VIRTIO_BLK_S_IOERR;
	return VIRTIO_BLK_S_OK;
}

static uint8_t do_ranges(struct virtio_blk *blk, struct blk_request *req,
			 const struct range_kind *kind)
{
	struct virtio_blk_discard_write_zeroes range[RANGES_MAX];
	uint32_t n = req->data_len / sizeof(range[0]);
	uint8_t status = VIRTIO_BLK_S_OK;
	int ret = 0;

	if (!blk_has(blk, kind->feature))
		return VIRTIO_BLK_S_UNSUPP;
	if (n == 0 || n > kind->ranges_max || req->data_len % sizeof(range[0]) != 0)
		return VIRTIO_BLK_S_IOERR;
	iov_gather(range, req->iov, req->data_len);
	for (uint32_t i = 0; status == VIRTIO_BLK_S_OK && i < n; i++)
		status = check_range(blk, kind, &range[i]);
	if (status != VIRTIO_BLK_S_OK)
		return status;
	req->cost = n * BLK_RANGE_COST;
	for (uint32_t i = 0; ret == 0 && i < n; i++) {
		if (range[i].num_sectors > 0)
			ret = kind->run(blk->backend, range[i].sector * BLOCK_SECTOR_SIZE,
					(uint64_t)range[i].num_sectors * BLOCK_SECTOR_SIZE,
					(range[i].flags & RANGE_FLAG_UNMAP) != 0);
	}
	if (ret == 0)
		ret = settle(blk);
	return ret < 0 ? host_error(blk, kind->what, ret) : VIRTIO_BLK_S_OK;
}

static uint8_t do_discard(struct virtio_blk *blk, struct blk_request *req)
{
	return do_ranges(blk, req, &discard_kind);
}

static uint8_t do_zeroes(struct virtio_blk *blk, struct blk_request *req)
{
	return do_ranges(blk, req, &zeroes_kind);
}

/* --- other requests --- */

static uint8_t do_flush(struct virtio_blk *blk, struct blk_request *req)
{
	int ret;

	(void)req;
	count_add(&blk->flushes, 1);
	if (blk->backend->readonly)
		return VIRTIO_BLK_S_OK;
	ret = blk->backend->ops->flush(blk->backend);
	return ret < 0 ? host_error(blk, "flush", ret) : VIRTIO_BLK_S_OK;
}

static uint8_t do_get_id(struct virtio_blk *blk, struct blk_request *req)
{
	if (req->data_len > VIRTIO_BLK_ID_MAX)
		req->data_len = VIRTIO_BLK_ID_MAX;
	iov_scatter(req->iov, blk->id, req->data_len);
	return VIRTIO_BLK_S_OK;
}

struct blk_operation {
	uint32_t type;
	bool from_device; /* data is what the driver gets: the writable bytes before the status */
	uint8_t (*run)(struct virtio_blk *blk, struct blk_request *req);
};

static const struct blk_operation operations[] = {
    {VIRTIO_BLK_T_IN, true, do_read},	       {VIRTIO_BLK_T_OUT, false, do_write},
    {VIRTIO_BLK_T_FLUSH, false, do_flush},     {VIRTIO_BLK_T_GET_ID, true, do_get_id},
    {VIRTIO_BLK_T_DISCARD, false, do_discard}, {VIRTIO_BLK_T_WRITE_ZEROES, false, do_zeroes},
};

static const struct blk_operation *find_operation(uint32_t type)
{
	for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++) {
		if (operations[i].type == type)
			return &operations[i];
	}
	return NULL;
}

/* Carries out the chain's request. *data_written: bytes of the data that were given to the driver.
 */
static uint8_t run_request(struct virtio_blk *blk, const struct vq_chain *c, uint32_t *data_written)
{
	struct blk_request *req = &blk->request;
	const struct blk_operation *op;
	uint8_t status;

	*data_written = 0;
	if (c->readable_len < sizeof(req->header))
		return VIRTIO_BLK_S_IOERR;
	iov_gather(&req->header, vq_readable(c), sizeof(req->header));
	op = find_operation(req->header.type);
	if (!op)
		return VIRTIO_BLK_S_UNSUPP;
	if (op->from_device) {
		req->data_len = c->writable_len - 1;
		req->n = iov_cut(req->iov, vq_writable(c), 0, req->data_len);
	} else {
		req->data_len = c->readable_len - (uint32_t)sizeof(req->header);
		req->n = iov_cut(req->iov, vq_readable(c), sizeof(req->header), req->data_len);
	}
	status = op->run(blk, req);
	if (op->from_device && status == VIRTIO_BLK_S_OK)
		*data_written = req->data_len;
	return status;
}

/* Returns the used length. */
static uint32_t handle(struct virtio_blk *blk, const struct vq_chain *c)
{
	uint32_t data_written;
	uint8_t status;

	blk->request.cost = 0;
	if (c->writable_len == 0) {
		count_add(&blk->errors, 1);
		return 0;
	}
	status = run_request(blk, c, &data_written);
	count_add(&blk->requests, 1);
	if (status != VIRTIO_BLK_S_OK)
		count_add(&blk->errors, 1);
	*last_byte(c) = status;
	/* The status counts if it follows what was written before. */
	return data_written == c->writable_len - 1 ? c->writable_len : data_written;
}

/* --- the device --- */

/* The units of BLK_TURN that a chain took; what was refused unread is counted all the same. */
static unsigned cost(const struct vq_chain *c)
{
	return 1 + (c->readable_len / BLK_UNIT_DATA) + (c->writable_len / BLK_UNIT_DATA);
}

static void blk_notify(void *dev, unsigned queue)
{
	struct virtio_blk *blk = dev;
	struct virtqueue *vq;
	unsigned spent = 0;
	int ret = 0;

	if (!blk->virtio)
		return;
	vq = virtio_queue(blk->virtio, queue);
	vq_disable_notify(vq);
	while (spent < BLK_TURN) {
		ret = vq_pop(vq, &blk->chain);
		if (ret < 0)
			break;
		if (ret == 1) {
			vq_push(vq, &blk->chain, handle(blk, &blk->chain));
			spent += cost(&blk->chain) + blk->request.cost;
			continue;
		}
		if (!vq_enable_notify(vq))
			break;
		vq_disable_notify(vq);
		spent++;
	}
	virtio_signal_queue(blk->virtio, queue);
	if (ret < 0)
		virtio_needs_reset(blk->virtio);
	else if (spent >= BLK_TURN)
		virtio_notify_again(blk->virtio, queue);
}

static uint64_t blk_features(void *dev)
{
	const struct virtio_blk *blk = dev;
	uint64_t features = 1ull << VIRTIO_BLK_F_SIZE_MAX | 1ull << VIRTIO_BLK_F_SEG_MAX |
			    1ull << VIRTIO_BLK_F_BLK_SIZE | 1ull << VIRTIO_BLK_F_TOPOLOGY |
			    1ull << VIRTIO_BLK_F_FLUSH;

	if (blk->backend->readonly)
		return features | 1ull << VIRTIO_BLK_F_RO;
	features |= 1ull << VIRTIO_BLK_F_CONFIG_WCE;
	if (blk->backend->ops->discard)
		features |= 1ull << VIRTIO_BLK_F_DISCARD;
	if (blk->backend->ops->zero)
		features |= 1ull << VIRTIO_BLK_F_WRITE_ZEROES;
	return features;
}

/* §5.2.5.2: there is a cache, unless the driver has no way to flush it. */
static void blk_negotiated(void *dev, uint64_t features)
{
	struct virtio_blk *blk = dev;
	bool wce = (features & 1ull << VIRTIO_BLK_F_CONFIG_WCE) != 0;

	atomic_store(&blk->has_wce, wce);
	atomic_store(&blk->wce, !wce || (features & 1ull << VIRTIO_BLK_F_FLUSH) != 0);
}

static void blk_config_read(void *dev, uint32_t off, unsigned len, void *out)
{
	const struct virtio_blk *blk = dev;
	struct virtio_blk_config config = blk->config;

	if (!blk->backend->readonly)
		config.wce = atomic_load(&blk->wce);
	memcpy(out, (const uint8_t *)&config + off, len);
}

/* §5.2.5.1: the one field that is the driver's; from the next request on. */
static void blk_config_write(void *dev, uint32_t off, unsigned len, const void *in)
{
	struct virtio_blk *blk = dev;

	if (off == offsetof(struct virtio_blk_config, wce) && len == 1 &&
	    atomic_load(&blk->has_wce))
		atomic_store(&blk->wce, *(const uint8_t *)in != 0);
}

static void blk_activate(void *dev, struct virtio *virtio, uint64_t features)
{
	struct virtio_blk *blk = dev;

	blk->virtio = virtio;
	blk->features = features;
}

/* Requests are carried out inside notify, on this same loop: none is under way. */
static void blk_reset(void *dev)
{
	struct virtio_blk *blk = dev;

	blk->virtio = NULL;
	blk->features = 0;
}

/* Nothing is under way when the loop is here; what must fit is the disk itself. */
static int blk_save(void *dev, struct state_writer *w, struct err *err)
{
	const struct virtio_blk *blk = dev;

	(void)err;
	state_put_u64(w, blk->backend->size);
	state_put_bool(w, blk->backend->readonly);
	state_put_bytes(w, blk->id, sizeof(blk->id));
	state_put_bool(w, atomic_load(&blk->wce) != 0);
	return 0;
}

/* As the driver has set it; without the feature it stands where it stood. */
static void restore_wce(struct virtio_blk *blk, bool wce)
{
	if (atomic_load(&blk->has_wce))
		atomic_store(&blk->wce, wce);
}

static int blk_restore(void *dev, struct state_reader *r, struct err *err)
{
	struct virtio_blk *blk = dev;
	uint64_t size = state_get_u64(r);
	bool readonly = state_get_bool(r);
	char id[VIRTIO_BLK_ID_MAX];

	state_get_bytes(r, id, sizeof(id));
	/* Version 1 had no `writeback` that a driver could have written. */
	if (r->version >= 2)
		restore_wce(blk, state_get_bool(r));
	if (r->short_read)
		return 0; /* the caller's to say */
	if (memcmp(id, blk->id, sizeof(id)) != 0)
		return state_bad(err, "another disk where %.*s is", VIRTIO_BLK_ID_MAX, blk->id);
	if (size != blk->backend->size)
		return err_set(err, EINVAL,
			       "disk %.*s had %llu bytes when the machine was saved; now it has "
			       "%llu",
			       VIRTIO_BLK_ID_MAX, blk->id, (unsigned long long)size,
			       (unsigned long long)blk->backend->size);
	if (readonly != blk->backend->readonly)
		return err_set(err, EINVAL, "disk %.*s was %s when the machine was saved",
			       VIRTIO_BLK_ID_MAX, blk->id, readonly ? "read-only" : "writable");
	return 0;
}

static void blk_destroy(void *dev)
{
	struct virtio_blk *blk = dev;

	block_close(blk->backend);
	free(blk);
}

const struct virtio_ops virtio_blk_ops = {
    .name = "virtio-blk",
    .guest_kconfig = "CONFIG_VIRTIO_BLK",
    .device_id = VIRTIO_ID_BLOCK,
    .queues = 1,
    .queue_size_max = BLK_QUEUE_SIZE,
    .config_len = sizeof(struct virtio_blk_config),
    .features = blk_features,
    .negotiated = blk_negotiated,
    .config_read = blk_config_read,
    .config_write = blk_config_write,
    .activate = blk_activate,
    .notify = blk_notify,
    .reset = blk_reset,
    .destroy = blk_destroy,
    .state_version = 2,
    .save = blk_save,
    .restore = blk_restore,
};

/* §5.2.4; topology is told in logical blocks. */
static void fill_config(struct virtio_blk_config *config, const struct block *b)
{
	uint32_t physical = b->physical_block / BLOCK_SECTOR_SIZE;

	config->capacity = b->size / BLOCK_SECTOR_SIZE;
	config->size_max = BLK_SIZE_MAX;
	config->seg_max = BLK_SEG_MAX;
	config->blk_size = BLOCK_SECTOR_SIZE;
	config->physical_block_exp = physical > 1 ? (uint8_t)__builtin_ctz(physical) : 0;
	config->min_io_size = physical > 1 && physical <= UINT16_MAX ? (uint16_t)physical : 1;
	config->opt_io_size = b->optimal_io / BLOCK_SECTOR_SIZE;
	if (b->readonly)
		return;
	if (b->ops->discard) {
		config->max_discard_sectors = BLK_DISCARD_MAX / BLOCK_SECTOR_SIZE;
		config->max_discard_seg = BLK_DISCARD_SEGS;
		config->discard_sector_alignment = physical > 1 ? physical : 1;
	}
	if (b->ops->zero) {
		config->max_write_zeroes_sectors = BLK_ZEROES_MAX / BLOCK_SECTOR_SIZE;
		config->max_write_zeroes_seg = BLK_ZEROES_SEGS;
		config->write_zeroes_may_unmap = 1;
	}
}

int virtio_blk_new(const struct virtio_blk_options *opt, struct virtio_blk **out, struct err *err)
{
	struct virtio_blk *blk;
	size_t id_len = strlen(opt->id);

	if (id_len > VIRTIO_BLK_ID_MAX)
		return err_set(err, EINVAL, "disk id \"%s\" is longer than %d characters", opt->id,
			       VIRTIO_BLK_ID_MAX);
	blk = calloc(1, sizeof(*blk));
	if (!blk)
		return err_sys(err, ENOMEM, "virtio-blk");
	blk->backend = opt->backend;
	blk->log = opt->log;
	memcpy(blk->id, opt->id, id_len);
	fill_config(&blk->config, opt->backend);
	blk_negotiated(blk, 0);
	*out = blk;
	return 0;
}

struct block *virtio_blk_backend(const struct virtio_blk *blk)
{
	return blk->backend;
}

void virtio_blk_counters(const struct virtio_blk *blk, struct virtio_blk_counters *out)
{
	*out = (struct virtio_blk_counters){
	    .requests = count_read(&blk->requests),
	    .read_bytes = count_read(&blk->read_bytes),
	    .written_bytes = count_read(&blk->written_bytes),
	    .flushes = count_read(&blk->flushes),
	    .errors = count_read(&blk->errors),
	};
}
