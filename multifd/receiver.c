/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * receiver.c - dest's channel thread: joins fence and description, updates the receivedmap, zeroes what R4 says.
 * Neighbours: transport placed the bytes, migration/dest.c brings descriptions and sends acks. Runs on its own thread.
 */
#include "multifd/receiver.h"

#include <stdio.h>
#include <string.h>

#include "multifd/apply.h"

static bool receiver_fail(struct receiver *receiver, enum rdmamig_status status)
{
	atomic_store_explicit(&receiver->status, status, memory_order_release);	/* with receiver_status() */
	wake_up(receiver->session);
	return false;
}

static enum rdmamig_status receiver_fence(struct receiver *receiver, uint32_t sequence)
{
	uint32_t applied = atomic_load_explicit(&receiver->applied, memory_order_relaxed);
	if (sequence != receiver->fenced + 1 || sequence - applied > SENDER_WINDOW)
		return error_note(receiver->error, RDMAMIG_E_PROTOCOL, 0, "%s broke the protocol: fence %u out of order on channel %u",
				  receiver->conn->peer, sequence, receiver->conn->hello.channel);
	receiver->fenced = sequence;
	return RDMAMIG_OK;
}

static enum rdmamig_status receiver_poll(struct receiver *receiver)
{
	struct conn_event events[8];
	unsigned n = conn_poll(receiver->conn, events, 8);
	for (unsigned i = 0; i < n; i++) {
		enum rdmamig_status st = RDMAMIG_OK;
		if (events[i].type == CONN_FENCE)
			st = receiver_fence(receiver, events[i].sequence);
		else if (events[i].type == CONN_CLOSED)
			st = events[i].status ? events[i].status : RDMAMIG_E_DISCONNECTED;	/* orderly: the session judges */
		else if (events[i].type != CONN_OPENED)
			st = error_note(receiver->error, RDMAMIG_E_PROTOCOL, 0, "%s sent a message on data channel %u",
					receiver->conn->peer, receiver->conn->hello.channel);
		if (st)
			return st;
	}
	return RDMAMIG_OK;
}

/* Apply every batch of which both halves are here. */
static enum rdmamig_status receiver_apply(struct receiver *receiver)
{
	uint32_t applied = atomic_load_explicit(&receiver->applied, memory_order_relaxed);
	uint32_t before = applied;
	/* Acquire: pairs with the release in receiver_describe(); the slot is filled in. */
	uint32_t described = atomic_load_explicit(&receiver->described, memory_order_acquire);
	while (applied != described && applied != receiver->fenced) {
		const struct message_batch *batch = &receiver->slots[(applied + 1) % SENDER_WINDOW];
		struct block *block = &receiver->blocks[batch->block];
		if (!batch_apply(block, batch))
			return error_note(receiver->error, RDMAMIG_E_NO_SPACE, 0,
					  "block %s: no memory to zero its pages; enlarge the file system or the cgroup's limit",
					  block->name);
		applied++;
		/* Release: who reads it finds receivedmap and zeroes in place, and may reuse the slot. */
		atomic_store_explicit(&receiver->applied, applied, memory_order_release);
	}
	if (applied != before)
		wake_up(receiver->session);
	return RDMAMIG_OK;
}

static bool receiver_step(void *self, struct wait *wait)
{
	struct receiver *receiver = self;
	if (atomic_load_explicit(&receiver->stop, memory_order_acquire))
		return false;
	enum rdmamig_status st = receiver_poll(receiver);
	if (!st)
		st = receiver_apply(receiver);
	if (st)
		return receiver_fail(receiver, st);
	conn_wait(receiver->conn, wait);
	return true;
}

enum rdmamig_status receiver_init(struct receiver *receiver, const struct clock *clock, struct error *error, struct conn *conn,
				  struct block *blocks, const struct wake *session)
{
	memset(receiver, 0, sizeof(*receiver));
	receiver->conn = conn;
	receiver->error = error;
	receiver->blocks = blocks;
	receiver->session = session;
	return stepper_init(&receiver->stepper, clock, receiver_step, receiver);
}

enum rdmamig_status receiver_start(struct receiver *receiver)
{
	char name[16];
	snprintf(name, sizeof(name), "rmig-recv-%u", receiver->conn->hello.channel);
	return stepper_start(&receiver->stepper, name);
}

void receiver_fini(struct receiver *receiver)
{
	atomic_store_explicit(&receiver->stop, true, memory_order_release);
	stepper_wake(&receiver->stepper);
	stepper_join(&receiver->stepper);
	conn_free(receiver->conn);
	receiver->conn = NULL;
	stepper_fini(&receiver->stepper);
}

enum rdmamig_status receiver_describe(struct receiver *receiver, const struct message_batch *description)
{
	uint32_t described = atomic_load_explicit(&receiver->described, memory_order_relaxed);
	if (description->batch_sequence != described + 1 || described + 1 - receiver_applied(receiver) > SENDER_WINDOW)
		return error_note(receiver->error, RDMAMIG_E_PROTOCOL, 0, "%s broke the protocol: batch %u out of order on channel %u",
				  receiver->conn->peer, description->batch_sequence, description->channel);
	receiver->slots[(described + 1) % SENDER_WINDOW] = *description;
	atomic_store_explicit(&receiver->described, described + 1, memory_order_release);
	stepper_wake(&receiver->stepper);
	return RDMAMIG_OK;
}

uint32_t receiver_applied(struct receiver *receiver)
{
	return atomic_load_explicit(&receiver->applied, memory_order_acquire);
}

bool receiver_is_idle(struct receiver *receiver)
{
	return receiver_applied(receiver) == atomic_load_explicit(&receiver->described, memory_order_relaxed);
}

enum rdmamig_status receiver_status(struct receiver *receiver)
{
	return (enum rdmamig_status)atomic_load_explicit(&receiver->status, memory_order_acquire);
}
