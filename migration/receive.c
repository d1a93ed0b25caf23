/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * receive.c - dest while pages arrive: channels join, descriptions are checked and handed on, batches acknowledged.
 * Neighbours: dest.c prepared the memory, multifd applies batches, hold.c takes over at READY. Session thread.
 */
#include "migration/dest.h"

#include <stdlib.h>
#include <string.h>

enum {
	ACTIVE_IDLE_MS = 600000,	/* heartbeats alone, and no message at all for so long */
};

/* --- channels --- */

static struct dest_channel *channel_expecting(struct dest *dst, const struct conn_hello *hello)
{
	if (hello->channel >= dst->channel_count)
		return NULL;
	struct dest_channel *channel = &dst->channels[hello->channel];
	bool fits = channel->expected && !channel->joined && channel->token == hello->token && channel->epoch == hello->epoch;
	return fits ? channel : NULL;
}

static enum rdmamig_status channel_join(struct rdmamig_session *session, struct dest_channel *channel, struct conn *conn)
{
	channel->joined = true;		/* a token is good once, whatever comes of it */
	enum rdmamig_status st = receiver_init(&channel->receiver, session->clock, &session->error, conn, session->blocks,
					       &session->stepper.wake);
	if (st) {
		channel->joined = false;
		error_note(&session->error, st, 0, "no memory for channel %u", conn->hello.channel);
		conn_free(conn);
		return st;
	}
	st = conn_admit(conn);
	if (!st && receiver_start(&channel->receiver))
		st = error_note(&session->error, RDMAMIG_E_NO_MEMORY, 0, "no thread to be had for a channel");
	return st;
}

static bool conn_is_ours(const struct rdmamig_session *session, const struct conn *conn)
{
	return conn->hello.kind == CONN_DATA &&
	       !memcmp(conn->hello.session_id, session->options.session_id, RDMAMIG_SESSION_ID_BYTES);
}

/* Nothing orders connections: one may come before the message that announces it, and then waits a while. */
static void conn_park(struct rdmamig_session *session, struct conn *conn)
{
	struct dest *dst = session->dest;
	for (unsigned i = 0; i < RDMAMIG_CHANNELS_MAX; i++)
		if (!dst->waiting[i]) {
			dst->waiting[i] = conn;
			dst->waiting_until_ns[i] = clock_after_ms(session->clock, SESSION_CONNECT_MS);
			return;
		}
	conn_reject(conn, RDMAMIG_E_BUSY, "too many connections wait here");
}

static enum rdmamig_status conns_accept(struct rdmamig_session *session, struct wait *wait)
{
	struct conn *conn;
	enum rdmamig_status st;
	while (!(st = endpoint_accept(session->endpoint, &conn))) {
		if (conn_is_ours(session, conn))
			conn_park(session, conn);
		else
			conn_reject(conn, RDMAMIG_E_BUSY, "another migration is under way here");
	}
	endpoint_wait(session->endpoint, wait);
	return st == RDMAMIG_AGAIN ? RDMAMIG_OK : st;
}

static enum rdmamig_status conns_join(struct rdmamig_session *session, struct wait *wait)
{
	struct dest *dst = session->dest;
	uint64_t now = clock_now_ns(session->clock);
	enum rdmamig_status st = RDMAMIG_OK;
	for (unsigned i = 0; i < RDMAMIG_CHANNELS_MAX && !st; i++) {
		struct conn *conn = dst->waiting[i];
		if (!conn)
			continue;
		struct dest_channel *channel = channel_expecting(dst, &conn->hello);
		if (channel)
			st = channel_join(session, channel, conn);
		else if (now >= dst->waiting_until_ns[i])
			conn_reject(conn, RDMAMIG_E_PROTOCOL, "this channel was not announced, or is there already");
		else {
			wait_until(wait, dst->waiting_until_ns[i]);
			continue;
		}
		dst->waiting[i] = NULL;
	}
	return st;
}

void dest_stop_channels(struct rdmamig_session *session)
{
	struct dest *dst = session->dest;
	for (unsigned i = 0; i < RDMAMIG_CHANNELS_MAX; i++) {
		if (dst->channels && dst->channels[i].joined)
			receiver_fini(&dst->channels[i].receiver);
		if (dst->channels)
			dst->channels[i].joined = dst->channels[i].expected = false;
		conn_free(dst->waiting[i]);
		dst->waiting[i] = NULL;
	}
}

static enum rdmamig_status channels_check(struct rdmamig_session *session)
{
	struct dest *dst = session->dest;
	for (unsigned i = 0; i < dst->channel_count; i++) {
		if (!dst->channels[i].joined)
			continue;
		enum rdmamig_status st = receiver_status(&dst->channels[i].receiver);
		if (st == RDMAMIG_E_DISCONNECTED)
			error_note(&session->error, st, 0, "%s closed data channel %u", session->control.conn->peer, i);
		if (st)
			return st;
	}
	return RDMAMIG_OK;
}

static bool channels_are_idle(struct dest *dst)
{
	for (unsigned i = 0; i < dst->channel_count; i++)
		if (dst->channels[i].joined && !receiver_is_idle(&dst->channels[i].receiver))
			return false;
	return true;
}

static void acks_send(struct rdmamig_session *session)
{
	struct dest *dst = session->dest;
	struct message message = { .header.type = MESSAGE_ACK };
	if (!control_has_room(&session->control))
		return;		/* the ack is cumulative: later says more */
	for (unsigned i = 0; i < dst->channel_count; i++) {
		struct dest_channel *channel = &dst->channels[i];
		uint32_t applied = channel->joined ? receiver_applied(&channel->receiver) : channel->told;
		if (applied == channel->told)
			continue;
		channel->told = applied;
		message.ack.acks[message.ack.count++] =
			(struct message_ack_entry){ .channel = (uint16_t)i, .epoch = channel->epoch, .applied = applied };
	}
	if (message.ack.count)
		control_send(&session->control, &message);
}

/* --- messages --- */

static enum rdmamig_status channel_announced(struct rdmamig_session *session, const struct message *message)
{
	struct dest *dst = session->dest;
	const struct message_channel_up *up = &message->channel_up;
	if (up->channel >= dst->channel_count || up->epoch != 1 || dst->channels[up->channel].expected)
		return error_note(&session->error, RDMAMIG_E_PROTOCOL, 0, "%s announced channel %u, which cannot be",
				  session->control.conn->peer, up->channel);
	struct dest_channel *channel = &dst->channels[up->channel];
	channel->expected = true;
	channel->token = up->token;
	channel->epoch = up->epoch;
	struct message echo = { .header.type = MESSAGE_CHANNEL_UP, .channel_up = *up };
	control_send(&session->control, &echo);		/* room: at most 16 of these */
	return RDMAMIG_OK;
}

static enum rdmamig_status batch_described(struct rdmamig_session *session, const struct message_batch *batch)
{
	struct dest *dst = session->dest;
	const char *peer = session->control.conn->peer;
	if (batch->channel >= dst->channel_count || !dst->channels[batch->channel].joined ||
	    batch->epoch != dst->channels[batch->channel].epoch)
		return error_note(&session->error, RDMAMIG_E_PROTOCOL, 0, "%s described a batch of a channel it does not have", peer);
	if (batch->block >= session->block_count)
		return error_note(&session->error, RDMAMIG_E_PROTOCOL, 0, "%s described a batch of block %u", peer, batch->block);
	const struct block *block = &session->blocks[batch->block];
	unsigned runs = batch->normal_count + batch->zero_count + batch->forced_count;
	for (unsigned i = 0; i < runs; i++)
		if (batch->runs[i].first_page >= block->pages || batch->runs[i].pages > block->pages - batch->runs[i].first_page)
			return error_note(&session->error, RDMAMIG_E_PROTOCOL, 0, "%s named pages past the end of block %s", peer,
					  block->name);
	return receiver_describe(&dst->channels[batch->channel].receiver, batch);
}

static void round_answer(struct rdmamig_session *session, const struct message_round *round)
{
	struct message message = { .header.type = MESSAGE_ROUND, .round.round = round->round };
	session_cpu(&message.round.cpu_user_us, &message.round.cpu_system_us);
	control_send(&session->control, &message);	/* statistics: if there is no room they are not missed */
	pthread_mutex_lock(&session->stats_lock);
	session->stats.dirty_sync_count = round->round;
	session->stats.normal_pages += round->normal_pages;
	session->stats.duplicate_pages += round->zero_pages;
	session->stats.data_bytes += bytes_of_pages(round->normal_pages);
	session->stats.peer_cpu_user_s = (double)round->cpu_user_us / 1e6;
	session->stats.peer_cpu_system_s = (double)round->cpu_system_us / 1e6;
	pthread_mutex_unlock(&session->stats_lock);
	session_tell(session, RDMAMIG_EVENT_ROUND);
}

static enum rdmamig_status hashes_take(struct rdmamig_session *session, const struct message_verify *message)
{
	struct dest *dst = session->dest;
	if (!dst->hello.verify || !message->count || message->count > session->block_count - dst->claimed_count || !channels_are_idle(dst))
		return error_note(&session->error, RDMAMIG_E_PROTOCOL, 0, "%s sent hashes nobody asked for", session->control.conn->peer);
	memcpy(&dst->claimed[dst->claimed_count], message->hashes, message->count * sizeof(message->hashes[0]));
	dst->claimed_count += message->count;
	if (dst->claimed_count < session->block_count)
		return RDMAMIG_OK;
	dst->verifying = true;
	return verify_begin(&dst->verify, &session->error);
}

static enum rdmamig_status state_take(struct rdmamig_session *session, const struct message_state *state)
{
	struct dest *dst = session->dest;
	if (!channels_are_idle(dst) || dst->verifying || (dst->hello.verify && !dst->verify.compared))
		return error_note(&session->error, RDMAMIG_E_PROTOCOL, 0, "%s sent device state before all memory was here",
				  session->control.conn->peer);
	if (state->count && !mailbox_tell_state(&session->mailbox, state->bytes, state->count))
		return RDMAMIG_AGAIN;
	dst->has_last_state = state->last;
	dst->guest_runs = state->guest_runs;
	return RDMAMIG_OK;
}

static enum rdmamig_status letter_open(struct rdmamig_session *session, const struct message *message)
{
	switch (message->header.type) {
	case MESSAGE_CHANNEL_UP:
		return channel_announced(session, message);
	case MESSAGE_BATCH:
		return batch_described(session, &message->batch);
	case MESSAGE_ROUND:
		round_answer(session, &message->round);
		return RDMAMIG_OK;
	case MESSAGE_VERIFY:
		return hashes_take(session, &message->verify);
	case MESSAGE_STATE:
		return state_take(session, &message->state);
	default:
		return session_unexpected(session, message);
	}
}

/* Take messages in order; one that finds no room now is kept and tried again. */
static enum rdmamig_status letters_open(struct rdmamig_session *session)
{
	struct dest *dst = session->dest;
	enum rdmamig_status st = RDMAMIG_OK;
	while (!st && !dst->has_last_state) {
		bool is_new = !dst->has_letter;
		if (is_new)
			st = session_receive(session, &dst->letter);
		if (st)
			return st;
		st = letter_open(session, &dst->letter);
		dst->has_letter = st == RDMAMIG_AGAIN;
		if (is_new || !st)	/* only state has to wait, for the driver */
			session->phase_deadline_ns = clock_after_ms(session->clock, st == RDMAMIG_AGAIN ?
								    session->options.driver_timeout_ms :
								    ACTIVE_IDLE_MS + session_hash_ms(session));
	}
	return st ? st : RDMAMIG_AGAIN;
}

static enum rdmamig_status verify_turn(struct rdmamig_session *session, struct wait *wait)
{
	struct dest *dst = session->dest;
	enum rdmamig_status st = verify_step(&dst->verify, session->blocks, session->block_count, &session->error);
	wait_now(wait);
	if (st)
		return st == RDMAMIG_AGAIN ? RDMAMIG_OK : st;
	dst->verifying = false;
	st = verify_compare(&dst->verify, dst->claimed, dst->claimed_count, session->blocks, &session->error);
	if (!st)
		verify_send(&dst->verify, &session->control);
	pthread_mutex_lock(&session->stats_lock);
	session->stats.verified = !st;
	pthread_mutex_unlock(&session->stats_lock);
	return st;
}

enum rdmamig_status dest_active(struct rdmamig_session *session, struct wait *wait)
{
	struct dest *dst = session->dest;
	enum rdmamig_status st = conns_accept(session, wait);
	if (!st)
		st = letters_open(session);
	if (st && st != RDMAMIG_AGAIN)
		return st;
	st = conns_join(session, wait);
	if (!st)
		st = channels_check(session);
	if (!st && dst->verifying)
		st = verify_turn(session, wait);
	if (st)
		return st;
	acks_send(session);
	if (dst->has_last_state) {
		session_enter(session, dest_load, 0);
		return RDMAMIG_OK;
	}
	if (dst->has_letter)
		wait_until(wait, clock_after_ms(session->clock, 10));
	if (session_is_late(session) && dst->has_letter)
		return error_note(&session->error, RDMAMIG_E_DRIVER_SILENT, 0, "the guest's driver did not take its device state "
				  "within %llu ms", (unsigned long long)session->options.driver_timeout_ms);
	if (!dst->verifying && session_is_late(session))
		return error_note(&session->error, RDMAMIG_E_PEER_SILENT, 0, "%s sends heartbeats and nothing else",
				  session->control.conn->peer);
	return RDMAMIG_AGAIN;
}
