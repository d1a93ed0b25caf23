/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * driver.c - opens drivers, and undoes what sessions that died have left open.
 * Neighbours: driver_process.c for plain processes. The thread that drives the session.
 */
#include "vmm/driver.h"

#include <stdio.h>
#include <string.h>

#include "vmm/driver_process.h"

enum rdmamig_status driver_open_source(pid_t pid, struct rdmamig_journal *journal, struct driver **out, char *why)
{
	return driver_process_open_source(pid, journal, &guardian_defaults, out, why);
}

enum rdmamig_status driver_open_dest(pid_t pid, struct driver **out, char *why)
{
	return driver_process_open_dest(pid, out, why);
}

void driver_begin(struct driver *driver, struct rdmamig_journal *journal)
{
	driver_process_begin(driver, journal);
}

struct recovery {
	const char *state_dir;
	uint64_t lock_ms;
	void (*say)(void *opaque, const char *line);
	void *opaque;
	char *why;
	enum rdmamig_status worst;
};

/* By the kind of driver in the journal; *ended: the guest is no more, so nothing is left to be done for it. */
static enum rdmamig_status bring_back(const struct rdmamig_journal_info *info, bool *ended, char *why)
{
	*ended = false;
	if (info->pid == 0 || info->pid_start == 0)
		return RDMAMIG_OK;	/* nobody ran it, or it died before it had a driver: no stop of ours */
	if (strcmp(info->driver, "process") == 0)
		return driver_process_bring_back(info, ended, why);
	snprintf(why, DRIVER_WHY_BYTES, "this rdmamig has no driver \"%s\"", info->driver);
	return RDMAMIG_E_NOT_RUNNING;
}

static enum rdmamig_status recover_undo(const struct recovery *recovery, struct rdmamig_journal *journal)
{
	struct rdmamig_journal_info info = { .size = sizeof(info) };
	char cause[DRIVER_WHY_BYTES] = "", line[2 * DRIVER_WHY_BYTES];
	const char *session = rdmamig_journal_name(journal);
	bool ended;
	rdmamig_journal_info(journal, &info);
	enum rdmamig_status status = bring_back(&info, &ended, cause);
	if (!status || ended)
		rdmamig_journal_close(journal);	/* a failure is logged; next time there is only this left to do */

	if (status) {
		snprintf(line, sizeof(line), "session %s: undone, the source owns the guest, but it does not run: %s", session, cause);
		snprintf(recovery->why, DRIVER_WHY_BYTES, "%.*s", DRIVER_WHY_BYTES - 1, line);
	} else if (info.pid) {
		snprintf(line, sizeof(line), "session %s: undone, the source owns the guest, process %d, which %s", session, info.pid,
			 info.guest_runs ? "runs" : "is paused, as it was found");
	} else {
		snprintf(line, sizeof(line), "session %s: undone, the source owns the memory", session);
	}
	recovery->say(recovery->opaque, line);
	return status;
}

/* The lock first, then the look: whoever held it may have finished the undo. */
static enum rdmamig_status recover_locked(const struct recovery *recovery, struct rdmamig_journal *journal)
{
	const char *session = rdmamig_journal_name(journal);
	enum rdmamig_record stands;
	enum rdmamig_status status = rdmamig_journal_lock(journal, recovery->lock_ms);
	if (status == RDMAMIG_E_BUSY) {
		snprintf(recovery->why, DRIVER_WHY_BYTES, "session %s is alive: its rdmamig or guardian holds its journal", session);
		return status;
	}
	if (!status && rdmamig_journal_is_closed(journal))
		return RDMAMIG_OK;
	if (!status)
		status = rdmamig_journal_decide(journal, RDMAMIG_RECORD_ABORT, &stands);
	if (status) {
		snprintf(recovery->why, DRIVER_WHY_BYTES, "the journal of session %s cannot be locked or written: its guest is left as it is",
			 session);
		return status;
	}
	if (stands == RDMAMIG_RECORD_ABORT)
		return recover_undo(recovery, journal);
	char command[RDMAMIG_COMMAND_BYTES];
	rdmamig_journal_command(journal, command);
	snprintf(recovery->why, DRIVER_WHY_BYTES, "session %s: COMMIT stands, dest owns the guest or is to; to see what it says: %s",
		 session, command);
	return RDMAMIG_E_UNKNOWN_OWNER;
}

static enum rdmamig_status recover_one(const struct recovery *recovery, const char *session)
{
	struct rdmamig_journal *journal;
	enum rdmamig_status status = rdmamig_journal_open(recovery->state_dir, RDMAMIG_SOURCE, session, &journal, recovery->why,
							  DRIVER_WHY_BYTES);
	if (status)
		return status;
	status = rdmamig_journal_is_closed(journal) ? RDMAMIG_OK : recover_locked(recovery, journal);
	rdmamig_journal_free(journal);
	return status;
}

/* One that cannot be recovered must not keep the others from it. */
static enum rdmamig_status recover_visit(void *opaque, const char *session)
{
	struct recovery *recovery = opaque;
	char why[DRIVER_WHY_BYTES] = "";
	struct recovery one = *recovery;
	one.why = why;
	enum rdmamig_status status = recover_one(&one, session);
	if (status > recovery->worst || (recovery->worst == RDMAMIG_E_BUSY && status)) {
		recovery->worst = status;
		memcpy(recovery->why, why, sizeof(why));
	}
	return RDMAMIG_OK;
}

enum rdmamig_status driver_recover(const char *state_dir, const char *session, uint64_t lock_ms,
				   void (*say)(void *opaque, const char *line), void *opaque, char *why)
{
	struct recovery recovery = { .state_dir = state_dir, .lock_ms = lock_ms, .say = say, .opaque = opaque, .why = why };
	if (session)
		return recover_one(&recovery, session);
	enum rdmamig_status status = rdmamig_journal_each(state_dir, RDMAMIG_SOURCE, recover_visit, &recovery, why,
							  DRIVER_WHY_BYTES);
	return status ? status : recovery.worst;
}
