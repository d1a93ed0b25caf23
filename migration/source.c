/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * source.c - the source from connecting to the first round: handshake, blocks and keys, channels, arming.
 * Neighbours: rounds.c goes on from there, handover.c ends it, dest.c is the other side. Session thread.
 */
#include "migration/source.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "ram/extent.h"
#include "ram/guard.h"

enum {
	PREPARE_MS = 600000,		/* for dest to make all its memory zero; it is heard of all the while */
	POOL_BATCHES_A_CHANNEL = 8,
	BATCH_MIN_PAGES = 16,
	PACE_SLICE_MS = 5,		/* with --bandwidth a batch is not worth more than this */
};

static phase_fn source_hello, source_blocks, source_keys, source_announce, source_join, source_arm, source_arm_paused;

enum rdmamig_status source_connect(struct rdmamig_session *session, struct wait *wait)
{
	struct source *src = session->source;
	struct conn_hello hello = { .kind = CONN_CONTROL, .version_min = WIRE_VERSION_MIN, .version_max = WIRE_VERSION_MAX };
	memcpy(hello.session_id, session->options.session_id, sizeof(hello.session_id));

	enum rdmamig_status st = RDMAMIG_OK;
	if (!session->endpoint)
		st = endpoint_open(session->transport, &session->uri, session->clock, &session->error, &session->endpoint);
	if (!st && !src->conn)
		st = conn_connect(session->endpoint, &hello, &src->conn);
	if (st)
		return st;

	struct conn_event event;
	while (conn_poll(src->conn, &event, 1)) {
		if (event.type == CONN_CLOSED)
			return event.status ? event.status : error_note(&session->error, RDMAMIG_E_CONNECT, 0,
									"%s closed the connection at once", session->uri_text);
		if (event.type == CONN_OPENED) {
			session_enter(session, source_hello, SESSION_CONNECT_MS);
			struct conn *conn = src->conn;
			src->conn = NULL;
			return control_start(&session->control, conn);
		}
	}
	if (session_is_late(session))
		return error_note(&session->error, RDMAMIG_E_CONNECT, 0, "%s did not answer within %d s; is `rdmamig recv` running "
				  "there, and no firewall between?", session->uri_text, SESSION_CONNECT_MS / 1000);
	conn_wait(src->conn, wait);
	return RDMAMIG_AGAIN;
}

static enum rdmamig_status hello_send(struct rdmamig_session *session)
{
	struct message message = { .header.type = MESSAGE_HELLO };
	struct message_hello *hello = &message.hello;
	hello->version_min = WIRE_VERSION_MIN;
	hello->version_max = WIRE_VERSION_MAX;
	hello->features = WIRE_FEATURE_NONE;
	hello->page_bytes = PAGE_BYTES;
	hello->channels = (uint16_t)session->options.channels;
	hello->credits = CONTROL_MESSAGES;
	hello->batch_pages_max = BATCH_PAGES_MAX;
	hello->codec = session->codec->number;
	hello->verify = session->options.verify;
	hello->blocks = (uint16_t)session->block_count;
	memcpy(hello->session_id, session->options.session_id, sizeof(hello->session_id));
	hello->handover_timeout_ms = session->options.handover_timeout_ms;
	return control_send(&session->control, &message);
}

static enum rdmamig_status hello_check(struct rdmamig_session *session, const struct message_hello *hello)
{
	if (hello->version_min != hello->version_max || hello->version_min < WIRE_VERSION_MIN ||
	    hello->version_max > WIRE_VERSION_MAX || hello->features != WIRE_FEATURE_NONE ||
	    hello->channels != session->options.channels || hello->codec != session->codec->number)
		return error_note(&session->error, RDMAMIG_E_PROTOCOL, 0, "%s chose what we did not offer", session->control.conn->peer);
	control_grant(&session->control, hello->credits);
	return RDMAMIG_OK;
}

static enum rdmamig_status source_hello(struct rdmamig_session *session, struct wait *wait)
{
	(void)wait;
	struct source *src = session->source;
	if (!src->told) {
		src->told = true;
		hello_send(session);
	}
	struct message message;
	enum rdmamig_status st = session_expect(session, MESSAGE_HELLO, "its HELLO", &message);
	if (st)
		return st;
	src->told = false;
	session_enter(session, source_blocks, SESSION_CONNECT_MS);
	return hello_check(session, &message.hello);
}

static enum rdmamig_status source_blocks(struct rdmamig_session *session, struct wait *wait)
{
	(void)wait;
	for (unsigned first = 0; first < session->block_count; first += WIRE_BLOCKS_MAX) {
		struct message message = { .header.type = MESSAGE_BLOCKS, .blocks.first = (uint16_t)first };
		while (message.blocks.count < WIRE_BLOCKS_MAX && first + message.blocks.count < session->block_count) {
			const struct block *block = &session->blocks[first + message.blocks.count];
			struct message_block *out = &message.blocks.blocks[message.blocks.count++];
			memcpy(out->name, block->name, sizeof(out->name));
			out->length = block->bytes;
			out->granule = block->granule;
		}
		control_send(&session->control, &message);	/* has room: at most 16 messages of 64 */
	}
	session_enter(session, source_keys, PREPARE_MS);
	return RDMAMIG_OK;
}

static enum rdmamig_status keys_take(struct rdmamig_session *session, const struct message_keys *message)
{
	for (unsigned i = 0; i < message->count; i++) {
		const struct message_key *key = &message->keys[i];
		if (key->block >= session->block_count || key->offset > session->blocks[key->block].bytes ||
		    key->length > session->blocks[key->block].bytes - key->offset)
			return error_note(&session->error, RDMAMIG_E_PROTOCOL, 0, "%s sent a key for memory we do not have",
					  session->control.conn->peer);
		struct key_row row = { .block = key->block, .offset = key->offset, .bytes = key->length, .base = key->base,
				       .key = key->key };
		if (keys_add(&session->source->keys, &row))
			return error_note(&session->error, RDMAMIG_E_PROTOCOL, 0, "%s sent two keys for the same memory",
					  session->control.conn->peer);
	}
	return RDMAMIG_OK;
}

static bool keys_complete(struct rdmamig_session *session)
{
	for (unsigned i = 0; i < session->block_count; i++)
		if (!keys_cover(&session->source->keys, (uint16_t)i, session->blocks[i].bytes))
			return false;
	return true;
}

static enum rdmamig_status source_keys(struct rdmamig_session *session, struct wait *wait)
{
	(void)wait;
	struct message message;
	enum rdmamig_status st = session_expect(session, MESSAGE_KEYS, "keys for its memory", &message);
	if (st)
		return st;
	st = keys_take(session, &message.keys);
	if (!st && keys_complete(session))
		session_enter(session, source_announce, SESSION_CONNECT_MS);
	return st;
}

static enum rdmamig_status channels_announce(struct rdmamig_session *session)
{
	struct source *src = session->source;
	for (unsigned i = 0; i < src->channels; i++) {
		if (getrandom(&src->tokens[i], sizeof(src->tokens[i]), 0) != sizeof(src->tokens[i]))
			return error_note(&session->error, RDMAMIG_E_FAILED, 0, "no random numbers to be had");
		struct message message = { .header.type = MESSAGE_CHANNEL_UP,
					   .channel_up = { .channel = (uint16_t)i, .epoch = 1, .token = src->tokens[i] } };
		control_send(&session->control, &message);	/* has room: at most 16 of 64 */
	}
	return RDMAMIG_OK;
}

/* Name the channels on the control conn; dest's echo says that it now expects them. */
static enum rdmamig_status source_announce(struct rdmamig_session *session, struct wait *wait)
{
	(void)wait;
	struct source *src = session->source;
	if (!src->told) {
		src->told = true;
		enum rdmamig_status st = channels_announce(session);
		if (st)
			return st;
	}
	struct message message;
	enum rdmamig_status st = session_expect(session, MESSAGE_CHANNEL_UP, "its word on the channels", &message);
	if (st)
		return st;
	if (message.channel_up.channel != src->joined)
		return session_unexpected(session, &message);
	if (++src->joined == src->channels) {
		src->told = false;
		session_enter(session, source_join, SESSION_CONNECT_MS);
	}
	return RDMAMIG_OK;
}

static enum rdmamig_status channel_open(struct rdmamig_session *session, unsigned i)
{
	struct source *src = session->source;
	struct conn_hello hello = { .kind = CONN_DATA, .version_min = WIRE_VERSION_MIN, .version_max = WIRE_VERSION_MAX,
				    .channel = (uint16_t)i, .epoch = 1, .token = src->tokens[i] };
	memcpy(hello.session_id, session->options.session_id, sizeof(hello.session_id));
	struct conn *conn;
	enum rdmamig_status st = conn_connect(session->endpoint, &hello, &conn);
	if (st)
		return st;
	peer_sink_init(&src->sinks[i], conn, &src->keys, &session->error);
	st = sender_init(&src->senders[i], session->clock, &session->error, (uint16_t)i, 1, &src->sinks[i].sink, src->scan,
			 &src->described);
	if (st) {
		peer_sink_fini(&src->sinks[i]);
		return error_note(&session->error, st, 0, "no memory for channel %u", i);
	}
	src->senders_ready = i + 1;
	return RDMAMIG_OK;
}

/* Open all channels on this thread, then give each to its own. */
static enum rdmamig_status source_join(struct rdmamig_session *session, struct wait *wait)
{
	struct source *src = session->source;
	enum rdmamig_status st = RDMAMIG_OK;
	while (!st && src->senders_ready < src->channels)
		st = channel_open(session, src->senders_ready);
	if (st)
		return st;

	bool all_open = true;
	for (unsigned i = 0; i < src->channels && !st; i++) {
		struct sink *sink = &src->sinks[i].sink;
		st = sink->ops->move(sink);
		if (st == RDMAMIG_E_DISCONNECTED)
			error_note(&session->error, st, 0, "%s closed data channel %u", session->control.conn->peer, i);
		all_open = all_open && src->sinks[i].is_open;
		sink->ops->wait(sink, wait);
	}
	if (st || !all_open)
		return st ? st : !session_is_late(session) ? RDMAMIG_AGAIN :
		       error_note(&session->error, RDMAMIG_E_PEER_SILENT, 0, "%s answers, but does not open all data channels",
				  session->control.conn->peer);
	for (unsigned i = 0; i < src->channels && !st; i++)
		st = sender_start(&src->senders[i]);
	if (st)
		return error_note(&session->error, st, 0, "no thread to be had for a channel");
	session_enter(session, source_arm, 0);
	return RDMAMIG_OK;
}

static enum rdmamig_status tracker_open(struct rdmamig_session *session)
{
	struct tracker_choice *choice = &session->tracker_choice;
	struct tracker *tracker = &session->source->tracker;
	struct error *error = &session->error;
	enum rdmamig_status st;
	switch (choice->kind) {
	case TRACKER_NONE:
		return RDMAMIG_OK;
	case TRACKER_PROCESS:
		return tracker_open_process(tracker, session->blocks, session->block_count, choice->pid, choice->mode, error);
	case TRACKER_SELF:
		return tracker_open_self(tracker, session->blocks, session->block_count, choice->mode, error);
	case TRACKER_UFFD:
		st = tracker_open_uffd(tracker, session->blocks, session->block_count, choice->uffd, choice->pid, choice->mode, error);
		if (!st)
			choice->uffd = -1;	/* the tracker's now */
		return st;
	case TRACKER_MANUAL:
		tracker_open_manual(tracker);
		return RDMAMIG_OK;
	case TRACKER_OPS:
		*tracker = (struct tracker){ .ops = choice->ops, .opaque = choice->opaque };
		return RDMAMIG_OK;
	}
	return RDMAMIG_E_FAILED;
}

void source_disarm(struct rdmamig_session *session)
{
	struct source *src = session->source;
	if (src->tracker_open)
		src->tracker.ops.disarm(src->tracker.opaque);
	src->tracker_open = false;
	tracker_free(&src->tracker);
}

/* Then our mappings are not the guest's, and what happens to them tells of holes it made. */
static bool tracks_another_process(const struct tracker_choice *choice)
{
	return choice->kind == TRACKER_PROCESS || (choice->kind == TRACKER_UFFD && choice->pid && choice->pid != getpid());
}

static enum rdmamig_status tracking_begin(struct rdmamig_session *session)
{
	struct source *src = session->source;
	enum rdmamig_status st = tracker_open(session);
	if (st)
		return st;
	src->tracker_open = session->tracker_choice.kind != TRACKER_NONE;
	if (tracks_another_process(&session->tracker_choice))
		st = refills_start(&src->refills, session->blocks, session->block_count, &session->error);
	if (st)
		return st;
	st = source_look(session);
	if (st)
		return st;

	uint64_t now = clock_now_ns(session->clock);
	src->converge_deadline_ns = now + session->options.timeout_ms * NS_PER_MS;
	pthread_mutex_lock(&session->stats_lock);
	session->stats.setup_time_ms = (now - session->start_ns) / NS_PER_MS;
	session->stats.attach_pause_us = src->tracker.attach_pause_us;
	pthread_mutex_unlock(&session->stats_lock);
	session_set_state(session, RDMAMIG_STATE_ACTIVE);
	source_round_begin(session);
	return RDMAMIG_OK;
}

static enum rdmamig_status source_arm(struct rdmamig_session *session, struct wait *wait)
{
	(void)wait;
	if (!session->options.pause_to_arm || session->tracker_choice.kind == TRACKER_NONE)
		return tracking_begin(session);
	session_ask(session, RDMAMIG_EVENT_NEED_PAUSE, RDMAMIG_OK);
	session_enter(session, source_arm_paused, 0);
	return RDMAMIG_OK;
}

/* R12: DMA on its way would land unseen in pages the first round has already sent. */
static enum rdmamig_status source_arm_paused(struct rdmamig_session *session, struct wait *wait)
{
	struct answer answer;
	enum rdmamig_status st = source_listen(session);
	if (!st)
		st = session_answer(session, &answer);
	if (st) {
		mailbox_wait(&session->mailbox, wait);
		return st;
	}
	st = tracking_begin(session);
	session_tell(session, RDMAMIG_EVENT_RESUME);
	return st;
}

static enum rdmamig_status batches_new(struct rdmamig_session *session)
{
	struct source *src = session->source;
	src->batch_count = src->channels * POOL_BATCHES_A_CHANNEL;
	src->batches = calloc(src->batch_count, sizeof(*src->batches));
	enum rdmamig_status st = src->batches ? RDMAMIG_OK : RDMAMIG_E_NO_MEMORY;
	if (!st)
		st = queue_init(&src->pool, src->batch_count, NULL);
	if (!st)
		st = queue_init(&src->described, src->batch_count, &session->stepper.wake);
	for (unsigned i = 0; !st && i < src->batch_count; i++)
		queue_put(&src->pool, &src->batches[i]);
	return st;
}

enum rdmamig_status source_new(struct rdmamig_session *session)
{
	struct source *src = session->source = calloc(1, sizeof(*src));
	if (!src)
		return RDMAMIG_E_NO_MEMORY;
	src->channels = session->options.channels;
	src->scan = session->options.zero_pages_off ? NULL : zero_scan_best();
	src->converge.downtime_ms = session->options.downtime_ms;
	src->pacer.bytes_per_s = session->options.bandwidth;
	src->batch_pages_max = BATCH_PAGES_MAX;
	if (src->pacer.bytes_per_s) {
		uint64_t slice = pages_of_bytes(src->pacer.bytes_per_s / (1000 / PACE_SLICE_MS));
		src->batch_pages_max = slice < BATCH_MIN_PAGES ? BATCH_MIN_PAGES : slice < BATCH_PAGES_MAX ? slice : BATCH_PAGES_MAX;
	}
	src->guest_runs = true;
	error_init(&src->caller_error);
	enum rdmamig_status st = guard_install();
	if (!st)
		st = keys_init(&src->keys);
	return st ? st : batches_new(session);
}

void source_stop_channels(struct rdmamig_session *session)
{
	struct source *src = session->source;
	for (unsigned i = 0; i < src->senders_ready; i++) {
		sender_fini(&src->senders[i]);
		peer_sink_fini(&src->sinks[i]);
	}
	src->senders_ready = 0;
}

void source_free(struct rdmamig_session *session)
{
	struct source *src = session->source;
	if (!src)
		return;
	source_stop_channels(session);
	source_disarm(session);
	refills_stop(&src->refills);
	verify_end(&src->verify);
	record_hang_up(&src->talk);
	endpoint_close(src->caller);
	error_fini(&src->caller_error);
	conn_free(src->conn);
	queue_fini(&src->pool);
	queue_fini(&src->described);
	free(src->batches);
	keys_fini(&src->keys);
	free(src);
	session->source = NULL;
}
