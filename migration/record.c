/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * record.c - asking and telling who owns a held session.
 * Neighbours: handover.c asks while a session lives, `rdmamig resolve` through the public functions. Caller's thread.
 */
#include "migration/record.h"

#include <stdio.h>
#include <string.h>

#include "wire/message.h"

static void talk_begin(struct record_talk *talk, const struct clock *clock, struct error *error, enum rdmamig_role role,
		       const uint8_t id[RDMAMIG_SESSION_ID_BYTES], enum rdmamig_record ours)
{
	*talk = (struct record_talk){ .clock = clock, .error = error, .role = role, .ours = ours,
				      .deadline_ns = clock_after_ms(clock, RECORD_TALK_MS) };
	memcpy(talk->session_id, id, sizeof(talk->session_id));
}

enum rdmamig_status record_call(struct record_talk *talk, struct endpoint *endpoint, enum rdmamig_role role,
				const uint8_t id[RDMAMIG_SESSION_ID_BYTES], enum rdmamig_record ours)
{
	talk_begin(talk, endpoint->clock, endpoint->error, role, id, ours);
	talk->is_caller = true;
	struct conn_hello hello = { .kind = CONN_RECORD, .version_min = WIRE_VERSION_MIN, .version_max = WIRE_VERSION_MAX };
	memcpy(hello.session_id, id, sizeof(hello.session_id));
	return conn_connect(endpoint, &hello, &talk->conn);
}

enum rdmamig_status record_answer(struct record_talk *talk, struct conn *conn, enum rdmamig_role role, enum rdmamig_record ours)
{
	talk_begin(talk, conn->endpoint->clock, conn->endpoint->error, role, conn->hello.session_id, ours);
	talk->conn = conn;
	return conn_admit(conn);
}

static enum rdmamig_status talk_send(struct record_talk *talk)
{
	if (!talk->opened || talk->sent || (!talk->is_caller && !talk->received))
		return RDMAMIG_OK;
	struct message message = { .header.type = MESSAGE_RECORD,
				   .record = { .role = (uint8_t)talk->role, .record = (uint8_t)talk->ours } };
	memcpy(message.record.session_id, talk->session_id, sizeof(message.record.session_id));
	uint8_t bytes[WIRE_MESSAGE_BYTES];
	size_t size = message_encode(&message, bytes, sizeof(bytes));
	enum rdmamig_status st = conn_send(talk->conn, bytes, size);
	talk->sent = !st;
	return st == RDMAMIG_AGAIN ? RDMAMIG_OK : st;
}

static enum rdmamig_status talk_message(struct record_talk *talk, const struct conn_event *event)
{
	struct message message;
	const char *why = "not a RECORD of this session";
	enum rdmamig_status st = message_decode(event->message, event->bytes, &message, &why);
	conn_message_release(talk->conn, event->slot);
	if (st || message.header.type != MESSAGE_RECORD || message.record.role == (uint8_t)talk->role ||
	    memcmp(message.record.session_id, talk->session_id, sizeof(talk->session_id)))
		return error_note(talk->error, RDMAMIG_E_PROTOCOL, 0, "%s: %s", talk->conn->peer, why);
	talk->theirs = (enum rdmamig_record)message.record.record;
	talk->received = true;
	return RDMAMIG_OK;
}

static enum rdmamig_status talk_event(struct record_talk *talk, const struct conn_event *event)
{
	switch (event->type) {
	case CONN_OPENED:
		talk->opened = true;
		return RDMAMIG_OK;
	case CONN_MESSAGE:
		return talk_message(talk, event);
	case CONN_CLOSED:
		talk->closed = true;
		return RDMAMIG_OK;
	default:
		return RDMAMIG_OK;
	}
}

enum rdmamig_status record_step(struct record_talk *talk)
{
	struct conn_event events[4];
	enum rdmamig_status st = RDMAMIG_OK;
	unsigned n = conn_poll(talk->conn, events, 4);
	for (unsigned i = 0; i < n && !st; i++) {
		st = talk_event(talk, &events[i]);
		if (talk->closed && !talk->received)
			st = events[i].status ? events[i].status : RDMAMIG_E_DISCONNECTED;
	}
	if (!st && !talk->closed)
		st = talk_send(talk);
	if (st)
		return st;
	/* The one who answers waits for the caller to hang up: only then has the answer surely left. */
	if (talk->received && (talk->is_caller || talk->closed))
		return RDMAMIG_OK;
	return clock_now_ns(talk->clock) >= talk->deadline_ns ? RDMAMIG_E_PEER_SILENT : RDMAMIG_AGAIN;
}

void record_wait(struct record_talk *talk, struct wait *wait)
{
	wait_until(wait, talk->deadline_ns);
	conn_wait(talk->conn, wait);
}

void record_hang_up(struct record_talk *talk)
{
	conn_free(talk->conn);
	talk->conn = NULL;
}

/* The public functions: an endpoint of their own, and a loop with a deadline. */

struct record_post {
	struct error error;
	struct endpoint *endpoint;
	struct record_talk talk;
	uint64_t deadline_ns;
};

static enum rdmamig_status post_open(struct record_post *post, const char *text, uint64_t timeout_ms, char *why, size_t why_bytes)
{
	memset(post, 0, sizeof(*post));
	error_init(&post->error);
	post->deadline_ns = clock_after_ms(&clock_real, timeout_ms);
	struct rdmamig_uri uri = { .size = sizeof(uri) };
	enum rdmamig_status st = rdmamig_uri_parse(text, &uri, why, why_bytes);
	if (st)
		return st;
	const struct endpoint_ops *ops = endpoint_ops_find(uri.scheme);
	if (!ops) {
		snprintf(why, why_bytes, "this build has no %s transport", uri.scheme);
		return RDMAMIG_E_UNSUPPORTED;
	}
	return endpoint_open(ops, &uri, &clock_real, &post->error, &post->endpoint);
}

static enum rdmamig_status post_close(struct record_post *post, enum rdmamig_status st, enum rdmamig_record *theirs,
				      char *why, size_t why_bytes)
{
	if (!st)
		*theirs = post->talk.theirs;
	else if (error_status(&post->error))
		error_text(&post->error, why, why_bytes);
	else if (!why[0])
		snprintf(why, why_bytes, "%s", rdmamig_status_text(st));
	record_hang_up(&post->talk);
	endpoint_close(post->endpoint);
	error_fini(&post->error);
	return st;
}

static enum rdmamig_status post_talk(struct record_post *post)
{
	enum rdmamig_status st;
	while ((st = record_step(&post->talk)) == RDMAMIG_AGAIN) {
		struct wait wait;
		wait_reset(&wait);
		record_wait(&post->talk, &wait);
		wait_sleep(&wait, &clock_real);
	}
	return st;
}

enum rdmamig_status rdmamig_record_ask(const char *uri, const uint8_t id[RDMAMIG_SESSION_ID_BYTES], enum rdmamig_role role,
				       enum rdmamig_record ours, uint64_t timeout_ms, enum rdmamig_record *theirs,
				       char *why, size_t why_bytes)
{
	struct record_post post;
	why[0] = '\0';
	enum rdmamig_status st = post_open(&post, uri, timeout_ms, why, why_bytes);
	if (!st)
		st = record_call(&post.talk, post.endpoint, role, id, ours);
	if (!st) {
		post.talk.deadline_ns = post.deadline_ns;
		st = post_talk(&post);
	}
	return post_close(&post, st, theirs, why, why_bytes);
}

/* The next caller that asks for this session; others are sent away. */
static enum rdmamig_status post_accept(struct record_post *post, const uint8_t id[RDMAMIG_SESSION_ID_BYTES], struct conn **out)
{
	enum rdmamig_status st;
	while ((st = endpoint_accept(post->endpoint, out)) == RDMAMIG_AGAIN || !st) {
		if (!st && (*out)->hello.kind == CONN_RECORD && !memcmp((*out)->hello.session_id, id, RDMAMIG_SESSION_ID_BYTES))
			return RDMAMIG_OK;
		if (!st)
			conn_reject(*out, RDMAMIG_E_BUSY, "only `rdmamig resolve` of one session is served here");
		if (clock_now_ns(&clock_real) >= post->deadline_ns)
			return error_note(&post->error, RDMAMIG_E_PEER_SILENT, 0,
					  "nobody asked; run `rdmamig resolve SESSION --peer URI` on the other host");
		struct wait wait;
		wait_reset(&wait);
		wait_until(&wait, post->deadline_ns);
		endpoint_wait(post->endpoint, &wait);
		wait_sleep(&wait, &clock_real);
	}
	return st;
}

enum rdmamig_status rdmamig_record_serve(const char *uri, const uint8_t id[RDMAMIG_SESSION_ID_BYTES], enum rdmamig_role role,
					 enum rdmamig_record ours, uint64_t timeout_ms, enum rdmamig_record *theirs,
					 char *why, size_t why_bytes)
{
	struct record_post post;
	struct conn *conn;
	uint16_t port;
	why[0] = '\0';
	enum rdmamig_status st = post_open(&post, uri, timeout_ms, why, why_bytes);
	if (!st)
		st = endpoint_listen(post.endpoint, &port);
	if (!st)
		st = post_accept(&post, id, &conn);
	if (!st)
		st = record_answer(&post.talk, conn, role, ours);
	if (!st)
		st = post_talk(&post);
	return post_close(&post, st, theirs, why, why_bytes);
}
