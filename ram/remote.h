/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * remote.h - the main thread of another process, stopped by ptrace(2), and system calls made in it.
 *
 * No code and no stack of the process is written: the thread is pointed at a system call instruction it already maps,
 * steps over it and is put back. All calls from one thread: the tracer. When that thread ends, the kernel lets the
 * process go, even one that never stopped.
 */
#ifndef RAM_REMOTE_H
#define RAM_REMOTE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <rdmamig/status.h>

#include "base/compat.h"
#include "base/error.h"

struct remote {
	pid_t pid;
	int pidfd;			/* for pidfd_getfd() too */
	uint64_t instruction;		/* address of a system call instruction in it */
	uint64_t deadline_ns;
	uint64_t stopped_ns;		/* when the stop was asked for; 0: it was not */
	bool is_altered;		/* registers and signal mask are ours */
	int late_signal;		/* caught by a step, to be delivered at the end */
	uint64_t registers[COMPAT_REGS];
	uint64_t signal_mask;
	struct error *error;
};

/*
 * remote_open - look at @pid and prepare; it runs on. remote_close() in any case.
 * E_NO_PROCESS, E_PERMISSION, E_UNSUPPORTED (other CPU, 32-bit process, no instruction found); noted in @error.
 */
enum rdmamig_status remote_open(struct remote *remote, pid_t pid, struct error *error);

/*
 * remote_stop - stop its main thread, wherever it is: computing, in a system call, stopped by SIGSTOP.
 *
 * An interrupted system call is restarted by the kernel, save those that give EINTR after any stop (epoll_wait and the
 * like, signal(7)). E_BUSY: another tracer. E_PERMISSION. E_TRACKER: it did not stop within 2 s.
 */
enum rdmamig_status remote_stop(struct remote *remote);

/*
 * remote_call - make system call @number(@arg) there; *result is what it returned, -errno included.
 * E_NO_PROCESS: it died. E_TRACKER: it could not be stepped. @number must not block.
 */
enum rdmamig_status remote_call(struct remote *remote, long number, uint64_t arg, int64_t *result);

/* remote_resume - put everything back and let go; how long it stood still, in microseconds. */
uint64_t remote_resume(struct remote *remote);

void remote_close(struct remote *remote);

#endif
