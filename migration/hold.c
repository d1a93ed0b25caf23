/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * hold.c - dest's end: load, READY, hold until the source's decision is known, run; and every way dest fails (rule R5).
 * Neighbours: receive.c comes before, record.c answers a source that lost us. Session thread.
 *
 * Before READY any failure discards. From READY on only the source's record decides: COMMIT runs, ABORT discards, and
 * while neither is known the guest is held, paused.
 */
#include "migration/dest.h"

#include <string.h>

enum {
	HOLD_MAX_MS = 24 * 3600 * 1000,	/* whatever the source asks for */
	FAREWELL_LOST_MS = 5000,	/* for a source that lost us to call and hear what became of it */
};

static phase_fn dest_loading, dest_hold, dest_running, dest_discarding, dest_farewell, dest_grace;
static void farewell_begin(struct rdmamig_session *session, bool held, bool connected);

enum rdmamig_status dest_load(struct rdmamig_session *session, struct wait *wait)
{
	(void)wait;
	struct dest *dst = session->dest;
	dest_stop_channels(session);	/* R7: all is applied, so nothing may land from here on */
	session_set_state(session, RDMAMIG_STATE_DEVICE);
	struct rdmamig_event event = { .type = RDMAMIG_EVENT_LOAD, .guest_runs = dst->guest_runs };
	mailbox_ask(&session->mailbox, &event, clock_after_ms(session->clock, session->options.driver_timeout_ms));
	session_enter(session, dest_loading, 0);
	return RDMAMIG_OK;
}

static uint64_t hold_ms(const struct rdmamig_session *session)
{
	uint64_t ms = session->options.handover_timeout_ms;
	if (session->dest->hello.handover_timeout_ms > ms)
		ms = session->dest->hello.handover_timeout_ms;
	return ms < HOLD_MAX_MS ? ms : HOLD_MAX_MS;
}

static enum rdmamig_status dest_loading(struct rdmamig_session *session, struct wait *wait)
{
	struct answer answer;
	enum rdmamig_status st = session_answer(session, &answer);
	if (st) {
		mailbox_wait(&session->mailbox, wait);
		return st;
	}
	session->dest->record = RDMAMIG_RECORD_READY;
	struct message message = { .header.type = MESSAGE_READY };
	control_send(&session->control, &message);
	session_enter(session, dest_hold, hold_ms(session));
	return RDMAMIG_OK;
}

/* Somebody asks what our journal says. OK: *theirs is what the source's says; AGAIN: nothing new. */
static enum rdmamig_status talk_turn(struct rdmamig_session *session, struct wait *wait, enum rdmamig_record *theirs)
{
	struct dest *dst = session->dest;
	struct conn *conn;
	while (!dst->talk.conn && !endpoint_accept(session->endpoint, &conn)) {
		if (conn->hello.kind == CONN_RECORD &&
		    !memcmp(conn->hello.session_id, session->options.session_id, RDMAMIG_SESSION_ID_BYTES))
			record_answer(&dst->talk, conn, RDMAMIG_DEST, dst->record);
		else
			conn_reject(conn, RDMAMIG_E_BUSY, "a session is being handed over here");
	}
	if (!dst->talk.conn) {
		endpoint_wait(session->endpoint, wait);
		return RDMAMIG_AGAIN;
	}
	enum rdmamig_status st = record_step(&dst->talk);
	if (st == RDMAMIG_AGAIN) {
		record_wait(&dst->talk, wait);
		return st;
	}
	record_hang_up(&dst->talk);
	wait_now(wait);
	*theirs = dst->talk.theirs;
	return st ? RDMAMIG_AGAIN : RDMAMIG_OK;	/* a caller that broke off calls again */
}

static enum rdmamig_status run_ask(struct rdmamig_session *session)
{
	struct rdmamig_event event = { .type = RDMAMIG_EVENT_RUN, .guest_runs = session->dest->guest_runs };
	mailbox_ask(&session->mailbox, &event, clock_after_ms(session->clock, session->options.driver_timeout_ms));
	session_enter(session, dest_running, 0);
	return RDMAMIG_OK;
}

static enum rdmamig_status discard_ask(struct rdmamig_session *session)
{
	session_ask(session, RDMAMIG_EVENT_DISCARD, session->dest->failed);
	session_enter(session, dest_discarding, 0);
	return RDMAMIG_OK;
}

/* The source has aborted: what it said is the reason, if it said one. */
static enum rdmamig_status aborted(struct rdmamig_session *session)
{
	enum rdmamig_status st = error_status(&session->error);
	if (!st || st == RDMAMIG_E_DISCONNECTED || st == RDMAMIG_E_PEER_SILENT)
		st = error_note(&session->error, RDMAMIG_E_PEER, 0, "the source aborted");
	session->dest->failed = st;
	return discard_ask(session);
}

static enum rdmamig_status dest_hold(struct rdmamig_session *session, struct wait *wait)
{
	struct message message;
	enum rdmamig_status st;
	while (!(st = control_receive(&session->control, &message))) {
		if (message.header.type == MESSAGE_COMMIT)
			return run_ask(session);
		if (message.header.type == MESSAGE_ERROR || message.header.type == MESSAGE_ABORT ||
		    message.header.type == MESSAGE_CANCEL)
			return aborted(session);
	}
	/* Whatever else became of the connection proves nothing: hold, and be there for the source to call. */
	enum rdmamig_record theirs;
	if (!talk_turn(session, wait, &theirs)) {
		if (theirs == RDMAMIG_RECORD_COMMIT)
			return run_ask(session);
		if (theirs == RDMAMIG_RECORD_ABORT)
			return aborted(session);
	}
	if (session_is_late(session))
		session_finish(session, error_note(&session->error, RDMAMIG_E_HELD, 0, "all memory is here and the guest is held, "
						   "paused: the source never said whether it committed"));
	return session->phase == dest_hold ? RDMAMIG_AGAIN : RDMAMIG_OK;
}

static enum rdmamig_status dest_running(struct rdmamig_session *session, struct wait *wait)
{
	struct dest *dst = session->dest;
	struct answer answer;
	enum rdmamig_status st = session_answer(session, &answer);
	if (st == RDMAMIG_AGAIN) {
		mailbox_wait(&session->mailbox, wait);
		return st;
	}
	if (st) {
		session_finish(session, st >= RDMAMIG_E_UNKNOWN_OWNER ? st :
			       error_note(&session->error, RDMAMIG_E_NOT_RUNNING, 0, "the guest is ours, but does not run: %s", answer.why));
		return RDMAMIG_OK;
	}
	dst->record = RDMAMIG_RECORD_OWNED;
	struct message message = { .header.type = MESSAGE_DONE };
	session_cpu(&message.done.cpu_user_us, &message.done.cpu_system_us);
	bool connected = control_is_open(&session->control);	/* asked before: it hangs up as soon as it has heard */
	if (connected)
		control_send(&session->control, &message);
	farewell_begin(session, true, connected);
	return RDMAMIG_OK;
}

/* --- failing --- */

bool dest_can_cancel(const struct rdmamig_session *session)
{
	const struct dest *dst = session->dest;
	return !dst->failed && dst->record == RDMAMIG_RECORD_NONE && session->phase != dest_loading;
}

static void discard_begin(struct rdmamig_session *session)
{
	struct dest *dst = session->dest;
	if (error_status(&session->error))
		dst->failed = error_status(&session->error);
	session_set_state(session, RDMAMIG_STATE_CANCELLING);
	session_tell_peer(session, session->dest->failed);
	dest_stop_channels(session);
	discard_ask(session);
}

void dest_fail(struct rdmamig_session *session, enum rdmamig_status status)
{
	struct dest *dst = session->dest;
	if (dst->record != RDMAMIG_RECORD_NONE || dst->failed) {
		session_finish(session, status);
		return;
	}
	dst->failed = status;
	if (status == RDMAMIG_E_DISCONNECTED)
		session_enter(session, dest_grace, SESSION_GRACE_MS);
	else
		discard_begin(session);
}

static enum rdmamig_status dest_grace(struct rdmamig_session *session, struct wait *wait)
{
	(void)wait;
	if (session_awaits_reason(session))
		return RDMAMIG_AGAIN;
	discard_begin(session);
	return RDMAMIG_OK;
}

static void memory_discard(struct rdmamig_session *session)
{
	struct dest *dst = session->dest;
	for (unsigned i = 0; i < session->block_count; i++) {
		region_remove(session->endpoint, dst->regions[i]);
		dst->regions[i] = NULL;
		if (dst->touched)
			block_discard(&session->blocks[i]);
	}
}

static enum rdmamig_status dest_discarding(struct rdmamig_session *session, struct wait *wait)
{
	struct dest *dst = session->dest;
	struct answer answer;
	enum rdmamig_status st = session_answer(session, &answer);
	if (st == RDMAMIG_AGAIN) {
		mailbox_wait(&session->mailbox, wait);
		return st;
	}
	bool undecided = dst->record == RDMAMIG_RECORD_READY || st >= RDMAMIG_E_UNKNOWN_OWNER || st == RDMAMIG_E_DRIVER_SILENT;
	if (st && undecided)	/* READY may stand: then whoever reads it may yet run the guest */
		return error_note(&session->error, RDMAMIG_E_HELD, 0, "the memory is kept, as DISCARDED could not be journaled: %s",
				  answer.why);
	bool held = dst->record == RDMAMIG_RECORD_READY;
	dst->record = RDMAMIG_RECORD_DISCARDED;
	memory_discard(session);
	farewell_begin(session, held, control_is_open(&session->control));
	return RDMAMIG_OK;
}

/* A source that lost us calls as long as this after a COMMIT, and less after an ABORT. */
static uint64_t farewell_ms(const struct rdmamig_session *session)
{
	return session->dest->record == RDMAMIG_RECORD_OWNED ? hold_ms(session) : FAREWELL_LOST_MS;
}

/* The last word is said. If the source is connected it hears it; if it lost us while we held, it calls. */
static void farewell_begin(struct rdmamig_session *session, bool held, bool connected)
{
	struct dest *dst = session->dest;
	dst->source_connected = connected;
	dst->has_held = held;
	if (connected || held)
		session_enter(session, dest_farewell, connected ? SESSION_LINGER_MS : farewell_ms(session));
	else
		session_finish(session, dst->failed);
}

static enum rdmamig_status dest_farewell(struct rdmamig_session *session, struct wait *wait)
{
	struct dest *dst = session->dest;
	struct message message;
	while (!control_receive(&session->control, &message))
		;
	enum rdmamig_record theirs;
	bool told = !talk_turn(session, wait, &theirs) && dst->talk.ours == dst->record;
	bool hung_up = dst->source_connected && !control_is_open(&session->control);
	if (!told && !hung_up && !control_peer_has_failed(&session->control) && !session_is_late(session))
		return RDMAMIG_AGAIN;
	if (dst->source_connected && dst->has_held && session_is_late(session)) {	/* it did not hang up: it may call */
		farewell_begin(session, true, false);
		return RDMAMIG_OK;
	}
	session_finish(session, dst->failed);
	return RDMAMIG_OK;
}
