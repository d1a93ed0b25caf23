/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tcp_region.h - what a peer may touch: a table of ranges under random keys.
 *
 * A connection looks a range up and moves bytes into it under the shared lock; so once a removal, which takes the lock
 * alone, is through, nothing lands there any more.
 */
#ifndef TRANSPORT_TCP_REGION_H
#define TRANSPORT_TCP_REGION_H

#include <pthread.h>

#include "transport/tcp_frame.h"

enum { TCP_REGIONS_MAX = 1024 };

struct region {
	uint8_t *base;		/* NULL: a free row */
	size_t bytes;
	enum region_access access;
	uint32_t key;		/* low bits: the row */
};

struct tcp_regions {
	pthread_rwlock_t lock;
	struct region rows[TCP_REGIONS_MAX];
};

void tcp_regions_init(struct tcp_regions *regions);
void tcp_regions_fini(struct tcp_regions *regions);

/* tcp_regions_add - E_NO_MEMORY: the table is full. Any thread. */
enum rdmamig_status tcp_regions_add(struct tcp_regions *regions, void *base, size_t bytes, enum region_access access,
				    struct region **out);
void tcp_regions_remove(struct tcp_regions *regions, struct region *region);

/* tcp_regions_share - the table stays as it is until tcp_regions_unshare(). Any thread; do not nest. */
void tcp_regions_share(struct tcp_regions *regions);
void tcp_regions_unshare(struct tcp_regions *regions);

/* tcp_regions_at - the memory of a whole piece, NULL if that access to all of it was not given. Shared lock held. */
uint8_t *tcp_regions_at(const struct tcp_regions *regions, const struct tcp_piece *piece, enum region_access access);

#endif
