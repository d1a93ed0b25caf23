/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * block.c - checks and maps a range of guest memory, makes it zero at dest, gives it back.
 * Neighbours: extent.c says what is in it, guard.c survives a file cut short, resident.c knows private memory.
 * Session thread; only posted and received are set by channels.
 */
#include "ram/block.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "ram/guard.h"
#include "ram/resident.h"
#include "ram/zero.h"

/* What block_clean() does in one call. */
static const uint64_t CLEAN_PUNCH_BYTES = 1ull << 30;
static const uint64_t CLEAN_LOOK_BYTES = 1ull << 30;
static const uint64_t CLEAN_WRITE_BYTES = 64ull << 20;

static enum rdmamig_status spec_check(const struct rdmamig_block *spec, struct error *error)
{
	size_t name_bytes = spec->name ? strnlen(spec->name, RDMAMIG_BLOCK_NAME_BYTES) : 0;
	if (name_bytes == 0 || name_bytes == RDMAMIG_BLOCK_NAME_BYTES)
		return error_note(error, RDMAMIG_E_USAGE, 0, "a block's name must have 1 to %d bytes", RDMAMIG_BLOCK_NAME_BYTES - 1);
	if ((spec->fd >= 0) == (spec->addr != NULL))
		return error_note(error, RDMAMIG_E_USAGE, 0, "block %s: give either a file or an address", spec->name);
	if (spec->length == 0 || spec->length > 1ull << BLOCK_BYTES_MAX_SHIFT)
		return error_note(error, RDMAMIG_E_USAGE, 0, "block %s: its length must be 1 page to 16 TiB", spec->name);
	if (spec->fd >= 0 && spec->offset > INT64_MAX - spec->length)
		return error_note(error, RDMAMIG_E_USAGE, 0, "block %s: its offset makes no sense", spec->name);
	return RDMAMIG_OK;
}

static enum rdmamig_status alignment_check(const struct block *block, uint64_t at, struct error *error)
{
	if (at % block->granule || block->bytes % block->granule)
		return error_note(error, RDMAMIG_E_USAGE, 0, "block %s: its %s and length must be multiples of its page size %llu",
				  block->name, block->fd < 0 ? "address" : "offset", (unsigned long long)block->granule);
	return RDMAMIG_OK;
}

static enum rdmamig_status file_check(struct block *block, struct error *error)
{
	struct stat st;
	struct statfs fs;
	if (fstat(block->fd, &st) || fstatfs(block->fd, &fs))
		return error_note(error, RDMAMIG_E_NO_FILE, errno, "block %s: cannot look at its file", block->name);

	block->is_hugetlb = fs.f_type == HUGETLBFS_MAGIC;
	if (!S_ISREG(st.st_mode) || (fs.f_type != TMPFS_MAGIC && !block->is_hugetlb))
		return error_note(error, RDMAMIG_E_NO_FILE, 0, "block %s: not a file on tmpfs or hugetlbfs; put guest memory on /dev/shm, "
				  "in a memfd or on hugetlbfs", block->name);
	if ((uint64_t)st.st_size < block->offset + block->bytes)
		return error_note(error, RDMAMIG_E_NO_FILE, 0, "block %s: its file has %llu bytes, %llu are needed", block->name,
				  (unsigned long long)st.st_size, (unsigned long long)(block->offset + block->bytes));
	if (block->is_hugetlb)
		block->granule = (uint64_t)fs.f_bsize;
	return alignment_check(block, block->offset, error);
}

static enum rdmamig_status file_map(struct block *block, struct error *error)
{
	/* Writable at the source too: kernels before 6.2 register no shared mapping that is not. */
	void *memory = mmap(NULL, block->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, block->fd, (off_t)block->offset);
	if (memory == MAP_FAILED && errno == ENOMEM && block->is_hugetlb)
		return error_note(error, RDMAMIG_E_NO_SPACE, 0, "block %s: %llu free huge pages of %llu KiB are needed; see "
				  "/sys/kernel/mm/hugepages", block->name, (unsigned long long)(block->bytes / block->granule),
				  (unsigned long long)(block->granule >> 10));
	if (memory == MAP_FAILED && errno == ENOMEM)
		return error_note(error, RDMAMIG_E_NO_MEMORY, errno, "block %s: mmap", block->name);
	if (memory == MAP_FAILED)
		return error_note(error, RDMAMIG_E_NO_FILE, errno, "block %s: its file cannot be mapped to read and write", block->name);

	block->memory = memory;
	block->is_mapped = true;
	madvise(memory, block->bytes, MADV_DONTDUMP);	/* the guest's secrets are not for our core file */
	return RDMAMIG_OK;
}

static enum rdmamig_status file_open(struct block *block, const struct rdmamig_block *spec, struct error *error)
{
	block->fd = fcntl(spec->fd, F_DUPFD_CLOEXEC, 0);
	if (block->fd < 0)
		return error_note(error, RDMAMIG_E_NO_FILE, errno, "block %s: its file descriptor", block->name);
	block->offset = spec->offset;
	enum rdmamig_status status = file_check(block, error);
	return status ? status : file_map(block, error);
}

static enum rdmamig_status memory_take(struct block *block, const struct rdmamig_block *spec, struct error *error)
{
	block->memory = spec->addr;
	block->is_private_anonymous = resident_is_known(block->memory, block->bytes);
	return alignment_check(block, (uintptr_t)block->memory, error);
}

static enum rdmamig_status bitmaps_init(struct block *block, enum rdmamig_role role, struct error *error)
{
	enum rdmamig_status status;
	if (role == RDMAMIG_DEST) {
		status = receivedmap_init(&block->received, block->pages);
	} else {
		struct bitmap *bitmaps[] = { &block->dirty, &block->posted, &block->exists, &block->gone };
		status = RDMAMIG_OK;
		for (unsigned i = 0; i < sizeof(bitmaps) / sizeof(bitmaps[0]) && !status; i++)
			status = bitmap_init(bitmaps[i], block->pages);
	}
	if (status)
		return error_note(error, status, errno, "block %s: no address space for its bitmaps", block->name);
	return RDMAMIG_OK;
}

enum rdmamig_status block_init(struct block *block, const struct rdmamig_block *spec, enum rdmamig_role role, struct error *error)
{
	memset(block, 0, sizeof(*block));
	enum rdmamig_status status = spec_check(spec, error);
	if (status)
		return status;

	strcpy(block->name, spec->name);
	block->fd = -1;
	block->bytes = spec->length;
	block->pages = pages_of_bytes(spec->length);
	block->granule = PAGE_BYTES;

	status = guard_install();
	if (status)
		error_note(error, status, 0, "cannot set up a handler for SIGBUS");
	if (!status)
		status = spec->addr ? memory_take(block, spec, error) : file_open(block, spec, error);
	if (!status)
		status = bitmaps_init(block, role, error);
	if (status)
		block_fini(block);
	return status;
}

void block_fini(struct block *block)
{
	receivedmap_fini(&block->received);
	bitmap_fini(&block->gone);
	bitmap_fini(&block->exists);
	bitmap_fini(&block->posted);
	bitmap_fini(&block->dirty);
	if (block->is_mapped)
		munmap(block->memory, block->bytes);
	if (block->bytes && block->fd >= 0)	/* in a zeroed block, fd 0 is nobody's */
		close(block->fd);
	memset(block, 0, sizeof(*block));
}

bool block_has_changed(const struct block *block)
{
	struct stat st;
	return block->fd >= 0 && (fstat(block->fd, &st) || (uint64_t)st.st_size < block->offset + block->bytes);
}

static bool block_is_tmpfs(const struct block *block)
{
	return block->fd >= 0 && !block->is_hugetlb;
}

/* A fresh hugetlbfs file reads as zero without its pages being taken from the pool. */
static bool file_has_no_data(const struct block *block)
{
	struct stat st;
	return !fstat(block->fd, &st) && st.st_blocks == 0;
}

static bool file_punch(const struct block *block, struct run run)
{
	return !fallocate(block->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			  (off_t)(block->offset + bytes_of_pages(run.first_page)), (off_t)bytes_of_pages(run.pages));
}

struct zeroing {
	uint8_t *memory;
	uint64_t bytes;
	zero_scan *is_zero;
};

/* Read first: writing to a page that is zero would give it memory of its own. */
static void zeroing_run(void *arg)
{
	const struct zeroing *zeroing = arg;
	for (uint64_t at = 0; at < zeroing->bytes; at += PAGE_BYTES)
		if (!zeroing->is_zero(zeroing->memory + at, PAGE_BYTES))
			memset(zeroing->memory + at, 0, PAGE_BYTES);
}

static uint64_t slice_end(const struct block *block, uint64_t page, uint64_t slice_bytes)
{
	uint64_t slice = pages_of_bytes(slice_bytes);
	return block->pages - page < slice ? block->pages : page + slice;
}

static enum rdmamig_status clean_by_punch(struct block *block, uint64_t *next_page, struct error *error)
{
	uint64_t end = slice_end(block, *next_page, CLEAN_PUNCH_BYTES);
	if (!file_punch(block, (struct run){ .first_page = *next_page, .pages = end - *next_page }))
		return error_note(error, RDMAMIG_E_IO, errno, "block %s: cannot punch a hole into its file", block->name);
	*next_page = end;
	return RDMAMIG_OK;
}

/* The next run of pages that may not be zero; an empty one where none was found within what one call may look at. */
static enum rdmamig_status next_unclean(const struct block *block, uint64_t page, struct run *out, struct error *error)
{
	uint64_t end = slice_end(block, page, CLEAN_WRITE_BYTES);
	*out = (struct run){ .first_page = page, .pages = end - page };
	if (block->is_hugetlb && file_has_no_data(block))
		*out = (struct run){ .first_page = block->pages };
	if (!block->is_private_anonymous)
		return RDMAMIG_OK;

	end = slice_end(block, page, CLEAN_LOOK_BYTES);
	int found = resident_next(block->memory, page, end, out);
	if (found < 0)
		return error_note(error, RDMAMIG_E_IO, errno, "block %s: /proc/self/pagemap", block->name);
	if (!found)
		*out = (struct run){ .first_page = end };
	if (out->pages > pages_of_bytes(CLEAN_WRITE_BYTES))
		out->pages = pages_of_bytes(CLEAN_WRITE_BYTES);
	return RDMAMIG_OK;
}

static enum rdmamig_status clean_by_write(struct block *block, uint64_t *next_page, struct error *error)
{
	struct run run;
	enum rdmamig_status status = next_unclean(block, *next_page, &run, error);
	if (status)
		return status;

	struct zeroing zeroing = {
		.memory = block->memory + bytes_of_pages(run.first_page),
		.bytes = bytes_of_pages(run.pages),
		.is_zero = zero_scan_best(),
	};
	if (!guard_call(zeroing_run, &zeroing))
		return error_note(error, RDMAMIG_E_NO_SPACE, 0, "block %s: its memory is not to be had (SIGBUS): huge pages or the file "
				  "system ran out, or its file was cut short", block->name);
	*next_page = run.first_page + run.pages;
	return RDMAMIG_OK;
}

enum rdmamig_status block_clean(struct block *block, uint64_t *next_page, struct error *error)
{
	return block_is_tmpfs(block) ? clean_by_punch(block, next_page, error) : clean_by_write(block, next_page, error);
}

void block_discard(struct block *block)
{
	/* Best effort: a failed dest has nobody left to tell. */
	if (block_is_tmpfs(block)) {
		file_punch(block, (struct run){ .pages = block->pages });
	} else if (!block->is_private_anonymous || madvise(block->memory, block->bytes, MADV_DONTNEED)) {
		uint64_t next_page = 0;
		while (next_page < block->pages && !block_clean(block, &next_page, NULL))
			;
	}
}
