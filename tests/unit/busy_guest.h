/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * busy_guest.h - a guest to stop in tests: a child with 8 threads that count in shared memory.
 *
 * Two of them never leave user space, the others sleep in the kernel most of the time. It dies with the test.
 */
#ifndef TESTS_BUSY_GUEST_H
#define TESTS_BUSY_GUEST_H

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { GUEST_THREADS = 8, GUEST_SPINNERS = 2, GUEST_QUIET_MS = 30, GUEST_SEEN_MS = 20000 };

struct busy_guest {
	pid_t pid;
	uint64_t *counters;
};

struct busy_thread {
	uint64_t *counter;
	bool sleeps;
	int ready_fd;
};

static inline void *busy_thread_main(void *arg)
{
	struct busy_thread *self = arg;
	ssize_t n = write(self->ready_fd, "", 1);
	(void)n;
	for (;;) {
		__atomic_fetch_add(self->counter, 1, __ATOMIC_RELAXED);
		if (self->sleeps)
			usleep(200);
	}
	return NULL;
}

static inline void busy_guest_main(uint64_t *counters, int ready_fd)
{
	static struct busy_thread threads[GUEST_THREADS];
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (unsigned i = 0; i < GUEST_THREADS; i++) {
		pthread_t thread;
		threads[i] = (struct busy_thread){ &counters[i], i >= GUEST_SPINNERS, ready_fd };
		if (pthread_create(&thread, NULL, busy_thread_main, &threads[i]))
			_exit(1);
	}
	for (;;)
		pause();
}

static inline bool busy_guest_start(struct busy_guest *guest)
{
	int ready[2];
	char byte;
	unsigned started = 0;
	guest->counters = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (guest->counters == MAP_FAILED || pipe(ready))
		return false;
	guest->pid = fork();
	if (guest->pid == 0)
		busy_guest_main(guest->counters, ready[1]);
	close(ready[1]);
	while (started < GUEST_THREADS && read(ready[0], &byte, 1) == 1)
		started++;
	close(ready[0]);
	return started == GUEST_THREADS;
}

static inline void busy_guest_end(struct busy_guest *guest)
{
	kill(guest->pid, SIGKILL);
	waitpid(guest->pid, NULL, 0);
	munmap(guest->counters, 4096);
}

static inline void busy_guest_read(const struct busy_guest *guest, uint64_t out[GUEST_THREADS])
{
	for (unsigned i = 0; i < GUEST_THREADS; i++)
		out[i] = __atomic_load_n(&guest->counters[i], __ATOMIC_RELAXED);
}

/* No thread counts on for a while. */
static inline bool busy_guest_is_still(const struct busy_guest *guest)
{
	uint64_t before[GUEST_THREADS], after[GUEST_THREADS];
	busy_guest_read(guest, before);
	usleep(GUEST_QUIET_MS * 1000);
	busy_guest_read(guest, after);
	return memcmp(before, after, sizeof(before)) == 0;
}

/* Every thread counts on, sooner or later. */
static inline bool busy_guest_moves(const struct busy_guest *guest)
{
	uint64_t before[GUEST_THREADS], now[GUEST_THREADS];
	busy_guest_read(guest, before);
	for (unsigned ms = 0; ms < GUEST_SEEN_MS; ms++) {
		unsigned moved = 0;
		busy_guest_read(guest, now);
		for (unsigned i = 0; i < GUEST_THREADS; i++)
			moved += now[i] != before[i];
		if (moved == GUEST_THREADS)
			return true;
		usleep(1000);
	}
	return false;
}

#endif
