/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * endpoint.h - what a transport is: it moves bytes into memory named by keys, and knows no page.
 *
 * Modelled on verbs, so that verbs lose nothing by it, and served by sockets as well. An endpoint is one end's device
 * (its PD and MRs) and, at dest, its listener; a conn is one connection (a QP and its CQ, or a stream). A conn carries
 * messages (control) or writes, reads and fences (data); it is used by one thread at a time, and so are open, listen,
 * accept and close of an endpoint. Regions may be added and removed by any thread. Nothing here blocks: what cannot be
 * done now returns RDMAMIG_AGAIN, and conn_wait()/endpoint_wait() say what to wait for.
 *
 * Ordering is what verbs promise and no more: writes of one conn are placed before a later fence of the same conn is
 * seen by the peer; between conns there is no order at all, hello and messages included; CONN_WRITTEN says that local
 * memory may be reused, not that the peer sees the bytes. Nothing says that the last message was delivered: who spoke
 * last waits, up to a deadline, for the peer to hang up (CONN_CLOSED), and who has heard it hangs up.
 *
 * The shape was tried on a real rxe device before it was fixed: tests/spike.
 *
 * Each failure is noted in the endpoint's struct error by the transport itself.
 */
#ifndef TRANSPORT_ENDPOINT_H
#define TRANSPORT_ENDPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rdmamig/session.h>
#include <rdmamig/status.h>
#include <rdmamig/uri.h>

#include "base/clock.h"
#include "base/error.h"

/* What a connection is for; the numbers are on the wire. */
enum conn_kind {
	CONN_CONTROL = 1,	/* a new session */
	CONN_DATA = 2,		/* a channel of a running session: token must have been announced on its control conn */
	CONN_RECORD = 3,	/* a control conn that asks and tells who owns a held session */
};

/* The private data of a connect: unauthenticated, at most 56 bytes on the wire (rdma_cm's limit). */
struct conn_hello {
	enum conn_kind kind;
	uint16_t version_min;	/* of the control protocol */
	uint16_t version_max;
	uint16_t channel;	/* CONN_DATA: which */
	uint32_t epoch;		/* CONN_DATA: of that channel */
	uint64_t token;		/* CONN_DATA: announced in CHANNEL_UP, good once */
	uint8_t session_id[RDMAMIG_SESSION_ID_BYTES];
};

/* Fences of one conn the peer has not acknowledged by a message; more are not wrong, but slow (verbs: RNR). */
enum { CONN_FENCES_MAX = 64 };

/* What a transport can do: upper bounds from open on, final once the first conn is open (rdma_cm finds the device then). */
struct endpoint_limits {
	uint32_t writes_max;		/* struct write's in one conn_write() */
	uint32_t posts_max;		/* calls of write, read and fence not yet completed, a conn; AGAIN may come earlier */
	uint32_t write_bytes_max;	/* of one struct write */
	uint32_t message_bytes_max;	/* of one message */
	uint32_t messages_max;		/* received messages a conn can hold until conn_message_release() */
	bool needs_local_region;	/* writes must come from a registered region (verbs) */
	bool register_is_free;		/* adding a region neither populates nor pins it (sockets) */
};

enum region_access {
	REGION_LOCAL = 0,		/* we write from it or read into it */
	REGION_REMOTE_WRITE = 1,
	REGION_REMOTE_READ = 2,
};

/* How the peer names a region: address base + offset, under key. Never logged. */
struct region_key {
	uint64_t base;
	uint32_t key;
};

struct region;	/* an MR, or a row in a table of permitted ranges */

/* One contiguous piece of a conn_write() or conn_read(). */
struct write {
	void *local;			/* read from (write) or written to (read) until the completion */
	struct region *region;		/* that @local lies in; may be NULL unless needs_local_region */
	uint64_t remote;		/* region_key.base + offset */
	uint32_t key;
	uint32_t bytes;			/* > 0 */
};

enum conn_event_type {
	CONN_OPENED = 1,	/* connecting is through */
	CONN_MESSAGE = 2,	/* message/bytes/slot; the buffer is the caller's until conn_message_release(slot) */
	CONN_WRITTEN = 3,	/* id: local memory of that conn_write() may be reused */
	CONN_READ = 4,		/* id: the bytes of that conn_read() are here and visible */
	CONN_FENCE = 5,		/* sequence: all the peer wrote on this conn before that fence is here and visible */
	CONN_CLOSED = 6,	/* the last one, after all that had arrived. status OK: the peer closed it (or died); else why it
				 * broke. Local memory of all that was posted is the caller's again. */
};

struct conn_event {
	enum conn_event_type type;
	enum rdmamig_status status;
	uint64_t id;
	uint32_t sequence;
	const uint8_t *message;
	size_t bytes;
	unsigned slot;
};

struct endpoint {
	const struct endpoint_ops *ops;
	const struct clock *clock;
	struct error *error;		/* the session's */
	struct endpoint_limits limits;
};

struct conn {
	const struct endpoint_ops *ops;
	struct endpoint *endpoint;
	struct conn_hello hello;	/* what was sent (connect) or received (accept) */
	char peer[80];			/* "192.0.2.1:40312", for messages */
};

/*
 * The operations. Every one of them is called through the inline function of its name below; the contracts stand there.
 */
struct endpoint_ops {
	const char *scheme;
	enum rdmamig_status (*open)(const struct rdmamig_uri *uri, const struct clock *clock, struct error *error,
				    struct endpoint **out);
	void (*close)(struct endpoint *endpoint);
	enum rdmamig_status (*listen)(struct endpoint *endpoint, uint16_t *port);
	enum rdmamig_status (*accept)(struct endpoint *endpoint, struct conn **out);
	void (*wait)(struct endpoint *endpoint, struct wait *wait);
	enum rdmamig_status (*region_add)(struct endpoint *endpoint, void *base, size_t bytes, enum region_access access,
					  struct region **out, struct region_key *key);
	void (*region_remove)(struct endpoint *endpoint, struct region *region);

	enum rdmamig_status (*connect)(struct endpoint *endpoint, const struct conn_hello *hello, struct conn **out);
	enum rdmamig_status (*admit)(struct conn *conn);
	void (*reject)(struct conn *conn, enum rdmamig_status why, const char *text);
	enum rdmamig_status (*send)(struct conn *conn, const void *message, size_t bytes);
	void (*message_release)(struct conn *conn, unsigned slot);
	enum rdmamig_status (*write)(struct conn *conn, const struct write *writes, unsigned count, uint64_t id);
	enum rdmamig_status (*read)(struct conn *conn, const struct write *reads, unsigned count, uint64_t id);
	enum rdmamig_status (*fence)(struct conn *conn, uint32_t sequence);
	unsigned (*poll)(struct conn *conn, struct conn_event *events, unsigned max);
	void (*conn_wait)(struct conn *conn, struct wait *wait);
	uint64_t (*bytes_sent)(const struct conn *conn);
	void (*kill)(struct conn *conn);
	void (*conn_free)(struct conn *conn);
};

/* endpoint_ops_find - the transport of a scheme, NULL if this build has none. */
const struct endpoint_ops *endpoint_ops_find(const char *scheme);

/*
 * endpoint_open - for @uri; @error is the session's and outlives the endpoint. Connects to nothing yet.
 * E_URI a name that does not resolve is reported by connect/listen, not here; E_DEVICE no such device; E_NO_MEMORY.
 */
static inline enum rdmamig_status endpoint_open(const struct endpoint_ops *ops, const struct rdmamig_uri *uri,
						const struct clock *clock, struct error *error, struct endpoint **out)
{
	return ops->open(uri, clock, error, out);
}

/* endpoint_close - after all its conns are freed and regions removed; stops listening. NULL is fine. */
static inline void endpoint_close(struct endpoint *endpoint)
{
	if (endpoint)
		endpoint->ops->close(endpoint);
}

/* endpoint_listen - *port is the one bound (asked for 0: the kernel's choice). E_LISTEN: in use, or not our address. */
static inline enum rdmamig_status endpoint_listen(struct endpoint *endpoint, uint16_t *port)
{
	return endpoint->ops->listen(endpoint, port);
}

/*
 * endpoint_accept - the next connection whose hello has arrived and parsed; admit it (and free it one day) or reject it.
 * AGAIN: none yet. Connections that stay half open, or send something else, are dropped by themselves: at most 16 at a
 * time, 5 s each, and one warning line. They never end the session.
 */
static inline enum rdmamig_status endpoint_accept(struct endpoint *endpoint, struct conn **out)
{
	return endpoint->ops->accept(endpoint, out);
}

/* endpoint_wait - add what the listener is waiting for. */
static inline void endpoint_wait(struct endpoint *endpoint, struct wait *wait)
{
	endpoint->ops->wait(endpoint, wait);
}

/*
 * region_add - @base stays the caller's and mapped until region_remove(). *key is for the peer (REMOTE_*).
 * E_NO_MEMORY no memory, or the pin limit; E_DEVICE, also before the first conn is open. Any thread.
 */
static inline enum rdmamig_status region_add(struct endpoint *endpoint, void *base, size_t bytes, enum region_access access,
					     struct region **out, struct region_key *key)
{
	return endpoint->ops->region_add(endpoint, base, bytes, access, out, key);
}

/* region_remove - once it returns nothing more lands there. NULL is fine. Any thread. */
static inline void region_remove(struct endpoint *endpoint, struct region *region)
{
	if (region)
		endpoint->ops->region_remove(endpoint, region);
}

/*
 * conn_connect - begin; CONN_OPENED or CONN_CLOSED follows from conn_poll(). The deadline is the caller's.
 * CONN_CLOSED: E_CONNECT nobody listens or the name is unknown; the peer's own status and text if it rejected.
 */
static inline enum rdmamig_status conn_connect(struct endpoint *endpoint, const struct conn_hello *hello, struct conn **out)
{
	return endpoint->ops->connect(endpoint, hello, out);
}

/* conn_admit - accept it; CONN_OPENED follows from conn_poll(). */
static inline enum rdmamig_status conn_admit(struct conn *conn)
{
	return conn->ops->admit(conn);
}

/* conn_reject - refuse it with a reason the peer prints (80 bytes of @text at most) and free it. */
static inline void conn_reject(struct conn *conn, enum rdmamig_status why, const char *text)
{
	conn->ops->reject(conn, why, text);
}

/* conn_send - one message, copied. AGAIN: no room, nothing was sent. The peer must have credit for it (see control). */
static inline enum rdmamig_status conn_send(struct conn *conn, const void *message, size_t bytes)
{
	return conn->ops->send(conn, message, bytes);
}

static inline void conn_message_release(struct conn *conn, unsigned slot)
{
	conn->ops->message_release(conn, slot);
}

/* conn_write - place @count pieces at the peer; CONN_WRITTEN @id once for all. AGAIN: no room, nothing was posted. */
static inline enum rdmamig_status conn_write(struct conn *conn, const struct write *writes, unsigned count, uint64_t id)
{
	return conn->ops->write(conn, writes, count, id);
}

/* conn_read - fetch @count pieces from the peer; CONN_READ @id once for all. AGAIN as above. */
static inline enum rdmamig_status conn_read(struct conn *conn, const struct write *reads, unsigned count, uint64_t id)
{
	return conn->ops->read(conn, reads, count, id);
}

/* conn_fence - CONN_FENCE @sequence at the peer after all earlier writes of this conn. AGAIN as above. */
static inline enum rdmamig_status conn_fence(struct conn *conn, uint32_t sequence)
{
	return conn->ops->fence(conn, sequence);
}

/* conn_poll - move what can be moved, then up to @max events; 0 if there are none. After CONN_CLOSED always 0. */
static inline unsigned conn_poll(struct conn *conn, struct conn_event *events, unsigned max)
{
	return conn->ops->poll(conn, events, max);
}

/*
 * conn_wait - add what conn_poll() is waiting for; events at hand: no wait at all. If a call was told AGAIN since the
 * last conn_wait(), it also ends when there is room again. After CONN_CLOSED it adds nothing.
 */
static inline void conn_wait(struct conn *conn, struct wait *wait)
{
	conn->ops->conn_wait(conn, wait);
}

/* conn_bytes_sent - on the wire, as far as the transport knows: payload and its own headers. Any thread. */
static inline uint64_t conn_bytes_sent(const struct conn *conn)
{
	return conn->ops->bytes_sent(conn);
}

/* conn_kill - into ERR: once it returns nothing the peer sent on it is placed any more. Idempotent. */
static inline void conn_kill(struct conn *conn)
{
	conn->ops->kill(conn);
}

/* conn_free - kill, drain, free. NULL is fine. */
static inline void conn_free(struct conn *conn)
{
	if (conn)
		conn->ops->conn_free(conn);
}

#endif
