/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * keys.h - the regions of dest's memory the peer gave us keys for.
 *
 * Filled in on the session thread, looked up by all channels: rows are only ever added, and their count is published
 * after the row. With sockets there is one row a block; registration on demand will add one a chunk.
 */
#ifndef MULTIFD_KEYS_H
#define MULTIFD_KEYS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <rdmamig/status.h>

#include "ram/page.h"

struct key_row {
	uint16_t block;
	uint64_t offset;	/* bytes, in the block */
	uint64_t bytes;
	uint64_t base;
	uint32_t key;
};

enum { KEYS_MAX = 4096 };

struct keys {
	struct key_row *rows;
	_Atomic unsigned count;
};

enum rdmamig_status keys_init(struct keys *keys);
void keys_fini(struct keys *keys);
/* keys_add - E_PROTOCOL: it overlaps one we have, or there are too many. */
enum rdmamig_status keys_add(struct keys *keys, const struct key_row *row);
/* keys_find - the row that holds all of @run, or NULL. Any thread. */
const struct key_row *keys_find(const struct keys *keys, uint16_t block, struct run run);
/* keys_cover - do the rows cover the first @bytes of @block? */
bool keys_cover(const struct keys *keys, uint16_t block, uint64_t bytes);

#endif
