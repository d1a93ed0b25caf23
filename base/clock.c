/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * clock.c - real time and ppoll(2) behind the clock interface.
 * Neighbour: stepper.c, whose thread does the sleeping. Any thread.
 */
#include "base/clock.h"

#include <assert.h>
#include <time.h>

static uint64_t real_now_ns(void *opaque)
{
	(void)opaque;
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static void real_sleep(void *opaque, struct pollfd *fds, unsigned count, uint64_t deadline_ns)
{
	uint64_t now = real_now_ns(opaque);
	uint64_t left = deadline_ns > now ? deadline_ns - now : 0;
	struct timespec timeout = { .tv_sec = (time_t)(left / NS_PER_S), .tv_nsec = (long)(left % NS_PER_S) };
	ppoll(fds, count, deadline_ns == CLOCK_NEVER ? NULL : &timeout, NULL);	/* EINTR is just an early look */
}

const struct clock clock_real = { .now_ns = real_now_ns, .sleep = real_sleep };

void wait_add_fd(struct wait *wait, int fd, short events)
{
	assert(wait->count < WAIT_FDS_MAX);
	wait->fds[wait->count++] = (struct pollfd){ .fd = fd, .events = events };
}

void wait_sleep(struct wait *wait, const struct clock *clock)
{
	clock->sleep(clock->opaque, wait->fds, wait->count, wait->deadline_ns);
}
