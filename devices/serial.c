/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 16550A UART. The chapter names are those of the PC16550D data sheet; "the line" is our host side.
 *
 * Time. Nothing takes time on our line. A byte written to the transmitter is on the line at once,
 * so THRE and TEMT say "empty" while the output buffer has room for one more FIFO's worth. The
 * receiver's character time-out (four character times without traffic) has passed as soon as the
 * host has handed over what it had, so bytes below the trigger level are announced by it
 * immediately.
 *
 * Interrupts. The chip's INTR pin is a level, but behind it sits an edge-triggered I/O APIC pin
 * that we pulse through an eventfd. A pulse that is missing loses the port for good; one too many
 * costs a handler run that finds nothing. So serial_update() compares the *set* of pending sources
 * with the set at the last pulse, and pulses whenever the set has changed and is not empty:
 *  - off to on: the edge that the real pin would make;
 *  - a source joins others that are pending: a handler that has looked at IIR already and is on its
 *    way out is called again;
 *  - a source was served and others remain: a handler that serves one source per call, and does not
 *    loop until IIR says "none" as Linux does, is called again;
 *  - the character time-out starts anew with each byte that is read or arrives while bytes remain
 *    below the trigger level, and is over at once: this counts as a change.
 * One pulse is put off. A write to THR withdraws the THRE interrupt and, the line being quick,
 * makes it pending again. A handler that loops sees that in IIR without being called again, and a
 * FIFO is filled with 16 writes in a row, so the pulse is owed until the host side consumes output;
 * it is dropped if the guest has served the source by then. Pulses leave after the lock has been
 * let go, so one may reach the guest after the condition is gone; it never comes before it.
 *
 * Threads. One mutex around all state, held for the length of a register access or a copy of the
 * host side's buffer. What must happen without it (the pulse, the host side's callbacks) is noted
 * in `todo` and done by serial_unlock().
 *
 * System calls: write (eventfd), futex.
 */
#include "minivm/serial.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Registers, by offset; LCR.DLAB puts the divisor latch into the first two. */
enum {
	REG_DATA, /* RBR on read, THR on write */
	REG_IER,
	REG_IIR, /* FCR on write */
	REG_LCR,
	REG_MCR,
	REG_LSR,
	REG_MSR,
	REG_SCR,
	REG_COUNT,
};

#define IER_RDA	 0x01 /* received data, character time-out */
#define IER_THRE 0x02
#define IER_RLS	 0x04 /* receiver line status */
#define IER_MS	 0x08 /* modem status */
#define IER_MASK 0x0f

#define IIR_NONE 0x01
#define IIR_FIFO 0xc0

#define FCR_ENABLE   0x01
#define FCR_RX_RESET 0x02

#define LCR_DLAB 0x80

#define MCR_DTR	 0x01
#define MCR_RTS	 0x02
#define MCR_OUT1 0x04
#define MCR_OUT2 0x08
#define MCR_LOOP 0x10
#define MCR_MASK 0x1f

#define LSR_DR	 0x01
#define LSR_OE	 0x02
#define LSR_THRE 0x20
#define LSR_TEMT 0x40

#define MSR_DCTS   0x01
#define MSR_DDSR   0x02
#define MSR_TERI   0x04
#define MSR_DDCD   0x08
#define MSR_DELTAS 0x0f
#define MSR_CTS	   0x10
#define MSR_DSR	   0x20
#define MSR_RI	   0x40
#define MSR_DCD	   0x80

/* Interrupt sources; the order of the bits is their priority ("Interrupt Identification Register").
 */
#define SRC_RLS	 0x01u
#define SRC_RDA	 0x02u
#define SRC_CTI	 0x04u /* character time-out indication */
#define SRC_THRE 0x08u
#define SRC_MS	 0x10u

/* What serial_unlock() does. */
#define TODO_PULSE    0x01u
#define TODO_TX_READY 0x02u
#define TODO_RX_ROOM  0x04u

struct serial {
	struct irq_line irq;
	struct serial_host host;

	pthread_mutex_t lock; /* everything below */
	unsigned todo;

	uint8_t ier;
	uint8_t fcr;
	uint8_t lcr;
	uint8_t mcr;
	uint8_t msr;
	uint8_t scr;
	uint8_t divisor[2]; /* low, high: kept, not used */
	bool overrun;	    /* LSR_OE */
	bool dsr;	    /* the input pin */
	bool thre_pending;  /* the THRE interrupt, until IIR reports it or THR is written */

	unsigned pending; /* SRC_* at the last look, 0 while OUT2 is off */
	bool owed;	  /* a pulse was put off */

	uint8_t rx[SERIAL_FIFO];
	unsigned rx_head;
	unsigned rx_count;
	bool rx_refused; /* the host side waits for rx_room */

	uint8_t *tx;
	size_t tx_capacity;
	size_t tx_head;
	size_t tx_count;

	struct serial_counters counters;
};

static void serial_lock(struct serial *s)
{
	pthread_mutex_lock(&s->lock);
}

static void serial_unlock(struct serial *s)
{
	unsigned todo = s->todo;

	s->todo = 0;
	pthread_mutex_unlock(&s->lock);
	if (todo & TODO_PULSE)
		irq_line_raise(&s->irq);
	if (todo & TODO_TX_READY)
		s->host.tx_ready(s->host.opaque);
	if (todo & TODO_RX_ROOM)
		s->host.rx_room(s->host.opaque);
}

/* --- conditions --- */

static bool fifo_enabled(const struct serial *s)
{
	return s->fcr & FCR_ENABLE;
}

static bool loopback(const struct serial *s)
{
	return s->mcr & MCR_LOOP;
}

/* Loopback forces the modem control outputs inactive ("Modem Control Register"). */
static bool output_pin(const struct serial *s, uint8_t mcr_bit)
{
	return !loopback(s) && s->mcr & mcr_bit;
}

static unsigned rx_depth(const struct serial *s)
{
	return fifo_enabled(s) ? SERIAL_FIFO : 1;
}

static unsigned rx_trigger(const struct serial *s)
{
	static const uint8_t levels[] = {1, 4, 8, 14};

	return fifo_enabled(s) ? levels[s->fcr >> 6] : 1;
}

static bool thr_empty(const struct serial *s)
{
	return s->tx_capacity - s->tx_count >= SERIAL_FIFO;
}

static uint8_t modem_inputs(const struct serial *s)
{
	uint8_t in = 0;

	if (!loopback(s))
		return (uint8_t)(MSR_CTS | MSR_DCD | (s->dsr ? MSR_DSR : 0));
	in |= s->mcr & MCR_RTS ? MSR_CTS : 0;
	in |= s->mcr & MCR_DTR ? MSR_DSR : 0;
	in |= s->mcr & MCR_OUT1 ? MSR_RI : 0;
	in |= s->mcr & MCR_OUT2 ? MSR_DCD : 0;
	return in;
}

/* The enabled sources that are pending, whether or not OUT2 lets them through. */
static unsigned sources(const struct serial *s)
{
	unsigned src = 0;

	if (s->ier & IER_RLS && s->overrun)
		src |= SRC_RLS;
	if (s->ier & IER_RDA && s->rx_count >= rx_trigger(s))
		src |= SRC_RDA;
	else if (s->ier & IER_RDA && s->rx_count > 0)
		src |= SRC_CTI;
	if (s->ier & IER_THRE && s->thre_pending)
		src |= SRC_THRE;
	if (s->ier & IER_MS && s->msr & MSR_DELTAS)
		src |= SRC_MS;
	return src;
}

/* --- interrupts: see the head comment --- */

static void serial_pulse(struct serial *s)
{
	s->owed = false;
	s->counters.interrupts++;
	s->todo |= TODO_PULSE;
}

/* After any change: pulses if it calls for one. `again`: the time-out was started anew. */
static void serial_update_timeout(struct serial *s, bool again)
{
	unsigned now = output_pin(s, MCR_OUT2) ? sources(s) : 0;

	if (now == 0)
		s->owed = false;
	else if (now != s->pending || (again && now & SRC_CTI))
		serial_pulse(s);
	s->pending = now;
}

static void serial_update(struct serial *s)
{
	serial_update_timeout(s, false);
}

static void serial_update_modem(struct serial *s)
{
	uint8_t old = s->msr;
	uint8_t now = modem_inputs(s);
	uint8_t changed = (old ^ now) & (MSR_CTS | MSR_DSR | MSR_DCD);

	s->msr = (uint8_t)(now | (old & MSR_DELTAS) | changed >> 4);
	if (old & MSR_RI && !(now & MSR_RI))
		s->msr |= MSR_TERI;
	serial_update(s);
}

/* --- receiver --- */

static bool rx_open(const struct serial *s)
{
	return output_pin(s, MCR_RTS);
}

/* Tells the host side once the FIFO has run empty, not at each byte: it refills in one go. */
static void rx_offer_room(struct serial *s)
{
	if (s->rx_refused && s->rx_count == 0 && rx_open(s)) {
		s->rx_refused = false;
		s->todo |= TODO_RX_ROOM;
	}
}

static void rx_put(struct serial *s, uint8_t byte)
{
	s->rx[(s->rx_head + s->rx_count) % SERIAL_FIFO] = byte;
	s->rx_count++;
}

static uint8_t rx_get(struct serial *s)
{
	uint8_t byte;

	if (s->rx_count == 0)
		return 0;
	byte = s->rx[s->rx_head];
	s->rx_head = (s->rx_head + 1) % SERIAL_FIFO;
	s->rx_count--;
	rx_offer_room(s);
	serial_update_timeout(s, true);
	return byte;
}

static void rx_reset(struct serial *s)
{
	s->rx_head = 0;
	s->rx_count = 0;
	rx_offer_room(s);
}

/*
 * A byte that comes back in loopback. On overrun the FIFO keeps what it has, a lone RBR is
 * overwritten ("Line Status Register", bit 1).
 */
static void rx_loop(struct serial *s, uint8_t byte)
{
	if (s->rx_count == rx_depth(s)) {
		s->overrun = true;
		if (fifo_enabled(s))
			return;
		s->rx_count = 0;
	}
	rx_put(s, byte);
}

/* --- transmitter --- */

static void tx_put(struct serial *s, uint8_t byte)
{
	if (s->tx_count == s->tx_capacity) {
		s->counters.tx_dropped++;
		return;
	}
	s->tx[(s->tx_head + s->tx_count) % s->tx_capacity] = byte;
	if (s->tx_count++ == 0)
		s->todo |= TODO_TX_READY;
	s->counters.tx_bytes++;
}

static void write_thr(struct serial *s, uint8_t byte)
{
	if (loopback(s)) {
		rx_loop(s, byte);
		s->thre_pending = true;
		serial_update_timeout(s, true);
		return;
	}
	tx_put(s, byte);
	s->thre_pending = thr_empty(s);
	if (s->thre_pending && s->ier & IER_THRE && output_pin(s, MCR_OUT2)) {
		s->owed = true;
		s->pending |= SRC_THRE;
	}
	serial_update(s);
}

/* --- registers --- */

static uint8_t read_iir(struct serial *s)
{
	static const uint8_t codes[] = {0x06, 0x04, 0x0c, 0x02, 0x00};
	uint8_t iir = fifo_enabled(s) ? IIR_FIFO : 0;
	unsigned src = sources(s);
	unsigned first;

	if (src == 0)
		return iir | IIR_NONE;
	first = src & -src;
	if (first == SRC_THRE) {
		s->thre_pending = false;
		serial_update(s);
	}
	return iir | codes[__builtin_ctz(first)];
}

static uint8_t read_lsr(struct serial *s)
{
	uint8_t lsr = thr_empty(s) || loopback(s) ? LSR_THRE | LSR_TEMT : 0;

	if (s->rx_count > 0)
		lsr |= LSR_DR;
	if (s->overrun) {
		lsr |= LSR_OE;
		s->overrun = false;
		serial_update(s);
	}
	return lsr;
}

static uint8_t read_msr(struct serial *s)
{
	uint8_t msr = s->msr;

	if (msr & MSR_DELTAS) {
		s->msr &= (uint8_t)~MSR_DELTAS;
		serial_update(s);
	}
	return msr;
}

static uint8_t read_register(struct serial *s, uint64_t reg)
{
	switch (reg) {
	case REG_DATA:
		return s->lcr & LCR_DLAB ? s->divisor[0] : rx_get(s);
	case REG_IER:
		return s->lcr & LCR_DLAB ? s->divisor[1] : s->ier;
	case REG_IIR:
		return read_iir(s);
	case REG_LCR:
		return s->lcr;
	case REG_MCR:
		return s->mcr;
	case REG_LSR:
		return read_lsr(s);
	case REG_MSR:
		return read_msr(s);
	default:
		return s->scr;
	}
}

/* Enabling the THRE interrupt while THR is empty raises it ("Interrupt Enable Register"). */
static void write_ier(struct serial *s, uint8_t value)
{
	value &= IER_MASK;
	if (value & ~s->ier & IER_THRE)
		s->thre_pending = thr_empty(s) || loopback(s);
	s->ier = value;
	serial_update(s);
}

/*
 * "FIFO Control Register": switching the FIFOs on or off empties them, and without the enable bit
 * no other bit is taken. There is nothing to do for the transmitter's FIFO, the line has it
 * already.
 */
static void write_fcr(struct serial *s, uint8_t value)
{
	bool toggled = (value ^ s->fcr) & FCR_ENABLE;

	s->fcr = value & FCR_ENABLE ? value : 0;
	if (toggled || s->fcr & FCR_RX_RESET)
		rx_reset(s);
	serial_update(s);
}

static void write_mcr(struct serial *s, uint8_t value)
{
	s->mcr = value & MCR_MASK;
	rx_offer_room(s);
	serial_update_modem(s);
}

static void write_register(struct serial *s, uint64_t reg, uint8_t value)
{
	bool dlab = s->lcr & LCR_DLAB;

	switch (reg) {
	case REG_DATA:
	case REG_IER:
		if (dlab)
			s->divisor[reg] = value;
		else if (reg == REG_DATA)
			write_thr(s, value);
		else
			write_ier(s, value);
		break;
	case REG_IIR:
		write_fcr(s, value);
		break;
	case REG_LCR:
		s->lcr = value;
		break;
	case REG_MCR:
		write_mcr(s, value);
		break;
	case REG_SCR:
		s->scr = value;
		break;
	default: /* LSR and MSR are read-only: writing them is for the factory. */
		break;
	}
}

static uint64_t serial_io_read(void *dev, uint64_t off, unsigned len)
{
	struct serial *s = dev;
	uint8_t value;

	if (len != 1 || off >= REG_COUNT)
		return UINT64_MAX;
	serial_lock(s);
	value = read_register(s, off);
	serial_unlock(s);
	return value;
}

static void serial_io_write(void *dev, uint64_t off, unsigned len, uint64_t value)
{
	struct serial *s = dev;

	if (len != 1 || off >= REG_COUNT)
		return;
	serial_lock(s);
	write_register(s, off, (uint8_t)value);
	serial_unlock(s);
}

/*
 * "Master Reset". Bytes on the line stay there, as does the state of the DSR pin. The divisor is
 * undefined by the data sheet; 1 is 115200 baud, which Linux takes over when it is told no other.
 */
static void serial_set_registers(struct serial *s)
{
	s->ier = 0;
	s->fcr = 0;
	s->lcr = 0;
	s->mcr = 0;
	s->msr = modem_inputs(s);
	s->scr = 0;
	s->divisor[0] = 1;
	s->divisor[1] = 0;
	s->overrun = false;
	s->thre_pending = false;
	rx_reset(s);
	serial_update(s);
}

static void serial_io_reset(void *dev)
{
	struct serial *s = dev;

	serial_lock(s);
	serial_set_registers(s);
	serial_unlock(s);
}

/*
 * Registers, both FIFOs, and what is known about interrupts. What the guest has printed and nobody
 * has taken yet is part of it: it comes out where the machine goes on.
 */
static void serial_save_locked(const struct serial *s, struct state_writer *w)
{
	const uint8_t registers[] = {s->ier, s->fcr, s->lcr,	    s->mcr,
				     s->msr, s->scr, s->divisor[0], s->divisor[1]};

	state_put_bytes(w, registers, sizeof(registers));
	state_put_bool(w, s->overrun);
	state_put_bool(w, s->dsr);
	state_put_bool(w, s->thre_pending);
	state_put_bool(w, s->owed);
	state_put_u32(w, s->rx_count);
	for (unsigned i = 0; i < s->rx_count; i++)
		state_put_u8(w, s->rx[(s->rx_head + i) % SERIAL_FIFO]);
	state_put_u32(w, (uint32_t)s->tx_count);
	for (size_t i = 0; i < s->tx_count; i++)
		state_put_u8(w, s->tx[(s->tx_head + i) % s->tx_capacity]);
}

static int serial_save(void *dev, struct state_writer *w, struct err *err)
{
	struct serial *s = dev;

	(void)err;
	serial_lock(s);
	serial_save_locked(s, w);
	serial_unlock(s);
	return 0;
}

static int restore_rx(struct serial *s, struct state_reader *r, struct err *err)
{
	uint32_t count = state_get_u32(r);

	if (count > rx_depth(s))
		return state_bad(err, "%u bytes in the serial port's receiver", count);
	s->rx_head = 0;
	s->rx_count = count;
	state_get_bytes(r, s->rx, count);
	return 0;
}

static int restore_tx(struct serial *s, struct state_reader *r, struct err *err)
{
	uint32_t count = state_get_u32(r);

	if (count > s->tx_capacity)
		return state_bad(err, "%u bytes in the serial port's transmitter", count);
	s->tx_head = 0;
	s->tx_count = count;
	state_get_bytes(r, s->tx, count);
	return 0;
}

static int serial_restore_locked(struct serial *s, struct state_reader *r, struct err *err)
{
	int ret;

	s->ier = state_get_u8(r) & IER_MASK;
	s->fcr = state_get_u8(r);
	s->lcr = state_get_u8(r);
	s->mcr = state_get_u8(r) & MCR_MASK;
	s->msr = state_get_u8(r);
	s->scr = state_get_u8(r);
	state_get_bytes(r, s->divisor, sizeof(s->divisor));
	s->overrun = state_get_bool(r);
	s->dsr = state_get_bool(r);
	s->thre_pending = state_get_bool(r);
	s->owed = state_get_bool(r);
	ret = restore_rx(s, r, err);
	return ret ? ret : restore_tx(s, r, err);
}

/* A pulse may have been on its way: whatever is pending is pulsed again. */
static int serial_restore(void *dev, struct state_reader *r, struct err *err)
{
	struct serial *s = dev;
	int ret;

	serial_lock(s);
	ret = serial_restore_locked(s, r, err);
	if (!ret) {
		s->pending = 0;
		s->rx_refused = true;
		rx_offer_room(s);
		serial_update(s);
		if (s->tx_count > 0)
			s->todo |= TODO_TX_READY;
	}
	serial_unlock(s);
	return ret;
}

const struct io_ops serial_io_ops = {
    .name = "serial",
    .read = serial_io_read,
    .write = serial_io_write,
    .reset = serial_io_reset,
    .state_version = 1,
    .save = serial_save,
    .restore = serial_restore,
};

/* --- host side --- */

size_t serial_tx_peek(struct serial *s, void *buf, size_t len)
{
	size_t first;

	serial_lock(s);
	if (len > s->tx_count)
		len = s->tx_count;
	first = s->tx_capacity - s->tx_head;
	if (first > len)
		first = len;
	memcpy(buf, s->tx + s->tx_head, first);
	memcpy((uint8_t *)buf + first, s->tx, len - first);
	serial_unlock(s);
	return len;
}

void serial_tx_consume(struct serial *s, size_t len)
{
	bool was_empty;

	serial_lock(s);
	was_empty = thr_empty(s);
	if (len > s->tx_count)
		len = s->tx_count;
	s->tx_head = (s->tx_head + len) % s->tx_capacity;
	s->tx_count -= len;
	if (!was_empty && thr_empty(s))
		s->thre_pending = true;
	serial_update(s);
	if (s->owed)
		serial_pulse(s);
	serial_unlock(s);
}

size_t serial_rx_space(struct serial *s)
{
	size_t space;

	serial_lock(s);
	space = rx_open(s) ? rx_depth(s) - s->rx_count : 0;
	if (space == 0)
		s->rx_refused = true;
	serial_unlock(s);
	return space;
}

size_t serial_rx_push(struct serial *s, const void *buf, size_t len)
{
	const uint8_t *bytes = buf;
	size_t taken = 0;

	serial_lock(s);
	while (rx_open(s) && taken < len && s->rx_count < rx_depth(s))
		rx_put(s, bytes[taken++]);
	s->counters.rx_bytes += taken;
	if (taken < len)
		s->rx_refused = true;
	if (taken > 0)
		serial_update_timeout(s, true);
	serial_unlock(s);
	return taken;
}

void serial_set_dsr(struct serial *s, bool asserted)
{
	serial_lock(s);
	s->dsr = asserted;
	serial_update_modem(s);
	serial_unlock(s);
}

void serial_counters(struct serial *s, struct serial_counters *out)
{
	serial_lock(s);
	*out = s->counters;
	serial_unlock(s);
}

int serial_new(const struct irq_line *irq, const struct serial_host *host, size_t tx_capacity,
	       struct serial **out, struct err *err)
{
	struct serial *s = calloc(1, sizeof(*s));

	assert(tx_capacity >= SERIAL_FIFO);
	if (!s)
		return err_sys(err, ENOMEM, "serial port");
	s->tx = malloc(tx_capacity);
	if (!s->tx) {
		free(s);
		return err_sys(err, ENOMEM, "serial port");
	}
	s->irq = *irq;
	s->host = *host;
	s->tx_capacity = tx_capacity;
	s->dsr = true;
	pthread_mutex_init(&s->lock, NULL);
	serial_set_registers(s);
	*out = s;
	return 0;
}

void serial_destroy(struct serial *s)
{
	if (!s)
		return;
	pthread_mutex_destroy(&s->lock);
	free(s->tx);
	free(s);
}
