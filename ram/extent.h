/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * extent.h - which ranges of a block hold data: SEEK_DATA for tmpfs, everything for hugetlbfs, /proc/self/pagemap for
 * private anonymous memory, everything for any other memory given by address.
 */
#ifndef RAM_EXTENT_H
#define RAM_EXTENT_H

#include <stdbool.h>
#include <stdint.h>

#include <rdmamig/status.h>

#include "ram/block.h"

/* extent_next - the first run of pages in [from, block->pages) that hold data. *found false: none is left. E_IO. */
enum rdmamig_status extent_next(const struct block *block, uint64_t from, struct run *out, bool *found, struct error *error);

/*
 * extent_refresh - look again and tell what changed against block->exists, which is brought up to date.
 *
 * @born is called for each run that holds data now and did not; a failure of it ends the walk. @died for each run that
 * is a hole now and was not. Costs a call per run, not per page. E_IO, or what @born returned.
 */
struct extent_changes {
	enum rdmamig_status (*born)(void *opaque, struct block *block, struct run run);
	void (*died)(void *opaque, struct block *block, struct run run);
	void *opaque;
};

enum rdmamig_status extent_refresh(struct block *block, const struct extent_changes *changes, struct error *error);

#endif
