/* SPDX-License-Identifier: Apache-2.0 */
/*
 * COM1 as a 16550A (TI PC16550D data sheet), found the way that Linux's 8250 driver finds it, then
 * FIFOs, interrupts, loopback, and real input. Nothing may be printed while the registers are
 * upset: each case puts them back before its verdict (leave()).
 *
 * no_input on the command line: no one sends anything.
 */
#include "apic.h"
#include "mp.h"
#include "rt.h"
#include "time.h"
#include "trap.h"
#include "x86.h"

#define COM1	   0x3f8
#define VEC_SERIAL (VEC_FIRST_IRQ + 2)
#define FIFO_SIZE  16
#define WAIT_MS	   3000

enum { /* registers */
       RBR = 0,
       THR = 0,
       DLL = 0,
       IER = 1,
       DLM = 1,
       IIR = 2,
       FCR = 2,
       LCR = 3,
       MCR = 4,
       LSR = 5,
       MSR = 6,
       SCR = 7,
};

enum {
	IER_RDI = 1,
	IER_THRI = 2,
	IER_RLSI = 4,
	IER_MSI = 8,
	IIR_NONE = 1,
	IIR_MSI = 0,
	IIR_THRI = 2,
	IIR_RDI = 4,
	IIR_RLSI = 6,
	IIR_TIMEOUT = 12,
	IIR_ID = 0x0f,
	FCR_ENABLE = 1,
	FCR_CLEAR_RX = 2,
	FCR_CLEAR_TX = 4,
	FCR_TRIGGER_8 = 0x80,
	LCR_8N1 = 3,
	LCR_DLAB = 0x80,
	MCR_DTR = 1,
	MCR_RTS = 2,
	MCR_OUT1 = 4,
	MCR_OUT2 = 8,
	MCR_LOOP = 16,
	LSR_DR = 1,
	LSR_OE = 2,
	LSR_THRE = 0x20,
	LSR_TEMT = 0x40,
	MSR_CTS = 0x10,
	MSR_DSR = 0x20,
	MSR_RI = 0x40,
	MSR_DCD = 0x80,
};

static uint8_t get(unsigned reg)
{
	return in8((uint16_t)(COM1 + reg));
}

static void set(unsigned reg, unsigned value)
{
	out8((uint16_t)(COM1 + reg), (uint8_t)value);
}

static bool wait_lsr(uint8_t bits)
{
	uint64_t end = deadline_ms(WAIT_MS);

	while ((get(LSR) & bits) != bits) {
		if (expired(end))
			return false;
		cpu_pause();
	}
	return true;
}

/* A known state: FIFOs on and empty, no interrupts, no loopback. */
static void enter(void)
{
	wait_lsr(LSR_TEMT);
	set(LCR, LCR_8N1);
	set(IER, 0);
	set(MCR, MCR_DTR | MCR_RTS | MCR_OUT2);
	set(FCR, FCR_ENABLE | FCR_CLEAR_RX | FCR_CLEAR_TX);
	get(LSR);
	get(IIR);
	get(MSR);
}

static void loop_on(void)
{
	set(MCR, MCR_LOOP | MCR_DTR | MCR_RTS | MCR_OUT2);
	set(FCR, FCR_ENABLE | FCR_CLEAR_RX | FCR_CLEAR_TX);
	get(MSR);
	get(LSR);
}

static void leave(void)
{
	enter();
}

static void scratch(void)
{
	for (unsigned v = 0; v < 256; v += 51) {
		set(SCR, v);
		EXPECT_EQ(get(SCR), v);
	}
}

/* autoconfig(): four interrupt enable bits and no more */
static void detect_ier(void)
{
	uint8_t none, all, uue;

	enter();
	set(IER, 0);
	none = get(IER);
	set(IER, 0x0f);
	all = get(IER);
	set(IER, 0x40); /* XScale's UUE: must not stick */
	uue = get(IER);
	leave();
	EXPECT_EQ(none & 0x0f, 0);
	EXPECT_EQ(all & 0x0f, 0x0f);
	EXPECT_EQ(uue, 0);
}

/* autoconfig(): loopback ties RTS to CTS and OUT2 to DCD */
static void detect_loopback(void)
{
	uint8_t msr;

	enter();
	set(MCR, MCR_LOOP | MCR_OUT2 | MCR_RTS);
	msr = get(MSR);
	leave();
	EXPECT_EQ(msr & 0xf0, MSR_DCD | MSR_CTS);
}

/* autoconfig(): IIR says what FIFO there is; no 16650, 16750 or 16950 */
static void detect_16550a(void)
{
	uint8_t with, without, efr_dlab, efr_bf, fifo64;

	enter();
	set(LCR, 0);
	set(FCR, FCR_ENABLE);
	with = get(IIR);
	set(LCR, LCR_DLAB);
	efr_dlab = get(2);
	set(LCR, 0xbf);
	efr_bf = get(2);
	set(LCR, LCR_8N1);
	set(FCR, FCR_ENABLE | 0x20);
	fifo64 = get(IIR);
	set(FCR, 0);
	without = get(IIR);
	leave();
	EXPECT_EQ(with >> 6, 3);
	EXPECT(efr_dlab != 0);
	EXPECT(efr_bf != 0);
	EXPECT_EQ(fifo64 & 0x20, 0);
	EXPECT_EQ(without >> 6, 0);
}

static void divisor_latch(void)
{
	uint8_t dll, dlm, ier, lcr;

	enter();
	set(LCR, LCR_DLAB | LCR_8N1);
	lcr = get(LCR);
	set(DLL, 0x34);
	set(DLM, 0x12);
	dll = get(DLL);
	dlm = get(DLM);
	set(DLL, 1);
	set(DLM, 0);
	set(LCR, LCR_8N1);
	ier = get(IER);
	leave();
	EXPECT_EQ(lcr, LCR_DLAB | LCR_8N1);
	EXPECT_EQ(dll, 0x34);
	EXPECT_EQ(dlm, 0x12);
	EXPECT_EQ(ier, 0);
}

static void modem_inputs(void)
{
	EXPECT_EQ(get(MSR) & (MSR_CTS | MSR_DSR | MSR_DCD), MSR_CTS | MSR_DSR | MSR_DCD);
}

static void loopback_data(void)
{
	uint8_t got[FIFO_SIZE], lsr_before, lsr_with, lsr_after;

	enter();
	loop_on();
	lsr_before = get(LSR);
	for (unsigned i = 0; i < FIFO_SIZE; i++)
		set(THR, 0xa0 + i);
	lsr_with = get(LSR);
	for (unsigned i = 0; i < FIFO_SIZE; i++)
		got[i] = wait_lsr(LSR_DR) ? get(RBR) : 0;
	lsr_after = get(LSR);
	leave();
	EXPECT_EQ(lsr_before & LSR_DR, 0);
	EXPECT_EQ(lsr_with & LSR_DR, LSR_DR);
	for (unsigned i = 0; i < FIFO_SIZE; i++)
		EXPECT_EQ(got[i], 0xa0 + i);
	EXPECT_EQ(lsr_after & (LSR_DR | LSR_OE), 0);
}

/* The 17th byte has no place: overrun is reported once, the first sixteen are kept. */
static void loopback_overrun(void)
{
	uint8_t lsr, again, first, count = 0;

	enter();
	loop_on();
	for (unsigned i = 0; i < FIFO_SIZE + 1; i++) {
		set(THR, 0x20 + i);
		delay_us(20);
	}
	lsr = get(LSR);
	again = get(LSR);
	first = get(RBR);
	for (count = 1; (get(LSR) & LSR_DR) && count < 40; count++)
		get(RBR);
	leave();
	EXPECT_EQ(lsr & (LSR_OE | LSR_DR), LSR_OE | LSR_DR);
	EXPECT_EQ(again & LSR_OE, 0);
	EXPECT_EQ(first, 0x20);
	EXPECT_EQ(count, FIFO_SIZE);
}

static void loopback_modem(void)
{
	static const uint8_t in[] = {MCR_RTS, MCR_DTR, MCR_OUT1, MCR_OUT2};
	static const uint8_t out[] = {MSR_CTS, MSR_DSR, MSR_RI, MSR_DCD};
	uint8_t msr[4];

	enter();
	for (unsigned i = 0; i < 4; i++) {
		set(MCR, MCR_LOOP | in[i]);
		msr[i] = get(MSR);
	}
	leave();
	for (unsigned i = 0; i < 4; i++)
		EXPECT_EQ(msr[i] & 0xf0, out[i]);
}

static void modem_deltas(void)
{
	uint8_t first, second, iir_before, iir_with, iir_after;

	enter();
	set(MCR, MCR_LOOP);
	get(MSR);
	set(IER, IER_MSI);
	iir_before = get(IIR);
	set(MCR, MCR_LOOP | MCR_RTS);
	iir_with = get(IIR);
	first = get(MSR);
	iir_after = get(IIR);
	second = get(MSR);
	leave();
	EXPECT_EQ(iir_before & IIR_ID, IIR_NONE);
	EXPECT_EQ(iir_with & IIR_ID, IIR_MSI);
	EXPECT_EQ(first & 0x1f, MSR_CTS | 1); /* delta CTS */
	EXPECT_EQ(iir_after & IIR_ID, IIR_NONE);
	EXPECT_EQ(second & 0x0f, 0);
}

static void fifo_clear(void)
{
	uint8_t lsr;

	enter();
	loop_on();
	set(THR, 'x');
	set(FCR, FCR_ENABLE | FCR_CLEAR_RX);
	lsr = get(LSR);
	leave();
	EXPECT_EQ(lsr & LSR_DR, 0);
}

/* Reading IIR acknowledges THRE only while that is what it shows. */
static void thre_identification(void)
{
	uint8_t first, second, after_write, off;

	enter();
	loop_on();
	set(IER, IER_THRI);
	first = get(IIR);
	second = get(IIR);
	set(THR, 'a');
	wait_lsr(LSR_THRE);
	after_write = get(IIR);
	set(IER, 0);
	off = get(IIR);
	leave();
	EXPECT_EQ(first & IIR_ID, IIR_THRI);
	EXPECT_EQ(second & IIR_ID, IIR_NONE);
	EXPECT_EQ(after_write & IIR_ID, IIR_THRI);
	EXPECT_EQ(off & IIR_ID, IIR_NONE);
}

static void rx_identification(void)
{
	uint8_t few, many, none;

	enter();
	loop_on();
	set(FCR, FCR_ENABLE | FCR_TRIGGER_8);
	set(IER, IER_RDI);
	set(THR, 1);
	delay_us(1000);
	few = get(IIR); /* below the trigger level: character timeout, sooner or later */
	for (unsigned i = 0; i < 8; i++)
		set(THR, i);
	delay_us(1000);
	many = get(IIR);
	while (get(LSR) & LSR_DR)
		get(RBR);
	none = get(IIR);
	leave();
	EXPECT((few & IIR_ID) == IIR_TIMEOUT || (few & IIR_ID) == IIR_NONE ||
	       (few & IIR_ID) == IIR_RDI);
	EXPECT((many & IIR_ID) == IIR_RDI || (many & IIR_ID) == IIR_TIMEOUT);
	EXPECT_EQ(none & IIR_ID, IIR_NONE);
}

/* Line status comes before received data, which comes before THRE. */
static void priorities(void)
{
	uint8_t line, data, empty;

	enter();
	loop_on();
	set(IER, IER_RDI | IER_RLSI | IER_THRI);
	for (unsigned i = 0; i < FIFO_SIZE + 1; i++) {
		set(THR, i);
		delay_us(20);
	}
	line = get(IIR);
	get(LSR);
	data = get(IIR);
	set(FCR, FCR_ENABLE | FCR_CLEAR_RX);
	empty = get(IIR);
	leave();
	EXPECT_EQ(line & IIR_ID, IIR_RLSI);
	EXPECT((data & IIR_ID) == IIR_RDI || (data & IIR_ID) == IIR_TIMEOUT);
	EXPECT_EQ(empty & IIR_ID, IIR_THRI);
}

/* --- interrupts at the processor --- */

static volatile unsigned irqs, thre_irqs;
static volatile unsigned rx_len;
static volatile uint8_t rx_data[256];

static bool serial_irq(struct trap_frame *frame)
{
	uint8_t iir;

	(void)frame;
	irqs++;
	while (!((iir = get(IIR)) & IIR_NONE)) {
		if ((iir & IIR_ID) == IIR_THRI)
			thre_irqs++;
		while ((get(LSR) & LSR_DR) && rx_len < sizeof(rx_data)) {
			rx_data[rx_len] = get(RBR);
			rx_len++;
		}
		get(MSR);
	}
	lapic_eoi();
	return true;
}

static void irq_begin(void)
{
	enter();
	irqs = thre_irqs = rx_len = 0;
	trap_handle(VEC_SERIAL, serial_irq);
	ioapic_route(mp_isa_pin(4), VEC_SERIAL, lapic_id(), 0);
	irq_enable();
}

static void irq_end(void)
{
	set(IER, 0);
	irq_disable();
	ioapic_mask(mp_isa_pin(4));
	leave();
}

static bool wait_at_least(const volatile unsigned *counter, unsigned want)
{
	uint64_t end = deadline_ms(WAIT_MS);

	while (*counter < want) {
		if (expired(end))
			return false;
		cpu_pause();
	}
	return true;
}

static void thre_interrupt(void)
{
	bool at_enable, at_write;

	irq_begin();
	set(IER, IER_THRI);
	at_enable = wait_at_least(&thre_irqs, 1);
	set(THR, '\n'); /* really goes out: an empty line does no harm */
	at_write = wait_at_least(&thre_irqs, 2);
	irq_end();
	EXPECT(at_enable);
	EXPECT(at_write);
}

/*
 * Loopback takes OUT2 down, and with it the interrupt line of a PC: the byte waits until loopback
 * ends.
 */
static void rx_interrupt_loopback(void)
{
	unsigned during;
	bool came;

	irq_begin();
	loop_on();
	set(IER, IER_RDI);
	set(THR, 'q');
	delay_us(1000);
	during = irqs;
	set(MCR, MCR_DTR | MCR_RTS | MCR_OUT2);
	came = wait_at_least(&rx_len, 1);
	irq_end();
	if (!boot_info.foreign)
		EXPECT_EQ(during, 0);
	EXPECT(came);
	EXPECT_EQ(rx_data[0], 'q');
	EXPECT(irqs >= 1);
}

/* --- input from outside --- */

static bool same(const char *want)
{
	for (unsigned i = 0; want[i]; i++) {
		if (i >= rx_len || rx_data[i] != (uint8_t)want[i])
			return false;
	}
	return rx_len == strlen(want);
}

static void rx_outside(void)
{
	static const char want[] = "hello, guest\n";
	bool came;

	if (cmdline_has("no_input"))
		SKIP("no one sends");
	irq_begin();
	set(IER, IER_RDI);
	print("# serial: send me a line\n");
	came = wait_at_least(&rx_len, sizeof(want) - 1);
	delay_us(2000);
	irq_end();
	EXPECT(came);
	EXPECT(same(want));
}

/* More than the FIFO holds, read slowly and by polling: the host waits, nothing is lost. */
static void rx_back_pressure(void)
{
	static const char want[] =
	    "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-+"
	    "0123456789abcdefghijklmn\n";
	uint8_t overrun = 0;

	if (cmdline_has("no_input"))
		SKIP("no one sends");
	enter();
	rx_len = 0;
	print("# serial: send me many\n");
	while (rx_len < sizeof(want) - 1 && wait_lsr(LSR_DR)) {
		delay_us(200);
		overrun |= get(LSR) & LSR_OE;
		rx_data[rx_len] = get(RBR);
		rx_len++;
	}
	leave();
	EXPECT_EQ(overrun, 0);
	EXPECT(same(want));
}

/* Much output as fast as the line status allows: the suite counts these characters. */
static void tx_polled(void)
{
	for (unsigned i = 0; i < 10; i++)
		print("# serial: 0123456789012345678901234567890123456789 line %02u\n", i);
}

/* A guest that does not look at LSR may lose bytes; nothing else happens. (CR: nothing to see.) */
static void tx_flood(void)
{
	enter();
	for (unsigned i = 0; i < 2000; i++)
		set(THR, '\r');
	EXPECT(wait_lsr(LSR_THRE | LSR_TEMT));
	leave();
}

static const struct test_case cases[] = {
    {"scratch", scratch, 0},
    {"detect_ier", detect_ier, 0},
    {"detect_loopback", detect_loopback, 0},
    {"detect_16550a", detect_16550a, 0},
    {"divisor_latch", divisor_latch, 0},
    {"modem_inputs", modem_inputs, 0},
    {"loopback_data", loopback_data, 0},
    {"loopback_overrun", loopback_overrun, 0},
    {"loopback_modem", loopback_modem, 0},
    {"modem_deltas", modem_deltas, 0},
    {"fifo_clear", fifo_clear, 0},
    {"thre_identification", thre_identification, 0},
    {"rx_identification", rx_identification, 0},
    {"priorities", priorities, 0},
    {"thre_interrupt", thre_interrupt, 0},
    {"rx_interrupt_loopback", rx_interrupt_loopback, 0},
    {"rx_outside", rx_outside, 0},
    {"rx_back_pressure", rx_back_pressure, 0},
    {"tx_polled", tx_polled, 0},
    {"tx_flood", tx_flood, 3},
};

int payload_main(void)
{
	return run_cases("serial", cases, ARRAY_SIZE(cases));
}
