/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * guardian_main.c - stops the guest for rdmamig and undoes that when rdmamig is gone or stuck.
 * Neighbours: guardian.c asks, process.c signals, the journal decides (R5, R13). A process of its own, one thread.
 */
#include "vmm/guardian_main.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <rdmamig/log.h>

#include "base/clock.h"

enum { THROTTLE_PERIOD_MS = 100, UNDO_AGAIN_MS = 100 };

struct guard {
	int fd;
	const struct process *process;
	struct rdmamig_journal *journal;
	const struct guardian_params *params;

	bool ours;		/* the guest ran, and we stopped it */
	bool held;		/* by a STOP without a CONT since */
	unsigned pct;		/* throttle */
	bool gone;		/* rdmamig closed its end */
	bool finish;		/* ... and had said that it would, so it tells the user itself */
	bool settled;		/* nothing left to do but to wait for the end of the pipe */
	uint64_t heard_ns;
	uint64_t slice_ns;	/* when the throttle's next slice begins */
};

static bool guard_must_hear(const struct guard *guard)
{
	return !guard->settled && (guard->ours || guard->pct);
}

/* What the guest was found as has to be on disk before it is stopped: we may not live to remember it. */
static enum rdmamig_status guard_note_found(struct guard *guard, bool guest_runs, char *why)
{
	struct rdmamig_journal_info info = { .size = sizeof(info) };
	rdmamig_journal_info(guard->journal, &info);
	if (info.guest_runs == guest_runs)
		return RDMAMIG_OK;
	info.guest_runs = guest_runs;
	enum rdmamig_status status = rdmamig_journal_update(guard->journal, &info);
	if (status)
		snprintf(why, DRIVER_WHY_BYTES, "the guest is not stopped, as the journal of session %s cannot be written",
			 rdmamig_journal_name(guard->journal));
	return status ? RDMAMIG_E_DRIVER : RDMAMIG_OK;
}

static enum rdmamig_status guard_run(struct guard *guard, char *why)
{
	if (!guard->ours)
		return RDMAMIG_OK;
	enum rdmamig_status status = process_run(guard->process, guard->params->signal_ms, why);
	guard->ours = status != RDMAMIG_OK;
	return status ? RDMAMIG_E_NOT_RUNNING : RDMAMIG_OK;
}

static enum rdmamig_status guard_stop(struct guard *guard, char *why)
{
	enum process_state found = guard->ours ? PROCESS_RUNS : process_look(guard->process);
	enum rdmamig_status status = guard_note_found(guard, found != PROCESS_STOPPED, why);
	if (status || found == PROCESS_STOPPED)
		return status;

	guard->ours = true;
	status = process_stop(guard->process, guard->params->signal_ms, why);
	if (status) {
		char later[DRIVER_WHY_BYTES];	/* the first failure is the user's; ours stays set if this fails too */
		guard_run(guard, later);
		return RDMAMIG_E_DRIVER;
	}
	return RDMAMIG_OK;
}

/* STOP and THROTTLE are refused once anything is decided; CONT once the guest is dest's. */
static enum rdmamig_status guard_permit(struct guard *guard, enum guardian_request request, enum rdmamig_record *record, char *why)
{
	const char *session = rdmamig_journal_name(guard->journal);
	if (rdmamig_journal_record(guard->journal, record)) {
		snprintf(why, DRIVER_WHY_BYTES, "the journal of session %s cannot be read: the guest is left as it is", session);
		return RDMAMIG_E_DRIVER;
	}
	bool ends = request == GUARDIAN_CONT;
	if (*record == RDMAMIG_RECORD_NONE || (ends && *record == RDMAMIG_RECORD_ABORT))
		return RDMAMIG_OK;
	snprintf(why, DRIVER_WHY_BYTES, "%s stands in the journal of session %s%s: the guest is not %s any more", rdmamig_record_name(*record),
		 session, guard->settled && *record == RDMAMIG_RECORD_ABORT ? ", as rdmamig gave its guardian no sign of life" : "",
		 ends ? "let go" : "stopped");
	return RDMAMIG_E_DRIVER;
}

static void guard_reply(struct guard *guard, const struct guardian_message *message)
{
	struct guardian_reply reply = { 0 };
	enum rdmamig_record record;
	reply.status = guard_permit(guard, message->request, &record, reply.why);
	if (!reply.status && message->request == GUARDIAN_STOP) {
		reply.status = guard_stop(guard, reply.why);
		guard->held = !reply.status;
		reply.guest_ran = guard->ours;
	} else if (!reply.status && message->request == GUARDIAN_CONT) {
		guard->held = false;
		if (record == RDMAMIG_RECORD_ABORT)
			guard->pct = 0;
		reply.status = guard_run(guard, reply.why);
	} else if (!reply.status) {
		guard->pct = message->pct;
		guard->slice_ns = 0;
		if (!guard->pct && !guard->held)
			reply.status = guard_run(guard, reply.why);
	}
	send(guard->fd, &reply, sizeof(reply), MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void guard_receive(struct guard *guard)
{
	struct guardian_message message;
	ssize_t n = recv(guard->fd, &message, sizeof(message), MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	guard->gone = n != sizeof(message) || message.request == GUARDIAN_FINISH;
	guard->finish = n == sizeof(message) && message.request == GUARDIAN_FINISH;
	if (!guard->gone && message.request != GUARDIAN_BEAT)
		guard_reply(guard, &message);
	guard->heard_ns = clock_now_ns(&clock_real);	/* after the work: we were deaf during it */
}

/* Each period: stopped for pct ms, then running for the rest. One its owner has stopped is left alone. */
static void guard_throttle(struct guard *guard)
{
	char why[DRIVER_WHY_BYTES];
	if (!guard->pct || guard->held || guard->settled || clock_now_ns(&clock_real) < guard->slice_ns)
		return;
	bool stop = !guard->ours;
	if (stop)
		guard_stop(guard, why);	/* not in time: run on, and try again next period */
	else
		guard_run(guard, why);
	guard->slice_ns = clock_after_ms(&clock_real, stop ? guard->pct : THROTTLE_PERIOD_MS - guard->pct);
}

__attribute__((format(printf, 2, 3)))
static void guard_say(const struct guard *guard, const char *format, ...)
{
	if (guard->finish)
		return;
	char line[2 * DRIVER_WHY_BYTES];
	va_list args;
	va_start(args, format);
	int n = vsnprintf(line, sizeof(line) - 1, format, args);
	va_end(args);
	size_t bytes = n < (int)sizeof(line) - 1 ? (size_t)n : sizeof(line) - 2;
	line[bytes] = '\n';
	n = (int)write(STDERR_FILENO, line, bytes + 1);
	(void)n;
}

static void guard_say_undone(const struct guard *guard)
{
	enum process_state now = process_look(guard->process);
	guard_say(guard, "rdmamig: %s, so its guardian undid session %s: the source owns the guest, process %d, and it %s",
		  guard->gone ? "rdmamig died" : "rdmamig gave no sign of life",
		  rdmamig_journal_name(guard->journal), guard->process->pid,
		  now == PROCESS_DEAD ? "has ended" : now == PROCESS_STOPPED ? "is paused here, as it was found" : "runs here");
}

/* true: done with, whatever the outcome was */
static bool guard_undo_once(struct guard *guard, char *why)
{
	guard->held = false;
	guard->pct = 0;
	if (guard_run(guard, why) && process_look(guard->process) != PROCESS_DEAD)
		return false;
	if (rdmamig_journal_close(guard->journal)) {
		snprintf(why, DRIVER_WHY_BYTES, "its journal cannot be closed");
		return false;
	}
	guard_say_undone(guard);
	return true;
}

/* Nobody acts on a closed record; COMMIT leaves the guest to dest; ABORT, if it stands, makes it ours to bring back. */
static bool guard_settle_once(struct guard *guard, char *why)
{
	enum rdmamig_record stands;
	if (rdmamig_journal_is_closed(guard->journal))
		return true;
	if (rdmamig_journal_decide(guard->journal, RDMAMIG_RECORD_ABORT, &stands)) {
		snprintf(why, DRIVER_WHY_BYTES, "its journal cannot be written");
		return false;
	}
	if (stands == RDMAMIG_RECORD_ABORT)
		return guard_undo_once(guard, why);
	if (guard->gone) {
		char command[RDMAMIG_COMMAND_BYTES];
		rdmamig_journal_command(guard->journal, command);
		guard_say(guard, "rdmamig: rdmamig died after COMMIT: dest owns the guest of session %s; process %d stays stopped "
			  "here; to see what dest says: %s", rdmamig_journal_name(guard->journal), guard->process->pid, command);
	}
	return true;
}

static void guard_settle(struct guard *guard)
{
	char why[DRIVER_WHY_BYTES] = "";
	uint64_t deadline = clock_after_ms(&clock_real, guard->params->undo_ms);
	while (!guard_settle_once(guard, why)) {
		struct wait wait = { .deadline_ns = clock_after_ms(&clock_real, UNDO_AGAIN_MS) };
		if (wait.deadline_ns > deadline) {
			char command[RDMAMIG_COMMAND_BYTES];
			rdmamig_journal_command(guard->journal, command);
			guard_say(guard, "rdmamig: session %s: process %d could not be brought back (%s); mend that, then: %s",
				  rdmamig_journal_name(guard->journal), guard->process->pid, why, command);
			_exit(1);	/* gives the lock to whoever resolves */
		}
		wait_sleep(&wait, &clock_real);
	}
	guard->settled = true;
}

static void guard_wait(struct guard *guard)
{
	struct wait wait;
	wait_reset(&wait);
	wait_add_fd(&wait, guard->fd, POLLIN);
	if (guard_must_hear(guard))
		wait_until(&wait, guard->heard_ns + guard->params->silence_ms * NS_PER_MS);
	if (guard->pct && !guard->held && !guard->settled)
		wait_until(&wait, guard->slice_ns);
	wait_sleep(&wait, &clock_real);
	if (wait.fds[0].revents)
		guard_receive(guard);
}

static bool guard_hears_nothing(const struct guard *guard)
{
	return guard_must_hear(guard) &&
	       clock_now_ns(&clock_real) >= guard->heard_ns + guard->params->silence_ms * NS_PER_MS;
}

static int int_compare(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* What rdmamig had open would stay open with us: sockets to the peer, pipes whose reader waits for their end. */
static void descriptors_close(int fd, const struct process *process, const struct rdmamig_journal *journal)
{
	int keep[5] = { fd, process->pidfd, STDERR_FILENO };
	rdmamig_journal_fds(journal, &keep[3]);
	qsort(keep, 5, sizeof(keep[0]), int_compare);
	unsigned from = 0;
	for (unsigned i = 0; i < 5; i++) {
		if ((int)from < keep[i])
			close_range(from, (unsigned)keep[i] - 1, 0);
		from = (unsigned)keep[i] + 1;
	}
	close_range(from, ~0u, 0);
	for (int i = STDIN_FILENO; i <= STDOUT_FILENO; i++)	/* so that no file takes the place of stdin or stdout */
		if (fcntl(i, F_GETFD) < 0)
			open("/dev/null", O_RDWR | O_CLOEXEC);
}

/*
 * A process group of its own: what is sent to rdmamig's (Ctrl-C, a job's SIGKILL) does not reach it. Not a session: that
 * moves it into a new autogroup, where Linux 6.18 with two busy guests left it runnable but not running for 1-30 s. All
 * signals stay blocked, as guardian.c left them: none of rdmamig's handlers may run here; only SIGKILL and SIGSTOP work.
 */
static void guardian_detach(void)
{
	setpgid(0, 0);
	prctl(PR_SET_NAME, "rdmamig-guard");
	rdmamig_log_set(NULL, NULL, RDMAMIG_LOG_ERROR);	/* the sink is rdmamig's, and its files are closed here */
}

_Noreturn void guardian_main(int fd, const struct process *process, struct rdmamig_journal *journal,
			    const struct guardian_params *params)
{
	struct guard guard = { .fd = fd, .process = process, .journal = journal, .params = params };
	guardian_detach();
	descriptors_close(fd, process, journal);
	while (!guard.gone) {
		guard_wait(&guard);
		if (!guard.gone)
			guard_throttle(&guard);
		if (!guard.gone && guard_hears_nothing(&guard))
			guard_settle(&guard);
	}
	guard_settle(&guard);
	_exit(0);
}
