/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * apply.c - rule R4's half at dest.
 * Neighbours: receiver.c calls it, ram/receivedmap.c keeps the bits. Runs on the channel's thread.
 */
#include "multifd/apply.h"

#include <string.h>

#include "ram/guard.h"

struct zeroing {
	struct block *block;
	const struct message_batch *batch;
};

static void zero_pages(struct block *block, uint64_t first_page, uint64_t pages)
{
	memset(block->memory + bytes_of_pages(first_page), 0, bytes_of_pages(pages));
}

/* Other channels set bits of other pages meanwhile, so the map is asked page by page; a batch of holes may be long. */
static void zero_received(struct block *block, struct message_run run)
{
	for (uint64_t page = run.first_page; page < run.first_page + run.pages; page++)
		if (receivedmap_test(&block->received, page))
			zero_pages(block, page, 1);
}

static void zero_all(void *arg)
{
	const struct zeroing *zeroing = arg;
	const struct message_batch *batch = zeroing->batch;
	const struct message_run *run = &batch->runs[batch->normal_count];
	for (unsigned i = 0; i < batch->zero_count; i++)
		zero_received(zeroing->block, *run++);
	for (unsigned i = 0; i < batch->forced_count; i++, run++)
		zero_pages(zeroing->block, run->first_page, run->pages);
}

bool batch_apply(struct block *block, const struct message_batch *batch)
{
	struct zeroing zeroing = { .block = block, .batch = batch };
	if (batch->zero_count + batch->forced_count > 0 && !guard_call(zero_all, &zeroing))
		return false;

	unsigned runs = batch->normal_count + batch->zero_count + batch->forced_count;
	for (unsigned i = 0; i < runs; i++)
		receivedmap_set_range(&block->received, batch->runs[i].first_page, batch->runs[i].pages);
	return true;
}
