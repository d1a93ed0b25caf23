/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * guardian.h - the small process through which a source guest is stopped, so that a stop never outlives us (R13).
 *
 * It lives as long as our end of its socket is open, and undoes what it did when that closes or when it hears nothing
 * for too long while the guest is stopped or slowed: it writes ABORT and, only if ABORT stands, lets the guest run. It
 * is never told of COMMIT: it reads the journal, whose lock it shares. While it lives, only it signals the guest.
 */
#ifndef VMM_GUARDIAN_H
#define VMM_GUARDIAN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <rdmamig/journal.h>
#include <rdmamig/status.h>

#include "vmm/process.h"

struct guardian_params {
	uint64_t silence_ms;	/* without a request or beat while the guest is stopped or slowed: rdmamig is stuck */
	uint64_t signal_ms;	/* for the guest's threads to stop, or to be seen running */
	uint64_t undo_ms;	/* how long it tries to bring the guest back before it gives up, says so and goes */
	uint64_t reply_ms;	/* for one reply; > 2 * signal_ms */
};

extern const struct guardian_params guardian_defaults;

enum guardian_request {
	GUARDIAN_STOP = 1,	/* stop the guest; the reply says whether it ran; refused once the journal has a decision */
	GUARDIAN_CONT,		/* let it run again if a stop was ours; after ABORT throttling ends too; refused after COMMIT */
	GUARDIAN_THROTTLE,	/* stop it for @pct percent of the time until told otherwise; 0 ends that */
	GUARDIAN_BEAT,		/* we are alive; no reply */
	GUARDIAN_FINISH,	/* we end by ourselves and tell the user; no reply, it exits */
};

struct guardian {
	pid_t pid;		/* 0: none, or known to be dead and reaped */
	int pidfd;		/* readable once it has died */
	int fd;
	uint64_t reply_ms;
};

/*
 * guardian_start - fork it. Before any thread exists: the child goes on in this program's memory.
 *
 * @process, @journal and @params stay the caller's. E_NO_MEMORY: no process, descriptor or memory.
 */
enum rdmamig_status guardian_start(struct guardian *guardian, const struct process *process, struct rdmamig_journal *journal,
				   const struct guardian_params *params, char *why);

/*
 * guardian_ask - STOP, CONT or THROTTLE, and the guardian's reply. @guest_ran (may be NULL): the guest was not stopped by its owner.
 *
 * E_DRIVER_SILENT  no reply in time, or it has died: it is dead and reaped now, and the guest may be acted on directly
 * E_DRIVER         refused or failed
 * E_NOT_RUNNING    CONT: the guest has ended or was not seen running
 */
enum rdmamig_status guardian_ask(struct guardian *guardian, enum guardian_request request, unsigned pct, bool *guest_ran, char *why);

/* guardian_beat - never waits. */
void guardian_beat(const struct guardian *guardian);

/* guardian_kill - and reap. What it had stopped stays stopped. */
void guardian_kill(struct guardian *guardian);

/*
 * guardian_finish - let it end and wait for that; returns false if it did not (it then goes on alone, or was stopped).
 * Without a decision in the journal it writes ABORT and brings the guest back first.
 */
bool guardian_finish(struct guardian *guardian);

/* guardian_leave - close our end and go: it does by itself what guardian_finish() says, now or once it is continued. */
void guardian_leave(struct guardian *guardian);

#endif
