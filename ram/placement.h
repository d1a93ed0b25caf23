/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * placement.h - where a process has a block's memory mapped.
 *
 * A file may be mapped in several places and in pieces: a write through any of them must be seen.
 */
#ifndef RAM_PLACEMENT_H
#define RAM_PLACEMENT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "ram/block.h"

struct piece {
	uint64_t start;		/* address in that process */
	uint64_t end;
	uint64_t offset;	/* of start, in the block, in bytes */
};

enum { PLACEMENT_PIECES_MAX = 64 };

struct placement {
	struct piece pieces[PLACEMENT_PIECES_MAX];	/* by address; neighbours that go on in the block are one */
	unsigned count;
};

/*
 * placement_find - the shared, writable mappings of @block in process @pid (0: ours). A block by address is where it is.
 *
 * 0         *out is set
 * -ENXIO    they do not hold all of the block, or it is memory of ours that another process cannot map
 * -E2BIG    more than PLACEMENT_PIECES_MAX
 * -errno    /proc/PID/maps: -ENOENT and -ESRCH no such process, -EACCES and -EPERM no permission
 */
int placement_find(struct placement *out, const struct block *block, pid_t pid);

bool placement_is_same(const struct placement *a, const struct placement *b);

/* piece_clip - the part of @run of the block that @piece holds, in addresses; false if none. */
bool piece_clip(const struct piece *piece, struct run run, uint64_t *start, uint64_t *end);

/* piece_run - the pages of the block at addresses [start, end) of @piece, which holds them. */
struct run piece_run(const struct piece *piece, uint64_t start, uint64_t end);

#endif
