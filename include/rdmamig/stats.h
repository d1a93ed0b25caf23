/* SPDX-License-Identifier: BSD-2-Clause */
/* stats.h - what a session has done so far. Names are those of QEMU's query-migrate. */
#ifndef RDMAMIG_STATS_H
#define RDMAMIG_STATS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* QEMU's MigrationStatus, as far as a session can be in it. */
enum rdmamig_state {
	RDMAMIG_STATE_NONE = 0,
	RDMAMIG_STATE_SETUP,			/* connecting, handshake, dest made zero */
	RDMAMIG_STATE_ACTIVE,			/* rounds */
	RDMAMIG_STATE_PRE_SWITCHOVER,		/* guest stopped, last round */
	RDMAMIG_STATE_DEVICE,			/* device state, READY, the decision */
	RDMAMIG_STATE_COMPLETED,
	RDMAMIG_STATE_CANCELLING,
	RDMAMIG_STATE_CANCELLED,
	RDMAMIG_STATE_FAILED,
};

/* rdmamig_state_name - "pre-switchover" and so on. Any thread; never NULL. */
const char *rdmamig_state_name(enum rdmamig_state state);

/* A snapshot; all counters start at 0 with the session. Times are ms unless the name says otherwise. */
struct rdmamig_stats {
	size_t size;			/* in: sizeof(struct rdmamig_stats) */
	enum rdmamig_state status;

	uint64_t total_time_ms;		/* since start */
	uint64_t setup_time_ms;		/* start to the first round */
	uint64_t downtime_ms;		/* guest stopped at the source to running at dest, as the source saw it */
	uint64_t expected_downtime_ms;	/* rest / bandwidth */

	uint64_t total_bytes;		/* size of all blocks */
	uint64_t transferred_bytes;	/* on the wire: payload, headers and control messages */
	uint64_t remaining_bytes;	/* dirty pages not yet sent in this round */
	uint64_t normal_pages;		/* pages whose bytes were sent, repeats included */
	uint64_t duplicate_pages;	/* pages sent as zero, repeats included */
	uint64_t dirty_sync_count;	/* rounds begun */
	uint64_t dirty_pages_rate;	/* pages/s found dirty at the last sync */
	uint64_t page_size;		/* 4096 */
	double mbps;			/* megabits/s of the current or last round */

	uint64_t data_bytes;		/* payload bytes placed and acknowledged */
	uint64_t data_time_us;		/* first WRITE posted to last ack */
	uint64_t attach_pause_us;	/* how long making the userfaultfd held the guest up */
	unsigned channels;
	unsigned throttle_pct;
	double cpu_user_s;		/* this process */
	double cpu_system_s;
	double peer_cpu_user_s;		/* the other end, as it last told */
	double peer_cpu_system_s;
	int verified;			/* 1 hashes equal, 0 not equal, -1 not asked for or not done */
};

#ifdef __cplusplus
}
#endif
#endif
