/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * session.c - a session's life: made, started, stepped, ended; and what both ends' phases share.
 * Neighbours: source.c and dest.c are the phases, api.c the public functions. Runs on the session thread.
 */
#include "migration/session.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "migration/dest.h"
#include "migration/source.h"

void session_enter(struct rdmamig_session *session, phase_fn *phase, uint64_t timeout_ms)
{
	session->phase = phase;
	session->phase_deadline_ns = timeout_ms ? clock_after_ms(session->clock, timeout_ms) : CLOCK_NEVER;
}

bool session_is_late(const struct rdmamig_session *session)
{
	return clock_now_ns(session->clock) >= session->phase_deadline_ns;
}

bool session_is_cancelled(struct rdmamig_session *session)
{
	return atomic_load_explicit(&session->cancel, memory_order_acquire);
}

void session_set_state(struct rdmamig_session *session, enum rdmamig_state state)
{
	pthread_mutex_lock(&session->stats_lock);
	session->stats.status = state;
	pthread_mutex_unlock(&session->stats_lock);
}

enum rdmamig_state session_state(struct rdmamig_session *session)
{
	pthread_mutex_lock(&session->stats_lock);
	enum rdmamig_state state = session->stats.status;
	pthread_mutex_unlock(&session->stats_lock);
	return state;
}

void session_ask(struct rdmamig_session *session, enum rdmamig_event_type type, enum rdmamig_status status)
{
	struct rdmamig_event event = { .type = type, .status = status };
	mailbox_ask(&session->mailbox, &event, clock_after_ms(session->clock, session->options.driver_timeout_ms));
}

enum rdmamig_status session_answer(struct rdmamig_session *session, struct answer *out)
{
	enum rdmamig_status st = mailbox_answer_take(&session->mailbox, session->clock, out);
	if (st == RDMAMIG_AGAIN)
		return st;
	if (st) {
		out->status = st;
		snprintf(out->why, sizeof(out->why), "the guest's driver did not answer within %llu ms",
			 (unsigned long long)session->options.driver_timeout_ms);
	}
	return out->status ? error_note(&session->error, out->status, 0, "%s", out->why) : RDMAMIG_OK;
}

void session_tell(struct rdmamig_session *session, enum rdmamig_event_type type)
{
	struct rdmamig_event event = { .type = type };
	mailbox_tell(&session->mailbox, &event);
}

enum rdmamig_status session_receive(struct rdmamig_session *session, struct message *out)
{
	enum rdmamig_status st = control_receive(&session->control, out);
	if (st == RDMAMIG_E_DISCONNECTED)
		return error_note(&session->error, st, 0, "%s closed the control connection", session->control.conn->peer);
	return st;
}

enum rdmamig_status session_expect(struct rdmamig_session *session, enum message_type type, const char *what,
				   struct message *out)
{
	enum rdmamig_status st = session_receive(session, out);
	if (st == RDMAMIG_AGAIN && session_is_late(session))
		return error_note(&session->error, RDMAMIG_E_PEER_SILENT, 0, "%s answers, but %s did not come in time",
				  session->control.conn->peer, what);
	if (st)
		return st;
	return out->header.type == type ? RDMAMIG_OK : session_unexpected(session, out);
}

bool session_awaits_reason(struct rdmamig_session *session)
{
	struct message message;
	while (!control_receive(&session->control, &message))
		;
	return !session_is_late(session) && control_is_open(&session->control) &&
	       error_status(&session->error) == RDMAMIG_E_DISCONNECTED;
}

void session_tell_peer(struct rdmamig_session *session, enum rdmamig_status status)
{
	char text[ERROR_TEXT_BYTES];
	error_text(&session->error, text, sizeof(text));
	if (control_is_open(&session->control))
		control_send_failure(&session->control, status, text);
}

enum rdmamig_status session_unexpected(struct rdmamig_session *session, const struct message *message)
{
	enum rdmamig_status told = error_status(&session->error);	/* control.c notes what the peer says at its end */
	switch (message->header.type) {
	case MESSAGE_ERROR:
	case MESSAGE_ABORT:
	case MESSAGE_CANCEL:
		return told ? told : RDMAMIG_E_PEER;
	default:
		return error_note(&session->error, RDMAMIG_E_PROTOCOL, 0, "%s sent %s, which makes no sense now",
				  session->control.conn->peer, message_name(message->header.type));
	}
}

static enum rdmamig_state final_state(enum rdmamig_status status)
{
	if (!status)
		return RDMAMIG_STATE_COMPLETED;
	int code = rdmamig_status_exit_code(status);
	return code == 7 ? RDMAMIG_STATE_CANCELLED : RDMAMIG_STATE_FAILED;
}

void session_finish(struct rdmamig_session *session, enum rdmamig_status status)
{
	pthread_mutex_lock(&session->stats_lock);
	session->stats.status = final_state(status);
	session->stats.total_time_ms = (clock_now_ns(session->clock) - session->start_ns) / NS_PER_MS;
	pthread_mutex_unlock(&session->stats_lock);
	struct rdmamig_event event = { .type = status ? RDMAMIG_EVENT_FAILED : RDMAMIG_EVENT_DONE, .status = status };
	mailbox_tell_last(&session->mailbox, &event);
	session_enter(session, session_ended, 0);
}

enum rdmamig_status session_ended(struct rdmamig_session *session, struct wait *wait)
{
	(void)session;
	(void)wait;
	return RDMAMIG_AGAIN;
}

uint64_t session_hash_ms(const struct rdmamig_session *session)
{
	uint64_t bytes = 0;
	for (unsigned i = 0; i < session->block_count; i++)
		bytes += session->blocks[i].bytes;
	return bytes / (100 << 20) * 1000;
}

void session_cpu(uint64_t *user_us, uint64_t *system_us)
{
	struct rusage usage;
	getrusage(RUSAGE_SELF, &usage);
	*user_us = (uint64_t)usage.ru_utime.tv_sec * 1000000 + (uint64_t)usage.ru_utime.tv_usec;
	*system_us = (uint64_t)usage.ru_stime.tv_sec * 1000000 + (uint64_t)usage.ru_stime.tv_usec;
}

static void session_fail(struct rdmamig_session *session, enum rdmamig_status status)
{
	if (session->role == RDMAMIG_SOURCE)
		source_fail(session, status);
	else
		dest_fail(session, status);
}

static bool session_can_cancel(const struct rdmamig_session *session)
{
	return session->role == RDMAMIG_SOURCE ? source_can_cancel(session) : dest_can_cancel(session);
}

bool session_step(void *self, struct wait *wait)
{
	struct rdmamig_session *session = self;
	unsigned wake_fds = wait->count;
	enum rdmamig_status st = RDMAMIG_OK;
	atomic_fetch_add_explicit(&session->beat, 1, memory_order_relaxed);	/* read by rdmamig_session_beat() */
	if (atomic_load_explicit(&session->abandoned, memory_order_acquire))
		return false;

	while (!st && session->phase != session_ended) {
		wait->count = wake_fds;		/* what the phase before waited for is of no interest any more */
		if (session_is_cancelled(session) && session_can_cancel(session))
			st = error_note(&session->error, RDMAMIG_E_CANCELLED, 0, "cancelled");
		else
			st = session->phase(session, wait);
		if (st && st != RDMAMIG_AGAIN) {
			session_fail(session, st);
			st = RDMAMIG_OK;
		}
	}
	wait_until(wait, session->phase_deadline_ns);
	wait_until(wait, clock_after_ms(session->clock, SESSION_BEAT_MS));
	return session->phase != session_ended;
}
