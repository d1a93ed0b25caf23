/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * placement.c - finds a block's file in /proc/PID/maps by device, inode and offset.
 * Neighbour: tracker_uffd.c, which registers what is found and looks again at every sync. Session thread.
 */
#include "ram/placement.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

static uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* A line of maps, as far as it lies in the block. */
static bool piece_parse(const char *line, const struct block *block, const struct stat *file, struct piece *out)
{
	uint64_t start, end, offset, inode;
	unsigned dev_major, dev_minor;
	char access[5];
	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %x:%x %" SCNu64, &start, &end, access, &offset,
		   &dev_major, &dev_minor, &inode) != 7)
		return false;
	if (inode != file->st_ino || dev_major != major(file->st_dev) || dev_minor != minor(file->st_dev))
		return false;
	if (access[1] != 'w' || access[3] != 's')
		return false;

	uint64_t from = max_u64(offset, block->offset);
	uint64_t to = min_u64(offset + (end - start), block->offset + block->bytes);
	if (from >= to)
		return false;
	*out = (struct piece){ .start = start + (from - offset), .end = start + (to - offset), .offset = from - block->offset };
	return true;
}

static bool placement_add(struct placement *placement, const struct piece *piece)
{
	if (placement->count) {
		struct piece *last = &placement->pieces[placement->count - 1];
		if (last->end == piece->start && last->offset + (last->end - last->start) == piece->offset) {
			last->end = piece->end;		/* one mapping, split by some madvise() */
			return true;
		}
	}
	if (placement->count == PLACEMENT_PIECES_MAX)
		return false;
	placement->pieces[placement->count++] = *piece;
	return true;
}

static bool placement_is_whole(const struct placement *placement, uint64_t bytes)
{
	uint64_t covered = 0, before;
	do {
		before = covered;
		for (unsigned i = 0; i < placement->count; i++) {
			const struct piece *piece = &placement->pieces[i];
			if (piece->offset <= covered)
				covered = max_u64(covered, piece->offset + (piece->end - piece->start));
		}
	} while (covered > before);
	return covered == bytes;
}

static int maps_read(struct placement *out, const struct block *block, const struct stat *file, FILE *maps)
{
	char *line = NULL;
	size_t line_bytes = 0;
	int err = 0;
	errno = 0;
	while (!err && getline(&line, &line_bytes, maps) > 0) {
		struct piece piece;
		if (piece_parse(line, block, file, &piece) && !placement_add(out, &piece))
			err = -E2BIG;
	}
	if (!err && ferror(maps))
		err = errno ? -errno : -EIO;	/* -ESRCH: it died meanwhile */
	free(line);
	return err;
}

int placement_find(struct placement *out, const struct block *block, pid_t pid)
{
	*out = (struct placement){ 0 };
	if (block->fd < 0) {
		uint64_t start = (uintptr_t)block->memory;
		out->pieces[0] = (struct piece){ .start = start, .end = start + block->bytes };
		out->count = 1;
		return pid ? -ENXIO : 0;
	}

	struct stat file;
	if (fstat(block->fd, &file))
		return -errno;

	char path[64] = "/proc/self/maps";
	if (pid)
		snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	FILE *maps = fopen(path, "re");
	if (!maps)
		return -errno;
	int err = maps_read(out, block, &file, maps);
	fclose(maps);
	if (!err && !placement_is_whole(out, block->bytes))
		err = -ENXIO;
	return err;
}

bool placement_is_same(const struct placement *a, const struct placement *b)
{
	return a->count == b->count && memcmp(a->pieces, b->pieces, a->count * sizeof(a->pieces[0])) == 0;
}

bool piece_clip(const struct piece *piece, struct run run, uint64_t *start, uint64_t *end)
{
	uint64_t from = max_u64(bytes_of_pages(run.first_page), piece->offset);
	uint64_t to = min_u64(bytes_of_pages(run.first_page + run.pages), piece->offset + (piece->end - piece->start));
	if (from >= to)
		return false;
	*start = piece->start + (from - piece->offset);
	*end = piece->start + (to - piece->offset);
	return true;
}

struct run piece_run(const struct piece *piece, uint64_t start, uint64_t end)
{
	return (struct run){
		.first_page = pages_of_bytes(start - piece->start + piece->offset),
		.pages = pages_of_bytes(end - start),
	};
}
