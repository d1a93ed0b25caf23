/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tcp_conn.c - one connection from connect or admit to its end.
 * Neighbours: tcp_send.c and tcp_receive.c move its bytes, tcp_listen.c makes the accepted ones. The connection's thread.
 */
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "transport/tcp.h"
#include "transport/tcp_address.h"

void tcp_socket_tune(int fd)
{
	int on = 1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

struct tcp_conn *tcp_conn_new(struct endpoint *endpoint, const struct conn_hello *hello, enum tcp_state state, int fd)
{
	struct tcp_conn *t = calloc(1, sizeof(*t));
	if (!t)
		return NULL;

	t->conn = (struct conn){ .ops = &tcp_ops, .endpoint = endpoint, .hello = *hello };
	t->state = state;
	t->fd = fd;
	tcp_in_init(&t->in);
	tcp_out_init(&t->out);
	return t;
}

static void socket_close(struct tcp_conn *t)
{
	if (t->fd >= 0)
		close(t->fd);
	t->fd = -1;
}

void tcp_close(struct tcp_conn *t, enum rdmamig_status why)
{
	assert(t->state != TCP_CLOSED);
	socket_close(t);
	t->state = TCP_CLOSED;
	t->closed_status = why;
	t->closed_untold = true;
}

void tcp_violation(struct tcp_conn *t, const char *format, ...)
{
	char what[256];
	va_list args;
	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	tcp_close(t, error_note(t->conn.endpoint->error, RDMAMIG_E_PROTOCOL, 0, "%s broke the protocol: %s", t->conn.peer,
				what));
}

static void connect_failed(struct tcp_conn *t, const char *why, const char *hint)
{
	char name[300];
	tcp_address_name(&tcp_endpoint_of(t->conn.endpoint)->uri, name, sizeof(name));
	tcp_close(t, error_note(t->conn.endpoint->error, RDMAMIG_E_CONNECT, 0, "cannot connect to %s: %s%s", name, why, hint));
}

/* Begin with the next address that lets us; @why is what the one before it said. */
static void connect_next(struct tcp_conn *t, int why)
{
	while (t->address_next) {
		const struct addrinfo *at = t->address_next;
		t->address_next = at->ai_next;

		socket_close(t);
		tcp_address_text(at->ai_addr, at->ai_addrlen, t->conn.peer, sizeof(t->conn.peer));
		t->address_deadline_ns = t->address_next ? clock_after_ms(t->conn.endpoint->clock, TCP_ADDRESS_MS) : CLOCK_NEVER;
		t->fd = socket(at->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		if (t->fd >= 0) {
			tcp_socket_tune(t->fd);
			if (!connect(t->fd, at->ai_addr, at->ai_addrlen) || errno == EINPROGRESS)
				return;
		}
		why = errno;
	}

	char text[128];
	connect_failed(t, strerror_r(why, text, sizeof(text)),
		       why != ECONNREFUSED ? "" : t->conn.hello.kind == CONN_RECORD ? "; is `rdmamig resolve --listen` running there?" :
		       "; is `rdmamig recv` running there?");
}

enum rdmamig_status tcp_connect(struct endpoint *endpoint, const struct conn_hello *hello, struct conn **out)
{
	struct tcp_endpoint *e = tcp_endpoint_of(endpoint);
	struct tcp_conn *t = tcp_conn_new(endpoint, hello, TCP_CONNECTING, -1);
	if (!t)
		return error_note(endpoint->error, RDMAMIG_E_NO_MEMORY, errno, "calloc of a tcp connection");

	bool is_any = tcp_address_is_any(&e->uri);
	int unknown = is_any ? 0 : tcp_address_resolve(&e->uri, AF_UNSPEC, 0, &t->addresses);
	t->address_next = t->addresses;
	if (is_any)
		connect_failed(t, "name the host, tcp://HOST:PORT", "");
	else if (unknown)
		connect_failed(t, gai_strerror(unknown), "");
	else
		connect_next(t, 0);

	*out = &t->conn;
	return RDMAMIG_OK;
}

static void connect_check(struct tcp_conn *t)
{
	struct pollfd ready = { .fd = t->fd, .events = POLLOUT };
	int why = 0;
	socklen_t bytes = sizeof(why);

	if (poll(&ready, 1, 0) <= 0) {
		if (clock_now_ns(t->conn.endpoint->clock) >= t->address_deadline_ns)
			connect_next(t, ETIMEDOUT);
		return;
	}
	if (getsockopt(t->fd, SOL_SOCKET, SO_ERROR, &why, &bytes))
		why = errno;
	if (why) {
		connect_next(t, why);
		return;
	}
	t->state = TCP_GREETING;
	tcp_out_greet(t, TCP_HELLO);
}

enum rdmamig_status tcp_admit(struct conn *conn)
{
	struct tcp_conn *t = tcp_conn_of(conn);
	assert(t->state == TCP_ACCEPTED);
	t->state = TCP_OPEN;
	t->opened_untold = true;
	tcp_out_greet(t, TCP_ADMIT);
	return RDMAMIG_OK;
}

/* One small frame into an empty socket: it fits, or the peer is gone. */
void tcp_reject(struct conn *conn, enum rdmamig_status why, const char *text)
{
	struct tcp_conn *t = tcp_conn_of(conn);
	assert(t->state == TCP_ACCEPTED);

	uint8_t frame[TCP_HEADER_BYTES + TCP_REJECT_BYTES_MAX];
	size_t bytes = strnlen(text, TCP_REJECT_BYTES_MAX);
	struct tcp_header header = { .type = TCP_REJECT, .sequence = (uint32_t)why, .payload_bytes = bytes };
	tcp_header_encode(&header, frame);
	memcpy(frame + TCP_HEADER_BYTES, text, bytes);
	send(t->fd, frame, TCP_HEADER_BYTES + bytes, MSG_NOSIGNAL | MSG_DONTWAIT);

	tcp_conn_free(conn);
}

static unsigned tell_written(struct tcp_out *out, struct conn_event *events, unsigned max)
{
	unsigned n = 0;
	while (n < max && out->written_count) {
		events[n++] = (struct conn_event){ .type = CONN_WRITTEN, .id = out->written[out->written_head] };
		out->written_head = (out->written_head + 1) % TCP_POSTS_MAX;
		out->written_count--;
		out->posts--;
	}
	return n;
}

static bool is_streaming(const struct tcp_conn *t)
{
	return t->state == TCP_GREETING || t->state == TCP_OPEN;
}

unsigned tcp_poll(struct conn *conn, struct conn_event *events, unsigned max)
{
	struct tcp_conn *t = tcp_conn_of(conn);
	unsigned n = 0;

	if (t->state == TCP_CONNECTING)
		connect_check(t);
	if (is_streaming(t))
		tcp_out_move(t);

	if (t->opened_untold && n < max) {
		t->opened_untold = false;
		events[n++] = (struct conn_event){ .type = CONN_OPENED };
	}
	n += tell_written(&t->out, events + n, max - n);
	if (is_streaming(t))
		n += tcp_in_move(t, events + n, max - n);
	if (t->closed_untold && n < max) {
		t->closed_untold = false;
		events[n++] = (struct conn_event){ .type = CONN_CLOSED, .status = t->closed_status };
	}
	return n;
}

void tcp_conn_wait(struct conn *conn, struct wait *wait)
{
	struct tcp_conn *t = tcp_conn_of(conn);
	short events = 0;

	if (t->opened_untold || t->closed_untold || t->out.written_count || (is_streaming(t) && t->in.has_more)) {
		wait_now(wait);
		return;
	}
	if (t->state == TCP_CONNECTING) {
		events = POLLOUT;
		wait_until(wait, t->address_deadline_ns);
	} else if (is_streaming(t)) {
		events = (short)((t->in.is_stalled ? 0 : POLLIN) | (t->out.count && !t->out.broken_errno ? POLLOUT : 0));
	}
	if (events)	/* poll(2) reports a hang-up to those who asked for nothing, too, again and again */
		wait_add_fd(wait, t->fd, events);
}

uint64_t tcp_bytes_sent(const struct conn *conn)
{
	return atomic_load_explicit(&((const struct tcp_conn *)conn)->bytes_sent, memory_order_relaxed);
}

void tcp_kill(struct conn *conn)
{
	struct tcp_conn *t = tcp_conn_of(conn);
	socket_close(t);
	t->state = TCP_CLOSED;
	t->opened_untold = false;
	t->closed_untold = false;
	t->out.written_count = 0;
}

void tcp_conn_free(struct conn *conn)
{
	struct tcp_conn *t = tcp_conn_of(conn);
	tcp_kill(conn);
	if (t->addresses)
		freeaddrinfo(t->addresses);
	free(t);
}
