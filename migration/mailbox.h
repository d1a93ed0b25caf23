/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mailbox.h - between the session thread and the embedding program: events out, answers in.
 *
 * The session asks one thing at a time. Events that only tell are dropped when the program does not take them; asks,
 * state and the last event are not.
 */
#ifndef MIGRATION_MAILBOX_H
#define MIGRATION_MAILBOX_H

#include <pthread.h>
#include <stdbool.h>

#include <rdmamig/session.h>

#include "base/clock.h"
#include "base/wake.h"
#include "wire/message.h"

enum { MAILBOX_EVENTS = 32, MAILBOX_WHY_BYTES = 512 };

struct mail {
	struct rdmamig_event event;
	uint8_t state[WIRE_STATE_MAX];
};

struct answer {
	enum rdmamig_status status;
	bool guest_runs;
	char why[MAILBOX_WHY_BYTES];
};

struct mailbox {
	pthread_mutex_t lock;
	struct wake out;		/* readable while an event waits */
	const struct wake *session;	/* woken by an answer */
	struct mail mails[MAILBOX_EVENTS];
	unsigned head, count;
	bool taken;			/* mails[head] is in the program's hands until it asks for the next */
	enum rdmamig_event_type asked;	/* NONE: nothing is open */
	bool answered;
	struct answer answer;
	uint64_t deadline_ns;		/* for the answer */
};

enum rdmamig_status mailbox_init(struct mailbox *mailbox, const struct wake *session);
void mailbox_fini(struct mailbox *mailbox);

/* Session thread. */
void mailbox_tell(struct mailbox *mailbox, const struct rdmamig_event *event);	/* kept back one slot for the last event */
bool mailbox_tell_state(struct mailbox *mailbox, const void *bytes, size_t size);	/* false: full, later */
void mailbox_tell_last(struct mailbox *mailbox, const struct rdmamig_event *event);
void mailbox_ask(struct mailbox *mailbox, const struct rdmamig_event *event, uint64_t deadline_ns);
/* mailbox_answer_take - OK: *out is the answer; AGAIN; E_DRIVER_SILENT: past the deadline, the ask is withdrawn. */
enum rdmamig_status mailbox_answer_take(struct mailbox *mailbox, const struct clock *clock, struct answer *out);
void mailbox_wait(struct mailbox *mailbox, struct wait *wait);

/* The program's threads. */
enum rdmamig_status mailbox_next(struct mailbox *mailbox, struct rdmamig_event *event);
/* E_USAGE: @asked is not what is asked now. */
enum rdmamig_status mailbox_answer(struct mailbox *mailbox, enum rdmamig_event_type asked, enum rdmamig_status status,
				   bool guest_runs, const char *why);
bool mailbox_is_asking(struct mailbox *mailbox, enum rdmamig_event_type asked);

#endif
