/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * batch.c - filling a batch with runs of pages.
 * Neighbours: migration/rounds.c fills it, split.c sorts it. Runs on the session thread.
 */
#include "multifd/batch.h"

#include <assert.h>

void batch_begin(struct batch *batch, struct block *block, uint16_t block_index, bool is_hole)
{
	batch->block = block;
	batch->block_index = block_index;
	batch->is_hole = is_hole;
	batch->run_count = 0;
	batch->pages = 0;
	batch->normal_pages = 0;
	batch->zero_pages = 0;
}

bool batch_is_full(const struct batch *batch, uint64_t pages_max)
{
	return batch->pages >= pages_max || batch->run_count == BATCH_PAGES_MAX;
}

void batch_add(struct batch *batch, struct run run)
{
	assert(batch->run_count < BATCH_PAGES_MAX && run.pages > 0);
	batch->runs[batch->run_count++] = run;
	batch->pages += run.pages;
}

uint64_t batch_add_hole(struct batch *batch, struct run run)
{
	const struct bitmap *posted = &batch->block->posted;
	uint64_t end = run.first_page + run.pages;
	uint64_t room = BATCH_HOLE_PAGES_MAX - batch->pages;
	uint64_t max = run.pages < room ? run.pages : room;
	struct run part = { 0 };
	bool found = bitmap_test(posted, run.first_page) ? bitmap_next_run(posted, run.first_page, end, max, &part)
							 : bitmap_next_gap(posted, run.first_page, end, max, &part);
	assert(found && part.first_page == run.first_page);
	batch_add(batch, part);
	return part.pages;
}
