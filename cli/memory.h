/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * memory.h - the memory files of synth and bench: one address space over one or several files.
 *
 * FILE[,FILE...] on tmpfs or hugetlbfs; the memory is their concatenation. Reading never allocates: holes read as zero.
 */
#ifndef CLI_MEMORY_H
#define CLI_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rdmamig/status.h>

enum { MEMORY_FILES_MAX = 64, MEMORY_PAGE_BYTES = 4096, MEMORY_WHY_BYTES = 512 };

struct memory_file {
	char *path;
	int fd;
	uint64_t start;		/* in the memory */
	uint64_t bytes;
};

struct memory {
	struct memory_file files[MEMORY_FILES_MAX];
	unsigned count;
	uint64_t bytes;
	uint64_t granule;	/* 4096, or the huge page size of the hugetlbfs mount */
	uint8_t *map;		/* NULL until memory_map() */
};

struct memory_extent {
	uint64_t start;
	uint64_t end;
};

/*
 * memory_create - make files of @bytes together, as equal as the granule allows, all holes. memory_close() in any case.
 *
 * E_NO_FILE      a file exists, cannot be made, or is neither on tmpfs nor on hugetlbfs
 * E_USAGE        @bytes is no multiple of the granule, or too many files
 * E_NO_MEMORY
 */
enum rdmamig_status memory_create(struct memory *memory, const char *paths, uint64_t bytes, char *why);

/* memory_open - existing files, of the sizes they have. As above. */
enum rdmamig_status memory_open(struct memory *memory, const char *paths, char *why);

/* memory_map - all of it at memory->map, shared and writable, until memory_close(). E_NO_MEMORY. */
enum rdmamig_status memory_map(struct memory *memory, char *why);

/* memory_reserve - see to it that the first @bytes can be written without SIGBUS. E_NO_SPACE. */
enum rdmamig_status memory_reserve(struct memory *memory, uint64_t bytes, char *why);

/* memory_unlink - the files that memory_create() made, however far it came; before memory_close(). */
void memory_unlink(const struct memory *memory);
void memory_close(struct memory *memory);

/* memory_next_data - the first extent that holds data at or after @at and ends in the same file; false: only holes. */
bool memory_next_data(const struct memory *memory, uint64_t at, struct memory_extent *out);

/* memory_read - E_IO; @why names the file. */
enum rdmamig_status memory_read(const struct memory *memory, uint64_t at, void *out, size_t bytes, char *why);

/* memory_discard - make a page a hole, as a balloon does. */
enum rdmamig_status memory_discard(const struct memory *memory, uint64_t page, char *why);

static inline bool memory_is_hugetlb(const struct memory *memory)
{
	return memory->granule != MEMORY_PAGE_BYTES;
}

#endif
