/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * handover.c - the source's end: verify, device state, READY, COMMIT, DONE; and every way it fails (rule R5).
 * Neighbours: rounds.c comes before, record.c asks a dest that was lost, dest.c is the other side. Session thread.
 *
 * COMMIT is asked of the driver only with READY in hand, and sent only once the driver says it stands in the journal.
 * Before that every failure ends in UNDO; after it nothing here ever lets the source's guest run.
 */
#include "migration/source.h"

#include <string.h>

#include "migration/verify.h"

enum {
	ABORT_TELL_MS = 5000,	/* to reach a dest that may be holding, after an abort: its journal can wait for `resolve` */
	RECALL_MS = 200,	/* between two calls */
};

static phase_fn source_verify, source_verified, source_state, source_ready, source_commit, source_done;
static phase_fn source_grace, source_undo, source_goodbye, source_ask_dest;

static uint64_t state_ms(const struct rdmamig_session *session)
{
	return session->options.driver_timeout_ms + SESSION_PROGRESS_MS;	/* dest waits for its driver, too */
}

static void state_begin(struct rdmamig_session *session)
{
	session_ask(session, RDMAMIG_EVENT_STATE, RDMAMIG_OK);
	session_enter(session, source_state, state_ms(session));
}

enum rdmamig_status source_ending(struct rdmamig_session *session, struct wait *wait)
{
	(void)wait;
	struct source *src = session->source;
	session_set_state(session, RDMAMIG_STATE_DEVICE);
	if (!session->options.verify) {
		state_begin(session);
		return RDMAMIG_OK;
	}
	session_enter(session, source_verify, 0);
	return verify_begin(&src->verify, &session->error);
}

/* Messages while the channels do not matter any more: dest kills them before READY (rule R7). */
static enum rdmamig_status ending_receive(struct rdmamig_session *session, enum message_type wanted, struct message *out)
{
	enum rdmamig_status st;
	while (!(st = session_receive(session, out))) {
		if (out->header.type == wanted)
			return RDMAMIG_OK;
		st = source_take_common(session, out);
		if (st)
			return st;
	}
	return st;
}

static enum rdmamig_status source_verify(struct rdmamig_session *session, struct wait *wait)
{
	struct source *src = session->source;
	struct message message;
	enum rdmamig_status st = ending_receive(session, MESSAGE_VERIFY, &message);
	if (st != RDMAMIG_AGAIN)
		return st ? st : session_unexpected(session, &message);
	st = verify_step(&src->verify, session->blocks, session->block_count, &session->error);
	if (st) {
		wait_now(wait);
		return st;
	}
	verify_send(&src->verify, &session->control);
	session_enter(session, source_verified, SESSION_PROGRESS_MS + session_hash_ms(session));
	return RDMAMIG_OK;
}

static enum rdmamig_status source_verified(struct rdmamig_session *session, struct wait *wait)
{
	(void)wait;
	struct source *src = session->source;
	struct message message;
	enum rdmamig_status st = ending_receive(session, MESSAGE_VERIFY, &message);
	if (st == RDMAMIG_AGAIN && session_is_late(session))
		return error_note(&session->error, RDMAMIG_E_PEER_SILENT, 0, "%s did not send its hashes", session->control.conn->peer);
	if (st)
		return st;
	st = verify_compare(&src->verify, message.verify.hashes, message.verify.count, session->blocks,
			    &session->error);
	if (st || src->verify.compared < session->block_count)
		return st;
	pthread_mutex_lock(&session->stats_lock);
	session->stats.verified = 1;
	pthread_mutex_unlock(&session->stats_lock);
	state_begin(session);
	return RDMAMIG_OK;
}

/* One message's worth of what the driver gave; false: nothing waits. */
static bool state_take(struct rdmamig_session *session, struct message_state *out)
{
	pthread_mutex_lock(&session->state_lock);
	size_t n = session->state_bytes < sizeof(out->bytes) ? session->state_bytes : sizeof(out->bytes);
	memcpy(out->bytes, session->state, n);
	session->state_bytes -= n;
	memmove(session->state, session->state + n, session->state_bytes);
	pthread_mutex_unlock(&session->state_lock);
	out->count = (uint16_t)n;
	return n > 0;
}

/* All that there is room for; true: nothing is left. */
static bool state_pass_on(struct rdmamig_session *session)
{
	struct message message = { .header.type = MESSAGE_STATE };
	while (control_has_room(&session->control)) {
		if (!state_take(session, &message.state))
			return true;
		control_send(&session->control, &message);
		session->phase_deadline_ns = clock_after_ms(session->clock, state_ms(session));
	}
	return false;
}

static enum rdmamig_status source_state(struct rdmamig_session *session, struct wait *wait)
{
	struct source *src = session->source;
	struct message message;
	enum rdmamig_status st = ending_receive(session, MESSAGE_READY, &message);
	if (st != RDMAMIG_AGAIN)
		return st ? st : session_unexpected(session, &message);

	struct answer answer;
	if (!src->state_given) {
		st = session_answer(session, &answer);
		src->state_given = !st;
		if (st && st != RDMAMIG_AGAIN)
			return st;
	}
	/* After the look for the answer: what was given before that is here now. */
	if (!state_pass_on(session) || !src->state_given) {
		if (session_is_late(session))
			return error_note(&session->error, RDMAMIG_E_PEER_SILENT, 0, "%s answers, but takes no device state",
					  session->control.conn->peer);
		wait_until(wait, clock_after_ms(session->clock, 1));	/* room in the control's queue wakes nobody */
		return RDMAMIG_AGAIN;
	}
	message = (struct message){ .header.type = MESSAGE_STATE, .state = { .last = 1, .guest_runs = src->guest_runs } };
	control_send(&session->control, &message);	/* there is room: the loop that passed on ended for want of state */
	src->dest_may_hold = true;
	session_enter(session, source_ready, session->options.driver_timeout_ms + SESSION_PROGRESS_MS);
	return RDMAMIG_OK;
}

static enum rdmamig_status source_ready(struct rdmamig_session *session, struct wait *wait)
{
	(void)wait;
	struct message message;
	enum rdmamig_status st = ending_receive(session, MESSAGE_READY, &message);
	if (st == RDMAMIG_AGAIN && session_is_late(session))
		return error_note(&session->error, RDMAMIG_E_PEER_SILENT, 0, "%s answers, but does not get READY",
				  session->control.conn->peer);
	if (st)
		return st;
	session_ask(session, RDMAMIG_EVENT_COMMIT, RDMAMIG_OK);
	session_enter(session, source_commit, 0);
	return RDMAMIG_OK;
}

static enum rdmamig_status source_commit(struct rdmamig_session *session, struct wait *wait)
{
	struct answer answer;
	enum rdmamig_status st = session_answer(session, &answer);
	if (st) {
		mailbox_wait(&session->mailbox, wait);
		return st;	/* not OK: ABORT stands, or the driver is silent and UNDO will read which it is */
	}
	session->source->committed = true;
	struct message message = { .header.type = MESSAGE_COMMIT };
	control_send(&session->control, &message);
	session_enter(session, source_done, session->options.handover_timeout_ms);
	return RDMAMIG_OK;
}

static void source_succeed(struct rdmamig_session *session)
{
	struct source *src = session->source;
	source_count_traffic(session);
	pthread_mutex_lock(&session->stats_lock);
	session->stats.downtime_ms = (clock_now_ns(session->clock) - src->stop_ns) / NS_PER_MS;
	pthread_mutex_unlock(&session->stats_lock);
	source_disarm(session);
	session_finish(session, RDMAMIG_OK);
}

static enum rdmamig_status source_done(struct rdmamig_session *session, struct wait *wait)
{
	(void)wait;
	struct message message;
	enum rdmamig_status st = ending_receive(session, MESSAGE_DONE, &message);
	if (st == RDMAMIG_AGAIN && session_is_late(session))
		return error_note(&session->error, RDMAMIG_E_PEER_SILENT, 0, "%s did not confirm the COMMIT", session->control.conn->peer);
	if (st)
		return st;
	pthread_mutex_lock(&session->stats_lock);
	session->stats.peer_cpu_user_s = (double)message.done.cpu_user_us / 1e6;
	session->stats.peer_cpu_system_s = (double)message.done.cpu_system_us / 1e6;
	pthread_mutex_unlock(&session->stats_lock);
	source_succeed(session);
	return RDMAMIG_OK;
}

/* --- failing --- */

bool source_can_cancel(const struct rdmamig_session *session)
{
	const struct source *src = session->source;
	return !src->failed && !src->committed && session->phase != source_commit;
}

static void undo_begin(struct rdmamig_session *session)
{
	struct source *src = session->source;
	session_set_state(session, RDMAMIG_STATE_CANCELLING);
	src->failed = error_status(&session->error) ? error_status(&session->error) : src->failed;
	if (!src->dest_may_hold)	/* then it can only discard, and must not take our closed channels for the reason */
		session_tell_peer(session, session->source->failed);
	source_stop_channels(session);
	source_disarm(session);		/* before the guest goes on */
	session_ask(session, RDMAMIG_EVENT_UNDO, src->failed);
	session_enter(session, source_undo, 0);
}

void source_fail(struct rdmamig_session *session, enum rdmamig_status status)
{
	struct source *src = session->source;
	if (src->committed) {
		session_enter(session, source_ask_dest, session->options.handover_timeout_ms);
		return;
	}
	if (src->failed) {	/* while undoing: the guest's state is what the status says */
		session_finish(session, status);
		return;
	}
	src->failed = status;
	if (status == RDMAMIG_E_DISCONNECTED)
		session_enter(session, source_grace, SESSION_GRACE_MS);
	else
		undo_begin(session);
}

static enum rdmamig_status source_grace(struct rdmamig_session *session, struct wait *wait)
{
	(void)wait;
	if (session_awaits_reason(session))
		return RDMAMIG_AGAIN;
	undo_begin(session);
	return RDMAMIG_OK;
}

static enum rdmamig_status source_undo(struct rdmamig_session *session, struct wait *wait)
{
	struct answer answer;
	enum rdmamig_status st = session_answer(session, &answer);
	if (st == RDMAMIG_AGAIN) {
		mailbox_wait(&session->mailbox, wait);
		return st;
	}
	if (st == RDMAMIG_E_UNKNOWN_OWNER) {	/* a COMMIT that came late stands: dest has to hear of it */
		session->source->committed = true;
		session_enter(session, source_ask_dest, session->options.handover_timeout_ms);
		return RDMAMIG_OK;
	}
	if (st == RDMAMIG_E_DRIVER_SILENT || (st && st < RDMAMIG_E_UNKNOWN_OWNER))
		st = error_note(&session->error, RDMAMIG_E_NOT_RUNNING, 0, "undoing failed: nobody saw the guest run at the source");
	if (st)
		return st;

	if (session->source->dest_may_hold)	/* what we say now is that ABORT stands */
		session_tell_peer(session, session->source->failed);
	session_enter(session, source_goodbye, SESSION_LINGER_MS);
	return RDMAMIG_OK;
}

/* Until the peer has taken our last word and hung up. */
static enum rdmamig_status source_goodbye(struct rdmamig_session *session, struct wait *wait)
{
	(void)wait;
	struct source *src = session->source;
	struct message message;
	while (!control_receive(&session->control, &message))
		;
	bool heard = control_peer_has_failed(&session->control);
	if (!heard && control_is_open(&session->control) && !session_is_late(session))
		return RDMAMIG_AGAIN;
	bool lost = control_is_open(&session->control) ||	/* it did not hang up: perhaps it has not heard */
		    error_status(&session->error) == RDMAMIG_E_DISCONNECTED ||
		    error_status(&session->error) == RDMAMIG_E_PEER_SILENT;
	uint64_t tell_ms = session->options.handover_timeout_ms < ABORT_TELL_MS ? session->options.handover_timeout_ms : ABORT_TELL_MS;
	if (src->dest_may_hold && lost && !heard)
		session_enter(session, source_ask_dest, tell_ms);
	else
		session_finish(session, src->failed);
	return RDMAMIG_OK;
}

/* What dest's journal says decides; true: nothing more to ask. */
static bool record_settles(struct rdmamig_session *session, enum rdmamig_record theirs)
{
	struct source *src = session->source;
	if (!src->committed && theirs != RDMAMIG_RECORD_READY) {
		session_finish(session, src->failed);
		return true;
	}
	if (src->committed && theirs == RDMAMIG_RECORD_OWNED) {
		source_succeed(session);
		return true;
	}
	return false;
}

/* On an endpoint and error of its own: that nobody answers now must not hide why the session failed. */
static enum rdmamig_status dest_call(struct rdmamig_session *session)
{
	struct source *src = session->source;
	enum rdmamig_record ours = src->committed ? RDMAMIG_RECORD_COMMIT : RDMAMIG_RECORD_ABORT;
	enum rdmamig_status st = RDMAMIG_OK;
	if (!src->caller)
		st = endpoint_open(session->transport, &session->uri, session->clock, &src->caller_error, &src->caller);
	if (!st)
		st = record_call(&src->talk, src->caller, RDMAMIG_SOURCE, session->options.session_id, ours);
	if (st)
		src->next_call_ns = clock_after_ms(session->clock, RECALL_MS);
	return st;
}

/*
 * Call dest with our record until it says OWNED or DISCARDED. It answers from its hold; only a source that committed and
 * never hears OWNED ends without knowing.
 */
static enum rdmamig_status source_ask_dest(struct rdmamig_session *session, struct wait *wait)
{
	struct source *src = session->source;
	uint64_t now = clock_now_ns(session->clock);
	if (src->talk.conn) {
		enum rdmamig_status st = record_step(&src->talk);
		if (st == RDMAMIG_AGAIN && !session_is_late(session)) {
			record_wait(&src->talk, wait);
			return st;
		}
		record_hang_up(&src->talk);
		src->next_call_ns = now + RECALL_MS * NS_PER_MS;
		if (!st && record_settles(session, src->talk.theirs))
			return RDMAMIG_OK;
	}
	if (session_is_late(session)) {
		source_disarm(session);
		session_finish(session, !src->committed ? src->failed :
			       error_note(&session->error, RDMAMIG_E_UNKNOWN_OWNER, 0, "COMMIT stands, but %s never said that it runs "
					  "the guest; the guest here stays stopped", session->uri_text));
		return RDMAMIG_OK;
	}
	if (now >= src->next_call_ns && !dest_call(session))
		wait_now(wait);
	else
		wait_until(wait, src->next_call_ns);
	return RDMAMIG_AGAIN;
}
