/* SPDX-License-Identifier: Apache-2.0 */
/* What network tests send, known to the guest's program and the host's. */
#ifndef LINUX_NET_CONTENT_H
#define LINUX_NET_CONTENT_H

#include <stddef.h>
#include <stdint.h>

#define NET_PORT 5001 /* of the host: 'G' gets bytes, 'P' puts them */
#define NET_HTTP 80   /* of the guest: 'G' gets bytes; then 'y' says that they were right */

/* Bytes [off, off + len) of stream `seed`. */
static inline void net_content(uint8_t *p, unsigned seed, uint64_t off, size_t len)
{
	for (size_t i = 0; i < len; i++, off++)
		p[i] = (uint8_t)(off * 31 + (off >> 9) * 17 + (off >> 17) + seed);
}

#endif
