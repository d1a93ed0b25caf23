/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * control.c - the control connection's thread.
 * Neighbours: wire encodes, transport carries, source.c and dest.c talk. Runs on its own thread and the session's.
 */
#include "migration/control.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The connection is over; lock not held. */
static void control_end(struct control *control, enum rdmamig_status status)
{
	pthread_mutex_lock(&control->lock);
	if (!control->status)
		control->status = status;
	pthread_mutex_unlock(&control->lock);
	wake_up(control->session);
}

/* Put our credit and number on it and send it; AGAIN if the conn has no room. */
static enum rdmamig_status control_post(struct control *control, struct control_draft *draft)
{
	message_stamp(draft->bytes, control->sent_sequence, control->credit.owed);
	enum rdmamig_status st = conn_send(control->conn, draft->bytes, draft->size);
	if (st)
		return st;
	control->sent_sequence++;
	control->credit.owed = 0;
	control->credit.avail--;
	return RDMAMIG_OK;
}

static enum rdmamig_status control_post_bare(struct control *control, enum message_type type)
{
	struct control_draft draft = { .type = (uint16_t)type };
	struct message message = { .header.type = (uint16_t)type };
	draft.size = message_encode(&message, draft.bytes, sizeof(draft.bytes));
	return control_post(control, &draft);
}

static struct control_draft *control_next_draft(struct control *control)
{
	if (control->has_failure && credit_allows(&control->credit, MESSAGE_ERROR))
		return &control->failure;
	if (control->draft_count && credit_allows(&control->credit, control->drafts[control->draft_head].type))
		return &control->drafts[control->draft_head];
	return NULL;
}

static void control_draft_done(struct control *control, const struct control_draft *draft)
{
	if (draft == &control->failure) {
		control->has_failure = false;
		return;
	}
	control->draft_head = (control->draft_head + 1) % CONTROL_MESSAGES;
	control->draft_count--;
}

/* Send what credit allows; lock held: encoding is done, conn_send() copies. */
static void control_transmit(struct control *control)
{
	struct control_draft *draft;
	while ((draft = control_next_draft(control)) && !control_post(control, draft))
		control_draft_done(control, draft);

	uint64_t now = clock_now_ns(control->stepper.clock);
	if (now >= control->next_ping_ns) {	/* one that may not go now is left out: its turn comes again */
		if (credit_allows(&control->credit, MESSAGE_PING))
			control_post_bare(control, MESSAGE_PING);
		control->next_ping_ns = now + CONTROL_PING_MS * NS_PER_MS;
	}
	if (credit_allows(&control->credit, MESSAGE_CREDIT))
		control_post_bare(control, MESSAGE_CREDIT);
}

static void control_release_read(struct control *control)
{
	while (control->read_count) {
		conn_message_release(control->conn, control->read[--control->read_count]);
		control->credit.owed++;
	}
}

/* What the peer's status means for us: what both can see stays what it is, the rest is the peer's affair. */
static enum rdmamig_status peer_status(enum rdmamig_status theirs)
{
	switch (theirs) {
	case RDMAMIG_E_CANCELLED:
		return RDMAMIG_E_PEER_CANCELLED;
	case RDMAMIG_E_NOT_VERIFIED:
	case RDMAMIG_E_BLOCKS_DIFFER:
	case RDMAMIG_E_VERSION:
		return theirs;
	default:
		return RDMAMIG_E_PEER;
	}
}

/* The peer's last word, noted before its closing connections are. */
static void control_note_failure(struct control *control, const struct conn_event *event)
{
	struct message message;
	const char *why;
	if (message_decode(event->message, event->bytes, &message, &why))
		return;	/* the session will find the same and say so */
	enum rdmamig_status theirs = (enum rdmamig_status)message.text.status;
	error_note(control->error, peer_status(theirs), 0, "%s: %s", control->conn->peer,
		   message.text.text[0] ? message.text.text : rdmamig_status_text(theirs));
}

static enum rdmamig_status control_message(struct control *control, const struct conn_event *event)
{
	struct message_header header;
	const char *why;
	if (message_peek(event->message, event->bytes, &header, &why))
		return error_note(control->error, RDMAMIG_E_PROTOCOL, 0, "%s broke the protocol: %s", control->conn->peer, why);
	if (header.sequence != control->received_sequence)
		return error_note(control->error, RDMAMIG_E_PROTOCOL, 0, "%s broke the protocol: control message %u came as number %u",
				  control->conn->peer, control->received_sequence, header.sequence);
	control->received_sequence++;
	if (header.credit > control->peer_holds - control->credit.avail)
		return error_note(control->error, RDMAMIG_E_PROTOCOL, 0, "%s broke the protocol: it gave back more credit than it had",
				  control->conn->peer);
	control->credit.avail += header.credit;

	if (header.type == MESSAGE_PING || header.type == MESSAGE_CREDIT) {
		conn_message_release(control->conn, event->slot);
		control->credit.owed++;
		return RDMAMIG_OK;
	}
	control->peer_failed = control->peer_failed || header.type == MESSAGE_ERROR;
	if (header.type == MESSAGE_ERROR || header.type == MESSAGE_CANCEL || header.type == MESSAGE_ABORT)
		control_note_failure(control, event);
	if (control->inbox_count == CONTROL_MESSAGES)
		return error_note(control->error, RDMAMIG_E_PROTOCOL, 0, "%s broke the protocol: it sent more than it had credit for",
				  control->conn->peer);
	control->inbox[(control->inbox_head + control->inbox_count++) % CONTROL_MESSAGES] =
		(struct control_letter){ .bytes = event->message, .size = event->bytes, .slot = event->slot };
	wake_up(control->session);
	return RDMAMIG_OK;
}

static enum rdmamig_status control_event(struct control *control, const struct conn_event *event)
{
	if (event->type == CONN_CLOSED)
		return event->status ? event->status : RDMAMIG_E_DISCONNECTED;	/* who waits for more than the end says so */
	if (event->type != CONN_MESSAGE)
		return RDMAMIG_OK;
	control->heard_ns = clock_now_ns(control->stepper.clock);
	return control_message(control, event);
}

/* We ping ourselves awake every 100 ms. After a longer gap it was we who stood still: a loaded host, a SIGSTOP, a debugger. */
static void control_note_stall(struct control *control)
{
	uint64_t now = clock_now_ns(control->stepper.clock);
	if (now > control->turn_ns + CONTROL_STALL_MS * NS_PER_MS)
		control->heard_ns = now;
	control->turn_ns = now;
}

static enum rdmamig_status control_turn(struct control *control)
{
	struct conn_event events[16];
	control_note_stall(control);
	unsigned n = conn_poll(control->conn, events, 16);
	enum rdmamig_status st = RDMAMIG_OK;
	for (unsigned i = 0; i < n && !st; i++)
		st = control_event(control, &events[i]);
	if (st)
		return st;
	control_release_read(control);
	control_transmit(control);
	/* As of the turn's beginning: time that passed within it is a stall of ours for the next one to see. */
	if (control->turn_ns >= control->heard_ns + CONTROL_DEAD_MS * NS_PER_MS)
		return error_note(control->error, RDMAMIG_E_PEER_SILENT, 0, "%s gave no sign of life for %d ms: its host, its "
				  "process or the network is down", control->conn->peer, CONTROL_DEAD_MS);
	return RDMAMIG_OK;
}

static bool control_step(void *self, struct wait *wait)
{
	struct control *control = self;
	pthread_mutex_lock(&control->lock);
	bool stop = control->stop;
	enum rdmamig_status st = stop ? RDMAMIG_OK : control_turn(control);
	pthread_mutex_unlock(&control->lock);
	if (stop)
		return false;
	if (st) {
		control_end(control, st);
		return false;
	}
	wait_until(wait, control->next_ping_ns);
	wait_until(wait, control->heard_ns + CONTROL_DEAD_MS * NS_PER_MS);
	conn_wait(control->conn, wait);
	return true;
}

enum rdmamig_status control_init(struct control *control, const struct clock *clock, struct error *error, const struct wake *session)
{
	memset(control, 0, sizeof(*control));
	control->error = error;
	control->session = session;
	control->peer_holds = control->credit.avail = CREDIT_INITIAL;
	control->drafts = calloc(CONTROL_MESSAGES, sizeof(*control->drafts));
	if (!control->drafts)
		return error_note(error, RDMAMIG_E_NO_MEMORY, 0, "no memory for control messages");
	if (stepper_init(&control->stepper, clock, control_step, control)) {
		free(control->drafts);
		control->drafts = NULL;
		return error_note(error, RDMAMIG_E_NO_MEMORY, 0, "no descriptor left");
	}
	pthread_mutex_init(&control->lock, NULL);
	return RDMAMIG_OK;
}

enum rdmamig_status control_start(struct control *control, struct conn *conn)
{
	control->conn = conn;
	control->heard_ns = clock_now_ns(control->stepper.clock);
	control->next_ping_ns = control->turn_ns = control->heard_ns;
	if (stepper_start(&control->stepper, "rmig-control"))
		return error_note(control->error, RDMAMIG_E_NO_MEMORY, 0, "no thread to be had");
	return RDMAMIG_OK;
}

void control_fini(struct control *control)
{
	if (!control->drafts)
		return;
	pthread_mutex_lock(&control->lock);
	control->stop = true;
	pthread_mutex_unlock(&control->lock);
	stepper_wake(&control->stepper);
	stepper_join(&control->stepper);
	conn_free(control->conn);
	stepper_fini(&control->stepper);
	pthread_mutex_destroy(&control->lock);
	free(control->drafts);
	memset(control, 0, sizeof(*control));
}

enum rdmamig_status control_send(struct control *control, const struct message *message)
{
	pthread_mutex_lock(&control->lock);
	bool fits = control->draft_count < CONTROL_MESSAGES;
	if (fits) {
		struct control_draft *draft = &control->drafts[(control->draft_head + control->draft_count++) % CONTROL_MESSAGES];
		draft->type = message->header.type;
		draft->size = message_encode(message, draft->bytes, sizeof(draft->bytes));
	}
	pthread_mutex_unlock(&control->lock);
	if (fits)
		stepper_wake(&control->stepper);
	return fits ? RDMAMIG_OK : RDMAMIG_AGAIN;
}

bool control_has_room(struct control *control)
{
	pthread_mutex_lock(&control->lock);
	bool room = control->draft_count < CONTROL_MESSAGES;
	pthread_mutex_unlock(&control->lock);
	return room;
}

void control_send_failure(struct control *control, enum rdmamig_status status, const char *text)
{
	struct message message = { .header.type = MESSAGE_ERROR, .text.status = status };
	snprintf(message.text.text, sizeof(message.text.text), "%s", text);
	pthread_mutex_lock(&control->lock);
	control->failure.type = MESSAGE_ERROR;
	control->failure.size = message_encode(&message, control->failure.bytes, sizeof(control->failure.bytes));
	control->has_failure = true;
	pthread_mutex_unlock(&control->lock);
	stepper_wake(&control->stepper);
}

static bool control_take_letter(struct control *control, struct control_letter *out, enum rdmamig_status *status)
{
	pthread_mutex_lock(&control->lock);
	bool have = control->inbox_count > 0;
	if (have)
		*out = control->inbox[control->inbox_head];
	*status = control->status;
	pthread_mutex_unlock(&control->lock);
	return have;
}

enum rdmamig_status control_receive(struct control *control, struct message *out)
{
	struct control_letter letter;
	enum rdmamig_status st;
	if (!control_take_letter(control, &letter, &st))
		return st ? st : RDMAMIG_AGAIN;

	const char *why;
	st = message_decode(letter.bytes, letter.size, out, &why);
	if (st)
		error_note(control->error, st, 0, "%s broke the protocol: %s", control->conn->peer, why);

	pthread_mutex_lock(&control->lock);
	control->inbox_head = (control->inbox_head + 1) % CONTROL_MESSAGES;
	control->inbox_count--;
	control->read[control->read_count++] = letter.slot;
	bool tell = control->read_count + control->credit.owed >= CREDIT_TELL_AT;
	pthread_mutex_unlock(&control->lock);
	if (tell)
		stepper_wake(&control->stepper);
	return st;
}

void control_grant(struct control *control, uint32_t credits)
{
	pthread_mutex_lock(&control->lock);
	control->credit.avail += credits - control->peer_holds;
	control->peer_holds = credits;
	pthread_mutex_unlock(&control->lock);
	stepper_wake(&control->stepper);
}

bool control_is_open(struct control *control)
{
	if (!control->drafts || !control->conn)
		return false;
	pthread_mutex_lock(&control->lock);
	bool open = !control->status;
	pthread_mutex_unlock(&control->lock);
	return open;
}

bool control_peer_has_failed(struct control *control)
{
	pthread_mutex_lock(&control->lock);
	bool failed = control->peer_failed;
	pthread_mutex_unlock(&control->lock);
	return failed;
}

uint64_t control_bytes_sent(struct control *control)
{
	return control->conn ? conn_bytes_sent(control->conn) : 0;
}
