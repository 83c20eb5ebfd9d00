/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Split virtqueue, device side (VIRTIO 1.2 §2.7).
 *
 * Theory of operation. The driver publishes chain heads in the available ring and moves its index;
 * we follow with next_avail, turn each chain into host iovecs, and publish completions in the used
 * ring. All three parts are memory that the guest may rewrite while we look at it, so
 *
 *  - an index is loaded once, with acquire or release order as the protocol wants;
 *  - a descriptor is copied whole by two 64-bit loads and only the copy is looked at: what was
 *    checked is what is used;
 *  - a chain is bounded by a count of descriptors, which also ends loops.
 *
 * Two kinds of bad input: a chain that makes no sense harms itself only; its head is known, so it
 * is completed with length 0 (the driver gets its buffers back) and work goes on. A ring that makes
 * no sense (available index ahead by more than the ring, a head that is no descriptor) leaves
 * nothing to complete: the queue is broken until the driver resets the device.
 */
#include "minivm/virtqueue.h"
#include "minivm/counter.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include <linux/virtio_ring.h>

/* Sizes of the three parts, §2.7: flags and index, the ring, and the event word behind it. */
#define DESC_BYTES	  16u
#define AVAIL_BYTES(size) (6u + 2u * (size))
#define USED_BYTES(size)  (6u + 8u * (size))

/* As many descriptors as `next` can name. */
#define TABLE_BYTES_MAX (DESC_BYTES << 16)

/* Malformed chains that one vq_pop() completes: each may be as long as a good one. */
#define MALFORMED_MAX 32u

/* Offsets of the words in the available and the used ring. */
#define RING_FLAGS 0u
#define RING_IDX   2u
#define RING_DATA  4u

struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t next;
};

/* --- the words of shared memory --- */

static inline uint16_t *word16(void *part, size_t off)
{
	return (uint16_t *)(void *)((uint8_t *)part + off);
}

static inline uint16_t load16(void *part, size_t off)
{
	return __atomic_load_n(word16(part, off), __ATOMIC_RELAXED);
}

static inline void store16(void *part, size_t off, uint16_t value)
{
	__atomic_store_n(word16(part, off), value, __ATOMIC_RELAXED);
}

static inline void store32(void *part, size_t off, uint32_t value)
{
	uint32_t *p = (uint32_t *)(void *)((uint8_t *)part + off);

	__atomic_store_n(p, value, __ATOMIC_RELAXED);
}

/* Acquire: pairs with the driver's write barrier before its index (§2.7.13.3, step 5). */
static inline uint16_t load_avail_idx(struct virtqueue *vq)
{
	return __atomic_load_n(word16(vq->avail, RING_IDX), __ATOMIC_ACQUIRE);
}

/*
 * One descriptor, each byte read once. An indirect table may lie at any address, so the loads are
 * unaligned ones; volatile, because the compiler must not read the guest's copy again later.
 */
static inline struct desc desc_read(const void *table, unsigned i)
{
	typedef uint64_t unaligned_u64 __attribute__((aligned(1), may_alias));
	const volatile unaligned_u64 *p =
	    (const volatile unaligned_u64 *)((const uint8_t *)table + (size_t)DESC_BYTES * i);
	uint64_t addr = p[0];
	uint64_t rest = p[1];

	return (struct desc){
	    .addr = addr,
	    .len = (uint32_t)rest,
	    .flags = (uint16_t)(rest >> 32),
	    .next = (uint16_t)(rest >> 48),
	};
}

/* --- configuration --- */

static void *part_slice(const struct guest_mem *mem, gpa_t gpa, uint64_t len, uint64_t align)
{
	return gpa.v % align == 0 ? guest_mem_slice(mem, gpa, len) : NULL;
}

int vq_start(struct virtqueue *vq, const struct guest_mem *mem, const struct vq_layout *layout,
	     bool event_idx, bool indirect)
{
	uint16_t size = layout->size;
	void *desc, *avail, *used;

	vq_stop(vq);
	if (size == 0 || size > VQ_SIZE_MAX || (size & (size - 1)) != 0)
		return -EINVAL;
	if (layout->desc.v % 16 != 0 || layout->avail.v % 2 != 0 || layout->used.v % 4 != 0)
		return -EINVAL;
	desc = part_slice(mem, layout->desc, (uint64_t)DESC_BYTES * size, 16);
	avail = part_slice(mem, layout->avail, AVAIL_BYTES(size), 2);
	used = part_slice(mem, layout->used, USED_BYTES(size), 4);
	if (!desc || !avail || !used)
		return -EFAULT;

	vq->mem = mem;
	vq->size = size;
	vq->event_idx = event_idx;
	vq->indirect = indirect;
	vq->desc = desc;
	vq->avail = avail;
	vq->used = used;
	vq->next_avail = 0;
	vq->next_used = 0;
	vq->signalled_used = 0;
	vq->signalled_valid = true;
	vq->broken = false;
	vq->started = true;
	return 0;
}

void vq_stop(struct virtqueue *vq)
{
	vq->started = false;
	vq->broken = false;
	vq->desc = NULL;
	vq->avail = NULL;
	vq->used = NULL;
}

/* --- saved state --- */

void vq_save(const struct virtqueue *vq, struct state_writer *w)
{
	state_put_u16(w, vq->next_avail);
	state_put_u16(w, vq->next_used);
	state_put_u16(w, vq->signalled_used);
	state_put_bool(w, vq->signalled_valid);
	state_put_bool(w, vq->broken);
}

int vq_restore(struct virtqueue *vq, struct state_reader *r, struct err *err)
{
	vq->next_avail = state_get_u16(r);
	vq->next_used = state_get_u16(r);
	vq->signalled_used = state_get_u16(r);
	vq->signalled_valid = state_get_bool(r);
	vq->broken = state_get_bool(r);
	if (vq->next_avail != vq->next_used)
		return state_bad(err, "a queue with requests under way");
	return 0;
}

/* --- completion --- */

static void used_fill(struct virtqueue *vq, uint16_t head, uint32_t written)
{
	size_t off = RING_DATA + 8u * (vq->next_used % vq->size);

	store32(vq->used, off, head);
	store32(vq->used, off + 4, written);
	vq->next_used++;
	if (vq->next_used == vq->signalled_used)
		vq->signalled_valid = false; /* once around since the last signal */
}

/*
 * Release: the entries, and the data in the buffers, before the index. Pairs with the driver's read
 * barrier between the index and the entry (§2.7.14).
 */
static void used_publish(struct virtqueue *vq)
{
	__atomic_store_n(word16(vq->used, RING_IDX), vq->next_used, __ATOMIC_RELEASE);
}

static void used_add(struct virtqueue *vq, uint16_t head, uint32_t written)
{
	used_fill(vq, head, written);
	used_publish(vq);
}

void vq_push(struct virtqueue *vq, const struct vq_chain *chain, uint32_t written)
{
	if (!vq->started)
		return;
	used_add(vq, chain->head, written < chain->writable_len ? written : chain->writable_len);
}

void vq_fill(struct virtqueue *vq, uint16_t head, uint32_t written)
{
	if (vq->started)
		used_fill(vq, head, written);
}

void vq_publish(struct virtqueue *vq)
{
	if (vq->started)
		used_publish(vq);
}

/* --- taking chains --- */

/* §2.7.5.3: what an INDIRECT descriptor points to; NULL if that is no table. */
static const void *indirect_table(const struct virtqueue *vq, const struct desc *d, unsigned *count)
{
	if (!vq->indirect || (d->flags & VRING_DESC_F_NEXT) != 0)
		return NULL;
	if (d->len == 0 || d->len % DESC_BYTES != 0 || d->len > TABLE_BYTES_MAX)
		return NULL;
	*count = d->len / DESC_BYTES;
	return guest_mem_slice(vq->mem, GPA(d->addr), d->len);
}

static int chain_add(const struct virtqueue *vq, struct vq_chain *c, const struct desc *d)
{
	uint64_t total = (uint64_t)c->readable_len + c->writable_len + d->len;
	bool writable = (d->flags & VRING_DESC_F_WRITE) != 0;
	struct iovec *iov = &c->iov[c->n_readable + c->n_writable];

	if (!writable && c->n_writable > 0)
		return -EPROTO; /* §2.7.4.2: readable ones come first */
	if (total > UINT32_MAX)
		return -EPROTO;
	iov->iov_base = guest_mem_slice(vq->mem, GPA(d->addr), d->len);
	iov->iov_len = d->len;
	if (!iov->iov_base)
		return -EFAULT;
	if (writable) {
		c->n_writable++;
		c->writable_len += d->len;
	} else {
		c->n_readable++;
		c->readable_len += d->len;
	}
	return 0;
}

/*
 * Walks one chain. In the ring's own table more descriptors than the ring has mean a loop. Chains
 * in an indirect table may be longer than the queue: the driver must not make such (§2.7.5.3.1),
 * but Linux does when the queue is small, and we have room.
 */
static int chain_read(const struct virtqueue *vq, uint16_t head, struct vq_chain *c)
{
	const void *table = vq->desc;
	unsigned count = vq->size;
	unsigned limit = count;
	unsigned i = head;
	bool indirect = false; /* inside an indirect table, which may be the ring's own */
	int ret;

	c->head = head;
	c->n_readable = 0;
	c->n_writable = 0;
	c->readable_len = 0;
	c->writable_len = 0;
	for (;;) {
		struct desc d;

		if (i >= count)
			return -EPROTO;
		d = desc_read(table, i);
		if ((d.flags & VRING_DESC_F_INDIRECT) != 0) {
			if (indirect)
				return -EPROTO;
			indirect = true;
			table = indirect_table(vq, &d, &count);
			if (!table)
				return -EPROTO;
			limit = VQ_SIZE_MAX;
			i = 0;
			continue;
		}
		if (c->n_readable + c->n_writable == limit)
			return -EPROTO;
		ret = chain_add(vq, c, &d);
		if (ret < 0)
			return ret;
		if ((d.flags & VRING_DESC_F_NEXT) == 0)
			return 0;
		i = d.next;
	}
}

/* 1: *head is the next chain's; 0: none; -EPROTO: broken. */
static int next_head(struct virtqueue *vq, uint16_t *head)
{
	uint16_t idx = load_avail_idx(vq);
	uint16_t pending = (uint16_t)(idx - vq->next_avail);
	uint16_t outstanding = (uint16_t)(idx - vq->next_used);

	if (pending == 0)
		return 0;
	/* More than the ring holds, be it new ones or new ones and those not yet completed. */
	if (pending > vq->size || outstanding > vq->size)
		goto broken;
	*head = load16(vq->avail, RING_DATA + 2u * (vq->next_avail % vq->size));
	if (*head >= vq->size)
		goto broken;
	vq->next_avail++;
	return 1;

broken:
	vq->broken = true;
	return -EPROTO;
}

int vq_pop(struct virtqueue *vq, struct vq_chain *chain)
{
	if (!vq->started)
		return 0;
	if (vq->broken)
		return -EPROTO;
	for (unsigned n = 0; n < MALFORMED_MAX; n++) {
		uint16_t head;
		int ret = next_head(vq, &head);

		if (ret <= 0)
			return ret;
		if (chain_read(vq, head, chain) == 0) {
			count_add(&vq->count.chains, 1);
			return 1;
		}
		count_add(&vq->count.malformed, 1);
		used_add(vq, head, 0);
	}
	return 0;
}

void vq_unpop(struct virtqueue *vq)
{
	if (!vq->started)
		return;
	vq->next_avail--;
	atomic_fetch_sub_explicit(&vq->count.chains, 1, memory_order_relaxed);
}

/* --- notifications, both ways --- */

bool vq_should_signal(struct virtqueue *vq)
{
	uint16_t before = vq->signalled_used;
	bool comparable = vq->signalled_valid;
	uint16_t event;

	if (!vq->started || (comparable && vq->next_used == before))
		return false;
	vq->signalled_used = vq->next_used;
	vq->signalled_valid = true;
	/*
	 * Full barrier: our used index before we read what the driver wants. Pairs with the
	 * driver's full barrier between writing used_event (or the flag) and looking at the used
	 * index once more; one of the two sees the other's write, so no completion goes unnoticed.
	 */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!vq->event_idx)
		return (load16(vq->avail, RING_FLAGS) & VRING_AVAIL_F_NO_INTERRUPT) == 0;
	if (!comparable)
		return true;
	event = load16(vq->avail, RING_DATA + 2u * vq->size);
	/* §2.7.7.2: was the entry numbered `event` among those since the last signal? */
	return (uint16_t)(vq->next_used - event - 1) < (uint16_t)(vq->next_used - before);
}

/* With EVENT_IDX the last avail_event stays: it is behind us, so the driver does not kick. */
void vq_disable_notify(struct virtqueue *vq)
{
	if (vq->started && !vq->event_idx)
		store16(vq->used, RING_FLAGS, VRING_USED_F_NO_NOTIFY);
}

bool vq_enable_notify(struct virtqueue *vq)
{
	if (!vq->started || vq->broken)
		return false;
	if (vq->event_idx)
		store16(vq->used, RING_DATA + 8u * vq->size, vq->next_avail);
	else
		store16(vq->used, RING_FLAGS, 0);
	/*
	 * Full barrier: what we ask for before we look at the index once more. Pairs with the
	 * driver's full barrier between its available index and avail_event or the flag
	 * (§2.7.13.4): either we see its chain or it sees that it must kick.
	 */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return load_avail_idx(vq) != vq->next_avail;
}
