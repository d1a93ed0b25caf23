/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * journal.c - who owns the guest, on disk: one directory a session and role, one file a decision (R5).
 * Neighbours: journal_file.c (durable files), journal_info.c (what else is remembered). Any thread, one per journal.
 *
 *   STATE_DIR/<32 hex>.source/  lock  session  decision  closed
 *   STATE_DIR/<32 hex>.dest/    lock  session  ready  outcome  closed
 */
#include <rdmamig/journal.h>

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "migration/journal_file.h"
#include "migration/journal_info.h"

enum { NAME_BYTES = 2 * RDMAMIG_SESSION_ID_BYTES + 1, DIR_NAME_BYTES = NAME_BYTES + 16, RECORD_TEXT_BYTES = 16 };
enum { CLOSED_KEPT = 64, PRUNE_LOOK_MAX = 4096, LOCK_RETRY_MS = 5, STALE_S = 3600 };

struct rdmamig_journal {
	int dir_fd;
	int lock_fd;
	enum rdmamig_role role;
	uint8_t id[RDMAMIG_SESSION_ID_BYTES];
	char name[NAME_BYTES];
	char state_dir[RDMAMIG_COMMAND_BYTES];
	struct rdmamig_journal_info info;	/* as last seen here; the file has the truth, another process may write it */
};

static const struct record_row {
	enum rdmamig_record record;
	const char *name;
	enum rdmamig_role role;
	const char *file;	/* decisions in the same file exclude each other */
} record_rows[] = {
	{ RDMAMIG_RECORD_COMMIT, "COMMIT", RDMAMIG_SOURCE, "decision" },
	{ RDMAMIG_RECORD_ABORT, "ABORT", RDMAMIG_SOURCE, "decision" },
	{ RDMAMIG_RECORD_READY, "READY", RDMAMIG_DEST, "ready" },
	{ RDMAMIG_RECORD_OWNED, "OWNED", RDMAMIG_DEST, "outcome" },
	{ RDMAMIG_RECORD_DISCARDED, "DISCARDED", RDMAMIG_DEST, "outcome" },
};

enum { RECORD_ROWS = sizeof(record_rows) / sizeof(record_rows[0]) };

static const struct record_row *record_find(enum rdmamig_record record)
{
	for (size_t i = 0; i < RECORD_ROWS; i++)
		if (record_rows[i].record == record)
			return &record_rows[i];
	return NULL;
}

const char *rdmamig_record_name(enum rdmamig_record record)
{
	const struct record_row *row = record_find(record);
	return row ? row->name : record == RDMAMIG_RECORD_NONE ? "none" : "?";
}

static const char *role_name(enum rdmamig_role role)
{
	return role == RDMAMIG_SOURCE ? "source" : "dest";
}

static enum rdmamig_status status_of_errno(int err)
{
	switch (err) {
	case EACCES: case EPERM: case EROFS: return RDMAMIG_E_PERMISSION;
	case ENOSPC: case EDQUOT: case EMFILE: case ENFILE: return RDMAMIG_E_NO_SPACE;
	case ENOMEM: return RDMAMIG_E_NO_MEMORY;
	case ENOENT: case ENOTDIR: case ELOOP: case ENAMETOOLONG: return RDMAMIG_E_PRECHECK;
	default: return RDMAMIG_E_IO;
	}
}

__attribute__((format(printf, 4, 5)))
static enum rdmamig_status why_say(char *why, size_t why_bytes, enum rdmamig_status status, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	if (why && why_bytes)
		vsnprintf(why, why_bytes, format, args);
	va_end(args);
	return status;
}

/* Sessions are named by lower case hex only: a name is also a path. */
static bool name_decode(const char *name, uint8_t id[RDMAMIG_SESSION_ID_BYTES])
{
	static const char digits[] = "0123456789abcdef";
	if (strlen(name) != NAME_BYTES - 1 || strspn(name, digits) != NAME_BYTES - 1)
		return false;
	for (unsigned i = 0; i < RDMAMIG_SESSION_ID_BYTES; i++)
		id[i] = (uint8_t)((strchr(digits, name[2 * i]) - digits) << 4 | (strchr(digits, name[2 * i + 1]) - digits));
	return true;
}

static void name_encode(const uint8_t id[RDMAMIG_SESSION_ID_BYTES], char name[NAME_BYTES])
{
	for (unsigned i = 0; i < RDMAMIG_SESSION_ID_BYTES; i++)
		snprintf(name + 2 * i, 3, "%02x", id[i]);
}

static void dir_name(const char *name, enum rdmamig_role role, char out[DIR_NAME_BYTES])
{
	snprintf(out, DIR_NAME_BYTES, "%s.%s", name, role_name(role));
}

/* Is this directory entry a journal of @role? Its session then. */
static bool dir_name_is_journal(const char *entry, enum rdmamig_role role, char name[NAME_BYTES])
{
	uint8_t id[RDMAMIG_SESSION_ID_BYTES];
	char expected[DIR_NAME_BYTES];
	snprintf(name, NAME_BYTES, "%s", entry);
	if (!name_decode(name, id))
		return false;
	dir_name(name, role, expected);
	return strcmp(entry, expected) == 0;
}

/* Whoever may write here may forge a decision. */
static enum rdmamig_status state_dir_check(int fd, const char *path, char *why, size_t why_bytes)
{
	struct stat st;
	if (fstat(fd, &st))
		return why_say(why, why_bytes, RDMAMIG_E_IO, "state directory %s: %s", path, strerror(errno));
	if (st.st_uid != geteuid() && st.st_uid != 0)
		return why_say(why, why_bytes, RDMAMIG_E_PERMISSION,
			       "state directory %s belongs to uid %u, not to us: use another one", path, st.st_uid);
	if (st.st_mode & (S_IWGRP | S_IWOTH))
		return why_say(why, why_bytes, RDMAMIG_E_PERMISSION,
			       "state directory %s may be written by others: chmod go-w %s, or use another one", path, path);
	return RDMAMIG_OK;
}

static enum rdmamig_status state_dir_open(const char *path, bool make, int *out_fd, char *why, size_t why_bytes)
{
	if (make && mkdir(path, 0700) && errno != EEXIST)
		return why_say(why, why_bytes, status_of_errno(errno), "state directory %s cannot be made: %s; "
			       "make it, or use another one", path, strerror(errno));

	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return why_say(why, why_bytes, errno == ENOENT ? RDMAMIG_E_NO_FILE : status_of_errno(errno),
			       "state directory %s cannot be opened: %s; use another one", path, strerror(errno));
	enum rdmamig_status status = state_dir_check(fd, path, why, why_bytes);
	if (status)
		close(fd);
	else
		*out_fd = fd;
	return status;
}

static bool dir_is_closed(int dir_fd)
{
	char text[RECORD_TEXT_BYTES];
	return journal_file_read(dir_fd, "closed", text, sizeof(text)) == 0 && strcmp(text, "closed\n") == 0;
}

static bool dir_is_held(int dir_fd)
{
	int fd = openat(dir_fd, "lock", O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return false;
	bool held = flock(fd, LOCK_EX | LOCK_NB) != 0;
	close(fd);
	return held;
}

/* Renamed first: a journal half removed must not look like one that was never decided. */
static void dir_remove(int state_fd, const char *entry)
{
	char gone[DIR_NAME_BYTES + 8];
	snprintf(gone, sizeof(gone), entry[0] == '.' ? "%s" : ".old-%s", entry);
	if (strcmp(gone, entry) != 0 && renameat(state_fd, entry, state_fd, gone))
		return;

	int fd = openat(state_fd, gone, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir)
		return;
	for (struct dirent *file = readdir(dir); file; file = readdir(dir))
		unlinkat(fd, file->d_name, 0);
	closedir(dir);
	unlinkat(state_fd, gone, AT_REMOVEDIR);
}

struct closed_dir {
	char name[DIR_NAME_BYTES];
	time_t when;
};

static int closed_dir_newer(const void *a, const void *b)
{
	const struct closed_dir *x = a, *y = b;
	return (x->when < y->when) - (x->when > y->when);
}

/* Looks at one entry: true if it is a closed journal nobody holds. Leftovers of a crash are removed on the way. */
static bool entry_is_spent(int state_fd, const char *entry, struct closed_dir *out)
{
	char name[NAME_BYTES];
	struct stat st = { 0 };
	bool leftover = strncmp(entry, ".new-", 5) == 0 || strncmp(entry, ".old-", 5) == 0;
	if (!leftover && !dir_name_is_journal(entry, RDMAMIG_SOURCE, name) && !dir_name_is_journal(entry, RDMAMIG_DEST, name))
		return false;

	int fd = openat(state_fd, entry, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return false;
	bool spent = false;
	if (leftover && fstat(fd, &st) == 0 && st.st_mtime + STALE_S < time(NULL))
		dir_remove(state_fd, entry);
	else if (!leftover)
		spent = dir_is_closed(fd) && !dir_is_held(fd) && fstatat(fd, "closed", &st, AT_SYMLINK_NOFOLLOW) == 0;
	close(fd);
	snprintf(out->name, sizeof(out->name), "%.*s", DIR_NAME_BYTES - 1, entry);
	out->when = st.st_mtime;
	return spent;
}

/* Housekeeping: failing at it is no reason to fail a session. */
static void state_dir_prune(int state_fd)
{
	int fd = openat(state_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct closed_dir *spent = calloc(PRUNE_LOOK_MAX, sizeof(*spent));
	size_t count = 0;
	for (struct dirent *e = dir && spent ? readdir(dir) : NULL; e && count < PRUNE_LOOK_MAX; e = readdir(dir))
		count += entry_is_spent(state_fd, e->d_name, &spent[count]);

	if (count)
		qsort(spent, count, sizeof(*spent), closed_dir_newer);
	for (size_t i = CLOSED_KEPT; i < count; i++)
		dir_remove(state_fd, spent[i].name);
	free(spent);
	if (dir)
		closedir(dir);
	else if (fd >= 0)
		close(fd);
}

static struct rdmamig_journal *journal_new(enum rdmamig_role role, const uint8_t id[RDMAMIG_SESSION_ID_BYTES],
					   const char *state_dir)
{
	struct rdmamig_journal *journal = calloc(1, sizeof(*journal));
	if (!journal)
		return NULL;
	journal->dir_fd = journal->lock_fd = -1;
	journal->role = role;
	memcpy(journal->id, id, sizeof(journal->id));
	name_encode(id, journal->name);
	snprintf(journal->state_dir, sizeof(journal->state_dir), "%s", state_dir);
	return journal;
}

static int lock_open(struct rdmamig_journal *journal, int flags)
{
	journal->lock_fd = openat(journal->dir_fd, "lock", O_RDWR | O_NOFOLLOW | O_CLOEXEC | flags, 0600);
	return journal->lock_fd < 0 ? -1 : 0;
}

/* Complete and locked before it has a name: nobody ever finds half a journal. -1 with errno. */
static int journal_build(struct rdmamig_journal *journal, int state_fd, const char *text)
{
	char temp[DIR_NAME_BYTES], final[DIR_NAME_BYTES];
	uint64_t number;
	if (getrandom(&number, sizeof(number), 0) != sizeof(number))
		return -1;
	snprintf(temp, sizeof(temp), ".new-%016llx", (unsigned long long)number);
	dir_name(journal->name, journal->role, final);
	if (mkdirat(state_fd, temp, 0700))
		return -1;

	journal->dir_fd = openat(state_fd, temp, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (journal->dir_fd >= 0 && lock_open(journal, O_CREAT | O_EXCL) == 0 &&
	    flock(journal->lock_fd, LOCK_EX | LOCK_NB) == 0 &&
	    journal_file_replace(journal->dir_fd, "session", text) == 0 &&
	    renameat(state_fd, temp, state_fd, final) == 0)	/* fails on a directory that is not empty */
		return fsync(state_fd);

	int saved = errno;
	dir_remove(state_fd, temp);
	errno = saved;
	return -1;
}

static bool id_is_zero(const uint8_t id[RDMAMIG_SESSION_ID_BYTES])
{
	static const uint8_t zero[RDMAMIG_SESSION_ID_BYTES];
	return memcmp(id, zero, sizeof(zero)) == 0;
}

enum rdmamig_status rdmamig_journal_create(const char *state_dir, enum rdmamig_role role,
					   const uint8_t id[RDMAMIG_SESSION_ID_BYTES],
					   const struct rdmamig_journal_info *info, struct rdmamig_journal **out,
					   char *why, size_t why_bytes)
{
	const char *path = state_dir ? state_dir : RDMAMIG_STATE_DIR;
	char text[JOURNAL_INFO_TEXT_BYTES];
	if (!journal_info_encode(info, role, text))
		return why_say(why, why_bytes, RDMAMIG_E_USAGE, "a peer or memory name too long or with control characters");

	uint8_t session[RDMAMIG_SESSION_ID_BYTES];
	memcpy(session, id, sizeof(session));
	if (id_is_zero(session) && getrandom(session, sizeof(session), 0) != sizeof(session))
		return why_say(why, why_bytes, RDMAMIG_E_IO, "no random session id: %s", strerror(errno));

	int state_fd;
	enum rdmamig_status status = state_dir_open(path, true, &state_fd, why, why_bytes);
	if (status)
		return status;

	struct rdmamig_journal *journal = journal_new(role, session, path);
	if (!journal) {
		status = why_say(why, why_bytes, RDMAMIG_E_NO_MEMORY, "no memory for a journal");
	} else if (journal_build(journal, state_fd, text)) {
		bool taken = errno == EEXIST || errno == ENOTEMPTY;
		status = why_say(why, why_bytes, taken ? RDMAMIG_E_BUSY : status_of_errno(errno),
				 taken ? "session %s already has a %s journal in %s" :
				 "the journal of session %s (%s) cannot be written in %s: %m; mend that, or use another "
				 "state directory", journal->name, role_name(role), path);
		rdmamig_journal_free(journal);
	} else {
		journal->info = *info;
		*out = journal;
		state_dir_prune(state_fd);
	}
	close(state_fd);
	return status;
}

/* -1 with errno */
static int journal_attach(struct rdmamig_journal *journal, int state_fd)
{
	char entry[DIR_NAME_BYTES], text[JOURNAL_INFO_TEXT_BYTES];
	dir_name(journal->name, journal->role, entry);
	journal->dir_fd = openat(state_fd, entry, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (journal->dir_fd < 0 || lock_open(journal, 0) || journal_file_read(journal->dir_fd, "session", text, sizeof(text)))
		return -1;
	errno = EBADMSG;
	return journal_info_decode(text, journal->role, &journal->info) ? 0 : -1;
}

enum rdmamig_status rdmamig_journal_open(const char *state_dir, enum rdmamig_role role, const char *session,
					 struct rdmamig_journal **out, char *why, size_t why_bytes)
{
	const char *path = state_dir ? state_dir : RDMAMIG_STATE_DIR;
	uint8_t id[RDMAMIG_SESSION_ID_BYTES];
	if (!name_decode(session, id))
		return why_say(why, why_bytes, RDMAMIG_E_USAGE, "\"%s\" is no session: 32 digits of 0-9a-f are", session);

	int state_fd;
	enum rdmamig_status status = state_dir_open(path, false, &state_fd, why, why_bytes);
	if (status)
		return status;

	struct rdmamig_journal *journal = journal_new(role, id, path);
	if (!journal) {
		status = why_say(why, why_bytes, RDMAMIG_E_NO_MEMORY, "no memory for a journal");
	} else if (journal_attach(journal, state_fd)) {
		bool none = errno == ENOENT && journal->dir_fd < 0;
		status = why_say(why, why_bytes, none ? RDMAMIG_E_NO_FILE : errno == EACCES ? RDMAMIG_E_PERMISSION : RDMAMIG_E_IO,
				 none ? "session %s has no %s journal in %s" :
				 "the journal of session %s (%s) in %s is damaged or not ours: %m; see docs/failures.md",
				 session, role_name(role), path);
		rdmamig_journal_free(journal);
	} else {
		*out = journal;
	}
	close(state_fd);
	return status;
}

enum rdmamig_status rdmamig_journal_lock(struct rdmamig_journal *journal, uint64_t timeout_ms)
{
	uint64_t deadline = clock_after_ms(&clock_real, timeout_ms);
	while (flock(journal->lock_fd, LOCK_EX | LOCK_NB)) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return error_note(NULL, RDMAMIG_E_IO, errno, "lock of session %s", journal->name);
		if (clock_now_ns(&clock_real) >= deadline)
			return RDMAMIG_E_BUSY;
		struct wait wait = { .deadline_ns = clock_after_ms(&clock_real, LOCK_RETRY_MS) };
		wait_sleep(&wait, &clock_real);		/* flock(2) knows no time-out */
	}
	return RDMAMIG_OK;
}

/* The decision in one file: NONE if it does not exist. */
static enum rdmamig_status record_read(const struct rdmamig_journal *journal, const char *file, enum rdmamig_record *out)
{
	char text[RECORD_TEXT_BYTES], expected[RECORD_TEXT_BYTES];
	if (journal_file_read(journal->dir_fd, file, text, sizeof(text))) {
		if (errno != ENOENT)
			return error_note(NULL, RDMAMIG_E_IO, errno, "journal of session %s: %s", journal->name, file);
		*out = RDMAMIG_RECORD_NONE;
		return RDMAMIG_OK;
	}
	for (size_t i = 0; i < RECORD_ROWS; i++) {
		const struct record_row *row = &record_rows[i];
		snprintf(expected, sizeof(expected), "%s\n", row->name);
		if (row->role == journal->role && strcmp(row->file, file) == 0 && strcmp(text, expected) == 0) {
			*out = row->record;
			return RDMAMIG_OK;
		}
	}
	return error_note(NULL, RDMAMIG_E_IO, 0, "journal of session %s: %s holds no decision of ours", journal->name, file);
}

enum rdmamig_status rdmamig_journal_record(struct rdmamig_journal *journal, enum rdmamig_record *out)
{
	enum rdmamig_record record = RDMAMIG_RECORD_NONE;
	enum rdmamig_status status = RDMAMIG_OK;
	for (size_t i = RECORD_ROWS; i > 0 && !status && record == RDMAMIG_RECORD_NONE; i--)	/* the latest first */
		if (record_rows[i - 1].role == journal->role)
			status = record_read(journal, record_rows[i - 1].file, &record);
	if (!status)
		*out = record;
	return status;
}

enum rdmamig_status rdmamig_journal_decide(struct rdmamig_journal *journal, enum rdmamig_record wanted, enum rdmamig_record *stands)
{
	const struct record_row *row = record_find(wanted);
	if (!row || row->role != journal->role)
		return error_note(NULL, RDMAMIG_E_USAGE, 0, "a %s does not decide %s", role_name(journal->role), rdmamig_record_name(wanted));

	enum rdmamig_record before, after;
	enum rdmamig_status status = rdmamig_journal_record(journal, &before);
	if (status)
		return status;
	if (wanted == RDMAMIG_RECORD_OWNED && before == RDMAMIG_RECORD_NONE)
		return error_note(NULL, RDMAMIG_E_USAGE, 0, "session %s: OWNED without READY", journal->name);

	char text[RECORD_TEXT_BYTES];
	snprintf(text, sizeof(text), "%s\n", row->name);
	bool open = before == RDMAMIG_RECORD_NONE || (before == RDMAMIG_RECORD_READY && wanted != before);
	/* one that stands already may be another's whose directory is not on disk yet */
	if (open ? journal_file_once(journal->dir_fd, row->file, text) : fsync(journal->dir_fd))
		return error_note(NULL, RDMAMIG_E_IO, errno, "journal of session %s: %s cannot be written", journal->name, row->name);

	status = rdmamig_journal_record(journal, &after);
	if (status)
		return status;
	if (after == RDMAMIG_RECORD_NONE)
		return error_note(NULL, RDMAMIG_E_IO, 0, "journal of session %s: %s was written and is gone", journal->name, row->name);
	*stands = after;
	return RDMAMIG_OK;
}

enum rdmamig_status rdmamig_journal_close(struct rdmamig_journal *journal)
{
	if (journal_file_once(journal->dir_fd, "closed", "closed\n") == 0 && dir_is_closed(journal->dir_fd))
		return RDMAMIG_OK;
	return error_note(NULL, RDMAMIG_E_IO, errno, "journal of session %s cannot be closed", journal->name);
}

bool rdmamig_journal_is_closed(const struct rdmamig_journal *journal)
{
	return dir_is_closed(journal->dir_fd);
}

enum rdmamig_status rdmamig_journal_update(struct rdmamig_journal *journal, const struct rdmamig_journal_info *info)
{
	char text[JOURNAL_INFO_TEXT_BYTES];
	if (!journal_info_encode(info, journal->role, text))
		return error_note(NULL, RDMAMIG_E_USAGE, 0, "journal of session %s: a string too long or with control characters",
				  journal->name);
	if (journal_file_replace(journal->dir_fd, "session", text))
		return error_note(NULL, RDMAMIG_E_IO, errno, "journal of session %s", journal->name);
	journal->info = *info;
	return RDMAMIG_OK;
}

void rdmamig_journal_info(const struct rdmamig_journal *journal, struct rdmamig_journal_info *out)
{
	char text[JOURNAL_INFO_TEXT_BYTES];
	struct rdmamig_journal_info now;
	if (journal_file_read(journal->dir_fd, "session", text, sizeof(text)) || !journal_info_decode(text, journal->role, &now))
		now = journal->info;
	size_t size = out->size < sizeof(now) ? out->size : sizeof(now);
	now.size = size;
	memcpy(out, &now, size);
}

enum rdmamig_role rdmamig_journal_role(const struct rdmamig_journal *journal)
{
	return journal->role;
}

void rdmamig_journal_id(const struct rdmamig_journal *journal, uint8_t out[RDMAMIG_SESSION_ID_BYTES])
{
	memcpy(out, journal->id, sizeof(journal->id));
}

const char *rdmamig_journal_name(const struct rdmamig_journal *journal)
{
	return journal->name;
}

void rdmamig_journal_fds(const struct rdmamig_journal *journal, int out[2])
{
	out[0] = journal->dir_fd;
	out[1] = journal->lock_fd;
}

void rdmamig_journal_free(struct rdmamig_journal *journal)
{
	if (!journal)
		return;
	if (journal->lock_fd >= 0)
		close(journal->lock_fd);
	if (journal->dir_fd >= 0)
		close(journal->dir_fd);
	free(journal);
}

enum rdmamig_status rdmamig_journal_each(const char *state_dir, enum rdmamig_role role,
					 enum rdmamig_status (*visit)(void *opaque, const char *session), void *opaque,
					 char *why, size_t why_bytes)
{
	const char *path = state_dir ? state_dir : RDMAMIG_STATE_DIR;
	char name[NAME_BYTES];
	int state_fd;
	enum rdmamig_status status = state_dir_open(path, false, &state_fd, why, why_bytes);
	if (status && status != RDMAMIG_E_NO_FILE)
		return status;
	why[0] = '\0';
	if (status)
		return RDMAMIG_OK;	/* no session ever was */
	DIR *dir = fdopendir(state_fd);
	if (!dir) {
		close(state_fd);
		return why_say(why, why_bytes, RDMAMIG_E_NO_MEMORY, "no memory to read state directory %s", path);
	}

	for (struct dirent *e = readdir(dir); e && !status; e = readdir(dir)) {
		if (!dir_name_is_journal(e->d_name, role, name))
			continue;
		int fd = openat(state_fd, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		bool closed = fd >= 0 && dir_is_closed(fd);
		if (fd >= 0)
			close(fd);
		if (!closed)
			status = visit(opaque, name);
	}
	closedir(dir);
	return status;
}

void rdmamig_resolve_command(const char *state_dir, enum rdmamig_role role, const char *session, const char *peer,
			     char out[RDMAMIG_COMMAND_BYTES])
{
	bool usual = !state_dir || strcmp(state_dir, RDMAMIG_STATE_DIR) == 0;
	const char *other_end = role == RDMAMIG_SOURCE ? " --peer " : " --listen ";
	snprintf(out, RDMAMIG_COMMAND_BYTES, "rdmamig resolve %s%s%s%s%s", session, peer[0] ? other_end : "", peer,
		 usual ? "" : " --state-dir ", usual ? "" : state_dir);
}

void rdmamig_journal_command(const struct rdmamig_journal *journal, char out[RDMAMIG_COMMAND_BYTES])
{
	rdmamig_resolve_command(journal->state_dir, journal->role, journal->name, journal->info.peer, out);
}
