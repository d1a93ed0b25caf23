/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * session.h - one migration, seen from one end.
 *
 * A session has threads of its own. The embedding program (the driver of the guest) polls rdmamig_session_fd() and
 * takes events; some ask for something, and the session waits, up to driver_timeout_ms, for the matching answer:
 *
 *   source                          answer                            dest                 answer
 *   NEED_PAUSE  pause for an arming  rdmamig_session_paused()         BLOCKS  add blocks    rdmamig_session_blocks_ready()
 *   THROTTLE    slow the guest       rdmamig_session_throttled()      STATE   device state  (none: take it)
 *   NEED_STOP   stop for good        rdmamig_session_stopped()        LOAD    load, READY   rdmamig_session_loaded()
 *   STATE       give device state    rdmamig_session_state_sent()     RUN     OWNED, run    rdmamig_session_running()
 *   COMMIT      journal COMMIT       rdmamig_session_committed()      DISCARD journal it    rdmamig_session_discarded()
 *   UNDO        journal ABORT, run   rdmamig_session_undone()
 *
 * LISTENING, ROUND, CONVERGED and RESUME only tell. DONE or FAILED is the last event of every session.
 *
 * Functions may be called from any thread unless they say otherwise, but not after or during rdmamig_session_free().
 * Strings and structs passed in are copied.
 */
#ifndef RDMAMIG_SESSION_H
#define RDMAMIG_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <rdmamig/stats.h>
#include <rdmamig/status.h>
#include <rdmamig/tracker.h>

#ifdef __cplusplus
extern "C" {
#endif

struct rdmamig_session;

enum { RDMAMIG_SESSION_ID_BYTES = 16, RDMAMIG_BLOCK_NAME_BYTES = 256, RDMAMIG_CHANNELS_MAX = 16 };

enum rdmamig_role { RDMAMIG_SOURCE = 1, RDMAMIG_DEST = 2 };

enum rdmamig_timeout_action {
	RDMAMIG_TIMEOUT_CANCEL = 0,	/* give up: E_NOT_CONVERGED, the source runs on */
	RDMAMIG_TIMEOUT_FORCE = 1,	/* stop the guest whatever the downtime will be */
};

/* 0 or NULL takes the default, unless said otherwise. */
struct rdmamig_options {
	size_t size;			/* sizeof(struct rdmamig_options) */
	const char *uri;		/* source: whom to connect to; dest: where to listen */
	uint8_t session_id[RDMAMIG_SESSION_ID_BYTES];	/* source: that of its journal, not all 0; dest: ignored */
	unsigned channels;		/* source: 1..16, default 1 */
	uint64_t downtime_ms;		/* source: default 300 */
	uint64_t timeout_ms;		/* source: for converging, default 3600 s */
	enum rdmamig_timeout_action timeout_action;
	uint64_t bandwidth;		/* source: bytes/s of pages, default no limit; lifted once the guest is stopped */
	bool zero_pages_off;		/* source: send zero pages like any other */
	bool auto_converge;		/* source: ask to THROTTLE when rounds do not shrink */
	bool pause_to_arm;		/* source: ask to NEED_PAUSE around each sync: the guest does DMA (design R12) */
	bool verify;			/* source: both ends hash all data while the guest is stopped */
	const char *codec;		/* source: "none" */
	uint64_t wait_ms;		/* dest: for the source to connect, default no limit */
	uint64_t driver_timeout_ms;	/* for one answer of the driver, default 30 s */
	uint64_t handover_timeout_ms;	/* after READY: for the other end's word, default 30 s */
};

/* Guest memory. Either @fd (with @offset; a tmpfs or hugetlbfs file, mapped shared by the session) or @addr. */
struct rdmamig_block {
	size_t size;			/* sizeof(struct rdmamig_block) */
	const char *name;		/* 1..255 bytes, the same at both ends */
	void *addr;			/* stays the caller's and mapped until the session is freed; NULL when by fd */
	int fd;				/* duplicated; -1 when by address */
	uint64_t offset;		/* in the file, page aligned */
	uint64_t length;		/* bytes, a multiple of 4096, or of the huge page where the backing has them */
};

enum rdmamig_event_type {
	RDMAMIG_EVENT_NONE = 0,
	RDMAMIG_EVENT_ROUND = 1,	/* a round ended; rdmamig_session_stats() has its figures */
	RDMAMIG_EVENT_CONVERGED = 2,	/* what is left fits the downtime */
	RDMAMIG_EVENT_NEED_PAUSE = 3,
	RDMAMIG_EVENT_RESUME = 4,	/* the pause of NEED_PAUSE is over: let the guest go on */
	RDMAMIG_EVENT_THROTTLE = 5,	/* throttle_pct: 0..99 percent of time the guest must not run */
	RDMAMIG_EVENT_NEED_STOP = 6,
	RDMAMIG_EVENT_STATE = 7,	/* source: give it; dest: state_data/state_bytes are some of it */
	RDMAMIG_EVENT_COMMIT = 8,	/* dest is READY: once the VMM has completed too, journal COMMIT */
	RDMAMIG_EVENT_UNDO = 9,		/* status: why. Journal ABORT and, if ABORT stands, let the guest run as found */
	RDMAMIG_EVENT_BLOCKS = 10,	/* rdmamig_session_peer_block() lists what the source has */
	RDMAMIG_EVENT_LOAD = 11,	/* all memory and state are here: load, keep paused, journal READY */
	RDMAMIG_EVENT_RUN = 12,		/* the source committed: journal OWNED, then run it if guest_runs */
	RDMAMIG_EVENT_DISCARD = 13,	/* status: why. Journal DISCARDED if READY was, then drop the guest */
	RDMAMIG_EVENT_DONE = 14,	/* last: dest owns the guest */
	RDMAMIG_EVENT_FAILED = 15,	/* last: status, and rdmamig_session_error() for the line */
	RDMAMIG_EVENT_LISTENING = 16,	/* dest: rdmamig_session_local_uri() says where */
};

struct rdmamig_event {
	size_t size;			/* in: sizeof(struct rdmamig_event) */
	enum rdmamig_event_type type;
	enum rdmamig_status status;
	unsigned throttle_pct;
	bool guest_runs;		/* RUN, LOAD: it ran at the source when the migration found it */
	const void *state_data;		/* the library's, until the next rdmamig_session_next_event() */
	size_t state_bytes;
};

/* What the source said of a block, for EVENT_BLOCKS. */
struct rdmamig_peer_block {
	size_t size;			/* in: sizeof(struct rdmamig_peer_block) */
	char name[RDMAMIG_BLOCK_NAME_BYTES];
	uint64_t length;		/* bytes, checked: > 0, a multiple of granule, at most 16 TiB */
	uint64_t granule;		/* page size of the backing: 4096, 2 MiB or 1 GiB */
};

/*
 * rdmamig_session_new - a session that does nothing yet.
 *
 * OK                *out is set; free it with rdmamig_session_free()
 * E_USAGE, E_URI    an option is out of range or the URI makes no sense; @why (if not NULL) says which
 * E_UNSUPPORTED     a codec or scheme this build lacks
 * E_NO_MEMORY       nothing changed
 */
enum rdmamig_status rdmamig_session_new(enum rdmamig_role role, const struct rdmamig_options *options,
					struct rdmamig_session **out, char *why, size_t why_bytes);

/* rdmamig_session_free - cancel if need be, join the threads, unmap and close. NULL is fine. Never touches the guest. */
void rdmamig_session_free(struct rdmamig_session *session);

/*
 * rdmamig_session_add_block - before start, or at dest in answer to EVENT_BLOCKS.
 *
 * E_USAGE           bad name, alignment, length, both or neither of fd and addr, or a second block of that name
 * E_NO_FILE         @fd is not a tmpfs or hugetlbfs file (the only ones whose holes and writes can be trusted), or is
 *                   shorter than offset + length
 * E_NO_SPACE        the hugetlb pool is too small
 * E_NO_MEMORY       mapping or bitmaps
 */
enum rdmamig_status rdmamig_session_add_block(struct rdmamig_session *session, const struct rdmamig_block *block);

/*
 * Who tells what the guest writes; the source, before start, at most one of these. Without any, nobody writes: one round.
 *
 * track_process   the userfaultfd is made inside @pid by ptrace, once, when the session starts
 * track_self      the blocks (by address) belong to this process
 * track_uffd      @uffd was made by process @pid and handed over (SCM_RIGHTS); it becomes the session's
 * track_manual    rdmamig_session_mark_dirty() and rdmamig_session_discarded() tell it all
 * track_ops       @ops are called on the session thread; @opaque must outlive the session
 */
enum rdmamig_status rdmamig_session_track_process(struct rdmamig_session *session, pid_t pid, enum rdmamig_uffd_mode mode);
enum rdmamig_status rdmamig_session_track_self(struct rdmamig_session *session, enum rdmamig_uffd_mode mode);
enum rdmamig_status rdmamig_session_track_uffd(struct rdmamig_session *session, int uffd, pid_t pid, enum rdmamig_uffd_mode mode);
enum rdmamig_status rdmamig_session_track_manual(struct rdmamig_session *session);
enum rdmamig_status rdmamig_session_track_ops(struct rdmamig_session *session, const struct rdmamig_tracker_ops *ops, void *opaque);

/* rdmamig_session_mark_dirty - these bytes were written (device DMA, a VMM's own log). With any tracker. */
enum rdmamig_status rdmamig_session_mark_dirty(struct rdmamig_session *session, const char *block, uint64_t offset, uint64_t bytes);

/*
 * rdmamig_session_mark_discarded - these bytes read as zero from now on (balloon). With any tracker; call it after the
 * discard. With track_process, and track_uffd of another process, holes punched into the files are found without it; with
 * the others a page that was discarded and then only read looks as if nothing had happened to it.
 */
enum rdmamig_status rdmamig_session_mark_discarded(struct rdmamig_session *session, const char *block, uint64_t offset, uint64_t bytes);

/* rdmamig_session_start - start the threads. Once. E_NO_MEMORY: nothing runs. */
enum rdmamig_status rdmamig_session_start(struct rdmamig_session *session);

/* rdmamig_session_fd - readable while an event waits. The session's; do not read it. */
int rdmamig_session_fd(const struct rdmamig_session *session);

/* rdmamig_session_next_event - RDMAMIG_AGAIN if there is none. One thread only. */
enum rdmamig_status rdmamig_session_next_event(struct rdmamig_session *session, struct rdmamig_event *event);

/*
 * The answers. @status OK, or what went wrong and, in @why (may be NULL), the line for the user; not OK ends the session.
 * An answer nobody asked for is E_USAGE and changes nothing; so is one that comes too late.
 */
enum rdmamig_status rdmamig_session_paused(struct rdmamig_session *session, enum rdmamig_status status, const char *why);
enum rdmamig_status rdmamig_session_throttled(struct rdmamig_session *session, enum rdmamig_status status, const char *why);
/* @guest_runs: it ran when the migration found it (false: its owner had paused it, and it arrives paused). */
enum rdmamig_status rdmamig_session_stopped(struct rdmamig_session *session, bool guest_runs, enum rdmamig_status status, const char *why);
/* Some device state; AGAIN when the queue is full (try after the next event or 10 ms). Copied. At most 64 KiB a call. */
enum rdmamig_status rdmamig_session_send_state(struct rdmamig_session *session, const void *data, size_t bytes);
enum rdmamig_status rdmamig_session_state_sent(struct rdmamig_session *session, enum rdmamig_status status, const char *why);
/* OK: COMMIT stands in the journal. Anything else: it does not, and never will. */
enum rdmamig_status rdmamig_session_committed(struct rdmamig_session *session, enum rdmamig_status status, const char *why);
/*
 * OK: ABORT stands and the guest is seen in the state it was found in. E_UNKNOWN_OWNER: COMMIT stands, and dest is told
 * so. Anything else ends the session with an 8xx status.
 */
enum rdmamig_status rdmamig_session_undone(struct rdmamig_session *session, enum rdmamig_status status, const char *why);
enum rdmamig_status rdmamig_session_blocks_ready(struct rdmamig_session *session, enum rdmamig_status status, const char *why);
/* OK: loaded, paused and READY stands in the journal. */
enum rdmamig_status rdmamig_session_loaded(struct rdmamig_session *session, enum rdmamig_status status, const char *why);
/* OK: OWNED stands and the guest runs. */
enum rdmamig_status rdmamig_session_running(struct rdmamig_session *session, enum rdmamig_status status, const char *why);
enum rdmamig_status rdmamig_session_discarded(struct rdmamig_session *session, enum rdmamig_status status, const char *why);

/* rdmamig_session_peer_block - the @index-th block the source named. E_USAGE past the last one. */
enum rdmamig_status rdmamig_session_peer_block(struct rdmamig_session *session, unsigned index, struct rdmamig_peer_block *out);

/*
 * rdmamig_session_cancel - end it, in any state; safe in a signal handler.
 *
 * Before COMMIT the source undoes and ends with E_CANCELLED; at dest before READY the memory is discarded. After that it
 * is too late and the session goes on to its end. Returns at once; DONE or FAILED follows.
 */
void rdmamig_session_cancel(struct rdmamig_session *session);

/*
 * rdmamig_session_fail - as cancel, for a reason of the driver's that came up unasked: @status and @why are how it ends.
 * Not for a signal handler.
 */
void rdmamig_session_fail(struct rdmamig_session *session, enum rdmamig_status status, const char *why);

/* rdmamig_session_stats - a snapshot. */
void rdmamig_session_stats(struct rdmamig_session *session, struct rdmamig_stats *out);

/* rdmamig_session_id - 16 bytes; at dest all 0 until EVENT_BLOCKS. */
void rdmamig_session_id(struct rdmamig_session *session, uint8_t out[RDMAMIG_SESSION_ID_BYTES]);

/* rdmamig_session_local_uri - dest: the URI to give to the source, with the port really bound; "" before LISTENING. */
void rdmamig_session_local_uri(struct rdmamig_session *session, char *out, size_t out_bytes);

/* rdmamig_session_beat - a number that grows as long as the session thread is alive and well (design R13). */
uint64_t rdmamig_session_beat(struct rdmamig_session *session);

/* rdmamig_session_error - the first error's line: what, where, what to do; "" if none. Always ends in NUL. */
void rdmamig_session_error(struct rdmamig_session *session, char *out, size_t out_bytes);

#ifdef __cplusplus
}
#endif
#endif
