/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MC146818 real-time clock: index at port 0x70, data at 0x71. It shows the host's wall clock in UTC
 * and cannot be set; its memory reads as zeroes.
 *
 * One instant for a pass of reads. A driver reads second, minute, hour, ... one register at a time,
 * and the real chip promises only that nothing changes for 244 us after UIP (status A, bit 7) was
 * seen clear. Here UIP is always clear, and looking at status A takes a new snapshot of the time,
 * which later reads use until status A is looked at again or the snapshot is SNAPSHOT_NS old. So a
 * pass that starts with a look at UIP, as drivers' do, sees one instant in whatever order it reads;
 * and since Linux (mc146818_get_time) looks again at the end and compares the seconds, its check
 * works as on the chip.
 *
 * The calendar is computed here: gmtime_r() would have libc open and read time zone files.
 *
 * Threads: one mutex; index and data are two accesses, so vCPUs that share the clock need their own
 * lock, as on a PC (Linux: rtc_lock).
 *
 * System calls: none (clock_gettime is in the vDSO), futex.
 */
#include "minivm/platform.h"
#include "minivm/clock.h"

#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	RTC_SECONDS = 0x00,
	RTC_SECONDS_ALARM = 0x01,
	RTC_MINUTES = 0x02,
	RTC_MINUTES_ALARM = 0x03,
	RTC_HOURS = 0x04,
	RTC_HOURS_ALARM = 0x05,
	RTC_WEEKDAY = 0x06, /* 1 = Sunday */
	RTC_DAY = 0x07,
	RTC_MONTH = 0x08,
	RTC_YEAR = 0x09,
	RTC_STATUS_A = 0x0a,
	RTC_STATUS_B = 0x0b,
	RTC_STATUS_D = 0x0d,
	RTC_CENTURY = 0x32, /* where PCs keep it */
};

#define RTC_INDEX_MASK 0x7f /* bit 7 masks the NMI */

#define RTC_A_VALUE  0x26 /* UIP clear, 32.768 kHz divider, 1024 Hz rate */
#define RTC_B_BINARY 0x04
#define RTC_B_24H    0x02
#define RTC_D_VALID  0x80 /* the battery is good */
#define RTC_ANY	     0xc0 /* alarm: do not care */

#define SNAPSHOT_NS 20000000ull

struct rtc_time {
	unsigned second, minute, hour;
	unsigned weekday; /* 1 = Sunday */
	unsigned day, month, year;
};

struct rtc {
	pthread_mutex_t lock;
	uint8_t index;
	uint8_t status_b;
	struct rtc_time now;
	uint64_t taken; /* CLOCK_MONOTONIC ns of `now`; 0 = none */
};

/*
 * Days since 1970-01-01 to a Gregorian date. Years are counted from 1 March 0000, so that the leap
 * day is a year's last and months have a regular length of 153 days in 5; 400 years are 146097
 * days.
 */
static void rtc_set_date(struct rtc_time *t, uint64_t days)
{
	uint64_t d = days + 719468; /* from 0000-03-01 */
	uint64_t era = d / 146097;
	unsigned doe = (unsigned)(d % 146097);
	unsigned yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	unsigned doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
	unsigned mp = (5 * doy + 2) / 153; /* 0 = March */

	t->day = doy - (153 * mp + 2) / 5 + 1;
	t->month = mp < 10 ? mp + 3 : mp - 9;
	t->year = (unsigned)(era * 400) + yoe + (t->month <= 2);
	t->weekday = (unsigned)((days + 4) % 7) + 1; /* day 0 was a Thursday */
}

static void rtc_snapshot(struct rtc *rtc)
{
	struct timespec ts;
	uint64_t seconds;

	clock_gettime(CLOCK_REALTIME, &ts);
	seconds = ts.tv_sec > 0 ? (uint64_t)ts.tv_sec : 0;
	rtc->now.second = (unsigned)(seconds % 60);
	rtc->now.minute = (unsigned)(seconds / 60 % 60);
	rtc->now.hour = (unsigned)(seconds / 3600 % 24);
	rtc_set_date(&rtc->now, seconds / 86400);
	rtc->taken = clock_ns(CLOCK_MONOTONIC);
}

static uint8_t rtc_encode(const struct rtc *rtc, unsigned value)
{
	if (rtc->status_b & RTC_B_BINARY)
		return (uint8_t)value;
	return (uint8_t)(value / 10 << 4 | value % 10);
}

/* Each shows a field of the time, divided, to two digits. */
static const struct rtc_time_register {
	uint8_t index;
	uint8_t field;
	uint8_t divisor;
} time_registers[] = {
    {RTC_SECONDS, offsetof(struct rtc_time, second), 1},
    {RTC_MINUTES, offsetof(struct rtc_time, minute), 1},
    {RTC_HOURS, offsetof(struct rtc_time, hour), 1},
    {RTC_WEEKDAY, offsetof(struct rtc_time, weekday), 1},
    {RTC_DAY, offsetof(struct rtc_time, day), 1},
    {RTC_MONTH, offsetof(struct rtc_time, month), 1},
    {RTC_YEAR, offsetof(struct rtc_time, year), 1},
    {RTC_CENTURY, offsetof(struct rtc_time, year), 100},
};

static const struct rtc_time_register *find_time_register(uint8_t index)
{
	for (size_t i = 0; i < sizeof(time_registers) / sizeof(time_registers[0]); i++) {
		if (time_registers[i].index == index)
			return &time_registers[i];
	}
	return NULL;
}

static uint8_t rtc_read_time(struct rtc *rtc, const struct rtc_time_register *r)
{
	unsigned value;

	if (rtc->taken == 0 || clock_ns(CLOCK_MONOTONIC) - rtc->taken > SNAPSHOT_NS)
		rtc_snapshot(rtc);
	memcpy(&value, (const uint8_t *)&rtc->now + r->field, sizeof(value));
	return rtc_encode(rtc, value / r->divisor % 100);
}

static uint8_t rtc_read_data(struct rtc *rtc)
{
	const struct rtc_time_register *r = find_time_register(rtc->index);

	if (r)
		return rtc_read_time(rtc, r);
	switch (rtc->index) {
	case RTC_SECONDS_ALARM:
	case RTC_MINUTES_ALARM:
	case RTC_HOURS_ALARM:
		return RTC_ANY;
	case RTC_STATUS_A:
		rtc_snapshot(rtc);
		return RTC_A_VALUE;
	case RTC_STATUS_B:
		return rtc->status_b;
	case RTC_STATUS_D:
		return RTC_D_VALID;
	default: /* status C: no interrupt has happened; memory: zeroes */
		return 0;
	}
}

static uint64_t rtc_read(void *dev, uint64_t off, unsigned len)
{
	struct rtc *rtc = dev;
	uint8_t value;

	if (off != 1 || len != 1)
		return UINT64_MAX; /* the index cannot be read back */
	pthread_mutex_lock(&rtc->lock);
	value = rtc_read_data(rtc);
	pthread_mutex_unlock(&rtc->lock);
	return value;
}

/* Of the data, only the choice between BCD and binary is taken. */
static void rtc_write(void *dev, uint64_t off, unsigned len, uint64_t value)
{
	struct rtc *rtc = dev;

	if (len != 1)
		return;
	pthread_mutex_lock(&rtc->lock);
	if (off == 0)
		rtc->index = value & RTC_INDEX_MASK;
	else if (rtc->index == RTC_STATUS_B)
		rtc->status_b = (uint8_t)(RTC_B_24H | (value & RTC_B_BINARY));
	pthread_mutex_unlock(&rtc->lock);
}

static void rtc_reset(void *dev)
{
	struct rtc *rtc = dev;

	pthread_mutex_lock(&rtc->lock);
	rtc->index = 0;
	rtc->status_b = RTC_B_24H;
	rtc->taken = 0;
	pthread_mutex_unlock(&rtc->lock);
}

/* Not the time: the clock goes on with the host's. */
static int rtc_save(void *dev, struct state_writer *w, struct err *err)
{
	struct rtc *rtc = dev;

	(void)err;
	pthread_mutex_lock(&rtc->lock);
	state_put_u8(w, rtc->index);
	state_put_u8(w, rtc->status_b);
	pthread_mutex_unlock(&rtc->lock);
	return 0;
}

static int rtc_restore(void *dev, struct state_reader *r, struct err *err)
{
	struct rtc *rtc = dev;

	(void)err;
	pthread_mutex_lock(&rtc->lock);
	rtc->index = state_get_u8(r) & RTC_INDEX_MASK;
	rtc->status_b = (uint8_t)(RTC_B_24H | (state_get_u8(r) & RTC_B_BINARY));
	rtc->taken = 0;
	pthread_mutex_unlock(&rtc->lock);
	return 0;
}

static void rtc_destroy(void *dev)
{
	struct rtc *rtc = dev;

	pthread_mutex_destroy(&rtc->lock);
	free(rtc);
}

const struct io_ops rtc_io_ops = {
    .name = "rtc",
    .read = rtc_read,
    .write = rtc_write,
    .reset = rtc_reset,
    .destroy = rtc_destroy,
    .state_version = 1,
    .save = rtc_save,
    .restore = rtc_restore,
};

int rtc_new(void **out, struct err *err)
{
	struct rtc *rtc = calloc(1, sizeof(*rtc));

	if (!rtc)
		return err_sys(err, ENOMEM, "rtc");
	pthread_mutex_init(&rtc->lock, NULL);
	rtc->status_b = RTC_B_24H;
	*out = rtc;
	return 0;
}
