/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * driver.h - what runs the guest: stops it, runs it, slows it, carries its device state, and keeps the journal.
 *
 * One driver serves one end of one session, from one thread. Every call has a deadline of its own and returns within
 * it; a failure leaves one line in @why. Source drivers stop a guest only through a guardian process (guardian.h), so
 * that a stop never outlives us (design rule R13).
 */
#ifndef VMM_DRIVER_H
#define VMM_DRIVER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include <rdmamig/journal.h>
#include <rdmamig/session.h>
#include <rdmamig/status.h>

enum { DRIVER_WHY_BYTES = 1024 };

struct driver;

struct driver_ops {
	const char *name;	/* as in the journal: "process", "none" */

	/* source */
	enum rdmamig_status (*pause)(struct driver *driver, char *why);		/* stop for an arming */
	enum rdmamig_status (*resume)(struct driver *driver, char *why);	/* ... and go on */
	enum rdmamig_status (*stop)(struct driver *driver, bool *guest_runs, char *why);	/* for good; what it was found as */
	enum rdmamig_status (*throttle)(struct driver *driver, unsigned pct, char *why);
	enum rdmamig_status (*give_state)(struct driver *driver, struct rdmamig_session *session, char *why);
	enum rdmamig_status (*commit)(struct driver *driver, char *why);	/* VMM completed: journal COMMIT */
	enum rdmamig_status (*undo)(struct driver *driver, char *why);		/* journal ABORT; guest as found, seen so */
	void (*beat)(struct driver *driver);					/* the session thread is alive */
	int (*fd)(struct driver *driver);		/* readable when the guardian has died; -1 if there is none */
	void (*done)(struct driver *driver);		/* dest owns the guest: close the journal, quit the source VMM */

	/* dest */
	enum rdmamig_status (*load)(struct driver *driver, bool guest_runs, char *why);	/* loaded, paused; journal READY */
	enum rdmamig_status (*take_state)(struct driver *driver, const void *data, size_t bytes, char *why);
	enum rdmamig_status (*run)(struct driver *driver, bool guest_runs, char *why);	/* journal OWNED; run it; seen running */
	enum rdmamig_status (*discard)(struct driver *driver, char *why);	/* journal DISCARDED if READY was */

	void (*free)(struct driver *driver);		/* never touches the guest */
};

struct driver {
	const struct driver_ops *ops;
	struct rdmamig_journal *journal;	/* the driver's; source: from open, dest: from driver_begin() */
};

/*
 * driver_open_process - a plain process. Forks the guardian at the source: call it before any thread exists.
 *
 * @pid 0: nobody runs the memory ("none"): stops and runs do nothing, the journal is kept all the same.
 * @journal becomes the driver's on success.
 * E_NO_PROCESS no such process; E_PERMISSION may not be signalled; E_NO_MEMORY.
 */
enum rdmamig_status driver_open_source(pid_t pid, struct rdmamig_journal *journal, struct driver **out, char *why);
enum rdmamig_status driver_open_dest(pid_t pid, struct driver **out, char *why);

/* driver_begin - dest: the session is known (EVENT_BLOCKS), here is its journal, which becomes the driver's. */
void driver_begin(struct driver *driver, struct rdmamig_journal *journal);

/*
 * driver_recover - what a restarted rdmamig and `resolve` do with a source journal left open by a session that died:
 * take its lock, write ABORT and, if ABORT stands, undo and close it (R5, R13). One line to @say for each thing done.
 *
 * OK              nothing was open, or all of it is undone and closed
 * E_UNKNOWN_OWNER COMMIT stands: only `resolve` with dest's DISCARDED may run that guest
 * E_NOT_RUNNING   the guest could not be brought back to the state it was found in
 * E_BUSY          a session that holds its lock is alive (not an error for a new session on another guest)
 *
 * @session NULL: all that are open; the worst status of all is returned. @lock_ms: how long to wait for a lock.
 */
enum rdmamig_status driver_recover(const char *state_dir, const char *session, uint64_t lock_ms,
				   void (*say)(void *opaque, const char *line), void *opaque, char *why);

/*
 * driver_drive - the loop between a started session and its driver: takes events, calls the driver, answers, until the
 * last event. Returns the session's final status.
 *
 * @observe (may be NULL) sees each event after it was answered, and NULL about every 100 ms for progress.
 * @blocks_ready is called for EVENT_BLOCKS (dest): create files, add blocks, open the journal, driver_begin().
 */
struct driver_callbacks {
	void (*observe)(void *opaque, const struct rdmamig_event *event);
	enum rdmamig_status (*blocks)(void *opaque, char *why);
	void *opaque;
};
enum rdmamig_status driver_drive(struct driver *driver, struct rdmamig_session *session, const struct driver_callbacks *callbacks);

#endif
