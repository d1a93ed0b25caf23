/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * attach.c - injects userfaultfd(2) into a process, takes the descriptor out and injects close(2).
 * Neighbours: remote.c makes the calls, tracker.c uses the result.
 * A thread of its own: its end makes the kernel detach, whatever state the process is in.
 */
#include "ram/attach.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/compat.h"
#include "base/stepper.h"
#include "ram/remote.h"

struct attach {
	pid_t pid;
	struct attached result;
	enum rdmamig_status status;
	struct error *error;
};

static enum rdmamig_status refused(const struct attach *attach, int err)
{
	int pid = (int)attach->pid;
	if (err == EPERM)
		return error_note(attach->error, RDMAMIG_E_PERMISSION, err, "process %d: userfaultfd; a security module forbids it", pid);
	if (err == ENOSYS)
		return error_note(attach->error, RDMAMIG_E_UNSUPPORTED, err, "process %d: userfaultfd", pid);
	if (err == EMFILE)
		return error_note(attach->error, RDMAMIG_E_TRACKER, err, "process %d has no descriptor left; raise its limit: "
				  "prlimit --nofile=65536 --pid %d", pid, pid);
	return error_note(attach->error, RDMAMIG_E_TRACKER, err, "process %d: userfaultfd", pid);
}

/* One that also stops the kernel's writes if the process may have it (sync mode needs that), else one that does not. */
static enum rdmamig_status uffd_make(struct attach *attach, struct remote *remote, int64_t *theirs)
{
	const uint64_t flags = O_CLOEXEC | O_NONBLOCK;
	enum rdmamig_status st = remote_call(remote, SYS_userfaultfd, flags, theirs);
	if (!st && *theirs == -EPERM) {
		attach->result.is_user_only = true;
		st = remote_call(remote, SYS_userfaultfd, flags | UFFD_USER_MODE_ONLY, theirs);
	}
	return !st && *theirs < 0 ? refused(attach, (int)-*theirs) : st;
}

/* Left open there, it would make the next attach fail with EBUSY. */
static enum rdmamig_status uffd_move(struct attach *attach, struct remote *remote, int64_t theirs)
{
	enum rdmamig_status st = RDMAMIG_OK;
	attach->result.uffd = pidfd_getfd(remote->pidfd, (int)theirs, 0);
	if (attach->result.uffd < 0)
		st = error_note(attach->error, errno == EPERM ? RDMAMIG_E_PERMISSION : RDMAMIG_E_TRACKER, errno,
				"process %d: pidfd_getfd", (int)attach->pid);

	int64_t closed;
	enum rdmamig_status closing = remote_call(remote, SYS_close, (uint64_t)theirs, &closed);
	return st ? st : closing;
}

static enum rdmamig_status attach_run(struct attach *attach)
{
	struct remote remote;
	int64_t theirs;
	enum rdmamig_status st = remote_open(&remote, attach->pid, attach->error);
	if (!st)
		st = remote_stop(&remote);
	if (!st)
		st = uffd_make(attach, &remote, &theirs);
	if (!st)
		st = uffd_move(attach, &remote, theirs);
	attach->result.pause_us = remote_resume(&remote);
	remote_close(&remote);
	return st;
}

static bool attach_step(void *self, struct wait *wait)
{
	(void)wait;
	struct attach *attach = self;
	attach->status = attach_run(attach);
	return false;
}

enum rdmamig_status attach_uffd(pid_t pid, struct attached *out, struct error *error)
{
	struct attach attach = { .pid = pid, .result = { .uffd = -1 }, .error = error };
	struct stepper thread;
	enum rdmamig_status st = stepper_init(&thread, &clock_real, attach_step, &attach);
	if (st)
		return error_note(error, st, 0, "a descriptor for attaching to process %d", (int)pid);
	st = stepper_start(&thread, "rdmamig-attach");
	if (st)
		error_note(error, st, 0, "a thread for attaching to process %d", (int)pid);
	stepper_join(&thread);
	stepper_fini(&thread);
	if (!st)
		st = attach.status;
	if (st) {
		if (attach.result.uffd >= 0)
			close(attach.result.uffd);
		return st;
	}
	*out = attach.result;
	return RDMAMIG_OK;
}
