/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_attach.c - a userfaultfd is taken out of processes that compute, sleep, wait, are stopped and get signals, and
 * they notice nothing: no EINTR, no descriptor, no signal lost or made up, stopped if they were stopped.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ram/attach.h"
#include "ram/uffd.h"

/* What the victim tells, in memory it shares with us. */
struct account {
	_Atomic uint64_t turns;		/* of whatever it does */
	_Atomic uint64_t surprises;	/* EINTR, a wrong result */
	_Atomic uint64_t signals;
	_Atomic uint32_t futex;
	_Atomic bool is_ready;
};

struct victim {
	pid_t pid;
	int socket;		/* it reads the other end */
	struct account *account;
};

static struct account *account;		/* for signal handlers, in the child */

static void on_signal(int signal)
{
	(void)signal;
	atomic_fetch_add(&account->signals, 1);
}

static void *compute(void *arg)
{
	volatile double x = 1;
	(void)arg;
	for (;;)
		x = x * 1.0000001 + 1;
	return NULL;
}

/* Values in registers of every kind survive, or the sums differ. */
static void victim_compute(int socket)
{
	(void)socket;
	for (;;) {
		uint64_t a = 1, b = 2, c = 3, d = 4;
		double x = 1.0;
		for (unsigned i = 0; i < 10000; i++)
			a = a * 31 + b, b = b * 37 + c, c = c * 41 + d, d = d * 43 + a, x = x * 1.0001;
		uint64_t sum = a ^ b ^ c ^ d;
		static uint64_t first_sum;
		static double first_x;
		if (!first_sum)
			first_sum = sum, first_x = x;
		if (sum != first_sum || x != first_x)
			atomic_fetch_add(&account->surprises, 1);
		usleep(0);	/* ThreadSanitizer delivers signals in calls it knows only */
		atomic_fetch_add(&account->turns, 1);
	}
}

static void victim_read(int socket)
{
	for (;;) {
		char byte;
		if (read(socket, &byte, 1) != 1)
			atomic_fetch_add(&account->surprises, 1);
		else
			atomic_fetch_add(&account->turns, 1);
	}
}

static void victim_sleep(int socket)
{
	(void)socket;
	for (;;) {
		if (nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL))
			atomic_fetch_add(&account->surprises, 1);
		atomic_fetch_add(&account->turns, 1);
	}
}

static void victim_futex(int socket)
{
	(void)socket;
	for (;;) {
		/* With a timeout it goes on through restart_syscall(2). */
		struct timespec timeout = { .tv_nsec = 2000000 };
		if (!syscall(SYS_futex, &account->futex, FUTEX_WAIT, 0, &timeout, NULL, 0) || errno != ETIMEDOUT)
			atomic_fetch_add(&account->surprises, 1);
		atomic_fetch_add(&account->turns, 1);
	}
}

/* As QEMU's main loop: poll with a timeout and a signal mask of its own for the time. */
static void victim_ppoll(int socket)
{
	sigset_t none;
	sigemptyset(&none);
	for (;;) {
		struct pollfd fd = { .fd = socket, .events = POLLIN };
		if (ppoll(&fd, 1, &(struct timespec){ .tv_nsec = 2000000 }, &none))
			atomic_fetch_add(&account->surprises, 1);
		atomic_fetch_add(&account->turns, 1);
	}
}

static void victim_start(struct victim *victim, void (*job)(int socket), unsigned threads, bool has_filter)
{
	int sockets[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
	account = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	victim->account = account;
	victim->pid = fork();
	if (victim->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(sockets[0]);
		struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
		sigaction(SIGUSR1, &action, NULL);
		sigaction(SIGTRAP, &action, NULL);
		sigset_t all, none;
		sigfillset(&all);
		sigprocmask(SIG_SETMASK, &all, &none);	/* signals are for the thread that is attached to */
		for (unsigned i = 0; i < threads; i++) {
			pthread_t thread;
			pthread_create(&thread, NULL, compute, NULL);
		}
		sigprocmask(SIG_SETMASK, &none, NULL);
		if (has_filter) {	/* dies of userfaultfd(2) */
			struct sock_filter filter[] = {
				BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
				BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_userfaultfd, 0, 1),
				BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
				BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
			};
			prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
			if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &(struct sock_fprog){ .len = 4, .filter = filter }))
				_exit(1);
		}
		atomic_store(&account->is_ready, true);
		job(sockets[1]);
	}
	close(sockets[1]);
	victim->socket = sockets[0];
	while (!atomic_load(&victim->account->is_ready))
		sched_yield();
}

static void victim_stop(struct victim *victim)
{
	kill(victim->pid, SIGKILL);
	waitpid(victim->pid, NULL, 0);
	close(victim->socket);
	munmap(victim->account, 4096);
}

static unsigned descriptors(pid_t pid)
{
	char path[64];
	unsigned count = 0;
	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	DIR *dir = opendir(path);
	assert_non_null(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

static void status_line(pid_t pid, const char *name, char *out, size_t out_bytes)
{
	char path[64], line[256];
	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	FILE *status = fopen(path, "r");
	*out = '\0';
	while (fgets(line, sizeof(line), status))
		if (strncmp(line, name, strlen(name)) == 0)
			snprintf(out, out_bytes, "%s", line + strlen(name));
	fclose(status);
}

/*
 * On a machine so crowded that a process gets no CPU for 2 s, attaching is called off; the process must notice nothing
 * of that either. A close(2) called off leaves its descriptor: the number of those that may have been.
 */
static unsigned attach_once(const struct victim *victim)
{
	struct attached attached;
	struct error error;
	enum rdmamig_status st = RDMAMIG_E_TRACKER;
	unsigned called_off = 0;
	for (; st == RDMAMIG_E_TRACKER && called_off < 10; called_off++) {
		error_init(&error);
		st = attach_uffd(victim->pid, &attached, &error);
		if (st && st != RDMAMIG_E_TRACKER)
			fail_msg("%s", error.text);
		error_fini(&error);
	}
	assert_int_equal(st, RDMAMIG_OK);
	uint64_t features;
	assert_int_equal(uffd_features(attached.uffd, &features), 0);
	assert_true(fcntl(attached.uffd, F_GETFD) & FD_CLOEXEC);
	assert_true(attached.pause_us > 0);
	close(attached.uffd);
	return called_off - 1;
}

static void turns_wait(const struct victim *victim, uint64_t turns)
{
	while (atomic_load(&victim->account->turns) < turns)
		sched_yield();
}

static void many(void (*job)(int socket), unsigned threads, bool reads)
{
	struct victim victim;
	char mask_before[64], mask_after[64];
	victim_start(&victim, job, threads, false);
	if (!reads)
		turns_wait(&victim, 1);
	unsigned before = descriptors(victim.pid), called_off = 0;
	status_line(victim.pid, "SigBlk:", mask_before, sizeof(mask_before));
	for (unsigned i = 0; i < 200; i++) {
		called_off += attach_once(&victim);
		if (reads && i % 4 == 0)
			assert_int_equal(write(victim.socket, "x", 1), 1);
	}
	turns_wait(&victim, reads ? 50 : atomic_load(&victim.account->turns) + 2);
	assert_int_equal(atomic_load(&victim.account->surprises), 0);
	assert_int_equal(atomic_load(&victim.account->signals), 0);
	assert_in_range(descriptors(victim.pid), before, before + called_off);
	if (job != victim_ppoll) {
		status_line(victim.pid, "SigBlk:", mask_after, sizeof(mask_after));
		assert_string_equal(mask_before, mask_after);
	}
	victim_stop(&victim);
}

static void test_computing(void **state)
{
	(void)state;
	many(victim_compute, 0, false);
	many(victim_compute, 2, false);
}

static void test_waiting(void **state)
{
	(void)state;
	many(victim_read, 2, true);
	many(victim_sleep, 1, false);
	many(victim_futex, 1, false);
	many(victim_ppoll, 1, false);
}

struct sender {
	pid_t pid;
	_Atomic bool is_ending;
	unsigned sent;
	struct account *account;
};

/* One at a time, so that none is merged with another: all must arrive. */
static void *send_signals(void *arg)
{
	struct sender *sender = arg;
	while (!atomic_load(&sender->is_ending)) {
		kill(sender->pid, sender->sent % 8 ? SIGUSR1 : SIGTRAP);
		sender->sent++;
		while (atomic_load(&sender->account->signals) < sender->sent)
			sched_yield();
	}
	return NULL;
}

static void under_signals(void (*job)(int socket), unsigned threads)
{
	struct victim victim;
	victim_start(&victim, job, threads, false);
	struct sender sender = { .pid = victim.pid, .account = victim.account };
	pthread_t thread;
	assert_int_equal(pthread_create(&thread, NULL, send_signals, &sender), 0);
	for (unsigned i = 0; i < 100; i++)
		attach_once(&victim);
	atomic_store(&sender.is_ending, true);
	pthread_join(thread, NULL);		/* hangs, until alarm(), if one was lost */
	assert_int_equal(atomic_load(&victim.account->signals), sender.sent);
	assert_true(sender.sent > 0);
	victim_stop(&victim);
}

static void test_signals(void **state)
{
	(void)state;
	under_signals(victim_compute, 0);
	under_signals(victim_compute, 2);
	under_signals(victim_ppoll, 0);
}

static void state_wait(pid_t pid, char wanted)
{
	char state[64];
	do
		status_line(pid, "State:\t", state, sizeof(state));
	while (state[0] != wanted);
}

static void test_stopped(void **state)
{
	(void)state;
	struct victim victim;
	victim_start(&victim, victim_compute, 2, false);
	turns_wait(&victim, 1);
	for (unsigned i = 0; i < 50; i++) {
		int status;
		kill(victim.pid, SIGSTOP);
		assert_int_equal(waitpid(victim.pid, &status, WUNTRACED), victim.pid);
		uint64_t turns = atomic_load(&victim.account->turns);
		attach_once(&victim);
		state_wait(victim.pid, 'T');		/* hangs if it runs */
		assert_int_equal(atomic_load(&victim.account->turns), turns);
		kill(victim.pid, SIGCONT);
		turns_wait(&victim, turns + 1);
	}
	assert_int_equal(atomic_load(&victim.account->surprises), 0);
	victim_stop(&victim);
}

/* Stopped and continued at any moment of it. */
static void *stop_and_go(void *arg)
{
	struct sender *sender = arg;
	while (!atomic_load(&sender->is_ending)) {
		kill(sender->pid, SIGSTOP);
		sched_yield();
		kill(sender->pid, SIGCONT);
	}
	return NULL;
}

static void test_stopped_meanwhile(void **state)
{
	(void)state;
	struct victim victim;
	victim_start(&victim, victim_compute, 1, false);
	struct sender sender = { .pid = victim.pid };
	pthread_t thread;
	assert_int_equal(pthread_create(&thread, NULL, stop_and_go, &sender), 0);
	for (unsigned i = 0; i < 100; i++)
		attach_once(&victim);
	atomic_store(&sender.is_ending, true);
	pthread_join(thread, NULL);
	turns_wait(&victim, atomic_load(&victim.account->turns) + 2);
	assert_int_equal(atomic_load(&victim.account->surprises), 0);
	victim_stop(&victim);
}

static void test_seccomp(void **state)
{
	(void)state;
	struct victim victim;
	victim_start(&victim, victim_compute, 0, true);
	attach_once(&victim);
	turns_wait(&victim, atomic_load(&victim.account->turns) + 2);
	victim_stop(&victim);
}

static void *trace(void *arg)
{
	struct sender *sender = arg;
	ptrace(PTRACE_SEIZE, sender->pid, NULL, NULL);
	atomic_store(&sender->account->futex, 1);
	while (!atomic_load(&sender->is_ending))
		sched_yield();
	return NULL;
}

static void test_refusals(void **state)
{
	(void)state;
	struct attached attached = { .uffd = -1 };
	assert_int_equal(attach_uffd(0x3ffffff, &attached, NULL), RDMAMIG_E_NO_PROCESS);

	struct victim victim;
	victim_start(&victim, victim_compute, 0, false);
	struct sender tracer = { .pid = victim.pid, .account = victim.account };
	pthread_t thread;
	assert_int_equal(pthread_create(&thread, NULL, trace, &tracer), 0);
	while (!atomic_load(&victim.account->futex))
		sched_yield();
	assert_int_equal(attach_uffd(victim.pid, &attached, NULL), RDMAMIG_E_BUSY);
	atomic_store(&tracer.is_ending, true);
	pthread_join(thread, NULL);
	attach_once(&victim);

	/* No descriptor is free there. */
	struct rlimit { uint64_t now, max; } limit = { 3, 3 };
	assert_int_equal(syscall(SYS_prlimit64, victim.pid, 7, &limit, NULL), 0);
	unsigned before = descriptors(victim.pid);
	assert_int_equal(attach_uffd(victim.pid, &attached, NULL), RDMAMIG_E_TRACKER);
	assert_int_equal(descriptors(victim.pid), before);
	turns_wait(&victim, atomic_load(&victim.account->turns) + 2);

	/* Killed: a zombie has nothing to attach to. */
	kill(victim.pid, SIGKILL);
	siginfo_t info;
	waitid(P_PID, (id_t)victim.pid, &info, WEXITED | WNOWAIT);
	assert_int_not_equal(attach_uffd(victim.pid, &attached, NULL), RDMAMIG_OK);
	assert_int_equal(attached.uffd, -1);
	victim_stop(&victim);
}

/* A user without privileges, and a process of the same user. */
static void test_unprivileged(void **state)
{
	(void)state;
	if (geteuid())
		skip();
	pid_t pid = fork();
	if (pid == 0) {
		struct victim victim;
		if (setgid(65534) || setuid(65534))
			_exit(2);
		victim_start(&victim, victim_compute, 0, false);
		prctl(PR_SET_DUMPABLE, 1);
		struct attached attached;
		enum rdmamig_status st = attach_uffd(victim.pid, &attached, NULL);
		/* The child of setuid() is not dumpable: refused. It is never half done. */
		bool ok = st == RDMAMIG_E_PERMISSION || (!st && attached.is_user_only);
		kill(victim.pid, SIGKILL);
		_exit(ok ? 0 : 1);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

int main(void)
{
	alarm(300);		/* far more than it takes: a lost signal or a stuck process hangs */
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_computing),
		cmocka_unit_test(test_waiting),
		cmocka_unit_test(test_signals),
		cmocka_unit_test(test_stopped),
		cmocka_unit_test(test_stopped_meanwhile),
		cmocka_unit_test(test_seccomp),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_unprivileged),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
