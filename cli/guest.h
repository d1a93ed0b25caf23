/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * guest.h - a guest without a VM: memory that says of itself what it must hold.
 *
 *	page 0      struct guest_header, then zero
 *	page 1...   u32 version of every used page, by page number; 0 for those that are never rewritten
 *	data        content_write(page, version)
 *	unused      from plan.used_bytes on: never touched, reads as zero
 *
 * A rewrite is: in_progress, version, bytes, tick, in_progress cleared. So wherever it is stopped, at most the page in
 * progress is indeterminate, and every other byte of the memory is known.
 */
#ifndef CLI_GUEST_H
#define CLI_GUEST_H

#include <stdbool.h>
#include <stdint.h>

#include <rdmamig/status.h>

#include "cli/content.h"
#include "cli/memory.h"

/* The numbers are in the guest's memory: never renumber. */
enum guest_pattern {
	GUEST_UNIFORM = 1,
	GUEST_HOT = 2,		/* nine of ten rewrites go to the first hot_pct of the pages */
	GUEST_SEQUENTIAL = 3,
};

/* What the guest is and does; all of it in its memory. */
struct guest_plan {
	uint64_t size_bytes;
	uint64_t used_bytes;
	uint64_t seed;
	uint64_t dirty_rate;	/* bytes/s rewritten */
	uint32_t fill;		/* enum content_fill */
	uint32_t random_pct;
	uint32_t pattern;	/* enum guest_pattern */
	uint32_t hot_pct;
	uint32_t discard_pct;
	uint32_t holes;		/* zero pages of the first fill are left unwritten */
};

struct guest_header {
	uint64_t magic;
	struct guest_plan plan;
	uint64_t plan_hash;
	uint64_t beat;		/* guest_beat_count(); grows while the guest runs, also when it rewrites nothing */
	uint64_t tick;		/* rewrites done = sum of all versions */
	uint64_t in_progress;	/* page << 32 | version it gets; 0 if none */
};

struct guest {
	struct memory *memory;
	struct guest_header *header;
	uint32_t *versions;
	struct content content;
	uint64_t first_page;	/* of the data */
	uint64_t pages;		/* of data */
};

uint64_t guest_plan_hash(const struct guest_plan *plan);
bool guest_plan_is_possible(const struct guest_plan *plan);	/* room for one page of data, every field in range */
struct content guest_plan_content(const struct guest_plan *plan);
uint64_t guest_plan_first_page(const struct guest_plan *plan);

#define GUEST_MAGIC 0x006874737465756full

/* guest_fill - a new guest in @memory, which is mapped, reserved and all zero. @memory must outlive @out. */
void guest_fill(struct guest *out, struct memory *memory, const struct guest_plan *plan);

/* guest_wake - the guest found in @memory, which is mapped and passed guestcheck; finishes the page in progress. */
enum rdmamig_status guest_wake(struct guest *out, struct memory *memory, char *why);

/* guest_rewrite - the next page of the pattern. E_IO: it could not be discarded. */
enum rdmamig_status guest_rewrite(struct guest *guest, char *why);

/* guest_beat - show that it lives. */
void guest_beat(struct guest *guest);

/* guest_beat_count - @beat as it is in a header; false if it is not one. */
bool guest_beat_count(uint64_t beat, uint32_t *out);

#endif
