/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * batch.h - pages of one block that are sent, fenced, described and acknowledged together.
 *
 * Ownership travels with the pointer: pool -> session thread (fills it) -> a channel's thread (splits and places it) ->
 * session thread (describes it, waits for its ack) -> pool. Batches are made once, at start.
 */
#ifndef MULTIFD_BATCH_H
#define MULTIFD_BATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "ram/block.h"
#include "wire/message.h"

enum {
	BATCH_PAGES_MAX = WIRE_RUNS_MAX,	/* so that even page-by-page alternation fits one description */
	BATCH_HOLE_PAGES_MAX = 1 << 20,		/* of a batch of holes: nothing of it is read, but dest may have to zero 4 GiB */
};

struct batch {
	struct block *block;
	uint16_t block_index;
	bool is_hole;			/* its runs have become holes: zero without a look */
	struct run runs[BATCH_PAGES_MAX];
	unsigned run_count;
	uint64_t pages;

	/* Filled in by the channel: the description (lists, sequence, channel). */
	struct message description;
	uint64_t normal_pages;
	uint64_t zero_pages;
};

void batch_begin(struct batch *batch, struct block *block, uint16_t block_index, bool is_hole);
bool batch_is_full(const struct batch *batch, uint64_t pages_max);
void batch_add(struct batch *batch, struct run run);

/*
 * batch_add_hole - the first part of @run that is all posted or all not; returns its pages.
 * Only while no batch that may be posted is in flight: it reads the posted bitmap a word a step.
 */
uint64_t batch_add_hole(struct batch *batch, struct run run);

#endif
