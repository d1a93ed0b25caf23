/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * child.h - a child process that is another `rdmamig`, and the lines it prints.
 *
 * It dies when we die (PR_SET_PDEATHSIG) and has a process group of its own: Ctrl-C on the terminal is for us alone.
 */
#ifndef CLI_CHILD_H
#define CLI_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include <rdmamig/status.h>

#include "base/clock.h"

enum { CHILD_ARGUMENTS_MAX = 192 /* 64 files, twice */, CHILD_LINES_BYTES = 65536 };

struct child {
	char *arguments[CHILD_ARGUMENTS_MAX + 1];
	unsigned argument_count;
	pid_t pid;		/* 0: not started */
	int pid_fd;		/* readable once it has ended */
	int out_fd;		/* its stdout; -1 once it has come to its end */
	bool is_reaped;
	bool is_over;		/* reaped, and all it printed has been read */
	int exit_code;		/* once reaped; 8 for death by a signal */
	int killed_by;		/* that signal, else 0 */
	size_t used;
	size_t taken;
	char lines[CHILD_LINES_BYTES];
};

void child_init(struct child *child);

/* child_add - one argument; the first is the subcommand. Aborts when out of memory: nothing has been started then. */
void child_add(struct child *child, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* child_start - E_NO_MEMORY: no process or descriptor. */
enum rdmamig_status child_start(struct child *child, char *why);

/* child_read - what it has printed so far and whether it has ended; does not wait. */
void child_read(struct child *child);

/* child_take_line - the next whole line, without its newline; the child's until the next call. NULL: none. */
const char *child_take_line(struct child *child);

static inline bool child_is_running(const struct child *child)
{
	return child->pid && !child->is_reaped;
}

/* child_wait_add - wait until child_read() has something to do. */
void child_wait_add(const struct child *child, struct wait *wait);

/* child_end - SIGKILL if it still runs, reap and free. A zeroed or never started child is fine. */
void child_end(struct child *child);

#endif
