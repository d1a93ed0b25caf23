/* SPDX-License-Identifier: BSD-2-Clause */
/* pacer.h - keeps what is sent below --bandwidth. Bytes are paid for in advance, a batch at a time. */
#ifndef MIGRATION_PACER_H
#define MIGRATION_PACER_H

#include <stdint.h>

#include "base/clock.h"

struct pacer {
	uint64_t bytes_per_s;	/* 0: no limit */
	uint64_t free_ns;	/* when what was sent so far is paid for */
};

/* pacer_ready_ns - when the next bytes may go; in the past: now. */
static inline uint64_t pacer_ready_ns(const struct pacer *pacer)
{
	return pacer->bytes_per_s ? pacer->free_ns : 0;
}

static inline void pacer_spend(struct pacer *pacer, uint64_t now_ns, uint64_t bytes)
{
	if (!pacer->bytes_per_s)
		return;
	/* Time nobody used is gone: a burst after a pause would exceed the limit. 20 ms of it smooth a late wake-up. */
	uint64_t floor_ns = now_ns > 20 * NS_PER_MS ? now_ns - 20 * NS_PER_MS : 0;
	if (pacer->free_ns < floor_ns)
		pacer->free_ns = floor_ns;
	pacer->free_ns += (uint64_t)((double)bytes * 1e9 / (double)pacer->bytes_per_s);
}

/* pacer_refund - so many of them did not go after all: they were zero. */
static inline void pacer_refund(struct pacer *pacer, uint64_t bytes)
{
	if (pacer->bytes_per_s)
		pacer->free_ns -= (uint64_t)((double)bytes * 1e9 / (double)pacer->bytes_per_s);
}

#endif
