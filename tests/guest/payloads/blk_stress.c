/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-blk under stress, from ring 3: is an interrupt ever lost, a request completed twice or not
 * at all, a byte wrong? The driver looks into the used ring only after the device has asserted its
 * interrupt, as drivers of operating systems do, so a lost one is a wait that never ends. More than
 * 65,536 requests go through one ring, so that all indices run over; resets hit requests on their
 * way; two processors share a device. What is done follows from fixed seeds.
 *
 * Disk (disks.h): sectors below MAIN_WRITTEN are read and compared; each slot has sectors of its
 * own in the scratch area that it writes and reads back.
 */
#include "apic.h"
#include "cpu.h"
#include "disks.h"
#include "pattern.h"
#include "rt.h"
#include "smp.h"
#include "time.h"
#include "trap.h"
#include "vblk.h"

#define SLOTS	 128u /* more than the device does in one turn of its loop */
#define WAIT_MS	 VBLK_TIMEOUT_MS
#define MOST_MS	 4000 /* of a case whose rounds are alike: slow hosts do fewer */
#define VEC_DISK VEC_FIRST_IRQ
#define BAD_TYPE 0x7777u /* unsupported: answered without any I/O */

static uint32_t next_random(uint32_t *state)
{
	*state = *state * 1664525u + 1013904223u;
	return *state >> 16;
}

/* --- slots: one request each, again and again --- */

struct slot {
	struct vblk_req *req;
	uint8_t *data; /* `each` sectors */
	uint64_t sector;
	uint32_t written; /* the seed of what its own sectors hold; 0: not known */
	uint32_t writing; /* the seed of the write under way, 0: none */
	bool out;	  /* with the device */
	unsigned owner;	  /* processor */
};

static struct vblk blk;
static struct slot slots[SLOTS];
static unsigned each;	       /* sectors of a request */
static uint8_t by_head[SLOTS]; /* slot of a descriptor */
static volatile uint64_t offered, completed;
static const char *volatile trouble; /* the first thing that was wrong */

static void complain(const char *what)
{
	if (!trouble)
		trouble = what;
}

static uint64_t own_sectors(const struct slot *s)
{
	return MAIN_SCRATCH + (uint64_t)(s - slots) * each;
}

static bool open_disk(uint64_t features, unsigned sectors)
{
	if (!vblk_open(&blk, DISK_MAIN, features, SLOTS))
		return false;
	offered = completed = 0;
	trouble = NULL;
	each = sectors;
	for (unsigned i = 0; i < SLOTS; i++) {
		slots[i] =
		    (struct slot){.req = vblk_req_alloc(), .data = dma_alloc(each * SECTOR, 16)};
		/* By a table, so that a request takes one descriptor. */
		slots[i].req->table = dma_alloc(16 * 3, 16);
	}
	return true;
}

#define OPEN(features, sectors) EXPECT(open_disk(features, sectors))

/* Fills the slot's request: a compared read, a write, its reading back, or nothing at all. */
static void prepare(struct slot *s, uint32_t random)
{
	struct vseg data = {(uint64_t)s->data, each * SECTOR, false};
	uint32_t type = VBLK_T_IN;

	s->writing = 0;
	s->sector = own_sectors(s);
	if (random % 8 < 5) {
		type = BAD_TYPE;
	} else if (random % 8 == 5 || (random % 8 == 6 && !s->written)) {
		s->sector = random / 8 % (MAIN_WRITTEN - each + 1);
	} else if (random % 8 == 7) {
		type = VBLK_T_OUT;
		s->writing = 1000 + random;
		pattern_fill(s->data, s->writing, s->sector, each);
	}
	if (type == VBLK_T_IN)
		memset(s->data, 0, each * SECTOR);
	vblk_prepare(s->req, type, s->sector, &data, type == BAD_TYPE ? 0 : 1);
}

static void submit(struct slot *s, uint32_t random)
{
	prepare(s, random);
	if (s->out || !vblk_offer(&blk, s->req, s->req->hdr.type == BAD_TYPE ? 2 : 3)) {
		complain("no descriptor for a request");
		return;
	}
	s->out = true;
	by_head[s->req->head] = (uint8_t)(s - slots);
	offered++;
}

/* What the slot's sector must hold that was read. */
static uint32_t expected_seed(const struct slot *s)
{
	return s->sector < MAIN_WRITTEN ? MAIN_SEED : s->written;
}

static void check_answer(struct slot *s, uint32_t len)
{
	const struct vblk_req *r = s->req;

	if (r->hdr.type == BAD_TYPE) {
		if (r->status != VBLK_S_UNSUPP || len != 1)
			complain("an unsupported request was answered wrongly");
	} else if (r->status != VBLK_S_OK) {
		complain("a request failed");
	} else if (r->hdr.type == VBLK_T_OUT) {
		if (len != 1)
			complain("a write has another used length than 1");
		s->written = s->writing;
	} else if (len != each * SECTOR + 1 ||
		   pattern_check(s->data, expected_seed(s), s->sector, each) != each) {
		complain("a read gave other bytes than were written");
	}
}

/* Takes one used element; false: there is none, or it is wrong. */
static bool take_one(void)
{
	uint32_t id, len;
	struct slot *s;

	if (!vring_take(&blk.q, &id, &len))
		return false;
	s = id < SLOTS ? &slots[by_head[id]] : NULL;
	if (!s || !s->out || s->req->head != (int)id) {
		complain("a used element that no request is waiting for");
		return false;
	}
	check_answer(s, len);
	s->out = false;
	vring_free(&blk.q, (uint16_t)id);
	completed++;
	return true;
}

static void drain(void)
{
	while (take_one())
		;
}

/* --- interrupts, as a driver has them --- */

static void interrupts_off(void)
{
	if (!blk.q.event_idx)
		blk.q.avail->flags = VRING_NO_INTERRUPT;
}

/* False if something came meanwhile and has to be taken first. */
static bool interrupts_on(uint16_t after)
{
	if (blk.q.event_idx)
		*vring_used_event(&blk.q) = (uint16_t)(blk.q.used_seen + after);
	else
		blk.q.avail->flags = 0;
	/* What we want before the second look; pairs with the device's full barrier between its
	 * used index and its look at what we want (§2.7.10.2). */
	full_barrier();
	return (uint16_t)(blk.q.used->idx - blk.q.used_seen) <= after;
}

/* Takes what there is, until it may wait for the next interrupt; lazy: for a part of the rest. */
static void drain_and_arm(bool lazy)
{
	uint64_t left;

	interrupts_off();
	do {
		drain();
		left = offered - completed;
	} while (!trouble && !interrupts_on(lazy ? (uint16_t)(left / 4) : 0));
}

static bool interrupt_asserted(void)
{
	uint32_t isr = vreg(&blk.dev, VREG_INTERRUPT_STATUS);

	if (isr)
		vreg_set(&blk.dev, VREG_INTERRUPT_ACK, isr);
	return isr & 1;
}

static bool wait_for_interrupt(void)
{
	uint64_t end = deadline_ms(WAIT_MS);

	while (!interrupt_asserted()) {
		if (expired(end)) {
			complain("no interrupt came");
			return false;
		}
	}
	return true;
}

/* A batch of requests, all waited for by interrupts only. */
static void one_batch(uint32_t *seed)
{
	unsigned n = SLOTS / 4 + next_random(seed) % (3 * SLOTS / 4 + 1);
	/* Often an interrupt for the first answer, else one for most of them at once. */
	uint16_t after = next_random(seed) % 2 ? 0 : (uint16_t)(n * 3 / 4);

	interrupts_on(after);
	for (unsigned i = 0; i < n; i++)
		submit(&slots[i], next_random(seed));
	vring_kick(&blk.q);
	while (!trouble && completed < offered && wait_for_interrupt())
		drain_and_arm(after > 0);
}

static void many_batches(uint64_t features, uint64_t requests)
{
	uint32_t seed = 1;
	unsigned batches = 0;

	OPEN(features, 1);
	for (; !trouble && offered < requests; batches++)
		one_batch(&seed);
	if (trouble)
		print("# blk_stress: %s, after %lu of %lu requests\n", trouble, completed, offered);
	EXPECT(!trouble);
	EXPECT_EQ(completed, offered);
	EXPECT_EQ(blk.q.free_count, SLOTS);
	delay_us(2000);
	EXPECT_EQ(blk.q.used->idx, (uint16_t)offered); /* and no answer more */
	print("# blk_stress: %lu requests in %u batches, %lu kicks\n", offered, batches,
	      blk.q.kicks);
}

/* All indices run over, and used_event and avail_event with them. (Without EVENT_IDX: blk.) */
static void wrap_event_idx(void)
{
	many_batches(VBLK_F_ALL, 66000);
}

static void wrap_flags(void)
{
	many_batches(VBLK_F_ALL & ~VF_EVENT_IDX, 10000);
}

/* --- kicks --- */

/* Waits until no more than `most` requests are out. */
static void wait_until_out(uint64_t most)
{
	uint64_t end = deadline_ms(WAIT_MS);

	while (!trouble && offered - completed > most) {
		take_one();
		if (expired(end))
			complain("the device does not see a request");
	}
}

/*
 * Requests one by one at random moments, about as fast as the device serves them: over and over one
 * comes just when it looks for more, asks to be kicked, looks once more, and goes idle. Now and
 * then all must come back without any further kick.
 */
static void trickle(uint64_t features)
{
	enum { REQUESTS = 60000 };
	uint64_t enough;
	uint32_t seed = 6;

	OPEN(features, 1);
	enough = deadline_ms(MOST_MS);
	while (!trouble && offered < REQUESTS && !expired(enough)) {
		uint64_t pause = rdtsc() + next_random(&seed) % 4096;

		submit(&slots[offered % SLOTS], 0); /* no I/O */
		vring_kick(&blk.q);
		while (rdtsc() < pause)
			take_one();
		wait_until_out(next_random(&seed) % 16 ? SLOTS / 2 : 0);
	}
	wait_until_out(0);
	if (trouble)
		print("# blk_stress: %s, number %lu\n", trouble, offered);
	EXPECT(!trouble);
	print("# blk_stress: %lu kicks for %lu requests\n", blk.q.kicks, offered);
}

static void trickle_event_idx(void)
{
	trickle(VBLK_F_ALL);
}

static void trickle_flags(void)
{
	trickle(VBLK_F_ALL & ~VF_EVENT_IDX);
}

/* --- interrupts that are really taken --- */

static volatile unsigned irqs;

static bool disk_irq(struct trap_frame *frame)
{
	(void)frame;
	vreg_set(&blk.dev, VREG_INTERRUPT_ACK, vreg(&blk.dev, VREG_INTERRUPT_STATUS));
	irqs++;
	lapic_eoi();
	return true;
}

/* One request at a time, EVENT_IDX armed for it alone: one interrupt each, and no other. */
static long one_by_one(void *arg)
{
	uint32_t seed = 2;

	for (unsigned i = 0; i < (unsigned)(uint64_t)arg && !trouble; i++) {
		uint64_t end = deadline_ms(WAIT_MS);

		interrupts_on(0);
		submit(&slots[i % SLOTS], next_random(&seed));
		vring_kick(&blk.q);
		while (irqs == i && !expired(end))
			cpu_pause();
		if (irqs != i + 1)
			complain(irqs == i ? "an interrupt was lost" : "an interrupt too many");
		drain();
		if (completed != i + 1)
			complain("an interrupt came before its answer");
	}
	return 0;
}

static void interrupt_each(void)
{
	enum { REQUESTS = 300 };

	OPEN(VBLK_F_ALL, 1);
	irqs = 0;
	trap_handle(VEC_DISK, disk_irq);
	ioapic_route(blk.dev.gsi, VEC_DISK, lapic_id(), 0);
	irq_enable();
	run_user(one_by_one, (void *)REQUESTS);
	irq_disable();
	ioapic_mask(blk.dev.gsi);
	if (trouble)
		print("# blk_stress: %s, request %lu\n", trouble, completed);
	EXPECT(!trouble);
	EXPECT_EQ(irqs, REQUESTS);
}

/* --- resets --- */

/* So large that the device is at work for a while. */
#define EACH_LARGE ((MAIN_SECTORS - MAIN_SCRATCH) / SLOTS)

static bool own_io(struct slot *s, uint32_t type)
{
	return vblk_io(&blk, type, own_sectors(s), s->data, each * SECTOR) == VBLK_S_OK;
}

static bool own_data_is(const struct slot *s, uint32_t seed)
{
	return pattern_check(s->data, seed, own_sectors(s), each) == each;
}

/* Each slot's sectors get a known content. */
static long write_all(void *seed)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		struct slot *s = &slots[i];

		s->written = (uint32_t)(uint64_t)seed;
		pattern_fill(s->data, s->written, own_sectors(s), each);
		if (!own_io(s, VBLK_T_OUT))
			complain("a write failed");
	}
	return 0;
}

/*
 * After a reset: nothing is out any more, and each slot's sectors hold what they held, or what was
 * under way to them, all of one of them.
 */
static long start_again(void *arg)
{
	(void)arg;
	blk.dev.features = VBLK_F_ALL;
	if (!vblk_restart(&blk))
		complain("no start after a reset");
	for (unsigned i = 0; i < SLOTS && !trouble; i++) {
		struct slot *s = &slots[i];

		s->out = false;
		if (!own_io(s, VBLK_T_IN))
			complain("a read failed");
		if (s->writing && own_data_is(s, s->writing))
			s->written = s->writing;
		if (!own_data_is(s, s->written))
			complain("a reset left half a write");
	}
	return 0;
}

static void submit_writes(uint32_t *seed)
{
	for (unsigned i = 0; i < SLOTS; i++)
		submit(&slots[i], next_random(seed) | 7);
}

static void reset_round(unsigned round, uint32_t *seed)
{
	uint16_t used;

	submit_writes(seed);
	vring_kick_always(&blk.q);
	delay_us(next_random(seed) % 32 * (round % 8));
	EXPECT(vdev_reset(&blk.dev));
	used = blk.q.used->idx;
	drain();
	delay_us(200);
	EXPECT_EQ(blk.q.used->idx, used);
	start_again(NULL);
	if (trouble)
		print("# blk_stress: %s, round %u\n", trouble, round);
	EXPECT(!trouble);
}

static void reset_in_flight(void)
{
	uint32_t seed = 3;
	uint64_t enough;

	OPEN(VBLK_F_ALL, EACH_LARGE);
	write_all((void *)77);
	enough = deadline_ms(MOST_MS);
	for (unsigned round = 0; round < 40 && !expired(enough); round++) {
		reset_round(round, &seed);
		EXPECT_OK_SO_FAR();
	}
	print("# blk_stress: %lu of %lu requests came back before their reset\n", completed,
	      offered);
}

/* --- two processors on one device --- */

static struct spinlock lock; /* ring and slots */
static struct smp_barrier start_line;
static volatile bool stop;

#define SHARE	 1500u
#define MY_SLOTS (SLOTS / 2)

/* Both: whoever sees the interrupt takes the answers of both, under the lock. */
static bool all_back(unsigned me)
{
	bool back = true;

	spin_lock(&lock);
	if (interrupt_asserted())
		drain_and_arm(false);
	for (unsigned i = 0; i < SLOTS; i++)
		back = back && !(slots[i].out && slots[i].owner == me);
	spin_unlock(&lock);
	return back;
}

static void my_batch(unsigned me, unsigned n, uint32_t *seed)
{
	uint64_t end = deadline_ms(WAIT_MS);

	spin_lock(&lock);
	for (unsigned i = 0; i < n; i++) {
		struct slot *s = &slots[me * MY_SLOTS + i];

		s->owner = me;
		submit(s, next_random(seed));
	}
	vring_kick(&blk.q);
	spin_unlock(&lock);
	while (!trouble && !all_back(me)) {
		if (expired(end))
			complain("two processors: no interrupt came");
	}
}

static long share(void *arg)
{
	unsigned me = (unsigned)(uint64_t)arg;
	uint32_t seed = 10 + me;
	unsigned done = 0;

	if (!smp_barrier_wait(&start_line, 2, WAIT_MS))
		complain("two processors: the other one did not come");
	while (!trouble && done < SHARE) {
		unsigned n = 1 + next_random(&seed) % MY_SLOTS;

		my_batch(me, n, &seed);
		done += n;
	}
	return 0;
}

static void share_cpu1(void *arg)
{
	run_user(share, arg);
}

static void two_processors(void)
{
	if (cmdline_number("cpus", 1) < 2)
		SKIP("one processor");
	EXPECT(smp_start_all(2) == 2);
	OPEN(VBLK_F_ALL, 1);
	interrupts_on(0);
	smp_run(1, share_cpu1, (void *)1);
	run_user(share, (void *)0);
	EXPECT(smp_wait(1, 2 * WAIT_MS));
	if (trouble)
		print("# blk_stress: %s, after %lu of %lu requests\n", trouble, completed, offered);
	EXPECT(!trouble);
	EXPECT_EQ(completed, offered);
	EXPECT(offered >= 2 * SHARE);
	EXPECT_EQ(blk.q.free_count, SLOTS);
}

/* The other processor: kicks for nothing, looks at everything, changes nothing. */
static long disturb(void *arg)
{
	uint32_t seed = 20;

	(void)arg;
	smp_barrier_wait(&start_line, 2, WAIT_MS);
	while (!stop) {
		unsigned reg = next_random(&seed) % (VREG_CONFIG / 4) * 4;

		if (reg == VREG_QUEUE_NOTIFY)
			vreg_set(&blk.dev, VREG_QUEUE_NOTIFY, 0);
		else
			(void)vreg(&blk.dev, reg);
	}
	return 0;
}

static void disturb_cpu1(void *arg)
{
	run_user(disturb, arg);
}

static long batches_while_disturbed(void *arg)
{
	uint32_t seed = 4;

	(void)arg;
	smp_barrier_wait(&start_line, 2, WAIT_MS);
	while (!trouble && offered < 3000)
		one_batch(&seed);
	return 0;
}

static void disturbed(void)
{
	if (cmdline_number("cpus", 1) < 2)
		SKIP("one processor");
	EXPECT(smp_start_all(2) == 2);
	OPEN(VBLK_F_ALL, 1);
	stop = false;
	smp_run(1, disturb_cpu1, NULL);
	run_user(batches_while_disturbed, NULL);
	stop = true;
	EXPECT(smp_wait(1, WAIT_MS));
	if (trouble)
		print("# blk_stress: %s, after %lu of %lu requests\n", trouble, completed, offered);
	EXPECT(!trouble);
	EXPECT_EQ(completed, offered);
}

/* The other processor resets the device while this one has requests on their way. */
static long reset_elsewhere(void *arg)
{
	(void)arg;
	smp_barrier_wait(&start_line, 2, WAIT_MS);
	delay_us(50);
	if (!vdev_reset(&blk.dev))
		complain("a reset by the other processor was not carried out");
	return 0;
}

static void reset_elsewhere_cpu1(void *arg)
{
	run_user(reset_elsewhere, arg);
}

static long kick_until_reset(void *arg)
{
	uint64_t end = deadline_ms(WAIT_MS);
	uint32_t seed = 5 + (uint32_t)(uint64_t)arg;

	submit_writes(&seed);
	smp_barrier_wait(&start_line, 2, WAIT_MS);
	do
		vring_kick_always(&blk.q);
	while (vdev_status(&blk.dev) != 0 && !expired(end));
	drain();
	return 0;
}

static void reset_by_the_other(void)
{
	uint64_t enough;

	if (cmdline_number("cpus", 1) < 2)
		SKIP("one processor");
	EXPECT(smp_start_all(2) == 2);
	OPEN(VBLK_F_ALL, EACH_LARGE);
	run_user(write_all, (void *)88);
	enough = deadline_ms(MOST_MS);
	for (uint64_t round = 0; round < 15 && !expired(enough); round++) {
		smp_run(1, reset_elsewhere_cpu1, NULL);
		run_user(kick_until_reset, (void *)round);
		EXPECT(smp_wait(1, WAIT_MS));
		run_user(start_again, NULL);
		if (trouble)
			print("# blk_stress: %s, round %lu\n", trouble, round);
		EXPECT(!trouble);
	}
	print("# blk_stress: %lu of %lu requests came back before their reset\n", completed,
	      offered);
}

static const struct test_case cases[] = {
    {"wrap_event_idx", wrap_event_idx, 3},	   {"wrap_flags", wrap_flags, 3},
    {"trickle_event_idx", trickle_event_idx, 3},   {"trickle_flags", trickle_flags, 3},
    {"interrupt_each", interrupt_each, 0},	   {"reset_in_flight", reset_in_flight, 3},
    {"two_processors", two_processors, 0},	   {"disturbed", disturbed, 0},
    {"reset_by_the_other", reset_by_the_other, 0},
};

int payload_main(void)
{
	return run_cases("blk_stress", cases, ARRAY_SIZE(cases));
}
