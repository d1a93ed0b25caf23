/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bitmap.h - one bit a page, worked on a word a step.
 *
 * The words are mapped on first touch: a bitmap of a sparse 1 TiB block costs what was set in it. Functions named
 * _atomic may run on several threads at once; the others need the bitmap to themselves.
 */
#ifndef RAM_BITMAP_H
#define RAM_BITMAP_H

#include <stdbool.h>
#include <stdint.h>

#include <rdmamig/status.h>

#include "ram/page.h"

struct bitmap {
	uint64_t *words;
	uint64_t bits;
};

enum rdmamig_status bitmap_init(struct bitmap *bitmap, uint64_t bits);	/* all clear; E_NO_MEMORY */
void bitmap_fini(struct bitmap *bitmap);				/* a zeroed one is fine */

bool bitmap_test(const struct bitmap *bitmap, uint64_t bit);
void bitmap_set_range(struct bitmap *bitmap, uint64_t first, uint64_t count);
void bitmap_clear_range(struct bitmap *bitmap, uint64_t first, uint64_t count);
uint64_t bitmap_count(const struct bitmap *bitmap);
/* Bits set in [first, first + count). */
uint64_t bitmap_count_range(const struct bitmap *bitmap, uint64_t first, uint64_t count);

/* bitmap_next_run - the first run of set bits in [from, end), at most @max long; false if there is none. */
bool bitmap_next_run(const struct bitmap *bitmap, uint64_t from, uint64_t end, uint64_t max, struct run *out);
/* bitmap_next_gap - the same of clear bits. */
bool bitmap_next_gap(const struct bitmap *bitmap, uint64_t from, uint64_t end, uint64_t max, struct run *out);
/* bitmap_take_run - bitmap_next_run() and clear it. */
bool bitmap_take_run(struct bitmap *bitmap, uint64_t from, uint64_t end, uint64_t max, struct run *out);
/* bitmap_or - into |= from; both have the same size. */
void bitmap_or(struct bitmap *into, const struct bitmap *from);
/* bitmap_and - into &= with; words that stay as they are are not written. */
void bitmap_and(struct bitmap *into, const struct bitmap *with);

/* Setting releases and testing acquires: who sees the bit sees what was written before it was set. */
bool bitmap_test_atomic(const struct bitmap *bitmap, uint64_t bit);
void bitmap_set_range_atomic(struct bitmap *bitmap, uint64_t first, uint64_t count);

#endif
