/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * dest.c - dest from listening to the last key: handshake, blocks, memory made zero, regions.
 * Neighbours: receive.c goes on from there, hold.c ends it, source.c is the other side. Session thread.
 */
#include "migration/dest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ram/guard.h"

static phase_fn dest_admit, dest_hello, dest_blocks, dest_prepare, dest_clean;

static void local_uri_set(struct rdmamig_session *session, uint16_t port)
{
	const struct rdmamig_uri *uri = &session->uri;
	const char *left = strchr(uri->host, ':') ? "[" : "", *right = left[0] ? "]" : "";
	pthread_mutex_lock(&session->stats_lock);
	snprintf(session->local_uri, sizeof(session->local_uri), "%s://%s%s%s%s%s:%u", uri->scheme, uri->device,
		 uri->device[0] ? "%" : "", left, uri->host[0] ? uri->host : "*", right, port);
	pthread_mutex_unlock(&session->stats_lock);
}

enum rdmamig_status dest_listen(struct rdmamig_session *session, struct wait *wait)
{
	(void)wait;
	enum rdmamig_status st = endpoint_open(session->transport, &session->uri, session->clock, &session->error, &session->endpoint);
	if (st)
		return st;
	uint16_t port = session->uri.port;
	st = endpoint_listen(session->endpoint, &port);
	if (st)
		return st;
	local_uri_set(session, port);
	session_tell(session, RDMAMIG_EVENT_LISTENING);
	session_enter(session, dest_admit, session->options.wait_ms);
	return RDMAMIG_OK;
}

/* Admit the first control conn whose protocol we speak; all others are told why not. */
static enum rdmamig_status admit_check(struct conn *conn)
{
	const struct conn_hello *hello = &conn->hello;
	if (hello->version_min > WIRE_VERSION_MAX || hello->version_max < WIRE_VERSION_MIN) {
		char text[80];
		snprintf(text, sizeof(text), "it speaks protocol %u to %u, here %d to %d: update the older rdmamig",
			 hello->version_min, hello->version_max, WIRE_VERSION_MIN, WIRE_VERSION_MAX);
		conn_reject(conn, RDMAMIG_E_VERSION, text);
		return RDMAMIG_AGAIN;
	}
	if (hello->kind != CONN_CONTROL) {
		conn_reject(conn, RDMAMIG_E_BUSY, "no such session here: this dest waits for a new one");
		return RDMAMIG_AGAIN;
	}
	return RDMAMIG_OK;
}

static enum rdmamig_status dest_admit(struct rdmamig_session *session, struct wait *wait)
{
	struct dest *dst = session->dest;
	enum rdmamig_status st = RDMAMIG_OK;
	while (!dst->control && !st) {
		struct conn *conn;
		st = endpoint_accept(session->endpoint, &conn);
		if (!st && !admit_check(conn)) {
			st = conn_admit(conn);
			dst->control = conn;
			session_set_state(session, RDMAMIG_STATE_SETUP);
		}
	}
	endpoint_wait(session->endpoint, wait);
	if (!dst->control && session_is_late(session))
		return error_note(&session->error, RDMAMIG_E_PEER_SILENT, 0, "no source came within %g s (--wait-s)",
				  (double)session->options.wait_ms / 1000);
	if (!dst->control || (st && st != RDMAMIG_AGAIN))
		return st;

	struct conn_event event;
	while (conn_poll(dst->control, &event, 1)) {
		if (event.type == CONN_CLOSED) {	/* it changed its mind before it said anything: wait for the next */
			conn_free(dst->control);
			dst->control = NULL;
			wait_now(wait);
			return RDMAMIG_AGAIN;
		}
		if (event.type == CONN_OPENED) {
			session_enter(session, dest_hello, SESSION_CONNECT_MS);
			struct conn *conn = dst->control;
			dst->control = NULL;
			return control_start(&session->control, conn);
		}
	}
	conn_wait(dst->control, wait);
	return RDMAMIG_AGAIN;
}

static enum rdmamig_status hello_check(struct rdmamig_session *session, const struct message_hello *hello)
{
	struct error *error = &session->error;
	const char *peer = session->control.conn->peer;
	if (hello->version_min > WIRE_VERSION_MAX || hello->version_max < WIRE_VERSION_MIN)
		return error_note(error, RDMAMIG_E_VERSION, 0, "%s speaks protocol %u to %u, here %d to %d: update the older rdmamig",
				  peer, hello->version_min, hello->version_max, WIRE_VERSION_MIN, WIRE_VERSION_MAX);
	if (!codec_at(hello->codec))
		return error_note(error, RDMAMIG_E_VERSION, 0, "%s asks for a codec (number %u) this rdmamig lacks: update it, or "
				  "use --codec none", peer, hello->codec);
	if (hello->batch_pages_max > BATCH_PAGES_MAX || hello->blocks == 0)
		return error_note(error, RDMAMIG_E_PROTOCOL, 0, "%s announced %u blocks and batches of %u pages", peer,
				  hello->blocks, hello->batch_pages_max);
	return RDMAMIG_OK;
}

static enum rdmamig_status dest_hello(struct rdmamig_session *session, struct wait *wait)
{
	(void)wait;
	struct dest *dst = session->dest;
	struct message message;
	enum rdmamig_status st = session_expect(session, MESSAGE_HELLO, "its HELLO", &message);
	if (st)
		return st;
	st = hello_check(session, &message.hello);
	if (st)
		return st;

	dst->hello = message.hello;
	dst->channel_count = message.hello.channels;
	control_grant(&session->control, message.hello.credits);
	pthread_mutex_lock(&session->blocks_lock);
	memcpy(session->options.session_id, message.hello.session_id, sizeof(session->options.session_id));
	pthread_mutex_unlock(&session->blocks_lock);

	message.hello.version_min = message.hello.version_max = WIRE_VERSION_MAX;
	message.hello.features = WIRE_FEATURE_NONE;
	message.hello.credits = CONTROL_MESSAGES;
	control_send(&session->control, &message);
	session_enter(session, dest_blocks, SESSION_CONNECT_MS);
	return RDMAMIG_OK;
}

static enum rdmamig_status blocks_take(struct rdmamig_session *session, const struct message_blocks *message)
{
	unsigned have = session->peer_block_count;
	if (message->first != have || have + message->count > session->dest->hello.blocks)
		return error_note(&session->error, RDMAMIG_E_PROTOCOL, 0, "%s listed its blocks out of order",
				  session->control.conn->peer);
	for (unsigned i = 0; i < message->count; i++) {
		const struct message_block *block = &message->blocks[i];
		if (block->length % block->granule || block->length > 1ull << BLOCK_BYTES_MAX_SHIFT ||
		    (block->granule != 4096 && block->granule != 2 << 20 && block->granule != 1 << 30))
			return error_note(&session->error, RDMAMIG_E_PROTOCOL, 0, "%s: block %s has an impossible size",
					  session->control.conn->peer, block->name);
		session->peer_blocks[have + i] = *block;
	}
	pthread_mutex_lock(&session->blocks_lock);
	session->peer_block_count = have + message->count;
	pthread_mutex_unlock(&session->blocks_lock);
	return RDMAMIG_OK;
}

static enum rdmamig_status dest_blocks(struct rdmamig_session *session, struct wait *wait)
{
	(void)wait;
	struct message message;
	enum rdmamig_status st = session_expect(session, MESSAGE_BLOCKS, "its list of blocks", &message);
	if (st)
		return st;
	st = blocks_take(session, &message.blocks);
	if (!st && session->peer_block_count == session->dest->hello.blocks) {
		session_ask(session, RDMAMIG_EVENT_BLOCKS, RDMAMIG_OK);
		session_enter(session, dest_prepare, 0);
	}
	return st;
}

/* Among those not yet matched, so that a name given twice finds only one. */
static struct block *block_named(struct rdmamig_session *session, unsigned from, const char *name)
{
	for (unsigned i = from; i < session->block_count; i++)
		if (!strcmp(session->blocks[i].name, name))
			return &session->blocks[i];
	return NULL;
}

/* Our blocks, put into the source's order: indices on the wire are the source's. */
static enum rdmamig_status blocks_match(struct rdmamig_session *session)
{
	if (session->block_count != session->peer_block_count)
		return error_note(&session->error, RDMAMIG_E_BLOCKS_DIFFER, 0, "the source has %u blocks, here are %u",
				  session->peer_block_count, session->block_count);
	for (unsigned i = 0; i < session->peer_block_count; i++) {
		const struct message_block *theirs = &session->peer_blocks[i];
		struct block *ours = block_named(session, i, theirs->name);
		if (!ours)
			return error_note(&session->error, RDMAMIG_E_BLOCKS_DIFFER, 0, "the source's block %s is not here", theirs->name);
		if (ours->bytes != theirs->length)
			return error_note(&session->error, RDMAMIG_E_BLOCKS_DIFFER, 0, "block %s has %llu bytes at the source, %llu here",
					  theirs->name, (unsigned long long)theirs->length, (unsigned long long)ours->bytes);
		struct block first = session->blocks[i];
		session->blocks[i] = *ours;
		*ours = first;
	}
	return RDMAMIG_OK;
}

static enum rdmamig_status dest_prepare(struct rdmamig_session *session, struct wait *wait)
{
	struct message message;
	struct answer answer;
	enum rdmamig_status st = session_receive(session, &message);
	if (!st)
		return session_unexpected(session, &message);
	if (st == RDMAMIG_AGAIN)
		st = session_answer(session, &answer);
	if (st) {
		mailbox_wait(&session->mailbox, wait);
		return st;
	}
	st = blocks_match(session);
	if (!st)
		session_enter(session, dest_clean, 0);
	return st;
}

static enum rdmamig_status block_offer(struct rdmamig_session *session, unsigned index)
{
	struct dest *dst = session->dest;
	struct block *block = &session->blocks[index];
	struct region_key key;
	enum rdmamig_status st = region_add(session->endpoint, block->memory, block->bytes, REGION_REMOTE_WRITE,
					    &dst->regions[index], &key);
	if (st)
		return st;
	struct message message = { .header.type = MESSAGE_KEYS, .keys.count = 1 };
	message.keys.keys[0] = (struct message_key){ .block = (uint16_t)index, .length = block->bytes, .base = key.base,
						     .key = key.key };
	return control_send(&session->control, &message);
}

/* R4 rests on it: all of dest's memory reads as zero before the first byte may land. A slice a step. */
static enum rdmamig_status dest_clean(struct rdmamig_session *session, struct wait *wait)
{
	struct dest *dst = session->dest;
	if (dst->clean_block == session->block_count) {		/* first: the last key may have its answer already */
		session_set_state(session, RDMAMIG_STATE_ACTIVE);
		session_enter(session, dest_active, SESSION_CONNECT_MS);	/* channels are announced at once */
		return RDMAMIG_OK;
	}
	struct message message;
	enum rdmamig_status st = session_receive(session, &message);
	if (st != RDMAMIG_AGAIN)
		return st ? st : session_unexpected(session, &message);
	struct block *block = &session->blocks[dst->clean_block];
	dst->touched = true;
	st = block_clean(block, &dst->clean_page, &session->error);
	if (!st && dst->clean_page == block->pages && control_has_room(&session->control)) {
		st = block_offer(session, dst->clean_block++);
		dst->clean_page = 0;
	}
	wait_now(wait);
	return st ? st : RDMAMIG_AGAIN;
}

enum rdmamig_status dest_new(struct rdmamig_session *session)
{
	struct dest *dst = session->dest = calloc(1, sizeof(*dst));
	if (!dst)
		return RDMAMIG_E_NO_MEMORY;
	dst->channels = calloc(RDMAMIG_CHANNELS_MAX, sizeof(*dst->channels));
	dst->claimed = calloc(WIRE_BLOCKS_TOTAL_MAX, sizeof(*dst->claimed));
	session->peer_blocks = calloc(WIRE_BLOCKS_TOTAL_MAX, sizeof(*session->peer_blocks));
	if (!dst->channels || !dst->claimed || !session->peer_blocks)
		return RDMAMIG_E_NO_MEMORY;
	return guard_install();
}

void dest_free(struct rdmamig_session *session)
{
	struct dest *dst = session->dest;
	if (!dst)
		return;
	dest_stop_channels(session);
	for (unsigned i = 0; i < WIRE_BLOCKS_TOTAL_MAX; i++)
		region_remove(session->endpoint, dst->regions[i]);
	verify_end(&dst->verify);
	record_hang_up(&dst->talk);
	conn_free(dst->control);
	free(dst->channels);
	free(dst->claimed);
	free(dst);
	session->dest = NULL;
}
