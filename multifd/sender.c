/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sender.c - the source's channel thread.
 * Neighbours: split.c sorts a batch, a sink takes it, migration/rounds.c gives and describes. Runs on its own thread.
 */
#include "multifd/sender.h"

#include <stdio.h>

#include "multifd/split.h"

static bool sender_fail(struct sender *sender, enum rdmamig_status status)
{
	atomic_store_explicit(&sender->status, status, memory_order_release);	/* with sender_status() */
	wake_up(sender->described->taker);
	return false;
}

static enum rdmamig_status sender_take(struct sender *sender)
{
	struct batch *batch = queue_take(&sender->todo);
	if (!batch)
		return RDMAMIG_AGAIN;
	if (!batch_split(batch, sender->scan))
		return error_note(sender->error, RDMAMIG_E_BLOCK_CHANGED, 0,
				  "block %s: its memory went away while it was read (was the file cut short?)", batch->block->name);

	batch->description.header.type = MESSAGE_BATCH;
	batch->description.batch.channel = sender->channel;
	batch->description.batch.epoch = sender->epoch;
	batch->description.batch.batch_sequence = ++sender->sequence;
	sender->batch = batch;
	sender->doing = SENDER_PLACING;
	return RDMAMIG_OK;
}

static enum rdmamig_status sender_place(struct sender *sender)
{
	enum rdmamig_status st = sender->sink->ops->place(sender->sink, sender->batch);
	if (!st)
		sender->doing = SENDER_FENCING;
	return st;
}

static enum rdmamig_status sender_fence(struct sender *sender)
{
	enum rdmamig_status st = sender->sink->ops->fence(sender->sink, sender->batch->description.batch.batch_sequence);
	if (st)
		return st;
	queue_put(sender->described, sender->batch);	/* has room for every batch there is */
	sender->batch = NULL;
	sender->doing = SENDER_IDLE;
	return RDMAMIG_OK;
}

static enum rdmamig_status sender_advance(struct sender *sender)
{
	switch (sender->doing) {
	case SENDER_IDLE:
		return sender_take(sender);
	case SENDER_PLACING:
		return sender_place(sender);
	case SENDER_FENCING:
		return sender_fence(sender);
	}
	return RDMAMIG_E_FAILED;
}

static bool sender_step(void *self, struct wait *wait)
{
	struct sender *sender = self;
	if (atomic_load_explicit(&sender->stop, memory_order_acquire))
		return false;

	enum rdmamig_status st = sender->sink->ops->move(sender->sink);
	/* One batch a step: bytes of the last one flow while the next is looked at. */
	for (int i = 0; i < 3 && !st; i++)
		st = sender_advance(sender);
	if (st && st != RDMAMIG_AGAIN)
		return sender_fail(sender, st);

	st = sender->sink->ops->move(sender->sink);
	if (st)
		return sender_fail(sender, st);
	if (sender->doing == SENDER_IDLE && !queue_is_empty(&sender->todo))
		wait_now(wait);
	sender->sink->ops->wait(sender->sink, wait);
	return true;
}

enum rdmamig_status sender_init(struct sender *sender, const struct clock *clock, struct error *error, uint16_t channel,
				uint32_t epoch, struct sink *sink, zero_scan *scan, struct queue *described)
{
	*sender = (struct sender){ .sink = sink, .error = error, .channel = channel, .epoch = epoch, .scan = scan,
				   .described = described };
	enum rdmamig_status st = stepper_init(&sender->stepper, clock, sender_step, sender);
	if (st)
		return st;
	st = queue_init(&sender->todo, SENDER_WINDOW, &sender->stepper.wake);
	if (st)
		stepper_fini(&sender->stepper);
	return st;
}

enum rdmamig_status sender_start(struct sender *sender)
{
	char name[16];
	snprintf(name, sizeof(name), "rmig-send-%u", sender->channel);
	return stepper_start(&sender->stepper, name);
}

void sender_fini(struct sender *sender)
{
	atomic_store_explicit(&sender->stop, true, memory_order_release);
	stepper_wake(&sender->stepper);
	stepper_join(&sender->stepper);
	queue_fini(&sender->todo);
	stepper_fini(&sender->stepper);
}

unsigned sender_unacked(struct sender *sender)
{
	return sender->given - sender->sink->ops->acked(sender->sink);	/* sequences count from 1, so acked is a count */
}

bool sender_has_room(struct sender *sender)
{
	return sender_unacked(sender) < SENDER_WINDOW;
}

void sender_give(struct sender *sender, struct batch *batch)
{
	sender->given++;
	queue_put(&sender->todo, batch);	/* has room: the window bounds it */
}

enum rdmamig_status sender_status(struct sender *sender)
{
	return (enum rdmamig_status)atomic_load_explicit(&sender->status, memory_order_acquire);
}
