/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tcp_region.c - keeps the table of ranges a peer may touch.
 * Neighbours: tcp_endpoint.c adds and removes, tcp_send.c and tcp_receive.c look up. Any thread.
 */
#include "transport/tcp_region.h"

#include <sys/random.h>

void tcp_regions_init(struct tcp_regions *regions)
{
	/* glibc's default lets readers in for ever: with many busy channels a removal would starve. */
	pthread_rwlockattr_t attr;
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&regions->lock, &attr);
	pthread_rwlockattr_destroy(&attr);
}

void tcp_regions_fini(struct tcp_regions *regions)
{
	pthread_rwlock_destroy(&regions->lock);
}

/* The row in the low bits makes keys unique and lookups cheap; never 0, and never the row's last key again. */
static uint32_t key_new(unsigned row, uint32_t last)
{
	uint32_t key = last;
	do {
		if (getrandom(&key, sizeof(key), 0) != (ssize_t)sizeof(key))
			key = last + TCP_REGIONS_MAX;
		key = key / TCP_REGIONS_MAX * TCP_REGIONS_MAX + row;
	} while (key == last || key < TCP_REGIONS_MAX);
	return key;
}

enum rdmamig_status tcp_regions_add(struct tcp_regions *regions, void *base, size_t bytes, enum region_access access,
				    struct region **out)
{
	enum rdmamig_status st = RDMAMIG_E_NO_MEMORY;

	pthread_rwlock_wrlock(&regions->lock);
	for (unsigned i = 0; i < TCP_REGIONS_MAX; i++) {
		struct region *row = &regions->rows[i];
		if (row->base)
			continue;
		*row = (struct region){ .base = base, .bytes = bytes, .access = access, .key = key_new(i, row->key) };
		*out = row;
		st = RDMAMIG_OK;
		break;
	}
	pthread_rwlock_unlock(&regions->lock);
	return st;
}

void tcp_regions_remove(struct tcp_regions *regions, struct region *region)
{
	pthread_rwlock_wrlock(&regions->lock);
	region->base = NULL;
	pthread_rwlock_unlock(&regions->lock);
}

void tcp_regions_share(struct tcp_regions *regions)
{
	pthread_rwlock_rdlock(&regions->lock);
}

void tcp_regions_unshare(struct tcp_regions *regions)
{
	pthread_rwlock_unlock(&regions->lock);
}

uint8_t *tcp_regions_at(const struct tcp_regions *regions, const struct tcp_piece *piece, enum region_access access)
{
	const struct region *row = &regions->rows[piece->key % TCP_REGIONS_MAX];

	if (!row->base || row->key != piece->key || !(row->access & access))
		return NULL;
	if (piece->remote > row->bytes || piece->bytes > row->bytes - piece->remote)
		return NULL;
	return row->base + piece->remote;
}
