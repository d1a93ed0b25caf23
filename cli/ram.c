/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ram.c - opens, creates and compares the guest's memory files.
 * Neighbours: send.c and recv.c, which give them to a session; claim.c compares them with other sessions'. Main thread.
 */
#include "cli/ram.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "cli/why.h"
#include "vmm/driver.h"

static struct ram_file *ram_find(struct ram_set *set, const char *name)
{
	for (unsigned i = 0; i < set->count; i++)
		if (!strcmp(set->files[i].name, name))
			return &set->files[i];
	return NULL;
}

/* An absolute path also for a file that is yet to be made. */
static char *path_resolve(const char *path)
{
	char *full = realpath(path, NULL);
	if (full || errno != ENOENT)
		return full;

	const char *slash = strrchr(path, '/');
	const char *leaf = slash ? slash + 1 : path;
	char dir[PATH_MAX];
	if (!*leaf || snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - path + 1) : 1, slash ? path : ".") >= PATH_MAX)
		return NULL;
	char *full_dir = realpath(dir, NULL);
	if (!full_dir)
		return NULL;
	if (asprintf(&full, "%s/%s", strcmp(full_dir, "/") ? full_dir : "", leaf) < 0)
		full = NULL;
	free(full_dir);
	return full;
}

static enum rdmamig_status file_parse(struct ram_set *set, const char *text, char *why)
{
	const char *equals = strchr(text, '=');
	size_t name_len = equals ? (size_t)(equals - text) : 0;
	if (!name_len || !equals[1] || strchr(text, ','))
		return why_say(why, RDMAMIG_E_USAGE, "--ram wants NAME=PATH, without a comma, not '%s'", text);
	struct ram_file *file = &set->files[set->count];
	*file = (struct ram_file){ .fd = -1 };
	if (name_len >= sizeof(file->name))
		return why_say(why, RDMAMIG_E_USAGE, "--ram %s: the name is longer than %zu bytes", text, sizeof(file->name) - 1);
	memcpy(file->name, text, name_len);
	if (ram_find(set, file->name))
		return why_say(why, RDMAMIG_E_USAGE, "--ram %s: that name is there twice", file->name);
	file->path = path_resolve(equals + 1);
	if (!file->path)
		return why_say(why, RDMAMIG_E_NO_FILE, "%.300s: %s", equals + 1, strerror(errno));
	set->count++;
	return RDMAMIG_OK;
}

/* Only these two tell which pages hold data, and let us see what the guest writes. */
static enum rdmamig_status backing_check(struct ram_file *file, const struct statfs *fs, char *why)
{
	if (fs->f_type != TMPFS_MAGIC && fs->f_type != HUGETLBFS_MAGIC)
		return why_say(why, RDMAMIG_E_NO_FILE, "%s is neither on tmpfs nor on hugetlbfs: put the guest's memory under "
			       "/dev/shm or /dev/hugepages", file->path);
	file->granule = fs->f_type == HUGETLBFS_MAGIC ? (uint64_t)fs->f_bsize : 4096;
	return RDMAMIG_OK;
}

static enum rdmamig_status dir_check(struct ram_file *file, char *why)
{
	char dir[PATH_MAX];
	struct statfs fs;
	snprintf(dir, sizeof(dir), "%.*s", (int)(strrchr(file->path, '/') - file->path + 1), file->path);
	if (statfs(dir, &fs))
		return why_say(why, RDMAMIG_E_NO_FILE, "%s: %s", dir, strerror(errno));
	return backing_check(file, &fs, why);
}

static enum rdmamig_status file_check(struct ram_file *file, char *why)
{
	struct stat st;
	struct statfs fs;
	if (fstat(file->fd, &st) || fstatfs(file->fd, &fs))
		return why_say(why, RDMAMIG_E_NO_FILE, "%s: %s", file->path, strerror(errno));
	enum rdmamig_status status = backing_check(file, &fs, why);
	if (status)
		return status;
	file->length = (uint64_t)st.st_size;
	if (!S_ISREG(st.st_mode) || !file->length || file->length % file->granule)
		return why_say(why, RDMAMIG_E_NO_FILE, "%s is no guest memory: not a regular file, empty, or not a multiple of "
			       "%llu bytes", file->path, (unsigned long long)file->granule);
	return RDMAMIG_OK;
}

static enum rdmamig_status file_open(struct ram_file *file, bool may_be_missing, char *why)
{
	file->fd = open(file->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (file->fd >= 0)
		return file_check(file, why);
	if (errno == ENOENT && may_be_missing)
		return dir_check(file, why);
	enum rdmamig_status status = errno == EACCES || errno == EPERM ? RDMAMIG_E_PERMISSION : RDMAMIG_E_NO_FILE;
	return why_say(why, status, "%s: %s", file->path, strerror(errno));
}

static bool is_same_file(const struct ram_file *a, const struct ram_file *b)
{
	struct stat st_a, st_b;
	if (a->fd < 0 || b->fd < 0)
		return !strcmp(a->path, b->path);
	return !fstat(a->fd, &st_a) && !fstat(b->fd, &st_b) && st_a.st_dev == st_b.st_dev && st_a.st_ino == st_b.st_ino;
}

static enum rdmamig_status twin_check(const struct ram_set *set, const struct ram_file *file, char *why)
{
	for (const struct ram_file *other = set->files; other < file; other++)
		if (is_same_file(other, file))
			return why_say(why, RDMAMIG_E_USAGE, "--ram %s and %s name the same file", other->name, file->name);
	return RDMAMIG_OK;
}

enum rdmamig_status ram_open(struct ram_set *set, const struct option_list *list, bool may_be_missing, char *why)
{
	set->count = 0;
	if (!list->count)
		return why_say(why, RDMAMIG_E_USAGE, "no memory named: --ram NAME=PATH");
	enum rdmamig_status status = RDMAMIG_OK;
	for (unsigned i = 0; i < list->count && !status; i++) {
		status = file_parse(set, list->items[i], why);
		if (!status)
			status = file_open(&set->files[i], may_be_missing, why);
		if (!status)
			status = twin_check(set, &set->files[i], why);
	}
	return status;
}

void ram_close(struct ram_set *set)
{
	for (unsigned i = 0; i < set->count; i++) {
		if (set->files[i].fd >= 0)
			close(set->files[i].fd);
		free(set->files[i].path);
	}
	set->count = 0;
}

static enum rdmamig_status names_differ(const struct ram_set *set, const struct rdmamig_peer_block *peers,
					unsigned peer_count, char *why)
{
	why_say(why, RDMAMIG_E_BLOCKS_DIFFER, "memory blocks differ: the source has");
	for (unsigned i = 0; i < peer_count; i++)
		why_add(why, " %s", peers[i].name);
	why_add(why, "; --ram names");
	for (unsigned i = 0; i < set->count; i++)
		why_add(why, " %s", set->files[i].name);
	return RDMAMIG_E_BLOCKS_DIFFER;
}

static enum rdmamig_status size_check(const struct ram_file *file, const struct rdmamig_peer_block *peer, char *why)
{
	if (file->fd >= 0 && file->length != peer->length)
		return why_say(why, RDMAMIG_E_BLOCKS_DIFFER, "memory block %s: %llu bytes at the source, %s has %llu: "
			       "remove it (recv makes it anew) or truncate it", peer->name, (unsigned long long)peer->length,
			       file->path, (unsigned long long)file->length);
	if (peer->length % file->granule)
		return why_say(why, RDMAMIG_E_BLOCKS_DIFFER, "memory block %s: %llu bytes at the source are no multiple of the "
			       "%llu byte pages that hold %s", peer->name, (unsigned long long)peer->length,
			       (unsigned long long)file->granule, file->path);
	return RDMAMIG_OK;
}

static enum rdmamig_status file_create(struct ram_file *file, uint64_t length, char *why)
{
	file->fd = open(file->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (file->fd < 0)
		return why_say(why, RDMAMIG_E_NO_FILE, "%s cannot be created: %s", file->path, strerror(errno));
	file->is_created = true;
	file->length = length;
	if (ftruncate(file->fd, (off_t)length))
		return why_say(why, RDMAMIG_E_NO_SPACE, "%s cannot be made %llu bytes long: %s", file->path,
			       (unsigned long long)length, strerror(errno));
	return RDMAMIG_OK;
}

enum rdmamig_status ram_match(struct ram_set *set, const struct rdmamig_peer_block *peers, unsigned peer_count, char *why)
{
	if (peer_count != set->count)
		return names_differ(set, peers, peer_count, why);
	for (unsigned i = 0; i < peer_count; i++) {
		struct ram_file *file = ram_find(set, peers[i].name);
		if (!file || file < &set->files[i])
			return names_differ(set, peers, peer_count, why);
		struct ram_file found = *file;
		*file = set->files[i];
		set->files[i] = found;
		enum rdmamig_status status = RDMAMIG_OK;
		if (found.fd < 0)	/* somebody may have made it while we waited */
			status = file_open(&set->files[i], true, why);
		if (!status)
			status = size_check(&set->files[i], &peers[i], why);
		if (status)
			return status;
	}
	enum rdmamig_status status = RDMAMIG_OK;
	for (unsigned i = 0; i < set->count && !status; i++)
		if (set->files[i].fd < 0)
			status = file_create(&set->files[i], peers[i].length, why);
	return status;
}

void ram_unlink_created(struct ram_set *set)
{
	for (unsigned i = 0; i < set->count; i++) {
		if (set->files[i].is_created)
			unlink(set->files[i].path);
		set->files[i].is_created = false;
	}
}

enum rdmamig_status ram_add_blocks(const struct ram_set *set, struct rdmamig_session *session, char *why)
{
	for (unsigned i = 0; i < set->count; i++) {
		const struct ram_file *file = &set->files[i];
		struct rdmamig_block block = { .size = sizeof(block), .name = file->name, .fd = file->fd, .length = file->length };
		enum rdmamig_status status = rdmamig_session_add_block(session, &block);
		if (!status)
			continue;
		rdmamig_session_error(session, why, DRIVER_WHY_BYTES);
		return why[0] ? status : why_say(why, status, "%s: %s", file->path, rdmamig_status_text(status));
	}
	return RDMAMIG_OK;
}

enum rdmamig_status ram_describe(const struct ram_set *set, char *out, size_t out_bytes, char *why)
{
	size_t used = 0;
	out[0] = '\0';
	for (unsigned i = 0; i < set->count && used < out_bytes; i++)
		used += (size_t)snprintf(out + used, out_bytes - used, "%s%s=%s", i ? "," : "", set->files[i].name,
					 set->files[i].path);
	if (used < out_bytes)
		return RDMAMIG_OK;
	return why_say(why, RDMAMIG_E_USAGE, "the names and paths of --ram together are longer than %zu bytes", out_bytes - 1);
}

/* The next NAME=PATH of a description: *path, *len; returns what follows it, NULL at the end. */
static const char *path_next(const char *at, const char **path, size_t *len)
{
	size_t item = strcspn(at, ",");
	const char *equals = memchr(at, '=', item);
	*path = equals ? equals + 1 : at;
	*len = item - (size_t)(*path - at);
	return at[item] ? at + item + 1 : NULL;
}

bool ram_have_path_in_common(const char *a, const char *b)
{
	for (const char *path_a; a && *a;) {
		size_t len_a;
		a = path_next(a, &path_a, &len_a);
		for (const char *rest = b, *path_b; rest && *rest;) {
			size_t len_b;
			rest = path_next(rest, &path_b, &len_b);
			if (len_a == len_b && !memcmp(path_a, path_b, len_a))
				return true;
		}
	}
	return false;
}
