/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * memory.c - memory files: created, mapped one behind the other, read without allocating.
 * Neighbours: guest.c writes through the map, guestcheck.c and compare.c read. One thread.
 */
#include "cli/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "cli/why.h"

static enum rdmamig_status file_fail(const struct memory_file *file, enum rdmamig_status status, const char *what, char *why)
{
	return why_say(why, status, "%s: cannot %s: %s", file->path, what, strerror(errno));
}

static enum rdmamig_status paths_split(struct memory *memory, const char *paths, char *why)
{
	memset(memory, 0, sizeof(*memory));
	for (const char *at = paths; ; ) {
		size_t length = strcspn(at, ",");
		if (memory->count == MEMORY_FILES_MAX || length == 0)
			return why_say(why, RDMAMIG_E_USAGE, "%s: want 1 to %d file names with a comma between them", paths,
				       MEMORY_FILES_MAX);
		struct memory_file *file = &memory->files[memory->count++];
		file->fd = -1;
		file->path = strndup(at, length);
		if (!file->path)
			return why_say(why, RDMAMIG_E_NO_MEMORY, "out of memory");
		if (!at[length])
			return RDMAMIG_OK;
		at += length + 1;
	}
}

/* The page size of the file's backing; the same for all of them. */
static enum rdmamig_status granule_read(struct memory *memory, const struct memory_file *file, char *why)
{
	struct statfs fs;
	if (fstatfs(file->fd, &fs))
		return file_fail(file, RDMAMIG_E_NO_FILE, "ask for its file system", why);
	if (fs.f_type != TMPFS_MAGIC && fs.f_type != HUGETLBFS_MAGIC)
		return why_say(why, RDMAMIG_E_NO_FILE, "%s: is neither on tmpfs nor on hugetlbfs; use a file below /dev/shm", file->path);
	uint64_t granule = fs.f_type == HUGETLBFS_MAGIC ? (uint64_t)fs.f_bsize : MEMORY_PAGE_BYTES;
	if (memory->granule && memory->granule != granule)
		return why_say(why, RDMAMIG_E_NO_FILE, "%s: its page size differs from that of %s", file->path, memory->files[0].path);
	memory->granule = granule;
	return RDMAMIG_OK;
}

static enum rdmamig_status files_open(struct memory *memory, int flags, char *why)
{
	for (unsigned i = 0; i < memory->count; i++) {
		struct memory_file *file = &memory->files[i];
		file->fd = open(file->path, O_RDWR | O_CLOEXEC | flags, 0600);
		if (file->fd < 0)
			return file_fail(file, RDMAMIG_E_NO_FILE, "open", why);
		enum rdmamig_status st = granule_read(memory, file, why);
		if (st)
			return st;
		struct stat stat;
		if (fstat(file->fd, &stat))
			return file_fail(file, RDMAMIG_E_NO_FILE, "stat", why);
		file->start = memory->bytes;
		file->bytes = (uint64_t)stat.st_size;
		memory->bytes += file->bytes;
	}
	return RDMAMIG_OK;
}

enum rdmamig_status memory_open(struct memory *memory, const char *paths, char *why)
{
	enum rdmamig_status st = paths_split(memory, paths, why);
	return st ? st : files_open(memory, 0, why);
}

/* The first files get one granule more when it does not come out even. */
static enum rdmamig_status files_size(struct memory *memory, uint64_t bytes, char *why)
{
	uint64_t granules = bytes / memory->granule;
	memory->bytes = 0;
	for (unsigned i = 0; i < memory->count; i++) {
		struct memory_file *file = &memory->files[i];
		file->start = memory->bytes;
		file->bytes = (granules / memory->count + (i < granules % memory->count)) * memory->granule;
		memory->bytes += file->bytes;
		if (ftruncate(file->fd, (off_t)file->bytes))
			return file_fail(file, RDMAMIG_E_NO_FILE, "set the size", why);
	}
	return RDMAMIG_OK;
}

enum rdmamig_status memory_create(struct memory *memory, const char *paths, uint64_t bytes, char *why)
{
	enum rdmamig_status st = paths_split(memory, paths, why);
	if (!st)
		st = files_open(memory, O_CREAT | O_EXCL, why);	/* never over the memory of a running guest */
	if (st)
		return st;
	if (bytes % memory->granule || bytes / memory->granule < memory->count || bytes > INT64_MAX)
		return why_say(why, RDMAMIG_E_USAGE, "the size must be a multiple of %" PRIu64 ", and at least that for each file",
			 memory->granule);
	return files_size(memory, bytes, why);
}

enum rdmamig_status memory_map(struct memory *memory, char *why)
{
	/* Room first, aligned for any huge page, so that the files can lie one behind the other. */
	uint64_t room = memory->bytes + memory->granule;
	uint8_t *at = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (at == MAP_FAILED)
		return why_say(why, RDMAMIG_E_NO_MEMORY, "no address space for %" PRIu64 " bytes: %s", room, strerror(errno));
	uint64_t before = -(uintptr_t)at & (memory->granule - 1);
	munmap(at, before);
	munmap(at + before + memory->bytes, memory->granule - before);
	memory->map = at + before;
	for (unsigned i = 0; i < memory->count; i++) {
		struct memory_file *file = &memory->files[i];
		/* NORESERVE: a huge page is taken when it is written or by memory_reserve(), not for the holes. */
		if (file->bytes && mmap(memory->map + file->start, file->bytes, PROT_READ | PROT_WRITE,
					MAP_SHARED | MAP_FIXED | MAP_NORESERVE, file->fd, 0) == MAP_FAILED)
			return file_fail(file, RDMAMIG_E_NO_MEMORY, "map", why);
	}
	return RDMAMIG_OK;
}

enum rdmamig_status memory_reserve(struct memory *memory, uint64_t bytes, char *why)
{
	struct statfs fs;
	const struct memory_file *first = &memory->files[0];
	if (fstatfs(first->fd, &fs))
		return file_fail(first, RDMAMIG_E_NO_FILE, "ask for its file system", why);
	uint64_t free_bytes = (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize;
	if (fs.f_blocks && free_bytes < bytes) {	/* a tmpfs without a limit has 0 blocks */
		return why_say(why, RDMAMIG_E_NO_SPACE, "%s: %" PRIu64 " MiB free on its file system, %" PRIu64 " MiB needed",
			 first->path, free_bytes >> 20, bytes >> 20);
	}
	for (unsigned i = 0; memory_is_hugetlb(memory) && i < memory->count && memory->files[i].start < bytes; i++) {
		const struct memory_file *file = &memory->files[i];
		uint64_t part = bytes - file->start < file->bytes ? bytes - file->start : file->bytes;
		if (fallocate(file->fd, 0, 0, (off_t)part))
			return file_fail(file, RDMAMIG_E_NO_SPACE, "allocate its huge pages", why);
	}
	return RDMAMIG_OK;
}

void memory_unlink(const struct memory *memory)
{
	for (unsigned i = 0; i < memory->count; i++)
		if (memory->files[i].fd >= 0)
			unlink(memory->files[i].path);
}

void memory_close(struct memory *memory)
{
	for (unsigned i = 0; i < memory->count; i++) {
		struct memory_file *file = &memory->files[i];
		if (file->fd >= 0)
			close(file->fd);
		free(file->path);
	}
	if (memory->map)
		munmap(memory->map, memory->bytes);
	memset(memory, 0, sizeof(*memory));
}

static const struct memory_file *file_at(const struct memory *memory, uint64_t at)
{
	unsigned i = 0;
	while (i + 1 < memory->count && at >= memory->files[i + 1].start)
		i++;
	return &memory->files[i];
}

bool memory_next_data(const struct memory *memory, uint64_t at, struct memory_extent *out)
{
	while (at < memory->bytes) {
		const struct memory_file *file = file_at(memory, at);
		/* hugetlbfs calls the whole file data; its holes still read as zero */
		off_t start = lseek(file->fd, (off_t)(at - file->start), SEEK_DATA);
		if (start < 0) {
			at = file->start + file->bytes;
			continue;
		}
		off_t end = lseek(file->fd, start, SEEK_HOLE);
		*out = (struct memory_extent){ file->start + (uint64_t)start,
					       file->start + (end > start ? (uint64_t)end : file->bytes) };
		return true;
	}
	return false;
}

enum rdmamig_status memory_read(const struct memory *memory, uint64_t at, void *out, size_t bytes, char *why)
{
	for (uint8_t *to = out; bytes > 0; ) {
		const struct memory_file *file = file_at(memory, at);
		uint64_t left = at < memory->bytes ? file->start + file->bytes - at : 0;
		ssize_t got = pread(file->fd, to, bytes < left ? bytes : left, (off_t)(at - file->start));
		if (got <= 0)
			return file_fail(file, RDMAMIG_E_IO, "read", why);
		to += got;
		at += (uint64_t)got;
		bytes -= (size_t)got;
	}
	return RDMAMIG_OK;
}

enum rdmamig_status memory_discard(const struct memory *memory, uint64_t page, char *why)
{
	uint64_t at = page * MEMORY_PAGE_BYTES;
	const struct memory_file *file = file_at(memory, at);
	if (fallocate(file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(at - file->start), MEMORY_PAGE_BYTES))
		return file_fail(file, RDMAMIG_E_IO, "punch a hole", why);
	return RDMAMIG_OK;
}
