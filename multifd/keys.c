/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * keys.c - a table of the peer's keys, added to by one thread and read by many.
 * Neighbours: migration/source.c adds what KEYS says, peer_sink.c looks up.
 */
#include "multifd/keys.h"

#include <stdlib.h>

enum rdmamig_status keys_init(struct keys *keys)
{
	keys->rows = calloc(KEYS_MAX, sizeof(*keys->rows));
	atomic_init(&keys->count, 0);
	return keys->rows ? RDMAMIG_OK : RDMAMIG_E_NO_MEMORY;
}

void keys_fini(struct keys *keys)
{
	free(keys->rows);
	keys->rows = NULL;
}

static bool rows_overlap(const struct key_row *a, const struct key_row *b)
{
	return a->block == b->block && a->offset < b->offset + b->bytes && b->offset < a->offset + a->bytes;
}

enum rdmamig_status keys_add(struct keys *keys, const struct key_row *row)
{
	unsigned count = atomic_load_explicit(&keys->count, memory_order_relaxed);
	if (count == KEYS_MAX)
		return RDMAMIG_E_PROTOCOL;
	for (unsigned i = 0; i < count; i++)
		if (rows_overlap(&keys->rows[i], row))
			return RDMAMIG_E_PROTOCOL;
	keys->rows[count] = *row;
	atomic_store_explicit(&keys->count, count + 1, memory_order_release);	/* with the acquire in keys_find() */
	return RDMAMIG_OK;
}

const struct key_row *keys_find(const struct keys *keys, uint16_t block, struct run run)
{
	uint64_t offset = bytes_of_pages(run.first_page);
	uint64_t bytes = bytes_of_pages(run.pages);
	unsigned count = atomic_load_explicit(&keys->count, memory_order_acquire);
	for (unsigned i = 0; i < count; i++) {
		const struct key_row *row = &keys->rows[i];
		if (row->block == block && offset >= row->offset && offset - row->offset <= row->bytes &&
		    bytes <= row->bytes - (offset - row->offset))
			return row;
	}
	return NULL;
}

bool keys_cover(const struct keys *keys, uint16_t block, uint64_t bytes)
{
	uint64_t covered = 0;	/* rows do not overlap, so their sizes add up */
	unsigned count = atomic_load_explicit(&keys->count, memory_order_acquire);
	for (unsigned i = 0; i < count; i++)
		if (keys->rows[i].block == block)
			covered += keys->rows[i].bytes;
	return covered == bytes;
}
