/* SPDX-License-Identifier: Apache-2.0 */
/* A vsock driver (VIRTIO 1.2 §5.10) for tests: packets out and in, any header at all. */
#ifndef GUEST_VVSOCK_H
#define GUEST_VVSOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "vring.h"

#define VVSOCK_DEVICE_ID 19
#define VVSOCK_HOST_CID	 2

#define VVSOCK_RX_BUFS	64
#define VVSOCK_RX_BYTES (16u << 10) /* of each, header included */
#define VVSOCK_TX_SLOTS 32
#define VVSOCK_TX_BYTES (32u << 10) /* payload of each */

enum { /* op, §5.10.6 */
       VSOCK_OP_REQUEST = 1,
       VSOCK_OP_RESPONSE,
       VSOCK_OP_RST,
       VSOCK_OP_SHUTDOWN,
       VSOCK_OP_RW,
       VSOCK_OP_CREDIT_UPDATE,
       VSOCK_OP_CREDIT_REQUEST,
};

enum { /* flags of SHUTDOWN */
       VSOCK_NO_RECEIVE = 1,
       VSOCK_NO_SEND = 2,
};

struct vvsock_hdr {
	uint64_t src_cid;
	uint64_t dst_cid;
	uint32_t src_port;
	uint32_t dst_port;
	uint32_t len;
	uint16_t type;
	uint16_t op;
	uint32_t flags;
	uint32_t buf_alloc;
	uint32_t fwd_cnt;
} __attribute__((packed));

struct vvsock_packet {
	struct vvsock_hdr hdr;
	const uint8_t *data; /* hdr.len bytes, until vvsock_done() */
	uint16_t head;
};

struct vvsock {
	struct vdev dev;
	struct vring rx, tx, event;
	uint64_t cid;
	uint8_t *rx_mem;
	struct vvsock_hdr *tx_hdr; /* VVSOCK_TX_SLOTS */
	uint8_t *tx_mem;	   /* VVSOCK_TX_SLOTS of VVSOCK_TX_BYTES */
	uint32_t tx_free;	   /* bit per slot */
	uint8_t tx_slot[256];	   /* by head */
};

/* Negotiated, running, all receive buffers given. False, with a line printed. */
bool vvsock_open(struct vvsock *v, uint64_t features);
/* Reset and start again. */
bool vvsock_restart(struct vvsock *v);

/* From the guest to the host's port: type, CIDs and ports are right, the rest is 0. */
struct vvsock_hdr vvsock_header(const struct vvsock *v, unsigned op, uint32_t guest_port,
				uint32_t host_port);
/* A slot for a packet, or -1: all are with the device. Its payload is made at vvsock_payload(). */
int vvsock_slot(struct vvsock *v);
uint8_t *vvsock_payload(struct vvsock *v, int slot);
/* hdr.len bytes of payload, at most VVSOCK_TX_BYTES; `kick`: the device is told. */
void vvsock_submit(struct vvsock *v, int slot, const struct vvsock_hdr *hdr, bool kick);
/* Without payload; waits for a slot. */
void vvsock_send(struct vvsock *v, const struct vvsock_hdr *hdr);

/* The next packet, if there is one. */
bool vvsock_poll(struct vvsock *v, struct vvsock_packet *p);
bool vvsock_wait(struct vvsock *v, unsigned ms, struct vvsock_packet *p);
/* Gives its buffer back to the device. */
void vvsock_done(struct vvsock *v, const struct vvsock_packet *p);

#endif
