/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * process.h - a guest that is a plain process: is it stopped, stop it, let it run.
 *
 * Signals go through a pidfd, so they never reach a stranger who got the pid later. The functions keep no state: whether
 * a stop is ours is for the caller to know. Failures leave a line in @why (DRIVER_WHY_BYTES).
 */
#ifndef VMM_PROCESS_H
#define VMM_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <rdmamig/status.h>

struct process {
	pid_t pid;
	uint64_t start;		/* clock ticks since boot, /proc/PID/stat field 22 */
	int pidfd;
};

enum process_state { PROCESS_RUNS, PROCESS_STOPPED, PROCESS_DEAD };

/*
 * process_open - @start 0: whoever has that pid now; else only the process that started then.
 *
 * E_NO_PROCESS   there is none, or the pid is another's by now, or our own
 * E_PERMISSION   we may not signal it
 * E_UNSUPPORTED  no pidfd_open(2) (Linux before 5.3)
 */
enum rdmamig_status process_open(struct process *process, pid_t pid, uint64_t start, char *why);
void process_close(struct process *process);

/* process_look - STOPPED: every thread is. A thread held by a debugger counts as running: its tracer may let it go. */
enum process_state process_look(const struct process *process);

/*
 * process_stop - SIGSTOP, and wait until every thread has stopped.
 *
 * E_NO_PROCESS  it is dead
 * E_DRIVER      a thread did not stop within @timeout_ms; the others have: whoever asked must process_run() it
 */
enum rdmamig_status process_stop(const struct process *process, uint64_t timeout_ms, char *why);

/* process_run - SIGCONT, repeated until no thread is stopped. E_NO_PROCESS: dead. E_NOT_RUNNING: not within @timeout_ms. */
enum rdmamig_status process_run(const struct process *process, uint64_t timeout_ms, char *why);

#endif
