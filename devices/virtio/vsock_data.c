/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of virtio-vsock connections, both ways, and their credit (VIRTIO 1.2 §5.10.6.3).
 *
 * System calls: readv, shutdown and those of vsock_host_send() and vsock_buf.c.
 */
#include <errno.h>
#include <sys/socket.h>

#include "vsock_internal.h"

/* --- from guest to host --- */

/* A quarter of the window was forwarded since the guest last heard. */
void vsock_data_credit(struct vsock_conn *c)
{
	if (c->state == VSOCK_OPEN && c->fwd_cnt - c->told_fwd_cnt >= c->buf_alloc / 4)
		vsock_conn_pend(c, VSOCK_P_CREDIT);
}

static void forwarded(struct vsock_conn *c, uint32_t bytes)
{
	c->fwd_cnt += bytes;
	count_add(&c->v->tx_bytes, bytes);
}

/* The guest sends no more and the host has all of it. */
void vsock_data_pass_shutdown(struct vsock_conn *c)
{
	if (c->wr_shut || c->buf.len > 0 || (c->guest_shut & VIRTIO_VSOCK_SHUTDOWN_SEND) == 0)
		return;
	c->wr_shut = true;
	shutdown(c->host.fd, SHUT_WR);
}

/*
 * The host's socket takes nothing any more. What was meant for it is dropped, and counts as
 * forwarded; what it has sent may still be read.
 */
static void host_deaf(struct vsock_conn *c)
{
	c->fwd_cnt = c->rx_cnt;
	atomic_fetch_sub_explicit(&c->v->buffered, c->buf.len, memory_order_relaxed);
	vsock_buf_drop(&c->buf);
	if (c->state == VSOCK_OPEN) {
		vsock_conn_shut(c, VIRTIO_VSOCK_SHUTDOWN_RCV);
		vsock_conn_rewatch(c);
	} else if (c->state == VSOCK_RESETTING) {
		vsock_conn_close_host(c);
	} else {
		vsock_conn_free(c);
	}
}

void vsock_data_forward(struct vsock_conn *c, const struct vsock_packet *p)
{
	uint32_t len = p->hdr.len;
	ssize_t sent = 0;

	if (c->buf.len == 0)
		sent = vsock_host_send(c->host.fd, p->iov, p->n);
	if (sent < 0) {
		host_deaf(c);
		return;
	}
	forwarded(c, (uint32_t)sent);
	if ((uint32_t)sent == len)
		return;
	if (vsock_buf_put(&c->buf, c->buf_alloc, p->iov, p->n, (size_t)sent) < 0) {
		vsock_conn_abort(c);
		return;
	}
	count_add(&c->v->buffered, len - (uint32_t)sent);
	vsock_conn_rewatch(c);
}

/* The host's socket is writable. */
void vsock_data_drain(struct vsock_conn *c)
{
	struct iovec iov[2];
	unsigned n = vsock_buf_peek(&c->buf, iov);
	ssize_t sent;

	if (n == 0)
		return;
	sent = vsock_host_send(c->host.fd, iov, n);
	if (sent < 0) {
		host_deaf(c);
		return;
	}
	forwarded(c, (uint32_t)sent);
	atomic_fetch_sub_explicit(&c->v->buffered, (uint64_t)sent, memory_order_relaxed);
	vsock_buf_take(&c->buf, (uint32_t)sent);
	vsock_data_credit(c);
	if (c->buf.len == 0 && c->state == VSOCK_DRAINING) {
		vsock_conn_free(c);
	} else if (c->buf.len == 0 && c->state == VSOCK_RESETTING) {
		vsock_conn_untime(c);
		vsock_conn_close_host(c);
	} else {
		if (c->state != VSOCK_OPEN && sent > 0)
			vsock_conn_time(c, c->v->drain_ns);
		vsock_data_pass_shutdown(c);
		vsock_conn_rewatch(c);
	}
}

/* --- from host to guest --- */

uint32_t vsock_data_room(const struct vsock_conn *c)
{
	uint32_t in_flight = c->tx_cnt - c->peer_fwd_cnt;

	return in_flight < c->peer_buf_alloc ? c->peer_buf_alloc - in_flight : 0;
}

static void host_eof(struct vsock_conn *c)
{
	c->eof = true;
	vsock_conn_shut(c, c->hup ? VSOCK_SHUT_BOTH : VIRTIO_VSOCK_SHUTDOWN_SEND);
}

/* Reads payload into the guest's buffer. 0: none, and what is pending has changed. */
uint32_t vsock_data_read(struct vsock_conn *c, const struct vq_chain *buffer)
{
	struct iovec *iov = c->v->iov;
	uint32_t want = buffer->writable_len - VSOCK_HDR_LEN;
	uint32_t credit = vsock_data_room(c);
	ssize_t got;

	if (credit == 0) {
		c->pending &= ~(unsigned)VSOCK_P_DATA;
		c->pending |= VSOCK_P_ASK_CREDIT;
		c->blocked = true;
		return 0;
	}
	want = want < credit ? want : credit;
	want = want < VSOCK_PACKET_MAX ? want : VSOCK_PACKET_MAX;
	got = readv(c->host.fd, iov, (int)iov_cut(iov, vq_writable(buffer), VSOCK_HDR_LEN, want));
	if (got == (ssize_t)want)
		return want;
	/* Less: there is no more, or the loop will say so. */
	c->pending &= ~(unsigned)VSOCK_P_DATA;
	if (got > 0)
		return (uint32_t)got;
	if (got == 0)
		host_eof(c);
	else if (errno != EAGAIN && errno != EINTR)
		vsock_conn_abort(c);
	return 0;
}
