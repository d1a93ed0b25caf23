/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * source.h - the source's phases, and what they keep.
 *
 *   connect -> hello -> blocks -> join -> arm -> round (sync, send, barrier)* -> stop -> last round -> [verify]
 *   -> state -> ready -> commit -> done;   any failure before COMMIT -> undo -> goodbye;   a lost dest after it -> ask
 */
#ifndef MIGRATION_SOURCE_H
#define MIGRATION_SOURCE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/queue.h"
#include "migration/converge.h"
#include "migration/pacer.h"
#include "migration/record.h"
#include "migration/session.h"
#include "migration/verify.h"
#include "multifd/keys.h"
#include "multifd/peer_sink.h"
#include "multifd/sender.h"
#include "ram/refills.h"

struct source {
	struct conn *conn;		/* control, until it is opened */
	unsigned channels;
	struct sender senders[RDMAMIG_CHANNELS_MAX];
	struct peer_sink sinks[RDMAMIG_CHANNELS_MAX];
	uint64_t tokens[RDMAMIG_CHANNELS_MAX];
	unsigned joined;		/* channels dest has confirmed */
	unsigned senders_ready;		/* inited */
	struct keys keys;
	struct tracker tracker;
	bool tracker_open;
	struct refills refills;		/* beside a tracker of another process */
	zero_scan *scan;

	/* Batches: in the pool, with a channel, described, or described to dest and waiting for its ack. */
	struct batch *batches;
	unsigned batch_count;
	struct queue pool;
	struct queue described;
	struct batch *sending;		/* described, its message found no room yet */
	struct batch *unacked[RDMAMIG_CHANNELS_MAX][SENDER_WINDOW];	/* by sequence */
	uint32_t told_sequence[RDMAMIG_CHANNELS_MAX];
	uint32_t acked_sequence[RDMAMIG_CHANNELS_MAX];

	/* The round. */
	unsigned walk_block;		/* where the walk over the bitmaps is */
	uint64_t walk_page;
	bool walk_holes;		/* holes first, then dirty pages */
	uint64_t batch_pages_max;
	struct batch *filling;
	unsigned next_channel;
	uint64_t round_start_ns;
	uint64_t round_normal_pages, round_zero_pages;
	uint64_t round_dirty_pages;
	uint64_t progress_ns;		/* last ack */
	uint64_t first_post_ns, last_ack_ns;
	bool is_last_round;
	bool overtime;			/* --timeout-s has passed and its action is force */
	struct converge converge;
	struct pacer pacer;
	uint64_t converge_deadline_ns;
	uint64_t last_sync_ns;

	/* The end. */
	bool guest_stopped;		/* NEED_STOP was asked: downtime runs */
	bool guest_runs;		/* it ran when it was found */
	uint64_t stop_ns;
	bool state_given;		/* by the driver, all of it */
	struct verify verify;
	bool dest_may_hold;		/* the last of the state is sent: dest may be in READY */
	bool committed;
	enum rdmamig_status failed;	/* why the session undoes */
	bool told;			/* the last message is on its way */
	struct endpoint *caller;	/* for asking a dest that was lost */
	struct error caller_error;
	struct record_talk talk;
	uint64_t next_call_ns;
};

enum rdmamig_status source_new(struct rdmamig_session *session);
void source_free(struct rdmamig_session *session);	/* after the session thread has ended */
phase_fn source_connect;				/* the first phase */
/* source_fail - a phase returned @status, or the session was cancelled. */
void source_fail(struct rdmamig_session *session, enum rdmamig_status status);
bool source_can_cancel(const struct rdmamig_session *session);

/* For the other files of the source. */
void source_disarm(struct rdmamig_session *session);	/* source.c: nothing of ours is left in the guest; any number of times */
phase_fn source_ending;			/* handover.c: guest stopped, last round over */
void source_round_begin(struct rdmamig_session *session);
void source_stop(struct rdmamig_session *session);	/* rounds.c: NEED_STOP, then the last round */
enum rdmamig_status source_look(struct rdmamig_session *session);	/* rounds.c: extents born and died */
enum rdmamig_status source_listen(struct rdmamig_session *session);	/* rounds.c: take all messages, look at all channels */
enum rdmamig_status source_take_common(struct rdmamig_session *session, const struct message *message);
void source_count_traffic(struct rdmamig_session *session);
void source_stop_channels(struct rdmamig_session *session);

#endif
