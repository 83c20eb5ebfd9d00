/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The insides of virtio-vsock, for vsock.c (queues and packets), vsock_conn.c (connections),
 * vsock_data.c (their bytes), vsock_buf.c (bytes that wait for the host) and vsock_host.c (Unix
 * sockets). All of it belongs to the thread of the device's loop, but for the counters.
 */
#ifndef DEVICES_VIRTIO_VSOCK_INTERNAL_H
#define DEVICES_VIRTIO_VSOCK_INTERNAL_H

#include <stdatomic.h>
#include <sys/queue.h>

#include <linux/virtio_vsock.h>

#include "minivm/iov.h"
#include "minivm/virtio_vsock.h"
#include "minivm/counter.h"
#include "minivm/unix_listener.h"

#define VSOCK_HDR_LEN ((uint32_t)sizeof(struct virtio_vsock_hdr))
_Static_assert(sizeof(struct virtio_vsock_hdr) == 44, "§5.10.6");

/* The largest payload that we send in one packet. */
#define VSOCK_PACKET_MAX (64u << 10)

#define VSOCK_HASH_SIZE	     1024u
#define VSOCK_STRAY_MAX	     64u  /* replies to packets of no connection that wait for a buffer */
#define VSOCK_HANDSHAKES_MAX 128u /* host connections that have not said where they want to go */
#define VSOCK_SHUT_BOTH	     (VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND)
#define VSOCK_LINE_MAX	     24u /* of "CONNECT 4294967295\n", with some room */

/* --- vsock_buf.c: a ring of bytes; no memory while it is empty --- */

struct vsock_buf {
	uint8_t *mem; /* NULL: empty */
	uint32_t size;
	uint32_t head;
	uint32_t len;
};

/*
 * Appends the bytes of iov[0..n) behind the first `skip` ones; they fit into `size`, which is the
 * same in every call. -ENOMEM: nothing was done.
 */
int vsock_buf_put(struct vsock_buf *b, uint32_t size, const struct iovec *iov, unsigned n,
		  size_t skip);
/* What is in it, in one or two pieces; returns their number. */
unsigned vsock_buf_peek(const struct vsock_buf *b, struct iovec iov[2]);
void vsock_buf_take(struct vsock_buf *b, uint32_t len);
void vsock_buf_drop(struct vsock_buf *b);

/* --- connections --- */

enum vsock_state {
	VSOCK_FREE,
	VSOCK_HANDSHAKE,  /* a host process has connected; its CONNECT line is awaited */
	VSOCK_REQUESTED,  /* REQUEST is, or is to be, sent; the guest's answer is awaited */
	VSOCK_CONNECTING, /* the guest has asked; the host's listener is busy */
	VSOCK_OPEN,
	VSOCK_RESETTING, /* RST is to be sent; what the host has not taken yet drains meanwhile */
	VSOCK_DRAINING,	 /* the guest knows it no more; what the host has not taken yet drains */
};

/* What there is to tell the guest, in the order in which it is told. */
enum vsock_pending {
	VSOCK_P_RST = 1u << 0,
	VSOCK_P_REQUEST = 1u << 1,
	VSOCK_P_RESPONSE = 1u << 2,
	VSOCK_P_SHUTDOWN = 1u << 3, /* SEND is set at the end of data only, so it may overtake */
	VSOCK_P_DATA = 1u << 4,	    /* the host's socket may have some */
	VSOCK_P_CREDIT = 1u << 5,
	VSOCK_P_ASK_CREDIT = 1u << 6,
};

struct vsock_conn {
	struct virtio_vsock *v;
	enum vsock_state state;
	struct loop_source host; /* fd -1: none (any more) */
	uint32_t host_port;
	uint32_t guest_port;
	unsigned pending; /* VSOCK_P_* */

	unsigned guest_shut; /* VIRTIO_VSOCK_SHUTDOWN_* that the guest has sent */
	unsigned host_shut;  /* that we have sent or are to send */
	bool eof;	     /* the host's socket was read to its end */
	bool hup;	     /* both directions of the host's socket are shut */
	bool wr_shut;	     /* the host was told that the guest sends no more */

	/* From guest to host, §5.10.6.3: free-running counts of bytes. */
	uint32_t buf_alloc;
	uint32_t rx_cnt;
	uint32_t fwd_cnt;
	uint32_t told_fwd_cnt; /* as the guest last heard */
	struct vsock_buf buf;  /* len = rx_cnt - fwd_cnt */

	/* From host to guest. */
	uint32_t peer_buf_alloc;
	uint32_t peer_fwd_cnt;
	uint32_t tx_cnt;
	bool blocked; /* the guest's credit is used up; it was asked for more */

	uint64_t deadline; /* ns, CLOCK_MONOTONIC; while `timed` */
	bool timed;
	bool ready; /* in the list of those with something to tell */

	uint8_t line_len;
	char line[VSOCK_LINE_MAX];

	LIST_ENTRY(vsock_conn) hash;
	TAILQ_ENTRY(vsock_conn) ready_link;
	TAILQ_ENTRY(vsock_conn) timed_link;
	LIST_ENTRY(vsock_conn) free_link;
};

LIST_HEAD(vsock_conn_list, vsock_conn);
TAILQ_HEAD(vsock_conn_queue, vsock_conn);

/* A packet of the guest, its header copied and its payload bounded. */
struct vsock_packet {
	struct virtio_vsock_hdr hdr;
	const struct iovec *iov; /* payload, hdr.len bytes */
	unsigned n;
};

/* The reply to a packet that belongs to no connection. */
struct vsock_stray {
	uint64_t src_cid;
	uint32_t src_port;
	uint32_t dst_port;
	uint16_t type;
};

struct virtio_vsock {
	uint64_t cid;
	struct loop *loop;
	const struct log *log;
	struct log_limit log_limit;
	uint64_t connect_ns, close_ns, drain_ns;

	/* vsock_host.c */
	struct unix_listener socket;
	struct loop_source listener; /* the socket's descriptor; -1: none */
	bool accept_paused;

	/* vsock.c */
	struct virtio *virtio; /* NULL: not active */
	struct loop_work rx_work;
	struct vq_chain tx_chain;
	struct vq_chain rx_chain;
	bool paused;	 /* nothing is told */
	bool rx_starved; /* something to tell, no buffer: the driver's kick is awaited */
	bool tx_blocked; /* no room for strays: sending goes on when there is */
	bool reset_event;
	struct iovec iov[VQ_SIZE_MAX]; /* of the payload at hand */
	unsigned stray_head, stray_count;
	struct vsock_stray stray[VSOCK_STRAY_MAX];

	/* vsock_conn.c */
	unsigned touched; /* conn[touched..] were never used */
	unsigned handshakes;
	uint64_t reserved; /* sum of buf_alloc over VSOCK_BUFFER_MIN */
	uint32_t next_port;
	struct loop_timer timer;
	bool timer_armed;
	struct vsock_conn_list free;
	struct vsock_conn_queue ready;
	struct vsock_conn_queue timed;
	struct vsock_conn_list hash[VSOCK_HASH_SIZE];

	/* virtio_vsock_counters */
	_Atomic uint64_t from_host, from_guest, refused, resets, violations;
	_Atomic uint64_t rx_bytes, tx_bytes, open, buffered;

	struct vsock_conn conn[VSOCK_CONNS_MAX];
};

/* --- vsock.c --- */

/* There is something to tell the guest: soon, after what else the loop has to do. */
void vsock_rx_post(struct virtio_vsock *v);

/* --- vsock_conn.c --- */

void vsock_conns_init(struct virtio_vsock *v);
bool vsock_conns_full(const struct virtio_vsock *v);
/* A fresh connection in VSOCK_HANDSHAKE. There is room. */
struct vsock_conn *vsock_conn_new(struct virtio_vsock *v);
/* Its host_port and guest_port are set; the guest is asked. */
void vsock_conn_request(struct vsock_conn *c, uint32_t guest_port);
/* Ends it at once, without a word to the guest. */
void vsock_conn_free(struct vsock_conn *c);
/* Forgets all connections of the guest; what the host has not taken yet drains. */
void vsock_conns_orphan(struct virtio_vsock *v);
void vsock_conns_free(struct virtio_vsock *v);
/* The timer: ends what has waited too long, tries again what may work now. */
void vsock_conns_tick(void *v);
/* The timer is to call vsock_host_resume(), a little later. */
void vsock_conns_retry(struct virtio_vsock *v);

/* A packet from the guest with good CIDs and type. False: it wants an RST, and has no connection.
 */
bool vsock_conn_packet(struct virtio_vsock *v, const struct vsock_packet *p);
/*
 * Writes the next thing that there is to tell into a buffer of the guest (its first VSOCK_HDR_LEN
 * bytes are the header's). Returns the bytes written; 0: there is nothing, after all.
 */
uint32_t vsock_conn_tell(struct vsock_conn *c, const struct vq_chain *buffer);
/* The host's socket is ready for something. */
void vsock_conn_event(void *opaque, uint32_t events);
/* Restarts the time that a connection has for what it waits for. */
void vsock_conn_time(struct vsock_conn *c, uint64_t ns);
void vsock_conn_untime(struct vsock_conn *c);

/* Something of VSOCK_P_* is to be told. */
void vsock_conn_pend(struct vsock_conn *c, unsigned what);
/* What was waited for at the host's socket has changed. */
void vsock_conn_rewatch(struct vsock_conn *c);
/* The host's side of these directions (VIRTIO_VSOCK_SHUTDOWN_*) is shut. */
void vsock_conn_shut(struct vsock_conn *c, unsigned flags);
void vsock_conn_close_host(struct vsock_conn *c);
/* RST to the guest, and nothing more to the host. */
void vsock_conn_abort(struct vsock_conn *c);

/* --- vsock_data.c --- */

/* A packet's payload to the host, within the credit that was given. */
void vsock_data_forward(struct vsock_conn *c, const struct vsock_packet *p);
/* The host's socket is writable: what it has not taken yet. May end the connection. */
void vsock_data_drain(struct vsock_conn *c);
/* The host is told that the guest sends no more, once it has everything. */
void vsock_data_pass_shutdown(struct vsock_conn *c);
/* The guest is to hear of its credit, if enough was forwarded. */
void vsock_data_credit(struct vsock_conn *c);
/* Payload into the guest's buffer. 0: none, and what is pending has changed. */
uint32_t vsock_data_read(struct vsock_conn *c, const struct vq_chain *buffer);
/* Bytes that the guest has room for. */
uint32_t vsock_data_room(const struct vsock_conn *c);

/* --- vsock_host.c --- */

int vsock_host_open(struct virtio_vsock *v, const char *path, struct err *err);
void vsock_host_close(struct virtio_vsock *v);
/* There is room for connections again. */
void vsock_host_resume(struct virtio_vsock *v);
/* Reads on at the CONNECT line. */
void vsock_host_handshake(struct vsock_conn *c);
/* Answers it. -errno. */
int vsock_host_answer(const struct vsock_conn *c);
/* A connection to whoever listens for `port`: a descriptor, or -errno; -EAGAIN: it is busy. */
int vsock_host_connect(const struct virtio_vsock *v, uint32_t port);
/* Bytes that the socket took, perhaps 0; or -errno. */
ssize_t vsock_host_send(int fd, const struct iovec *iov, unsigned n);

#endif
