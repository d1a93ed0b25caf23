/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * remote.c - stops a process's main thread with ptrace(2) and makes system calls in it.
 * Neighbour: attach.c, whose thread is the tracer. What a register is called is known to base/compat.h.
 */
#include "ram/remote.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

enum {
	STOP_MS = 2000,			/* for the stop, and for one step */
	LOOK_NS = 20 * 1000,		/* ptrace stops wake nobody but a blocking wait(2), which has no deadline */
	TEXT_BYTES = 64 * 1024,
	SIGNAL_MASK_BYTES = 8,		/* the kernel's, not the C library's sigset_t */
};

/* A line "NAME:	number" of /proc/PID/status; 0 if there is none. */
static unsigned process_field(pid_t pid, const char *name)
{
	char path[64], line[256];
	unsigned value = 0;
	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	FILE *status = fopen(path, "re");
	while (status && fgets(line, sizeof(line), status))
		if (strncmp(line, name, strlen(name)) == 0)
			sscanf(line + strlen(name), " %u", &value);
	if (status)
		fclose(status);
	return value;
}

static bool instruction_find(int mem, uint64_t start, uint64_t end, uint64_t *out)
{
	uint8_t *text = malloc(TEXT_BYTES);
	const uint8_t *found = NULL;
	while (text && !found && start + COMPAT_SYSCALL_INSN_BYTES <= end) {
		size_t want = end - start < TEXT_BYTES ? (size_t)(end - start) : TEXT_BYTES;
		ssize_t got = pread(mem, text, want, (off_t)start);
		if (got < COMPAT_SYSCALL_INSN_BYTES)
			break;
		found = memmem(text, (size_t)got, COMPAT_SYSCALL_INSN, COMPAT_SYSCALL_INSN_BYTES);
		if (found)
			*out = start + (uint64_t)(found - text);
		start += (uint64_t)got - (COMPAT_SYSCALL_INSN_BYTES - 1);
	}
	free(text);
	return found;
}

/* In the vDSO, which nobody unmaps; a kernel booted without one makes it any executable mapping. */
static bool instruction_look(pid_t pid, int mem, bool only_vdso, uint64_t *out)
{
	char path[64], line[512];
	bool found = false;
	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	FILE *maps = fopen(path, "re");
	while (maps && !found && fgets(line, sizeof(line), maps)) {
		uint64_t start, end;
		char access[5];
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s", &start, &end, access) == 3 && access[2] == 'x' &&
		    start <= INT64_MAX && (!only_vdso || strstr(line, "[vdso]")))
			found = instruction_find(mem, start, end, out);
	}
	if (maps)
		fclose(maps);
	return found;
}

enum rdmamig_status remote_open(struct remote *remote, pid_t pid, struct error *error)
{
	*remote = (struct remote){ .pid = pid, .pidfd = -1, .error = error };
	if (!COMPAT_HAS_INJECT)
		return error_note(error, RDMAMIG_E_UNSUPPORTED, 0, "making a userfaultfd in another process is written for x86-64 only; "
				  "let process %d hand its own over", (int)pid);

	remote->pidfd = pidfd_open(pid, 0);
	if (remote->pidfd < 0)
		return error_note(error, errno == ESRCH || errno == EINVAL ? RDMAMIG_E_NO_PROCESS : RDMAMIG_E_TRACKER, errno,
				  "process %d", (int)pid);

	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/mem", (int)pid);
	int mem = open(path, O_RDONLY | O_CLOEXEC);
	if (mem < 0)
		return error_note(error, errno == EACCES || errno == EPERM ? RDMAMIG_E_PERMISSION : RDMAMIG_E_NO_PROCESS, errno,
				  "process %d may not be traced: run as root or with CAP_SYS_PTRACE, or as its user with "
				  "kernel.yama.ptrace_scope=0", (int)pid);
	bool found = instruction_look(pid, mem, true, &remote->instruction) ||
		     instruction_look(pid, mem, false, &remote->instruction);
	close(mem);
	if (!found)
		return error_note(error, RDMAMIG_E_UNSUPPORTED, 0, "process %d: no system call instruction found in it", (int)pid);
	return RDMAMIG_OK;
}

void remote_close(struct remote *remote)
{
	if (remote->pidfd >= 0)
		close(remote->pidfd);
	remote->pidfd = -1;
}

static enum rdmamig_status remote_lost(struct remote *remote, int err, const char *what)
{
	return error_note(remote->error, err == ESRCH ? RDMAMIG_E_NO_PROCESS : RDMAMIG_E_TRACKER, err, "process %d: %s",
			  (int)remote->pid, what);
}

/* The next stop: its signal, its ptrace event << 8. -ETIMEDOUT, -ESRCH. Never reaps: the process may be our child. */
static int remote_wait(struct remote *remote)
{
	for (;;) {
		siginfo_t info = { .si_pid = 0 };
		if (waitid(P_PID, (id_t)remote->pid, &info, WSTOPPED | WNOHANG | __WALL))
			return -ESRCH;
		if (info.si_pid)
			return info.si_status;

		uint64_t now = clock_now_ns(&clock_real);
		if (now >= remote->deadline_ns)
			return -ETIMEDOUT;
		struct wait wait;
		wait_reset(&wait);
		wait_add_fd(&wait, remote->pidfd, POLLIN);
		wait_until(&wait, now + LOOK_NS);
		wait_sleep(&wait, &clock_real);
		if (wait.fds[0].revents)
			return -ESRCH;
	}
}

static int stop_signal(int stop)
{
	return stop & 0xff;
}

static bool stop_is_event(int stop)	/* asked for by us, or a group stop; not a signal about to be delivered */
{
	return stop >> 8 == COMPAT_PTRACE_EVENT_STOP;
}

/*
 * A seccomp filter may kill its process for a system call it does not know, so it is suspended for this thread
 * while we hold it: or we do not touch the process.
 */
static enum rdmamig_status remote_seize(struct remote *remote)
{
	bool has_filter = process_field(remote->pid, "Seccomp:");
	uintptr_t options = has_filter ? COMPAT_PTRACE_O_SUSPEND_SECCOMP : 0;
	if (!ptrace(PTRACE_SEIZE, remote->pid, NULL, (void *)options))
		return RDMAMIG_OK;

	int err = errno;
	unsigned tracer = process_field(remote->pid, "TracerPid:");
	if (err == EPERM && tracer)
		return error_note(remote->error, RDMAMIG_E_BUSY, 0, "process %d is traced by process %u already", (int)remote->pid, tracer);
	if (has_filter && err != ESRCH)
		return error_note(remote->error, RDMAMIG_E_PERMISSION, err, "process %d has a seccomp filter that may kill it for our "
				  "system call; to suspend it, run as root (CAP_SYS_ADMIN) and without a seccomp filter of our own",
				  (int)remote->pid);
	if (err == EPERM)
		return error_note(remote->error, RDMAMIG_E_PERMISSION, err, "process %d may not be traced: run as root or with "
				  "CAP_SYS_PTRACE, or as its user with kernel.yama.ptrace_scope=0", (int)remote->pid);
	return remote_lost(remote, err, "ptrace");
}

/* Its registers and signal mask as they are; then only SIGTRAP, KILL and STOP still reach it, the rest stays pending. */
static enum rdmamig_status remote_save(struct remote *remote)
{
	struct iovec iov = { .iov_base = remote->registers, .iov_len = sizeof(remote->registers) };
	if (ptrace(PTRACE_GETREGSET, remote->pid, (void *)NT_PRSTATUS, &iov))
		return remote_lost(remote, errno, "reading its registers");
	if (iov.iov_len != sizeof(remote->registers))
		return error_note(remote->error, RDMAMIG_E_UNSUPPORTED, 0, "process %d is a 32-bit one", (int)remote->pid);

	/* Not SIGTRAP, with which a step ends: the kernel kills for a forced signal that is blocked. */
	uint64_t mask = ~(1ull << (SIGTRAP - 1));
	if (ptrace(PTRACE_GETSIGMASK, remote->pid, (void *)SIGNAL_MASK_BYTES, &remote->signal_mask) ||
	    ptrace(PTRACE_SETSIGMASK, remote->pid, (void *)SIGNAL_MASK_BYTES, &mask))
		return remote_lost(remote, errno, "its signal mask");
	remote->is_altered = true;
	return RDMAMIG_OK;
}

enum rdmamig_status remote_stop(struct remote *remote)
{
	enum rdmamig_status st = remote_seize(remote);
	if (st)
		return st;

	remote->stopped_ns = clock_now_ns(&clock_real);
	remote->deadline_ns = clock_after_ms(&clock_real, STOP_MS);
	if (ptrace(PTRACE_INTERRUPT, remote->pid, NULL, NULL))
		return remote_lost(remote, errno, "ptrace interrupt");
	for (;;) {
		int stop = remote_wait(remote);
		if (stop == -ETIMEDOUT)
			return error_note(remote->error, RDMAMIG_E_TRACKER, 0, "process %d did not stop within %d ms (is it in an "
					  "uninterruptible wait, or frozen?)", (int)remote->pid, STOP_MS);
		if (stop < 0)
			return remote_lost(remote, -stop, "waiting for it to stop");
		if (stop_is_event(stop))
			return remote_save(remote);
		/* A signal overtook our stop: it goes its way first. */
		if (ptrace(PTRACE_CONT, remote->pid, NULL, (void *)(uintptr_t)stop_signal(stop)))
			return remote_lost(remote, errno, "ptrace cont");
	}
}

static int registers_write(struct remote *remote, const uint64_t registers[COMPAT_REGS])
{
	struct iovec iov = { .iov_base = (void *)registers, .iov_len = COMPAT_REGS * sizeof(registers[0]) };
	return ptrace(PTRACE_SETREGSET, remote->pid, (void *)NT_PRSTATUS, &iov) ? -errno : 0;
}

static int registers_read(struct remote *remote, uint64_t registers[COMPAT_REGS])
{
	struct iovec iov = { .iov_base = registers, .iov_len = COMPAT_REGS * sizeof(registers[0]) };
	return ptrace(PTRACE_GETREGSET, remote->pid, (void *)NT_PRSTATUS, &iov) ? -errno : 0;
}

/*
 * Until the registers are back there is no giving up: let go now, the process would run wild. A step that does not end
 * in time (a frozen cgroup) is called off with another interrupt, and that stop is waited for without a deadline.
 */
static int step_wait(struct remote *remote, bool *is_called_off)
{
	int stop = remote_wait(remote);
	if (stop == -ETIMEDOUT && !ptrace(PTRACE_INTERRUPT, remote->pid, NULL, NULL)) {
		*is_called_off = true;
		remote->deadline_ns = CLOCK_NEVER;
		stop = remote_wait(remote);
	}
	return stop;
}

/* Step until the instruction is behind us, and read the registers. */
static int remote_step(struct remote *remote, uint64_t registers[COMPAT_REGS])
{
	bool is_called_off = false;
	int deliver = 0;
	for (;;) {
		if (ptrace(PTRACE_SINGLESTEP, remote->pid, NULL, (void *)(uintptr_t)deliver))
			return -errno;
		int stop = step_wait(remote, &is_called_off);
		if (stop < 0)
			return stop;
		int err = registers_read(remote, registers);
		if (err)
			return err;
		deliver = 0;
		bool is_done = registers[COMPAT_REG_PC] != remote->instruction;
		if (stop_is_event(stop)) {
			/* A group stop, or a second interrupt. If the call is done, its SIGTRAP is still to come: take it. */
			if (is_called_off && !is_done)
				return -ETIMEDOUT;
		} else if (stop_signal(stop) == SIGTRAP) {
			if (is_done)
				return 0;
			remote->late_signal = SIGTRAP;	/* somebody sent it one */
		} else if (stop_signal(stop) == SIGSTOP) {
			deliver = SIGSTOP;
		} else {
			return -EFAULT;		/* forced on it by the instruction, not sent: it dies with our registers */
		}
	}
}

enum rdmamig_status remote_call(struct remote *remote, long number, uint64_t arg, int64_t *result)
{
	uint64_t registers[COMPAT_REGS];
	memcpy(registers, remote->registers, sizeof(registers));
	registers[COMPAT_REG_PC] = remote->instruction;
	registers[COMPAT_REG_RESULT] = (uint64_t)number;
	registers[COMPAT_REG_ARG0] = arg;
	registers[COMPAT_REG_RESTART] = UINT64_MAX;

	remote->deadline_ns = clock_after_ms(&clock_real, STOP_MS);
	int err = registers_write(remote, registers);
	if (!err)
		err = remote_step(remote, registers);
	if (err)
		return remote_lost(remote, -err, "making a system call in it");
	*result = (int64_t)registers[COMPAT_REG_RESULT];
	return RDMAMIG_OK;
}

/*
 * The stop we leave is inside the kernel's signal handling, which then sees the saved registers: it restarts the system
 * call they were in, or delivers what is pending as if we had never been there.
 */
uint64_t remote_resume(struct remote *remote)
{
	if (!remote->stopped_ns)
		return 0;
	if (remote->is_altered) {
		int err = registers_write(remote, remote->registers);
		if (ptrace(PTRACE_SETSIGMASK, remote->pid, (void *)SIGNAL_MASK_BYTES, &remote->signal_mask))
			err = -errno;
		if (err)
			remote_lost(remote, -err, "putting it back");
	}
	ptrace(PTRACE_DETACH, remote->pid, NULL, (void *)(uintptr_t)remote->late_signal);
	return (clock_now_ns(&clock_real) - remote->stopped_ns) / 1000;
}
