/* SPDX-License-Identifier: BSD-2-Clause */
/* peer_sink.h - a sink that is the peer's memory, reached through a data conn. */
#ifndef MULTIFD_PEER_SINK_H
#define MULTIFD_PEER_SINK_H

#include <stdatomic.h>
#include <stdbool.h>

#include "multifd/keys.h"
#include "multifd/sink.h"
#include "transport/endpoint.h"

struct peer_sink {
	struct sink sink;
	struct conn *conn;
	const struct keys *keys;
	struct error *error;
	_Atomic uint32_t acked;		/* stored by the session thread from ACK */
	bool is_open;
};

/* peer_sink_init - @conn is the sink's to free from now on; @keys and @error must outlive it. */
void peer_sink_init(struct peer_sink *sink, struct conn *conn, const struct keys *keys, struct error *error);
void peer_sink_fini(struct peer_sink *sink);

/* peer_sink_ack - the peer says so. Session thread. */
void peer_sink_ack(struct peer_sink *sink, uint32_t applied);

#endif
