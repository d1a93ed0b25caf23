/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * resident.c - reads /proc/self/smaps once and /proc/self/pagemap often.
 * Used by block.c and extent.c for memory given by address. Any thread.
 */
#include "ram/resident.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	ENTRIES_FIRST = 32,	/* memory in many short runs is not read over and over */
	ENTRIES_MAX = 2048,	/* a hole of 1 TiB takes 131072 reads */
};

static const uint64_t ENTRY_IS_TOUCHED = 3ull << 62;	/* present or swapped: proc_pid_pagemap(5) */

struct mapping {
	uint64_t start;
	uint64_t end;
	bool is_plain;	/* private, anonymous, no missing-mode userfaultfd */
};

static bool header_parse(const char *line, struct mapping *out)
{
	uint64_t start, end, inode;
	char access[5];
	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %*s %*s %" SCNu64, &start, &end, access, &inode) != 4)
		return false;
	*out = (struct mapping){ .start = start, .end = end, .is_plain = access[3] == 'p' && inode == 0 };
	return true;
}

/* A mapping of smaps begins with its line of maps and ends with its VmFlags. */
static bool mapping_read(FILE *smaps, char **line, size_t *line_bytes, struct mapping *out)
{
	static const char flags[] = "VmFlags:";
	while (getline(line, line_bytes, smaps) > 0) {
		if (header_parse(*line, out) || strncmp(*line, flags, sizeof(flags) - 1) != 0)
			continue;
		out->is_plain &= !strstr(*line, " um");
		return true;
	}
	return false;
}

static bool is_plain_throughout(FILE *smaps, uint64_t start, uint64_t end)
{
	char *line = NULL;
	size_t line_bytes = 0;
	struct mapping mapping = { 0 };

	while (start < end && mapping_read(smaps, &line, &line_bytes, &mapping)) {
		if (mapping.end <= start)
			continue;
		if (mapping.start > start || !mapping.is_plain)
			break;
		start = mapping.end;
	}
	free(line);
	return start >= end;
}

bool resident_is_known(const void *memory, uint64_t bytes)
{
	FILE *smaps = fopen("/proc/self/smaps", "re");
	if (!smaps)
		return false;
	uint64_t start = (uintptr_t)memory;
	bool is_known = is_plain_throughout(smaps, start, start + bytes);
	fclose(smaps);

	struct run ignored;
	return is_known && resident_next(memory, 0, 1, &ignored) >= 0;
}

/* Fills @entries with those of [page, page + count); false with errno. */
static bool entries_read(int pagemap, uint64_t page, uint64_t *entries, size_t count)
{
	ssize_t n = pread(pagemap, entries, count * sizeof(*entries), (off_t)(page * sizeof(*entries)));
	if (n >= 0 && n != (ssize_t)(count * sizeof(*entries)))
		errno = ENODATA;
	return n == (ssize_t)(count * sizeof(*entries));
}

static int next_run(int pagemap, uint64_t base, uint64_t from, uint64_t end, struct run *out)
{
	uint64_t entries[ENTRIES_MAX];
	uint64_t first = end;

	for (uint64_t at = from, count = ENTRIES_FIRST; at < end; at += count, count = count < ENTRIES_MAX ? 2 * count : count) {
		if (count > end - at)
			count = end - at;
		if (!entries_read(pagemap, base + at, entries, count))
			return -1;
		for (uint64_t i = 0; i < count; i++) {
			bool is_touched = entries[i] & ENTRY_IS_TOUCHED;
			if (is_touched && first == end)
				first = at + i;
			if (!is_touched && first != end) {
				*out = (struct run){ .first_page = first, .pages = at + i - first };
				return 1;
			}
		}
	}
	*out = (struct run){ .first_page = first, .pages = end - first };
	return first != end;
}

int resident_next(const void *memory, uint64_t from, uint64_t end, struct run *out)
{
	int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (pagemap < 0)
		return -1;
	int found = next_run(pagemap, (uintptr_t)memory >> PAGE_SHIFT, from, end, out);
	int saved_errno = errno;
	close(pagemap);
	errno = saved_errno;
	return found;
}
