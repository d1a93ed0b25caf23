/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * process.c - SIGSTOP and SIGCONT for a whole process, believed only when /proc shows every thread.
 * Neighbours: guardian.c at the source, driver_process.c at dest. The thread of whoever calls.
 */
#include "vmm/process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "vmm/driver.h"

enum { STAT_BYTES = 1024, STAT_FIELD_START = 22, LOOK_AGAIN_MS = 1 };

/* The text of a stat file from its state letter on; the command name before it may hold anything, even ") R". */
static const char *stat_read(int dir_fd, const char *path, char buffer[STAT_BYTES])
{
	int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	ssize_t n = read(fd, buffer, STAT_BYTES - 1);
	close(fd);
	if (n <= 0)
		return NULL;
	buffer[n] = '\0';
	const char *end = strrchr(buffer, ')');
	return end && end[1] == ' ' && end[2] ? end + 2 : NULL;
}

/* 0 if it cannot be told */
static uint64_t start_read(pid_t pid)
{
	char path[32], buffer[STAT_BYTES];
	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	const char *at = stat_read(AT_FDCWD, path, buffer);
	for (int field = 3; at && field < STAT_FIELD_START; field++) {
		at = strchr(at, ' ');
		at = at ? at + 1 : NULL;
	}
	return at ? strtoull(at, NULL, 10) : 0;
}

/* A pidfd is readable once its process has ended, zombies included. */
static bool process_is_dead(const struct process *process)
{
	struct pollfd end = { .fd = process->pidfd, .events = POLLIN };
	return poll(&end, 1, 0) == 1;
}

enum rdmamig_status process_open(struct process *process, pid_t pid, uint64_t start, char *why)
{
	*process = (struct process){ .pid = pid, .pidfd = -1 };
	if (pid == getpid()) {
		snprintf(why, DRIVER_WHY_BYTES, "process %d is rdmamig itself: name the guest's", pid);
		return RDMAMIG_E_NO_PROCESS;
	}
	process->pidfd = pidfd_open(pid, 0);	/* close-on-exec by nature */
	if (process->pidfd < 0) {
		int saved = errno;
		snprintf(why, DRIVER_WHY_BYTES, saved == ESRCH ? "there is no process %d" : "process %d: %s", pid, strerror(saved));
		return saved == ENOSYS ? RDMAMIG_E_UNSUPPORTED : RDMAMIG_E_NO_PROCESS;
	}

	process->start = start_read(pid);
	enum rdmamig_status status = RDMAMIG_OK;
	if (process_is_dead(process) || process->start == 0) {	/* alive after the read: it was its own start time */
		snprintf(why, DRIVER_WHY_BYTES, "process %d has ended", pid);
		status = RDMAMIG_E_NO_PROCESS;
	} else if (start && start != process->start) {
		snprintf(why, DRIVER_WHY_BYTES, "pid %d is another process by now: the guest has ended", pid);
		status = RDMAMIG_E_NO_PROCESS;
	} else if (pidfd_send_signal(process->pidfd, 0, NULL, 0)) {
		snprintf(why, DRIVER_WHY_BYTES, "process %d may not be signalled: %s; run as its user or as root", pid, strerror(errno));
		status = RDMAMIG_E_PERMISSION;
	}
	if (status)
		process_close(process);
	return status;
}

void process_close(struct process *process)
{
	if (process->pidfd >= 0)
		close(process->pidfd);
	process->pidfd = -1;
}

struct census {
	unsigned live;		/* threads, without those that have ended */
	unsigned stopped;
	char other_tid[16];	/* one that is not stopped, and what it is instead */
	char other_state;
};

/* false: the process is dead */
static bool census_take(const struct process *process, struct census *out)
{
	char path[32], buffer[STAT_BYTES];
	snprintf(path, sizeof(path), "/proc/%d/task", process->pid);
	*out = (struct census){ 0 };
	DIR *dir = opendir(path);
	for (struct dirent *e = dir ? readdir(dir) : NULL; e; e = readdir(dir)) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%.15s/stat", e->d_name);
		const char *state = stat_read(dirfd(dir), path, buffer);
		if (!state || strchr("ZXx", *state))
			continue;
		out->live++;
		if (*state == 'T') {
			out->stopped++;
		} else {
			snprintf(out->other_tid, sizeof(out->other_tid), "%.15s", e->d_name);
			out->other_state = *state;
		}
	}
	if (dir)
		closedir(dir);
	return !process_is_dead(process) && out->live > 0;	/* last: until here the pid was its own */
}

enum process_state process_look(const struct process *process)
{
	struct census census;
	if (!census_take(process, &census))
		return PROCESS_DEAD;
	return census.stopped == census.live ? PROCESS_STOPPED : PROCESS_RUNS;
}

static enum rdmamig_status dead_say(const struct process *process, char *why)
{
	snprintf(why, DRIVER_WHY_BYTES, "process %d has ended", process->pid);
	return RDMAMIG_E_NO_PROCESS;
}

static void nap(uint64_t ms)
{
	struct wait wait = { .deadline_ns = clock_after_ms(&clock_real, ms) };
	wait_sleep(&wait, &clock_real);
}

/*
 * A thread not yet stopped may have made another one behind the back of a reading of /proc: only two readings in a row
 * that show the same number, all stopped, show them all (stopped threads make none).
 */
enum rdmamig_status process_stop(const struct process *process, uint64_t timeout_ms, char *why)
{
	uint64_t deadline = clock_after_ms(&clock_real, timeout_ms);
	struct census census;
	unsigned all_stopped = 0;	/* how many there were when all were */
	if (pidfd_send_signal(process->pidfd, SIGSTOP, NULL, 0) && errno != ESRCH) {
		snprintf(why, DRIVER_WHY_BYTES, "process %d cannot be stopped: %s", process->pid, strerror(errno));
		return RDMAMIG_E_DRIVER;
	}
	for (;;) {
		if (!census_take(process, &census))
			return dead_say(process, why);
		if (census.stopped == census.live && census.live == all_stopped)
			return RDMAMIG_OK;
		all_stopped = census.stopped == census.live ? census.live : 0;
		if (all_stopped)
			continue;
		if (clock_now_ns(&clock_real) >= deadline)
			break;
		nap(LOOK_AGAIN_MS);
	}
	snprintf(why, DRIVER_WHY_BYTES, "thread %s of process %d did not stop within %llu ms: %s", census.other_tid, process->pid,
		 (unsigned long long)timeout_ms, census.other_state == 't' ? "a debugger holds it; detach that" :
		 census.other_state == 'D' ? "it waits in the kernel (state D), for a disk or a server that does not answer" : "try again");
	return RDMAMIG_E_DRIVER;
}

enum rdmamig_status process_run(const struct process *process, uint64_t timeout_ms, char *why)
{
	uint64_t deadline = clock_after_ms(&clock_real, timeout_ms);
	for (;;) {
		struct census census;
		pidfd_send_signal(process->pidfd, SIGCONT, NULL, 0);	/* again each time: another may be stopping it */
		if (!census_take(process, &census))
			return dead_say(process, why);
		if (census.stopped == 0)
			return RDMAMIG_OK;
		if (clock_now_ns(&clock_real) >= deadline)
			break;
		nap(LOOK_AGAIN_MS);
	}
	snprintf(why, DRIVER_WHY_BYTES, "process %d stays stopped although continued for %llu ms: who else stops it?", process->pid,
		 (unsigned long long)timeout_ms);
	return RDMAMIG_E_NOT_RUNNING;
}
