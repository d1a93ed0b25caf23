/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * guardian.c - our side of the guardian: forks it, asks it, and can do without it when it is gone.
 * Neighbours: guardian_main.c is the other side; driver_process.c asks. The driver's thread.
 */
#include "vmm/guardian.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "vmm/driver.h"
#include "vmm/guardian_main.h"

const struct guardian_params guardian_defaults = {
	.silence_ms = 3000, .signal_ms = 3000, .undo_ms = 60000, .reply_ms = 8000,
};

static enum rdmamig_status start_failed(char *why, const char *what)
{
	snprintf(why, DRIVER_WHY_BYTES, "no guardian process: %s: %s", what, strerror(errno));
	return RDMAMIG_E_NO_MEMORY;
}

enum rdmamig_status guardian_start(struct guardian *guardian, const struct process *process, struct rdmamig_journal *journal,
				   const struct guardian_params *params, char *why)
{
	*guardian = (struct guardian){ .pidfd = -1, .fd = -1, .reply_ms = params->reply_ms };
	int ends[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
		return start_failed(why, "socketpair");

	sigset_t all, old;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &old);	/* a Ctrl-C before it has left our process group must not end it */
	pid_t pid = fork();
	if (pid == 0)
		guardian_main(ends[1], process, journal, params);
	sigprocmask(SIG_SETMASK, &old, NULL);
	close(ends[1]);
	if (pid > 0) {
		guardian->pid = pid;
		guardian->fd = ends[0];
		guardian->pidfd = pidfd_open(pid, 0);
		if (guardian->pidfd >= 0)
			return RDMAMIG_OK;
	}
	enum rdmamig_status status = start_failed(why, pid > 0 ? "pidfd_open" : "fork");
	close(ends[0]);		/* it has done nothing yet, and goes by itself */
	return status;
}

static bool ended_within(const struct guardian *guardian, uint64_t timeout_ms)
{
	struct wait wait = { .deadline_ns = clock_after_ms(&clock_real, timeout_ms) };
	wait_add_fd(&wait, guardian->pidfd, POLLIN);
	do {
		wait_sleep(&wait, &clock_real);
	} while (!wait.fds[0].revents && clock_now_ns(&clock_real) < wait.deadline_ns);
	return wait.fds[0].revents != 0;
}

void guardian_leave(struct guardian *guardian)
{
	close(guardian->fd);
	close(guardian->pidfd);
	*guardian = (struct guardian){ .pidfd = -1, .fd = -1, .reply_ms = guardian->reply_ms };
}

static void guardian_reap(struct guardian *guardian)
{
	while (waitpid(guardian->pid, NULL, 0) < 0 && errno == EINTR)
		;
	guardian_leave(guardian);
}

void guardian_kill(struct guardian *guardian)
{
	if (!guardian->pid)
		return;
	pidfd_send_signal(guardian->pidfd, SIGKILL, NULL, 0);
	guardian_reap(guardian);
}

bool guardian_finish(struct guardian *guardian)
{
	if (!guardian->pid)
		return true;
	struct guardian_message message = { .request = GUARDIAN_FINISH };
	send(guardian->fd, &message, sizeof(message), MSG_NOSIGNAL | MSG_DONTWAIT);
	shutdown(guardian->fd, SHUT_RDWR);	/* should the queue have been full of beats: this it sees too */
	if (!ended_within(guardian, guardian->reply_ms))
		return false;
	guardian_reap(guardian);
	return true;
}

void guardian_beat(const struct guardian *guardian)
{
	struct guardian_message message = { .request = GUARDIAN_BEAT };
	if (guardian->pid)
		send(guardian->fd, &message, sizeof(message), MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* One that does not answer cannot be trusted with the guest any more, nor be left to act on it later. */
static enum rdmamig_status guardian_lost(struct guardian *guardian, const char *how, char *why)
{
	snprintf(why, DRIVER_WHY_BYTES, "the guardian (process %d) %s", guardian->pid, how);
	guardian_kill(guardian);
	return RDMAMIG_E_DRIVER_SILENT;
}

static bool reply_take(struct guardian *guardian, struct guardian_reply *reply)
{
	struct wait wait = { .deadline_ns = clock_after_ms(&clock_real, guardian->reply_ms) };
	wait_add_fd(&wait, guardian->fd, POLLIN);
	do {
		wait_sleep(&wait, &clock_real);
		if (wait.fds[0].revents)
			return recv(guardian->fd, reply, sizeof(*reply), MSG_DONTWAIT) == sizeof(*reply);
	} while (clock_now_ns(&clock_real) < wait.deadline_ns);
	return false;
}

enum rdmamig_status guardian_ask(struct guardian *guardian, enum guardian_request request, unsigned pct, bool *guest_ran, char *why)
{
	struct guardian_message message = { .request = request, .pct = pct };
	struct guardian_reply reply;
	if (!guardian->pid) {
		snprintf(why, DRIVER_WHY_BYTES, "the guardian process has died");
		return RDMAMIG_E_DRIVER_SILENT;
	}
	if (send(guardian->fd, &message, sizeof(message), MSG_NOSIGNAL | MSG_DONTWAIT) != sizeof(message))
		return guardian_lost(guardian, "has died or takes no requests", why);
	if (!reply_take(guardian, &reply))
		return guardian_lost(guardian, ended_within(guardian, 0) ? "has died" : "did not answer in time", why);

	if (reply.status)
		snprintf(why, DRIVER_WHY_BYTES, "%.*s", DRIVER_WHY_BYTES - 1, reply.why);
	else if (guest_ran)
		*guest_ran = reply.guest_ran;
	return reply.status;
}
