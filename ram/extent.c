/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * extent.c - finds the runs of a block that hold data, and what changed since the last look.
 * Neighbours: block.c has opened it, resident.c knows private memory; rounds call this at every sync (R2).
 * Session thread.
 */
#include "ram/extent.h"

#include <errno.h>
#include <unistd.h>

#include "ram/resident.h"

/* The first byte in [at, end) of the block that is data or a hole, as @whence says; @end if there is none; -1 errno. */
static int64_t file_seek(const struct block *block, uint64_t at, uint64_t end, int whence)
{
	/* Moves the file position the caller of the library shares with us; it is no use to anyone. */
	off_t found = lseek(block->fd, (off_t)(block->offset + at), whence);
	if (found < 0)
		return errno == ENXIO ? (int64_t)end : -1;
	uint64_t in_block = (uint64_t)found - block->offset;
	return (int64_t)(in_block < end ? in_block : end);
}

/* Like resident_next(). */
static int file_next(const struct block *block, uint64_t from, struct run *out)
{
	for (uint64_t at = bytes_of_pages(from); at < block->bytes; at += PAGE_BYTES) {
		int64_t data = file_seek(block, at, block->bytes, SEEK_DATA);
		if (data < 0 || (uint64_t)data == block->bytes)
			return data < 0 ? -1 : 0;
		int64_t hole = file_seek(block, (uint64_t)data, block->bytes, SEEK_HOLE);
		if (hole < 0)
			return -1;
		at = (uint64_t)data;
		if (hole > data) {
			*out = (struct run){ .first_page = pages_of_bytes(at),
					     .pages = pages_of_bytes((uint64_t)(hole - data)) };
			return 1;
		}
		/* The page was discarded between the two looks: go on behind it. */
	}
	return 0;
}

enum rdmamig_status extent_next(const struct block *block, uint64_t from, struct run *out, bool *found, struct error *error)
{
	int result = from < block->pages;
	if (!block->is_hugetlb && block->fd >= 0)
		result = file_next(block, from, out);
	else if (block->is_private_anonymous)
		result = resident_next(block->memory, from, block->pages, out);
	else if (result)
		*out = (struct run){ .first_page = from, .pages = block->pages - from };

	if (result < 0)
		return error_note(error, RDMAMIG_E_IO, errno, "block %s: cannot find out which of its pages hold data", block->name);
	*found = result;
	return RDMAMIG_OK;
}

static void refresh_hole(struct block *block, uint64_t from, uint64_t end, const struct extent_changes *changes)
{
	struct run run;
	while (bitmap_take_run(&block->exists, from, end, UINT64_MAX, &run)) {
		changes->died(changes->opaque, block, run);
		from = run.first_page + run.pages;
	}
}

static enum rdmamig_status refresh_data(struct block *block, uint64_t from, uint64_t end, const struct extent_changes *changes)
{
	struct run run;
	while (bitmap_next_gap(&block->exists, from, end, UINT64_MAX, &run)) {
		enum rdmamig_status status = changes->born(changes->opaque, block, run);
		if (status)
			return status;
		bitmap_set_range(&block->exists, run.first_page, run.pages);
		from = run.first_page + run.pages;
	}
	return RDMAMIG_OK;
}

enum rdmamig_status extent_refresh(struct block *block, const struct extent_changes *changes, struct error *error)
{
	uint64_t at = 0;
	for (;;) {
		struct run data;
		bool found;
		enum rdmamig_status status = extent_next(block, at, &data, &found, error);
		if (status)
			return status;
		if (!found)
			break;

		uint64_t end = data.first_page + data.pages;
		refresh_hole(block, at, data.first_page, changes);
		status = refresh_data(block, data.first_page, end, changes);
		if (status)
			return status;
		at = end;
	}
	refresh_hole(block, at, block->pages, changes);
	return RDMAMIG_OK;
}
