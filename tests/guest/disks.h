/* SPDX-License-Identifier: Apache-2.0 */
/* The disks of the blk payloads: what the suite makes and compares, and the payload relies on. */
#ifndef GUEST_DISKS_H
#define GUEST_DISKS_H

enum { /* in the order of the command line */
       DISK_MAIN,
       DISK_RO,
       DISK_OVERLAY,
};

#define DISK_ID "alpha"

/* Sectors. Everything starts as the pattern of its disk's SEED. */
#define MAIN_SECTORS  8192u
#define MAIN_SEED     1u
#define MAIN_WRITTEN  1024u /* here the blk payload leaves the pattern of WRITTEN_SEED, */
#define WRITTEN_COUNT 1024u
#define WRITTEN_SEED  2u
#define MAIN_SCRATCH  2048u /* and from here on payloads write what they like */

#define RO_SECTORS 64u
#define RO_SEED	   3u

#define OVERLAY_SECTORS	     256u
#define OVERLAY_SEED	     4u
#define OVERLAY_WRITTEN_SEED 5u

#endif
