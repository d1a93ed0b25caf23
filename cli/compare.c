/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * compare.c - compares two memories by read(2) and memcmp(3) over the data extents of either.
 * Neighbours: memory.c finds and reads the extents, bench asks. One thread.
 */
#include "cli/compare.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/why.h"

enum { PIECE_BYTES = 1 << 20 };

/* Asking where an extent ends costs a walk to its end: once for each. */
struct side {
	const struct memory *memory;
	struct memory_extent data;	/* the next one, from where we are */
	bool has_data;
};

struct comparer {
	struct side a, b;
	struct comparison *out;
	uint8_t a_piece[PIECE_BYTES], b_piece[PIECE_BYTES];
};

static void page_compare(struct comparer *comparer, uint64_t at, const uint8_t *a, const uint8_t *b)
{
	if (!memcmp(a, b, MEMORY_PAGE_BYTES))
		return;
	uint64_t byte = 0;
	while (a[byte] == b[byte])
		byte++;
	if (comparer->out->different_pages++ == 0)
		comparer->out->first_different = at + byte;
}

static enum rdmamig_status piece_compare(struct comparer *comparer, const struct memory_extent *piece, char *why)
{
	size_t bytes = piece->end - piece->start;
	enum rdmamig_status st = memory_read(comparer->a.memory, piece->start, comparer->a_piece, bytes, why);
	if (!st)
		st = memory_read(comparer->b.memory, piece->start, comparer->b_piece, bytes, why);
	if (st)
		return st;
	comparer->out->data_bytes += bytes;
	if (memcmp(comparer->a_piece, comparer->b_piece, bytes))
		for (size_t at = 0; at < bytes; at += MEMORY_PAGE_BYTES)
			page_compare(comparer, piece->start + at, comparer->a_piece + at, comparer->b_piece + at);
	return RDMAMIG_OK;
}

static void side_move(struct side *side, uint64_t at)
{
	if (side->has_data && at >= side->data.end)
		side->has_data = memory_next_data(side->memory, at, &side->data);
	if (side->has_data && at > side->data.start)
		side->data.start = at;
}

/* What holds data on either side from @at on, whole pages, at most a piece. */
static bool next_piece(struct comparer *comparer, uint64_t at, struct memory_extent *out)
{
	struct side *a = &comparer->a, *b = &comparer->b;
	side_move(a, at);
	side_move(b, at);
	*out = !a->has_data || (b->has_data && b->data.start < a->data.start) ? b->data : a->data;
	if (out->end - out->start > PIECE_BYTES)
		out->end = out->start + PIECE_BYTES;
	return a->has_data || b->has_data;
}

static enum rdmamig_status comparer_run(struct comparer *comparer, char *why)
{
	struct memory_extent piece;
	for (uint64_t at = 0; next_piece(comparer, at, &piece); at = piece.end) {
		enum rdmamig_status st = piece_compare(comparer, &piece, why);
		if (st)
			return st;
	}
	if (!comparer->out->different_pages)
		return RDMAMIG_OK;
	return why_say(why, RDMAMIG_E_NOT_VERIFIED, "source and dest differ in %" PRIu64 " pages, first at offset %" PRIu64,
		       comparer->out->different_pages, comparer->out->first_different);
}

enum rdmamig_status compare_memories(const struct memory *a, const struct memory *b, struct comparison *out, char *why)
{
	memset(out, 0, sizeof(*out));
	if (a->bytes != b->bytes || a->count != b->count)
		return why_say(why, RDMAMIG_E_NOT_VERIFIED, "source has %" PRIu64 " bytes, dest %" PRIu64, a->bytes, b->bytes);
	struct comparer *comparer = calloc(1, sizeof(*comparer));
	if (!comparer)
		return why_say(why, RDMAMIG_E_NO_MEMORY, "out of memory");
	comparer->a = (struct side){ .memory = a, .has_data = true };
	comparer->b = (struct side){ .memory = b, .has_data = true };
	comparer->out = out;
	enum rdmamig_status st = comparer_run(comparer, why);
	free(comparer);
	return st;
}
