/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * child.c - starts, reads and ends another process of this program.
 * Neighbour: trial.c, which has three of them. One thread: the one whose death kills the children.
 */
#include "cli/child.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/why.h"

enum { EXIT_NOT_STARTED = 127 };

void child_init(struct child *child)
{
	memset(child, 0, sizeof(*child));
	child->pid_fd = -1;
	child->out_fd = -1;
	child_add(child, "rdmamig");
}

void child_add(struct child *child, const char *format, ...)
{
	assert(child->argument_count < CHILD_ARGUMENTS_MAX);
	va_list args;
	va_start(args, format);
	if (vasprintf(&child->arguments[child->argument_count++], format, args) < 0)
		abort();
	va_end(args);
}

/* Between fork and exec. */
__attribute__((noreturn)) static void child_become(struct child *child, int out_fd, pid_t parent)
{
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);	/* ours are blocked for a signalfd */
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() == parent && dup2(out_fd, STDOUT_FILENO) == STDOUT_FILENO)
		execv("/proc/self/exe", child->arguments);
	_exit(EXIT_NOT_STARTED);
}

enum rdmamig_status child_start(struct child *child, char *why)
{
	int out[2];
	pid_t parent = getpid();
	if (pipe2(out, O_CLOEXEC))
		return why_say(why, RDMAMIG_E_NO_MEMORY, "pipe: %s", strerror(errno));
	pid_t pid = fork();
	if (pid == 0)
		child_become(child, out[1], parent);
	int saved_errno = errno;
	close(out[1]);
	if (pid < 0) {
		close(out[0]);
		return why_say(why, RDMAMIG_E_NO_MEMORY, "fork: %s", strerror(saved_errno));
	}
	child->pid = pid;
	child->out_fd = out[0];
	fcntl(child->out_fd, F_SETFL, O_NONBLOCK);
	child->pid_fd = pidfd_open(pid, 0);
	return child->pid_fd < 0 ? why_say(why, RDMAMIG_E_NO_MEMORY, "pidfd_open: %s", strerror(errno)) : RDMAMIG_OK;
}

static void child_reap(struct child *child, int flags)
{
	int status;
	if (!child_is_running(child) || waitpid(child->pid, &status, flags) != child->pid)
		return;
	child->is_reaped = true;
	child->killed_by = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	child->exit_code = child->killed_by ? rdmamig_status_exit_code(RDMAMIG_E_UNKNOWN_OWNER) : WEXITSTATUS(status);
}

static void lines_make_room(struct child *child)
{
	memmove(child->lines, child->lines + child->taken, child->used - child->taken);
	child->used -= child->taken;
	child->taken = 0;
	if (child->used == sizeof(child->lines))
		child->used = 0;	/* nothing of ours prints such a line */
}

void child_read(struct child *child)
{
	child_reap(child, WNOHANG);	/* first: all it ever printed is in the pipe then */
	lines_make_room(child);
	ssize_t got = 1;
	while (child->out_fd >= 0 && got > 0 && child->used < sizeof(child->lines)) {
		got = read(child->out_fd, child->lines + child->used, sizeof(child->lines) - child->used);
		if (got > 0) {
			child->used += (size_t)got;
		} else if (got == 0 || errno != EAGAIN) {
			close(child->out_fd);
			child->out_fd = -1;
		}
	}
	/* Not the pipe's end: a guardian may hold it open. */
	child->is_over = child->is_reaped && child->used < sizeof(child->lines);
}

const char *child_take_line(struct child *child)
{
	char *line = child->lines + child->taken;
	char *end = memchr(line, '\n', child->used - child->taken);
	if (!end)
		return NULL;
	*end = '\0';
	child->taken = (size_t)(end + 1 - child->lines);
	return line;
}

void child_wait_add(const struct child *child, struct wait *wait)
{
	wait_add_fd(wait, child->out_fd, POLLIN);
	wait_add_fd(wait, child_is_running(child) ? child->pid_fd : -1, POLLIN);
	if (child->is_reaped && !child->is_over)
		wait_now(wait);
}

void child_end(struct child *child)
{
	if (child_is_running(child)) {
		kill(child->pid, SIGKILL);
		child_reap(child, 0);
	}
	if (child->pid) {
		close(child->pid_fd);
		if (child->out_fd >= 0)
			close(child->out_fd);
	}
	for (unsigned i = 0; i < child->argument_count; i++)
		free(child->arguments[i]);
	memset(child, 0, sizeof(*child));
}
