/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sender.h - the source's end of a channel: takes batches, splits off zero pages, places the rest, fences.
 *
 * A batch goes in by sender_give() and comes out of the session's queue of described batches, its lists filled in and
 * its fence posted; the session sends the description and waits for the ack.
 */
#ifndef MULTIFD_SENDER_H
#define MULTIFD_SENDER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <rdmamig/status.h>

#include "base/error.h"
#include "base/queue.h"
#include "base/stepper.h"
#include "multifd/batch.h"
#include "multifd/sink.h"
#include "ram/zero.h"

enum { SENDER_WINDOW = 16 };	/* batches of one channel that are not acked, at most CONN_FENCES_MAX; dest refuses more */

struct sender {
	struct stepper stepper;
	struct sink *sink;
	struct error *error;
	uint16_t channel;
	uint32_t epoch;
	zero_scan *scan;		/* NULL: zero detection is off */
	struct queue todo;
	struct queue *described;	/* the session's */
	struct batch *batch;		/* in hand */
	enum { SENDER_IDLE, SENDER_PLACING, SENDER_FENCING } doing;
	uint32_t sequence;		/* of the last batch taken */
	unsigned given;			/* batches given, for the window; session thread */
	_Atomic int status;		/* enum rdmamig_status; not OK: the channel is dead and its thread has ended */
	_Atomic bool stop;
};

/*
 * sender_init - @sink, @described and @error must outlive it. sender_start() starts its thread; sender_fini() stops and
 * joins it, but does not close the sink. Batches in hand stay the pool's.
 */
enum rdmamig_status sender_init(struct sender *sender, const struct clock *clock, struct error *error, uint16_t channel,
				uint32_t epoch, struct sink *sink, zero_scan *scan, struct queue *described);
enum rdmamig_status sender_start(struct sender *sender);
void sender_fini(struct sender *sender);

/* sender_has_room - may another batch be given without exceeding the window? Session thread. */
bool sender_has_room(struct sender *sender);
void sender_give(struct sender *sender, struct batch *batch);
/* sender_unacked - batches given and not yet acked. Session thread. */
unsigned sender_unacked(struct sender *sender);
enum rdmamig_status sender_status(struct sender *sender);

#endif
