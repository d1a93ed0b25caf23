/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mailbox.c - events to the embedding program and its answers.
 * Neighbours: session.c is the program's side, source.c and dest.c the session's. A mutex, held for a copy at most.
 */
#include "migration/mailbox.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

enum rdmamig_status mailbox_init(struct mailbox *mailbox, const struct wake *session)
{
	memset(mailbox, 0, sizeof(*mailbox));
	mailbox->session = session;
	enum rdmamig_status st = wake_open(&mailbox->out);
	if (st)
		return st;
	pthread_mutex_init(&mailbox->lock, NULL);
	return RDMAMIG_OK;
}

void mailbox_fini(struct mailbox *mailbox)
{
	wake_close(&mailbox->out);
	pthread_mutex_destroy(&mailbox->lock);
}

/* A free slot if more than @spare are; lock held. */
static struct mail *mailbox_slot(struct mailbox *mailbox, unsigned spare)
{
	if (mailbox->count + spare >= MAILBOX_EVENTS)
		return NULL;
	return &mailbox->mails[(mailbox->head + mailbox->count++) % MAILBOX_EVENTS];
}

static bool mailbox_put(struct mailbox *mailbox, const struct rdmamig_event *event, unsigned spare)
{
	pthread_mutex_lock(&mailbox->lock);
	struct mail *mail = mailbox_slot(mailbox, spare);
	if (mail)
		mail->event = *event;
	pthread_mutex_unlock(&mailbox->lock);
	if (mail)
		wake_up(&mailbox->out);
	return mail;
}

/* Slots kept: one for the last event, two for asks (an UNDO or DISCARD may follow an ask nobody took). */
enum { SPARE_FOR_TELLING = 4, SPARE_FOR_ASKING = 1, SPARE_FOR_LAST = 0 };

void mailbox_tell(struct mailbox *mailbox, const struct rdmamig_event *event)
{
	/* A RESUME that got lost would leave the guest standing. */
	mailbox_put(mailbox, event, event->type == RDMAMIG_EVENT_RESUME ? SPARE_FOR_ASKING : SPARE_FOR_TELLING);
}

bool mailbox_tell_state(struct mailbox *mailbox, const void *bytes, size_t size)
{
	assert(size <= WIRE_STATE_MAX);
	pthread_mutex_lock(&mailbox->lock);
	struct mail *mail = mailbox_slot(mailbox, SPARE_FOR_TELLING);
	if (mail) {
		memcpy(mail->state, bytes, size);
		mail->event = (struct rdmamig_event){ .type = RDMAMIG_EVENT_STATE, .state_data = mail->state, .state_bytes = size };
	}
	pthread_mutex_unlock(&mailbox->lock);
	if (mail)
		wake_up(&mailbox->out);
	return mail;
}

void mailbox_tell_last(struct mailbox *mailbox, const struct rdmamig_event *event)
{
	mailbox_put(mailbox, event, SPARE_FOR_LAST);
}

void mailbox_ask(struct mailbox *mailbox, const struct rdmamig_event *event, uint64_t deadline_ns)
{
	pthread_mutex_lock(&mailbox->lock);
	mailbox->asked = event->type;
	mailbox->answered = false;
	mailbox->deadline_ns = deadline_ns;
	pthread_mutex_unlock(&mailbox->lock);
	mailbox_put(mailbox, event, SPARE_FOR_ASKING);
}

enum rdmamig_status mailbox_answer_take(struct mailbox *mailbox, const struct clock *clock, struct answer *out)
{
	enum rdmamig_status st = RDMAMIG_AGAIN;
	pthread_mutex_lock(&mailbox->lock);
	if (mailbox->answered) {
		*out = mailbox->answer;
		st = RDMAMIG_OK;
	} else if (clock_now_ns(clock) >= mailbox->deadline_ns) {
		st = RDMAMIG_E_DRIVER_SILENT;
	}
	if (st != RDMAMIG_AGAIN) {
		mailbox->asked = RDMAMIG_EVENT_NONE;
		mailbox->answered = false;
	}
	pthread_mutex_unlock(&mailbox->lock);
	return st;
}

void mailbox_wait(struct mailbox *mailbox, struct wait *wait)
{
	pthread_mutex_lock(&mailbox->lock);
	wait_until(wait, mailbox->answered ? 0 : mailbox->deadline_ns);
	pthread_mutex_unlock(&mailbox->lock);
}

enum rdmamig_status mailbox_next(struct mailbox *mailbox, struct rdmamig_event *event)
{
	pthread_mutex_lock(&mailbox->lock);
	bool was_full = mailbox->count + SPARE_FOR_TELLING >= MAILBOX_EVENTS;
	if (mailbox->taken) {
		mailbox->head = (mailbox->head + 1) % MAILBOX_EVENTS;
		mailbox->count--;
		mailbox->taken = false;
	}
	enum rdmamig_status st = mailbox->count ? RDMAMIG_OK : RDMAMIG_AGAIN;
	if (!st) {
		size_t size = event->size;
		memcpy(event, &mailbox->mails[mailbox->head].event, size < sizeof(*event) ? size : sizeof(*event));
		event->size = size;
		mailbox->taken = true;
	} else {
		wake_clear(&mailbox->out);	/* under the lock, so that no put is between the look and this */
	}
	pthread_mutex_unlock(&mailbox->lock);
	if (was_full)
		wake_up(mailbox->session);	/* state may wait for room */
	return st;
}

enum rdmamig_status mailbox_answer(struct mailbox *mailbox, enum rdmamig_event_type asked, enum rdmamig_status status,
				   bool guest_runs, const char *why)
{
	pthread_mutex_lock(&mailbox->lock);
	bool fits = mailbox->asked == asked && !mailbox->answered;
	if (fits) {
		mailbox->answered = true;
		mailbox->answer.status = status;
		mailbox->answer.guest_runs = guest_runs;
		snprintf(mailbox->answer.why, sizeof(mailbox->answer.why), "%s", why ? why : rdmamig_status_text(status));
	}
	pthread_mutex_unlock(&mailbox->lock);
	if (fits)
		wake_up(mailbox->session);
	return fits ? RDMAMIG_OK : RDMAMIG_E_USAGE;
}

bool mailbox_is_asking(struct mailbox *mailbox, enum rdmamig_event_type asked)
{
	pthread_mutex_lock(&mailbox->lock);
	bool asking = mailbox->asked == asked && !mailbox->answered;
	pthread_mutex_unlock(&mailbox->lock);
	return asking;
}
