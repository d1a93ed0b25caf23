/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * driver_process.c - a guest that is a plain process: no device state, stopped and continued by signals.
 * Neighbours: guardian.c stops it at the source, process.c continues it at dest. The thread that drives the session.
 */
#include "vmm/driver_process.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/process.h"

enum { SIGNAL_MS = 3000 };

struct process_driver {
	struct driver driver;		/* first: ops get this */
	struct process process;		/* pid 0: nobody runs the memory */
	struct guardian guardian;	/* source only */
	const struct guardian_params *params;
	bool touched;			/* source: the guest may be stopped or slowed by us */
	bool over;			/* source: undone, or COMMIT stands: the guardian has nothing left to do */
};

static struct process_driver *process_of(struct driver *driver)
{
	return (struct process_driver *)driver;
}

static bool has_guest(const struct process_driver *self)
{
	return self->process.pid != 0;
}

/* For the line that ends in "mend that, then: ...". */
static const char *command_of(const struct process_driver *self, char out[RDMAMIG_COMMAND_BYTES])
{
	rdmamig_journal_command(self->driver.journal, out);
	return out;
}

static const char *session_of(const struct process_driver *self)
{
	return rdmamig_journal_name(self->driver.journal);
}

__attribute__((format(printf, 3, 4)))
static enum rdmamig_status fail(enum rdmamig_status status, char *why, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(why, DRIVER_WHY_BYTES, format, args);
	va_end(args);
	return status;
}

/* source */

static enum rdmamig_status source_stop(struct driver *driver, bool *guest_runs, char *why)
{
	struct process_driver *self = process_of(driver);
	if (!has_guest(self)) {
		*guest_runs = true;	/* nobody had it paused */
		return RDMAMIG_OK;
	}
	self->touched = true;
	return guardian_ask(&self->guardian, GUARDIAN_STOP, 0, guest_runs, why);
}

static enum rdmamig_status source_pause(struct driver *driver, char *why)
{
	bool guest_runs;
	return source_stop(driver, &guest_runs, why);
}

static enum rdmamig_status source_resume(struct driver *driver, char *why)
{
	struct process_driver *self = process_of(driver);
	return has_guest(self) ? guardian_ask(&self->guardian, GUARDIAN_CONT, 0, NULL, why) : RDMAMIG_OK;
}

static enum rdmamig_status source_throttle(struct driver *driver, unsigned pct, char *why)
{
	struct process_driver *self = process_of(driver);
	if (pct > 99)
		return fail(RDMAMIG_E_USAGE, why, "a guest cannot be slowed by %u percent: 0 to 99", pct);
	if (!has_guest(self))
		return RDMAMIG_OK;
	self->touched = true;
	return guardian_ask(&self->guardian, GUARDIAN_THROTTLE, pct, NULL, why);
}

static enum rdmamig_status source_give_state(struct driver *driver, struct rdmamig_session *session, char *why)
{
	(void)driver, (void)session, (void)why;		/* all a plain process hands over is in its memory */
	return RDMAMIG_OK;
}

static enum rdmamig_status source_commit(struct driver *driver, char *why)
{
	struct process_driver *self = process_of(driver);
	enum rdmamig_record stands;
	if (has_guest(self) && !self->guardian.pid)
		return fail(RDMAMIG_E_DRIVER, why, "the guardian process has died before the handover");
	bool may = !has_guest(self) || process_look(&self->process) == PROCESS_STOPPED;
	enum rdmamig_status status = may ? rdmamig_journal_decide(driver->journal, RDMAMIG_RECORD_COMMIT, &stands)
					 : rdmamig_journal_record(driver->journal, &stands);
	if (status)
		return fail(RDMAMIG_E_IO, why, "COMMIT cannot be written to the journal of session %s", session_of(self));
	if (stands == RDMAMIG_RECORD_ABORT)
		return fail(RDMAMIG_E_DRIVER, why, "the guardian of session %s has undone it, as rdmamig gave no sign of life", session_of(self));
	if (!may)
		return fail(RDMAMIG_E_DRIVER, why, "somebody continued or killed process %d during the handover: what dest has of it is old",
			    self->process.pid);
	self->over = true;
	return RDMAMIG_OK;
}

static enum rdmamig_status decide_abort(struct process_driver *self, char *why)
{
	enum rdmamig_record stands;
	char command[RDMAMIG_COMMAND_BYTES];
	if (rdmamig_journal_decide(self->driver.journal, RDMAMIG_RECORD_ABORT, &stands))
		return fail(RDMAMIG_E_NOT_RUNNING, why, "ABORT cannot be written to the journal, so the guest is left as it is; "
			    "mend that, then: %s", command_of(self, command));
	if (stands != RDMAMIG_RECORD_ABORT)
		return fail(RDMAMIG_E_UNKNOWN_OWNER, why, "%s stands in the journal; to see what dest says: %s",
			    rdmamig_record_name(stands), command_of(self, command));
	return RDMAMIG_OK;
}

/* Not while a guardian lives: only one of us ever signals the guest. */
static enum rdmamig_status undo_directly(struct process_driver *self, char *why)
{
	struct rdmamig_journal_info info = { .size = sizeof(info) };
	rdmamig_journal_info(self->driver.journal, &info);
	if (!self->touched || !info.guest_runs || process_look(&self->process) == PROCESS_RUNS)
		return RDMAMIG_OK;
	return process_run(&self->process, self->params->signal_ms, why);
}

static enum rdmamig_status source_bring_back(struct process_driver *self, char *why)
{
	if (!has_guest(self))
		return RDMAMIG_OK;
	enum rdmamig_status status = guardian_ask(&self->guardian, GUARDIAN_CONT, 0, NULL, why);
	if (status && process_look(&self->process) != PROCESS_DEAD) {
		guardian_kill(&self->guardian);
		if (!rdmamig_journal_is_closed(self->driver.journal))	/* it may have finished the undo before it died */
			status = undo_directly(self, why);
		else
			status = RDMAMIG_OK;
	}
	if (process_look(&self->process) == PROCESS_DEAD)
		return fail(RDMAMIG_E_NOT_RUNNING, why, "the source owns the guest, but process %d has ended", self->process.pid);
	return status ? RDMAMIG_E_NOT_RUNNING : RDMAMIG_OK;
}

static enum rdmamig_status source_undo(struct driver *driver, char *why)
{
	struct process_driver *self = process_of(driver);
	enum rdmamig_status status = decide_abort(self, why);
	if (status)
		return status;

	status = source_bring_back(self, why);
	if (status && process_look(&self->process) != PROCESS_DEAD)
		return status;		/* left open: resolve can try again */
	self->over = true;
	rdmamig_journal_close(driver->journal);	/* a failure is logged; the next session finds it open, and nothing to do */
	return status;
}

static void source_beat(struct driver *driver)
{
	guardian_beat(&process_of(driver)->guardian);
}

static int source_fd(struct driver *driver)
{
	return process_of(driver)->guardian.pidfd;
}

static void source_done(struct driver *driver)
{
	rdmamig_journal_close(driver->journal);	/* before FINISH: the guardian finds nothing left to say */
}

static void process_free(struct driver *driver)
{
	struct process_driver *self = process_of(driver);
	if (!guardian_finish(&self->guardian)) {
		if (self->over)
			guardian_kill(&self->guardian);
		else
			guardian_leave(&self->guardian);	/* it alone brings the guest back */
	}
	process_close(&self->process);
	rdmamig_journal_free(driver->journal);
	free(self);
}

static const struct driver_ops source_ops = {
	.name = "process", .pause = source_pause, .resume = source_resume, .stop = source_stop, .throttle = source_throttle,
	.give_state = source_give_state, .commit = source_commit, .undo = source_undo, .beat = source_beat, .fd = source_fd,
	.done = source_done, .free = process_free,
};

/* dest */

static enum rdmamig_status dest_decide(struct process_driver *self, enum rdmamig_record wanted, enum rdmamig_status unknown, char *why)
{
	enum rdmamig_record stands;
	char command[RDMAMIG_COMMAND_BYTES];
	if (rdmamig_journal_decide(self->driver.journal, wanted, &stands))
		return fail(unknown, why, "%s cannot be written to the journal: mend that, then: %s", rdmamig_record_name(wanted),
			    command_of(self, command));
	if (stands != wanted)
		return fail(RDMAMIG_E_DRIVER, why, "session %s cannot become %s: %s stands in the journal", session_of(self),
			    rdmamig_record_name(wanted), rdmamig_record_name(stands));
	return RDMAMIG_OK;
}

/* The journal may be older than this process: then it says which process was loaded. */
static enum rdmamig_status dest_check_guest(struct process_driver *self, char *why)
{
	struct rdmamig_journal_info info = { .size = sizeof(info) };
	rdmamig_journal_info(self->driver.journal, &info);
	if (info.pid != self->process.pid || info.pid_start != self->process.start)
		return fail(RDMAMIG_E_NO_PROCESS, why, "session %s is for process %d, which is not process %d of now",
			    session_of(self), info.pid, self->process.pid);
	return RDMAMIG_OK;
}

static enum rdmamig_status dest_note_runs(struct process_driver *self, bool guest_runs, char *why)
{
	struct rdmamig_journal_info info = { .size = sizeof(info) };
	rdmamig_journal_info(self->driver.journal, &info);
	info.guest_runs = guest_runs;
	if (rdmamig_journal_update(self->driver.journal, &info))
		return fail(RDMAMIG_E_IO, why, "the journal of session %s cannot be written", session_of(self));
	return RDMAMIG_OK;
}

static enum rdmamig_status dest_load(struct driver *driver, bool guest_runs, char *why)
{
	struct process_driver *self = process_of(driver);
	enum rdmamig_status status = dest_check_guest(self, why);
	if (!status && has_guest(self) && process_look(&self->process) != PROCESS_STOPPED)
		status = process_stop(&self->process, SIGNAL_MS, why);
	if (!status)
		status = dest_note_runs(self, guest_runs, why);
	return status ? status : dest_decide(self, RDMAMIG_RECORD_READY, RDMAMIG_E_IO, why);
}

static enum rdmamig_status dest_take_state(struct driver *driver, const void *data, size_t bytes, char *why)
{
	(void)driver, (void)data;
	return bytes ? fail(RDMAMIG_E_UNSUPPORTED, why, "the source sent device state, which a plain process has no use for") : RDMAMIG_OK;
}

static enum rdmamig_status dest_run(struct driver *driver, bool guest_runs, char *why)
{
	struct process_driver *self = process_of(driver);
	if (dest_check_guest(self, why))
		return RDMAMIG_E_HELD;	/* the source has given it up: READY stays, for resolve with the right process */
	enum rdmamig_status status = dest_decide(self, RDMAMIG_RECORD_OWNED, RDMAMIG_E_HELD, why);
	if (status)
		return status;
	if (has_guest(self) && guest_runs && process_run(&self->process, SIGNAL_MS, why))
		return RDMAMIG_E_NOT_RUNNING;	/* OWNED stays: resolve tries again */
	rdmamig_journal_close(driver->journal);	/* a failure is logged; resolve then finds OWNED and a guest that runs */
	return RDMAMIG_OK;
}

static enum rdmamig_status dest_discard(struct driver *driver, char *why)
{
	struct process_driver *self = process_of(driver);
	enum rdmamig_record record;
	if (!driver->journal)
		return RDMAMIG_OK;	/* it ended before there was one */
	if (rdmamig_journal_record(driver->journal, &record))
		return fail(RDMAMIG_E_HELD, why, "the journal of session %s cannot be read: the guest is kept, stopped", session_of(self));
	enum rdmamig_status status = record == RDMAMIG_RECORD_NONE ? RDMAMIG_OK :
				     dest_decide(self, RDMAMIG_RECORD_DISCARDED, RDMAMIG_E_HELD, why);
	if (!status)
		rdmamig_journal_close(driver->journal);
	return status;
}

static int no_fd(struct driver *driver)
{
	(void)driver;
	return -1;
}

static void no_beat(struct driver *driver)
{
	(void)driver;
}

static void dest_done(struct driver *driver)
{
	(void)driver;	/* closed when it ran */
}

static const struct driver_ops dest_ops = {
	.name = "process", .load = dest_load, .take_state = dest_take_state, .run = dest_run, .discard = dest_discard,
	.beat = no_beat, .fd = no_fd, .done = dest_done, .free = process_free,
};

/* both */

static enum rdmamig_status process_driver_new(pid_t pid, const struct driver_ops *ops, struct process_driver **out, char *why)
{
	struct process_driver *self = calloc(1, sizeof(*self));
	if (!self)
		return fail(RDMAMIG_E_NO_MEMORY, why, "no memory for a driver");
	self->driver.ops = ops;
	self->process.pidfd = self->guardian.fd = self->guardian.pidfd = -1;

	enum rdmamig_status status = pid ? process_open(&self->process, pid, 0, why) : RDMAMIG_OK;
	if (status) {
		free(self);
		return status;
	}
	*out = self;
	return RDMAMIG_OK;
}

/* Whom this session is about, so that another process can undo or resolve it. */
static enum rdmamig_status process_driver_note(struct process_driver *self, struct rdmamig_journal *journal, bool guest_runs)
{
	struct rdmamig_journal_info info = { .size = sizeof(info) };
	rdmamig_journal_info(journal, &info);
	info.pid = self->process.pid;
	info.pid_start = self->process.start;
	info.guest_runs = guest_runs;
	snprintf(info.driver, sizeof(info.driver), "%s", has_guest(self) ? "process" : "none");
	return rdmamig_journal_update(journal, &info);
}

enum rdmamig_status driver_process_open_source(pid_t pid, struct rdmamig_journal *journal, const struct guardian_params *params,
					       struct driver **out, char *why)
{
	struct process_driver *self = NULL;
	enum rdmamig_status status = process_driver_new(pid, &source_ops, &self, why);
	if (status)
		return status;
	self->params = params;
	if (process_driver_note(self, journal, !pid || process_look(&self->process) != PROCESS_STOPPED))
		status = fail(RDMAMIG_E_IO, why, "the journal of session %s cannot be written", rdmamig_journal_name(journal));
	if (!status && pid)
		status = guardian_start(&self->guardian, &self->process, journal, params, why);
	if (status) {
		process_free(&self->driver);
		return status;
	}
	self->driver.journal = journal;
	*out = &self->driver;
	return RDMAMIG_OK;
}

enum rdmamig_status driver_process_open_dest(pid_t pid, struct driver **out, char *why)
{
	struct process_driver *self = NULL;
	enum rdmamig_status status = process_driver_new(pid, &dest_ops, &self, why);
	if (!status)
		*out = &self->driver;
	return status;
}

void driver_process_begin(struct driver *driver, struct rdmamig_journal *journal)
{
	enum rdmamig_record record;
	driver->journal = journal;
	if (!rdmamig_journal_record(journal, &record) && record == RDMAMIG_RECORD_NONE)	/* an old one knows its guest */
		process_driver_note(process_of(driver), journal, false);	/* failed: load finds another guest in it */
}

enum rdmamig_status driver_process_bring_back(const struct rdmamig_journal_info *info, bool *ended, char *why)
{
	struct process process;
	*ended = false;
	enum rdmamig_status status = process_open(&process, info->pid, info->pid_start, why);
	if (status == RDMAMIG_E_NO_PROCESS)
		*ended = true;
	if (status)
		return RDMAMIG_E_NOT_RUNNING;

	if (info->guest_runs && process_look(&process) == PROCESS_STOPPED)
		status = process_run(&process, SIGNAL_MS, why);
	*ended = process_look(&process) == PROCESS_DEAD;
	process_close(&process);
	return status || *ended ? RDMAMIG_E_NOT_RUNNING : RDMAMIG_OK;
}
