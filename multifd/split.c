/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * split.c - sorts a batch's pages into normal, zero and forced zero.
 * Neighbours: ram/zero.c looks at the bytes, sender.c places what is normal. Runs on the channel's thread.
 */
#include "multifd/split.h"

#include "ram/guard.h"

/* The three lists while they grow; each has room for the whole batch, as each page is in one of them. */
struct split {
	struct batch *batch;
	zero_scan *scan;
	struct message_run normal[BATCH_PAGES_MAX], zero[BATCH_PAGES_MAX], forced[BATCH_PAGES_MAX];
	uint16_t normal_count, zero_count, forced_count;
};

static void list_add(struct message_run *list, uint16_t *count, uint64_t first_page, uint64_t pages)
{
	if (*count && list[*count - 1].first_page + list[*count - 1].pages == first_page) {
		list[*count - 1].pages += (uint32_t)pages;
		return;
	}
	list[(*count)++] = (struct message_run){ .first_page = first_page, .pages = (uint32_t)pages };
}

static void split_zero_page(struct split *split, uint64_t page)
{
	if (bitmap_test_atomic(&split->batch->block->posted, page))
		list_add(split->forced, &split->forced_count, page, 1);
	else
		list_add(split->zero, &split->zero_count, page, 1);
}

static void split_pages(void *arg)
{
	struct split *split = arg;
	const struct batch *batch = split->batch;
	for (unsigned r = 0; r < batch->run_count; r++) {
		struct run run = batch->runs[r];
		for (uint64_t page = run.first_page; page < run.first_page + run.pages; page++) {
			if (split->scan && split->scan(batch->block->memory + bytes_of_pages(page), PAGE_BYTES))
				split_zero_page(split, page);
			else
				list_add(split->normal, &split->normal_count, page, 1);
		}
	}
}

/* Holes may be long; whoever filled the batch cut them where posted pages begin and end (batch_add_hole()). */
static void split_holes(struct split *split)
{
	const struct batch *batch = split->batch;
	for (unsigned r = 0; r < batch->run_count; r++) {
		struct run run = batch->runs[r];
		if (bitmap_test_atomic(&batch->block->posted, run.first_page))
			list_add(split->forced, &split->forced_count, run.first_page, run.pages);
		else
			list_add(split->zero, &split->zero_count, run.first_page, run.pages);
	}
}

static uint64_t lists_join(struct message_batch *out, const struct message_run *list, uint16_t count, uint16_t at)
{
	uint64_t pages = 0;
	for (uint16_t i = 0; i < count; i++) {
		out->runs[at + i] = list[i];
		pages += list[i].pages;
	}
	return pages;
}

bool batch_split(struct batch *batch, zero_scan *scan)
{
	struct split split;
	split.batch = batch;
	split.scan = scan;
	split.normal_count = split.zero_count = split.forced_count = 0;

	if (batch->is_hole)
		split_holes(&split);
	else if (!guard_call(split_pages, &split))
		return false;

	for (uint16_t i = 0; i < split.normal_count; i++)
		bitmap_set_range_atomic(&batch->block->posted, split.normal[i].first_page, split.normal[i].pages);

	struct message_batch *out = &batch->description.batch;
	out->block = batch->block_index;
	out->normal_count = split.normal_count;
	out->zero_count = split.zero_count;
	out->forced_count = split.forced_count;
	batch->normal_pages = lists_join(out, split.normal, split.normal_count, 0);
	batch->zero_pages = lists_join(out, split.zero, split.zero_count, split.normal_count);
	batch->zero_pages += lists_join(out, split.forced, split.forced_count, split.normal_count + split.zero_count);
	return true;
}
