/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * converge.c - the arithmetic of convergence.
 * Neighbour: rounds.c, which feeds it. Session thread.
 */
#include "migration/converge.h"

void converge_round(struct converge *converge, uint64_t bytes, uint64_t us)
{
	if (bytes >= CONVERGE_TELLS_BYTES && us > 0)
		converge->bandwidth = (uint64_t)((double)bytes * 1e6 / (double)us);
}

bool converge_sync(struct converge *converge, uint64_t dirty_bytes, uint64_t us)
{
	converge->sync_us = us;
	if (!converge->bandwidth) {
		converge->expected_downtime_ms = us / 1000;
		return dirty_bytes <= CONVERGE_FEW_BYTES;
	}
	/* The guest stands still for the last sync too. */
	double sending_ms = (double)dirty_bytes * 1000 / (double)converge->bandwidth;
	converge->expected_downtime_ms = (uint64_t)(sending_ms + (double)us / 1000 + 0.5);
	return converge->expected_downtime_ms <= converge->downtime_ms;
}

bool converge_throttle(struct converge *converge, uint64_t dirty_bytes, uint64_t sent_bytes)
{
	if (dirty_bytes * 2 <= sent_bytes) {
		converge->stalled_rounds = 0;
		return false;
	}
	if (++converge->stalled_rounds < 2 || converge->throttle_pct == CONVERGE_THROTTLE_MAX)
		return false;
	converge->stalled_rounds = 0;
	converge->throttle_pct = converge->throttle_pct ? converge->throttle_pct + CONVERGE_THROTTLE_STEP : CONVERGE_THROTTLE_FIRST;
	if (converge->throttle_pct > CONVERGE_THROTTLE_MAX)
		converge->throttle_pct = CONVERGE_THROTTLE_MAX;
	return true;
}
