/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest's vsock driver for unit tests, written after VIRTIO 1.2 §5.10: packets out, packets in,
 * over three rings in fake memory; and the host's processes that it talks to.
 */
#ifndef TESTS_VSOCK_DRIVER_H
#define TESTS_VSOCK_DRIVER_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>

#include "minivm/virtio_vsock.h"
#include "vdriver.h"

enum { Q_RX, Q_TX, Q_EVENT, QUEUES };

enum { REQUEST = 1, RESPONSE, RST, SHUTDOWN, RW, CREDIT_UPDATE, CREDIT_REQUEST };

#define SHUT_F_RCV  1u
#define SHUT_F_SEND 2u
#define SHUT_F_BOTH 3u

#define CID	    42u
#define QUEUE_SIZE  64u
#define RING_STRIDE 0x20000u
#define RX_BYTES    0x2000u /* of a receive buffer, header included */
#define RX_AREA	    0x100000u
#define TX_AREA	    0x200000u
#define EVENT_AREA  0x3f0000u

struct hdr {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port, len;
	uint16_t type, op;
	uint32_t flags, buf_alloc, fwd_cnt;
} __attribute__((packed));

struct pkt {
	struct hdr h;
	uint8_t data[RX_BYTES];
};

struct vsock_test {
	struct vdriver drv;
	struct virtio_vsock *vsock;
	struct ring q[QUEUES]; /* each sees the memory from its own stride on */
	uint32_t buf_alloc;    /* what the guest tells of itself */
	uint32_t fwd_cnt;
	char dir[64];
	char path[96];
	int log_pipe[2];
};

extern struct vsock_test vt;

void vt_nap(void);

#define within_patience(cond)                                                                      \
	({                                                                                         \
		bool met_ = (cond);                                                                \
		for (unsigned naps_ = 0; !met_ && naps_ < PATIENCE_MS * 5u; naps_++) {             \
			vt_nap();                                                                  \
			met_ = (cond);                                                             \
		}                                                                                  \
		met_;                                                                              \
	})

/* --- set-up --- */

/* The driver's part of §3.1.1; rings empty. */
void vt_start(uint64_t features);
void vt_options(struct virtio_vsock_options *opt);

/*
 * The device wants its loop when it is made, vdriver_init() makes one: so a loop of the test's own
 * takes its place.
 */
void vt_make(const struct virtio_vsock_options *options);
void vt_directory(void);
void vt_fini(void);

/* Lines that the device has logged so far. */
unsigned vt_log_lines(void);
struct virtio_vsock_counters vt_count(void);

/* --- packets to the guest --- */

void rx_offer(uint16_t head);
void rx_give(unsigned first, unsigned n);

/* The next packet, copied out; its buffer is given back. */
bool rx_poll(struct pkt *p);

/* The next packet, which is to be of this kind. */
void rx_expect(struct pkt *p, unsigned op);
bool rx_quiet(void);

/* --- packets from the guest --- */

struct hdr tx_header(unsigned op, uint32_t guest_port, uint32_t host_port);
bool tx_done(void);
void tx_raw(const void *bytes, uint32_t len);
void tx_hdr(const struct hdr *h);

/* The same packet from n guest ports on, n at most QUEUE_SIZE, by one kick. */
void tx_batch(unsigned op, uint32_t first_port, uint32_t host_port, unsigned n);
void tx(unsigned op, uint32_t guest_port, uint32_t host_port, uint32_t flags);
void tx_data(uint32_t guest_port, uint32_t host_port, const void *data, uint32_t len);

/* --- the host's processes --- */

struct sockaddr_un host_addr(const char *suffix);
int host_connect(void);
int host_listen(const char *suffix, int backlog);
int host_accept(int listener);
/* The device finds both at once, however busy the host is: for set-ups whose time is short. */
int host_connect_saying(const char *text);
void host_write(int fd, const void *data, size_t len);
void host_say(int fd, const char *text);

/* Exactly these bytes are next. */
void host_expect(int fd, const void *data, size_t len);
bool host_eof(int fd);

/* --- fixtures --- */

#define VSOCK_FEATURES (F_VERSION_1 | F_INDIRECT | F_EVENT_IDX)
#define FIRST_PORT     (1u << 30) /* of our end of connections that the host makes */

void vt_setup(void);

/* The times of the protocol in milliseconds, as short as the test may wait. */
void vt_setup_hasty(void);

#define VsockTest(name, ...)                                                                       \
	Test(virtio_vsock, name, .init = vt_setup, .fini = vt_fini, .timeout = 30, ##__VA_ARGS__)
#define HastyTest(name)                                                                            \
	Test(virtio_vsock, name, .init = vt_setup_hasty, .fini = vt_fini, .timeout = 30)

/* A connection from guest port 1000 to a service at host port 52; returns the service's socket. */
int guest_connection(uint32_t *buf_alloc);
uint8_t *vt_pattern(size_t len);

#endif
