/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * receiver.h - dest's end of a channel: a batch is applied when its fence and its description are both there.
 *
 * Fences come in order on the conn, descriptions in order from the session; the window of unapplied batches is bounded,
 * so a description lives in a slot of a ring and three counters are all the state two threads share:
 * described (session -> channel), applied (channel -> session), and the channel's own count of fences.
 */
#ifndef MULTIFD_RECEIVER_H
#define MULTIFD_RECEIVER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <rdmamig/status.h>

#include "base/error.h"
#include "base/stepper.h"
#include "multifd/sender.h"
#include "ram/block.h"
#include "transport/endpoint.h"
#include "wire/message.h"

struct receiver {
	struct stepper stepper;
	struct conn *conn;
	struct error *error;
	struct block *blocks;
	const struct wake *session;	/* woken when something was applied, or the channel died */
	struct message_batch slots[SENDER_WINDOW];
	_Atomic uint32_t described;
	_Atomic uint32_t applied;
	uint32_t fenced;
	_Atomic int status;		/* enum rdmamig_status; not OK: dead, its thread has ended */
	_Atomic bool stop;
};

/*
 * receiver_init - @conn is the receiver's from now on. receiver_fini() stops and joins the thread, then frees the conn:
 * once it returns nothing more is placed by this channel (rule R7).
 */
enum rdmamig_status receiver_init(struct receiver *receiver, const struct clock *clock, struct error *error, struct conn *conn,
				  struct block *blocks, const struct wake *session);
enum rdmamig_status receiver_start(struct receiver *receiver);
void receiver_fini(struct receiver *receiver);

/*
 * receiver_describe - the next description; its runs are already checked against the block. Session thread.
 * E_PROTOCOL: not the next sequence, or more unapplied batches than the window.
 */
enum rdmamig_status receiver_describe(struct receiver *receiver, const struct message_batch *description);
uint32_t receiver_applied(struct receiver *receiver);
bool receiver_is_idle(struct receiver *receiver);	/* all that was described is applied */
enum rdmamig_status receiver_status(struct receiver *receiver);

#endif
