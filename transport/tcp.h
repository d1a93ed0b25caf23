/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tcp.h - what the files of the tcp transport share. Only they include it, and endpoint.c for tcp_ops.
 *
 * tcp_endpoint.c  the endpoint and its table of operations
 * tcp_listen.c    listening, and connections that have not yet said hello
 * tcp_conn.c      one connection from connect or admit to its end
 * tcp_send.c      frames waiting to go out, and sendmsg(2)
 * tcp_receive.c   recvmsg(2), and what the frames that came say
 */
#ifndef TRANSPORT_TCP_H
#define TRANSPORT_TCP_H

#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "transport/endpoint.h"
#include "transport/hello.h"
#include "transport/tcp_frame.h"
#include "transport/tcp_region.h"

enum {
	TCP_LISTENERS_MAX = 4,
	TCP_HALF_OPEN_MAX = 16,
	TCP_HALF_OPEN_MS = 5000,
	TCP_ADDRESS_MS = 3000,		/* for one address of a name, while it has others */

	TCP_POSTS_MAX = 64,
	TCP_READS_MAX = 16,		/* asked for and not answered; part of the protocol */
	TCP_MESSAGES_MAX = 64,
	TCP_FRAMES_MAX = 1 + TCP_MESSAGES_MAX + TCP_POSTS_MAX + TCP_READS_MAX,

	TCP_POLL_BYTES = 4 << 20,	/* moved each way by one conn_poll() at most, so that its thread looks up */
	TCP_IOVS_MAX = 512,		/* for one system call */
	TCP_AHEAD_BYTES = 16 << 10,	/* headers of the next frames, read together with the payload of this one */
};

struct tcp_half_open {
	int fd;				/* -1: free */
	unsigned used;
	uint64_t order;			/* of arrival */
	uint64_t deadline_ns;
	uint8_t bytes[TCP_HEADER_BYTES + HELLO_BYTES];
	char peer[80];
};

struct tcp_listen {
	int fds[TCP_LISTENERS_MAX];
	unsigned count;
	uint64_t pause_ns;		/* out of descriptors: no accept before that */
	struct tcp_half_open half_open[TCP_HALF_OPEN_MAX];
	uint64_t arrived;
	uint64_t warn_ns;		/* no warning before that */
	unsigned unwarned;
};

struct tcp_endpoint {
	struct endpoint endpoint;
	struct rdmamig_uri uri;
	struct tcp_listen listen;
	struct tcp_regions regions;
};

/* A frame on its way out; @head is what we made: header and pieces, or header and message. */
struct tcp_frame {
	enum tcp_frame_type type;
	uint64_t id;			/* TCP_WRITE: conn_write()'s */
	unsigned head_bytes;
	unsigned count;			/* of pieces whose bytes are the payload */
	uint64_t bytes;			/* of all */
	struct tcp_piece pieces[TCP_PIECES_MAX];
	uint8_t head[TCP_HEADER_BYTES + TCP_MESSAGE_BYTES_MAX];
};

_Static_assert(TCP_PIECES_MAX * TCP_PIECE_BYTES <= TCP_MESSAGE_BYTES_MAX, "pieces fit where a message does");
_Static_assert(TCP_FRAMES_MAX <= 256, "frames are named by a byte");

struct tcp_out {
	struct tcp_frame frames[TCP_FRAMES_MAX];
	uint8_t free[TCP_FRAMES_MAX];	/* a stack: the frame used last is the one still in the cache */
	unsigned free_count;
	uint8_t queue[TCP_FRAMES_MAX];
	unsigned head;
	unsigned count;
	uint64_t sent;			/* of the frame at the head */
	unsigned posts;			/* not yet completed */
	unsigned messages;		/* queued */
	unsigned answers;		/* queued */
	uint64_t written[TCP_POSTS_MAX];	/* ids whose CONN_WRITTEN is to come */
	unsigned written_head;
	unsigned written_count;
	int broken_errno;		/* sending failed; what the peer said before is still to be read */
};

enum tcp_in_state { TCP_IN_HEADER, TCP_IN_PIECES, TCP_IN_PAYLOAD };

struct tcp_in {
	enum tcp_in_state state;
	unsigned from, to;		/* of @ahead */
	struct tcp_header header;
	unsigned count, next;		/* pieces of the frame, and the one being filled */
	uint32_t next_done;
	uint64_t left;			/* payload to come */
	unsigned slot;			/* of the message */
	uint64_t slots_free;		/* a bit each */
	bool is_stalled;		/* a message has come and all slots are held */
	bool has_more;			/* the last poll stopped before the bytes at hand did */
	struct tcp_piece pieces[TCP_PIECES_MAX];
	uint8_t ahead[TCP_AHEAD_BYTES];
	uint8_t messages[TCP_MESSAGES_MAX][TCP_MESSAGE_BYTES_MAX];
};

_Static_assert(TCP_MESSAGES_MAX == 64, "slots_free has a bit for each");

struct tcp_read {
	uint64_t id;
	unsigned count;
	uint64_t bytes;
	struct tcp_piece pieces[TCP_PIECES_MAX];
};

/* Answers come in the order of the requests, so a ring does. */
struct tcp_reads {
	struct tcp_read ring[TCP_READS_MAX];
	uint32_t asked;			/* running numbers; the next sequence to use and */
	uint32_t answered;		/* the next to be answered */
};

enum tcp_state {
	TCP_CONNECTING,
	TCP_GREETING,	/* our hello is on its way, the answer is not here */
	TCP_ACCEPTED,	/* the peer's hello is here, the caller has not admitted it */
	TCP_OPEN,
	TCP_CLOSED,
};

/* Large, and mostly never touched: queues are used from one end, and the kernel gives pages as they are. */
struct tcp_conn {
	struct conn conn;
	enum tcp_state state;
	int fd;
	bool opened_untold;
	bool closed_untold;
	enum rdmamig_status closed_status;
	struct addrinfo *addresses;	/* connecting */
	struct addrinfo *address_next;
	uint64_t address_deadline_ns;
	_Atomic uint64_t bytes_sent;	/* relaxed: a statistic, read by conn_bytes_sent() on any thread */
	struct tcp_in in;
	struct tcp_out out;
	struct tcp_reads reads;
};

extern const struct endpoint_ops tcp_ops;

static inline struct tcp_endpoint *tcp_endpoint_of(struct endpoint *endpoint)
{
	return (struct tcp_endpoint *)endpoint;
}

static inline struct tcp_conn *tcp_conn_of(struct conn *conn)
{
	return (struct tcp_conn *)conn;
}

static inline struct tcp_regions *tcp_conn_regions(struct tcp_conn *t)
{
	return &tcp_endpoint_of(t->conn.endpoint)->regions;
}

/* tcp_listen.c: the operations of these names, and */
enum rdmamig_status tcp_listen(struct endpoint *endpoint, uint16_t *port);
enum rdmamig_status tcp_accept(struct endpoint *endpoint, struct conn **out);
void tcp_listen_wait(struct endpoint *endpoint, struct wait *wait);
void tcp_listen_init(struct tcp_listen *listen);
void tcp_listen_close(struct tcp_listen *listen);

/* tcp_conn.c: the operations of these names, and */
enum rdmamig_status tcp_connect(struct endpoint *endpoint, const struct conn_hello *hello, struct conn **out);
enum rdmamig_status tcp_admit(struct conn *conn);
void tcp_reject(struct conn *conn, enum rdmamig_status why, const char *text);
unsigned tcp_poll(struct conn *conn, struct conn_event *events, unsigned max);
void tcp_conn_wait(struct conn *conn, struct wait *wait);
uint64_t tcp_bytes_sent(const struct conn *conn);
void tcp_kill(struct conn *conn);
void tcp_conn_free(struct conn *conn);

/* tcp_conn_new - NULL: no memory. @fd is the conn's from then on. */
struct tcp_conn *tcp_conn_new(struct endpoint *endpoint, const struct conn_hello *hello, enum tcp_state state, int fd);

/* tcp_socket_tune - the same options for both ends; a socket that will not take one works without. */
void tcp_socket_tune(int fd);

/* tcp_close - the connection is over; CONN_CLOSED with @why is what is left to tell. Whoever calls it has noted it. */
void tcp_close(struct tcp_conn *t, enum rdmamig_status why);

/* tcp_violation - note what the peer did, and close with E_PROTOCOL. */
void tcp_violation(struct tcp_conn *t, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* tcp_send.c: the operations of these names, and */
enum rdmamig_status tcp_send(struct conn *conn, const void *message, size_t bytes);
enum rdmamig_status tcp_write(struct conn *conn, const struct write *writes, unsigned count, uint64_t id);
enum rdmamig_status tcp_read(struct conn *conn, const struct write *reads, unsigned count, uint64_t id);
enum rdmamig_status tcp_fence(struct conn *conn, uint32_t sequence);
void tcp_out_init(struct tcp_out *out);

/* tcp_out_greet - queue our TCP_HELLO or TCP_ADMIT; the first frame of a connection, so there is room. */
void tcp_out_greet(struct tcp_conn *t, enum tcp_frame_type type);

/* tcp_out_answer - queue the bytes of @count pieces of our regions. false: more at once than the protocol allows. */
bool tcp_out_answer(struct tcp_conn *t, uint32_t sequence, const struct tcp_piece *pieces, unsigned count);

/* tcp_out_move - send what the socket takes; may close the conn. */
void tcp_out_move(struct tcp_conn *t);

/* tcp_receive.c: the operation of this name, and */
void tcp_message_release(struct conn *conn, unsigned slot);
void tcp_in_init(struct tcp_in *in);

/* tcp_in_move - receive, place, and tell in at most @max events; may open or close the conn. */
unsigned tcp_in_move(struct tcp_conn *t, struct conn_event *events, unsigned max);

#endif
