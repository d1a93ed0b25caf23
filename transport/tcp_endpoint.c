/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tcp_endpoint.c - an endpoint over sockets: its limits, its regions, and the table of what it can do.
 * Neighbours: tcp_listen.c, tcp_conn.c, tcp_region.c. One thread, but regions come and go on any.
 */
#include <errno.h>
#include <stdlib.h>

#include "transport/tcp.h"

static enum rdmamig_status tcp_open(const struct rdmamig_uri *uri, const struct clock *clock, struct error *error,
				    struct endpoint **out)
{
	struct tcp_endpoint *e = calloc(1, sizeof(*e));
	if (!e)
		return error_note(error, RDMAMIG_E_NO_MEMORY, errno, "calloc of a tcp endpoint");

	e->endpoint = (struct endpoint){
		.ops = &tcp_ops,
		.clock = clock,
		.error = error,
		.limits = {
			.writes_max = TCP_PIECES_MAX,
			.posts_max = TCP_POSTS_MAX,
			.write_bytes_max = TCP_PIECE_BYTES_MAX,
			.message_bytes_max = TCP_MESSAGE_BYTES_MAX,
			.messages_max = TCP_MESSAGES_MAX,
			.needs_local_region = false,
			.register_is_free = true,
		},
	};
	e->uri = *uri;
	tcp_listen_init(&e->listen);
	tcp_regions_init(&e->regions);

	*out = &e->endpoint;
	return RDMAMIG_OK;
}

static void tcp_endpoint_close(struct endpoint *endpoint)
{
	struct tcp_endpoint *e = tcp_endpoint_of(endpoint);
	tcp_listen_close(&e->listen);
	tcp_regions_fini(&e->regions);
	free(e);
}

static enum rdmamig_status tcp_region_add(struct endpoint *endpoint, void *base, size_t bytes, enum region_access access,
					  struct region **out, struct region_key *key)
{
	struct region *region;
	enum rdmamig_status st = tcp_regions_add(&tcp_endpoint_of(endpoint)->regions, base, bytes, access, &region);
	if (st)
		return error_note(endpoint->error, st, 0, "more than %u regions registered at a time", (unsigned)TCP_REGIONS_MAX);

	*key = (struct region_key){ .base = 0, .key = region->key };
	*out = region;
	return RDMAMIG_OK;
}

static void tcp_region_remove(struct endpoint *endpoint, struct region *region)
{
	tcp_regions_remove(&tcp_endpoint_of(endpoint)->regions, region);
}

const struct endpoint_ops tcp_ops = {
	.scheme = "tcp",
	.open = tcp_open,
	.close = tcp_endpoint_close,
	.listen = tcp_listen,
	.accept = tcp_accept,
	.wait = tcp_listen_wait,
	.region_add = tcp_region_add,
	.region_remove = tcp_region_remove,
	.connect = tcp_connect,
	.admit = tcp_admit,
	.reject = tcp_reject,
	.send = tcp_send,
	.message_release = tcp_message_release,
	.write = tcp_write,
	.read = tcp_read,
	.fence = tcp_fence,
	.poll = tcp_poll,
	.conn_wait = tcp_conn_wait,
	.bytes_sent = tcp_bytes_sent,
	.kill = tcp_kill,
	.conn_free = tcp_conn_free,
};
