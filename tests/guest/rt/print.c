/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Output on COM1, polled: one look at the line status for 16 bytes, the FIFO's depth. (OUTSB would
 * spare nothing: KVM emulates it, and exits for each byte.) Lines of several processors do not mix.
 */
#include <stdarg.h>

#include "rt.h"
#include "smp.h"
#include "x86.h"

#define COM1	 0x3f8
#define LSR	 5
#define LSR_THRE 0x20

struct line {
	char text[256];
	size_t len;
};

static struct spinlock lock;

void print_bytes(const char *data, size_t len)
{
	while (len) {
		size_t n = len < 16 ? len : 16;

		while (!(in8(COM1 + LSR) & LSR_THRE))
			cpu_pause();
		for (len -= n; n; n--)
			out8(COM1, (uint8_t)*data++);
	}
}

static void put(struct line *l, char c)
{
	if (l->len < sizeof(l->text))
		l->text[l->len++] = c;
}

static void put_padded(struct line *l, const char *s, size_t len, unsigned width, char pad)
{
	for (; width > len; width--)
		put(l, pad);
	while (len--)
		put(l, *s++);
}

static void put_number(struct line *l, uint64_t v, unsigned base, bool negative, unsigned width,
		       char pad)
{
	char digits[24];
	size_t at = sizeof(digits);

	do
		digits[--at] = "0123456789abcdef"[v % base];
	while (v /= base);
	if (negative)
		digits[--at] = '-';
	put_padded(l, digits + at, sizeof(digits) - at, width, pad);
}

static void put_integer(struct line *l, char conversion, uint64_t v, unsigned width, char pad)
{
	bool negative = conversion == 'd' && (int64_t)v < 0;

	put_number(l, negative ? -v : v, conversion == 'x' || conversion == 'p' ? 16 : 10, negative,
		   width, pad);
}

/* One conversion; *fmt is behind the '%'. */
static const char *convert(struct line *l, const char *fmt, va_list *ap)
{
	char pad = ' ';
	unsigned width = 0;
	bool wide = false;
	const char *s;

	if (*fmt == '0')
		pad = '0';
	for (; *fmt >= '0' && *fmt <= '9'; fmt++)
		width = width * 10 + (unsigned)(*fmt - '0');
	for (; *fmt == 'l' || *fmt == 'z'; fmt++)
		wide = true;
	switch (*fmt) {
	case 'c':
		put(l, (char)va_arg(*ap, int));
		break;
	case 's':
		s = va_arg(*ap, const char *);
		put_padded(l, s, strlen(s), width, ' ');
		break;
	case 'd':
		put_integer(l, 'd',
			    wide ? (uint64_t)va_arg(*ap, int64_t)
				 : (uint64_t)(int64_t)va_arg(*ap, int),
			    width, pad);
		break;
	case 'u':
	case 'x':
	case 'p':
		put_integer(l, *fmt,
			    wide || *fmt == 'p' ? va_arg(*ap, uint64_t) : va_arg(*ap, unsigned),
			    width, pad);
		break;
	default:
		put(l, *fmt);
	}
	return fmt + 1;
}

void print(const char *fmt, ...)
{
	struct line l = {.len = 0};
	va_list ap;

	va_start(ap, fmt);
	while (*fmt) {
		if (*fmt == '%')
			fmt = convert(&l, fmt + 1, &ap);
		else
			put(&l, *fmt++);
	}
	va_end(ap);
	spin_lock(&lock);
	print_bytes(l.text, l.len);
	spin_unlock(&lock);
}

void print_break_lock(void)
{
	spin_unlock(&lock);
}
