/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * peer_sink.c - turns a batch's runs into WRITEs of the peer's memory.
 * Neighbours: sender.c drives it, transport moves the bytes. Runs on the channel's thread, ack on the session's.
 */
#include "multifd/peer_sink.h"

#include <assert.h>

static struct peer_sink *peer_of(struct sink *sink)
{
	return (struct peer_sink *)sink;	/* its first member */
}

static enum rdmamig_status peer_keys(struct sink *sink, uint16_t block, struct run run, struct sink_key *out)
{
	const struct key_row *row = keys_find(peer_of(sink)->keys, block, run);
	if (!row)
		return RDMAMIG_AGAIN;
	*out = (struct sink_key){ .remote = row->base + (bytes_of_pages(run.first_page) - row->offset), .key = row->key };
	return RDMAMIG_OK;
}

static enum rdmamig_status peer_place(struct sink *sink, const struct batch *batch)
{
	const struct message_batch *lists = &batch->description.batch;
	struct write writes[BATCH_PAGES_MAX];
	for (unsigned i = 0; i < lists->normal_count; i++) {
		struct run run = { .first_page = lists->runs[i].first_page, .pages = lists->runs[i].pages };
		struct sink_key key;
		enum rdmamig_status st = peer_keys(sink, batch->block_index, run, &key);
		if (st)
			return st;
		writes[i] = (struct write){
			.local = batch->block->memory + bytes_of_pages(run.first_page),
			.remote = key.remote,
			.key = key.key,
			.bytes = (uint32_t)bytes_of_pages(run.pages),
		};
	}
	return lists->normal_count ? conn_write(peer_of(sink)->conn, writes, lists->normal_count, lists->batch_sequence)
				   : RDMAMIG_OK;
}

static enum rdmamig_status peer_fence(struct sink *sink, uint32_t sequence)
{
	return conn_fence(peer_of(sink)->conn, sequence);
}

static uint32_t peer_acked(struct sink *sink)
{
	/* Acquire: pairs with peer_sink_ack(); what dest applied is over before its pages are sent again. */
	return atomic_load_explicit(&peer_of(sink)->acked, memory_order_acquire);
}

static enum rdmamig_status peer_move(struct sink *sink)
{
	struct peer_sink *peer = peer_of(sink);
	struct conn_event events[8];
	unsigned n = conn_poll(peer->conn, events, 8);
	for (unsigned i = 0; i < n; i++) {
		switch (events[i].type) {
		case CONN_OPENED:
			peer->is_open = true;
			break;
		case CONN_WRITTEN:
			break;	/* local memory is the guest's: nothing to reuse. The ack is what counts. */
		case CONN_CLOSED:
			return events[i].status ? events[i].status : RDMAMIG_E_DISCONNECTED;	/* orderly: the session knows if it may be */
		default:
			return error_note(peer->error, RDMAMIG_E_PROTOCOL, 0, "%s sent data on our channel %u",
					  peer->conn->peer, peer->conn->hello.channel);
		}
	}
	return RDMAMIG_OK;
}

static void peer_wait(struct sink *sink, struct wait *wait)
{
	conn_wait(peer_of(sink)->conn, wait);
}

static const struct sink_ops peer_ops = {
	.keys = peer_keys,
	.place = peer_place,
	.fence = peer_fence,
	.acked = peer_acked,
	.move = peer_move,
	.wait = peer_wait,
};

void peer_sink_init(struct peer_sink *sink, struct conn *conn, const struct keys *keys, struct error *error)
{
	sink->sink.ops = &peer_ops;
	sink->conn = conn;
	sink->keys = keys;
	sink->error = error;
	atomic_init(&sink->acked, 0);
	sink->is_open = false;
	assert(conn->endpoint->limits.writes_max >= BATCH_PAGES_MAX);
}

void peer_sink_fini(struct peer_sink *sink)
{
	conn_free(sink->conn);
	sink->conn = NULL;
}

void peer_sink_ack(struct peer_sink *sink, uint32_t applied)
{
	atomic_store_explicit(&sink->acked, applied, memory_order_release);
}
