/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * converge.h - when to stop the guest: what is left, at the bandwidth measured, fits the downtime.
 *
 * Arithmetic only, no I/O. Zero pages do not count as bandwidth. Bandwidth is that of rounds that sent enough to tell.
 */
#ifndef MIGRATION_CONVERGE_H
#define MIGRATION_CONVERGE_H

#include <stdbool.h>
#include <stdint.h>

struct converge {
	uint64_t downtime_ms;		/* the limit */
	uint64_t bandwidth;		/* bytes/s of pages, measured; 0: not yet */
	uint64_t sync_us;		/* of the last sync */
	uint64_t expected_downtime_ms;
	unsigned stalled_rounds;	/* in a row: more was dirtied than half of what was sent */
	unsigned throttle_pct;
};

enum {
	CONVERGE_TELLS_BYTES = 1 << 20,		/* fewer say nothing about bandwidth */
	CONVERGE_FEW_BYTES = 1 << 20,		/* so little fits any downtime */
	CONVERGE_THROTTLE_FIRST = 20,		/* QEMU's cpu-throttle-initial, -increment, max-cpu-throttle */
	CONVERGE_THROTTLE_STEP = 10,
	CONVERGE_THROTTLE_MAX = 99,
};

/* converge_round - a round placed @bytes of normal pages in @us. */
void converge_round(struct converge *converge, uint64_t bytes, uint64_t us);

/* converge_sync - a sync took @us and found @dirty_bytes. True: stop the guest now. */
bool converge_sync(struct converge *converge, uint64_t dirty_bytes, uint64_t us);

/* converge_throttle - after a sync: true when the guest must be slowed (more), to throttle_pct. */
bool converge_throttle(struct converge *converge, uint64_t dirty_bytes, uint64_t sent_bytes);

#endif
