/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * clock.h - the only clock and the only wait.
 *
 * Everything that waits fills a struct wait with what it watches and until when, and returns; whoever drives it (a
 * stepper's thread, or one day a simulator) does the waiting. So nothing below ever blocks without a deadline.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

struct clock {
	uint64_t (*now_ns)(void *opaque);
	/* Sleep until one of @fds is ready or @deadline_ns has passed; revents are set. */
	void (*sleep)(void *opaque, struct pollfd *fds, unsigned count, uint64_t deadline_ns);
	void *opaque;
};

/* CLOCK_MONOTONIC and ppoll(2). */
extern const struct clock clock_real;

#define NS_PER_MS 1000000ull
#define NS_PER_S  1000000000ull
#define CLOCK_NEVER UINT64_MAX

static inline uint64_t clock_now_ns(const struct clock *clock)
{
	return clock->now_ns(clock->opaque);
}

static inline uint64_t clock_after_ms(const struct clock *clock, uint64_t ms)
{
	return clock_now_ns(clock) + ms * NS_PER_MS;
}

enum { WAIT_FDS_MAX = 48 };

struct wait {
	struct pollfd fds[WAIT_FDS_MAX];
	unsigned count;
	uint64_t deadline_ns;	/* the earliest anybody asked for */
};

static inline void wait_reset(struct wait *wait)
{
	wait->count = 0;
	wait->deadline_ns = CLOCK_NEVER;
}

/* wait_add_fd - a negative @fd is ignored, as by poll(2). */
void wait_add_fd(struct wait *wait, int fd, short events);

static inline void wait_until(struct wait *wait, uint64_t deadline_ns)
{
	if (deadline_ns < wait->deadline_ns)
		wait->deadline_ns = deadline_ns;
}

static inline void wait_now(struct wait *wait)
{
	wait->deadline_ns = 0;
}

void wait_sleep(struct wait *wait, const struct clock *clock);

#endif
