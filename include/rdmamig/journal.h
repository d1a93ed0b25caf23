/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * journal.h - who owns the guest, on disk (design rule R5).
 *
 * One directory a session and role: STATE_DIR/SESSION.source or .dest. Each decision is a file written once: temp file,
 * fsync, link(2), fsync of the directory. Whoever ends a session writes the decision it wants and *reads back which one
 * stands* before it touches the guest. No record proves nothing.
 */
#ifndef RDMAMIG_JOURNAL_H
#define RDMAMIG_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <rdmamig/session.h>
#include <rdmamig/status.h>

#ifdef __cplusplus
extern "C" {
#endif

#define RDMAMIG_STATE_DIR "/run/rdmamig"

struct rdmamig_journal;

/* The numbers are on disk and on the wire: never renumber. */
enum rdmamig_record {
	RDMAMIG_RECORD_NONE = 0,
	RDMAMIG_RECORD_COMMIT = 1,	/* source: dest owns the guest from here on */
	RDMAMIG_RECORD_ABORT = 2,	/* source: it never will */
	RDMAMIG_RECORD_READY = 3,	/* dest: complete, paused, holding */
	RDMAMIG_RECORD_OWNED = 4,	/* dest: ours; running or about to */
	RDMAMIG_RECORD_DISCARDED = 5,	/* dest: dropped; the source may go on */
};

/* rdmamig_record_name - "COMMIT", ... ; "none" for NONE. Any thread. */
const char *rdmamig_record_name(enum rdmamig_record record);

/* What `resolve` must know long after the session's process is gone. */
struct rdmamig_journal_info {
	size_t size;			/* sizeof(struct rdmamig_journal_info) */
	pid_t pid;			/* of the guest, 0 if there is none */
	uint64_t pid_start;		/* its start time in clock ticks (/proc/PID/stat field 22): a pid may be reused */
	bool guest_runs;		/* source: it ran when found; dest: to be run once OWNED */
	char driver[16];		/* "process", "none", "qemu" */
	char peer[256];			/* the source: URI it connects to; dest: the one it listens on */
	char ram[1024];			/* NAME=PATH, comma separated */
};

/*
 * rdmamig_journal_create - begin a session's journal and take its lock.
 *
 * The lock is an flock(2) on the journal: it is shared with children forked later and free once all have exited.
 * @state_dir NULL is RDMAMIG_STATE_DIR; it is made 0700 if missing. @id: all 0 makes a random one.
 * E_BUSY        that session already has a journal of this role
 * E_PRECHECK    @state_dir is no directory, or its parent is missing
 * E_PERMISSION, E_NO_SPACE, E_IO   the directory cannot be made or written; @why says which and what to do
 */
enum rdmamig_status rdmamig_journal_create(const char *state_dir, enum rdmamig_role role,
					   const uint8_t id[RDMAMIG_SESSION_ID_BYTES],
					   const struct rdmamig_journal_info *info, struct rdmamig_journal **out,
					   char *why, size_t why_bytes);

/* rdmamig_journal_open - an existing one, not locked. @session is 32 hex digits. E_NO_FILE: there is none. */
enum rdmamig_status rdmamig_journal_open(const char *state_dir, enum rdmamig_role role, const char *session,
					 struct rdmamig_journal **out, char *why, size_t why_bytes);

/* rdmamig_journal_lock - wait until whoever holds it has gone. E_BUSY after @timeout_ms. */
enum rdmamig_status rdmamig_journal_lock(struct rdmamig_journal *journal, uint64_t timeout_ms);

/*
 * rdmamig_journal_decide - write @wanted unless its decision is already made; *stands is what is recorded then.
 *
 * COMMIT and ABORT exclude each other at the source, OWNED and DISCARDED at dest; READY stands alone, before them.
 * OK         *stands is on disk, and may differ from @wanted
 * E_IO       nobody knows: treat it as undecided and do not touch the guest
 */
enum rdmamig_status rdmamig_journal_decide(struct rdmamig_journal *journal, enum rdmamig_record wanted, enum rdmamig_record *stands);

/* rdmamig_journal_record - the latest decision; NONE if there is none. E_IO: unreadable or not ours. */
enum rdmamig_status rdmamig_journal_record(struct rdmamig_journal *journal, enum rdmamig_record *out);

/* rdmamig_journal_close - nobody acts on this session again: undone, confirmed or resolved. Idempotent. */
enum rdmamig_status rdmamig_journal_close(struct rdmamig_journal *journal);
bool rdmamig_journal_is_closed(const struct rdmamig_journal *journal);

/* rdmamig_journal_update - replace the info (atomically), e.g. once the found run state is known. info: as on disk now. */
enum rdmamig_status rdmamig_journal_update(struct rdmamig_journal *journal, const struct rdmamig_journal_info *info);
void rdmamig_journal_info(const struct rdmamig_journal *journal, struct rdmamig_journal_info *out);

enum rdmamig_role rdmamig_journal_role(const struct rdmamig_journal *journal);
void rdmamig_journal_id(const struct rdmamig_journal *journal, uint8_t out[RDMAMIG_SESSION_ID_BYTES]);
/* rdmamig_journal_name - the session as 32 hex digits; the journal's, until it is freed. */
const char *rdmamig_journal_name(const struct rdmamig_journal *journal);

/* rdmamig_journal_fds - its directory and its lock: a forked child that is to share the lock keeps these two open. */
void rdmamig_journal_fds(const struct rdmamig_journal *journal, int out[2]);

/*
 * rdmamig_resolve_command - the command line with which an operator ends a session: "rdmamig resolve SESSION --peer URI".
 * @state_dir NULL or RDMAMIG_STATE_DIR is left out; so is an empty @peer. rdmamig_journal_command(): of this journal.
 */
enum { RDMAMIG_COMMAND_BYTES = 512 };
void rdmamig_resolve_command(const char *state_dir, enum rdmamig_role role, const char *session, const char *peer,
			     char out[RDMAMIG_COMMAND_BYTES]);
void rdmamig_journal_command(const struct rdmamig_journal *journal, char out[RDMAMIG_COMMAND_BYTES]);

/* rdmamig_journal_free - close the file descriptors, so give back our share of the lock. NULL is fine. */
void rdmamig_journal_free(struct rdmamig_journal *journal);

/*
 * rdmamig_journal_each - call @visit for every journal of @role that is not closed; it may open and lock it. Stops on non-OK.
 * @why is filled when the state directory cannot be read, "" else.
 */
enum rdmamig_status rdmamig_journal_each(const char *state_dir, enum rdmamig_role role,
					 enum rdmamig_status (*visit)(void *opaque, const char *session), void *opaque,
					 char *why, size_t why_bytes);

/*
 * rdmamig_record_ask - tell the other end of a held session our record and learn its own, over @uri.
 *
 * For `resolve --peer`. @ours is NONE when we have none. *theirs is what the peer has on disk.
 * E_CONNECT, E_PEER_SILENT, E_PROTOCOL as for a session; E_PEER if it does not know the session.
 */
enum rdmamig_status rdmamig_record_ask(const char *uri, const uint8_t id[RDMAMIG_SESSION_ID_BYTES], enum rdmamig_role role,
				       enum rdmamig_record ours, uint64_t timeout_ms, enum rdmamig_record *theirs,
				       char *why, size_t why_bytes);

/* rdmamig_record_serve - the other half: answer one rdmamig_record_ask() on @uri. E_LISTEN, E_PEER_SILENT after @timeout_ms. */
enum rdmamig_status rdmamig_record_serve(const char *uri, const uint8_t id[RDMAMIG_SESSION_ID_BYTES], enum rdmamig_role role,
					 enum rdmamig_record ours, uint64_t timeout_ms, enum rdmamig_record *theirs,
					 char *why, size_t why_bytes);

#ifdef __cplusplus
}
#endif
#endif
