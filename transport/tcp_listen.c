/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tcp_listen.c - the listener, and strangers until their hello is here. Whatever they do, the session goes on.
 * Neighbours: tcp_conn.c, which takes over from the hello; tcp_address.c. The endpoint's thread.
 */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "transport/tcp.h"
#include "transport/tcp_address.h"

enum {
	LISTEN_BACKLOG = 64,
	LISTEN_PAUSE_MS = 100,
	ACCEPTS_MAX = 32,	/* in one tcp_accept() */
	WARN_MS = 1000,
};

void tcp_listen_init(struct tcp_listen *listen)
{
	for (unsigned i = 0; i < TCP_HALF_OPEN_MAX; i++)
		listen->half_open[i].fd = -1;
}

void tcp_listen_close(struct tcp_listen *listen)
{
	for (unsigned i = 0; i < listen->count; i++)
		close(listen->fds[i]);
	listen->count = 0;
	for (unsigned i = 0; i < TCP_HALF_OPEN_MAX; i++) {
		if (listen->half_open[i].fd >= 0)
			close(listen->half_open[i].fd);
		listen->half_open[i].fd = -1;
	}
}

static void set_option(int fd, int level, int option, int value)
{
	setsockopt(fd, level, option, &value, sizeof(value));
}

/* Both address families keep the port at the same place, and a sockaddr_storage has room for either. */
static in_port_t *address_port(struct sockaddr_storage *address)
{
	return address->ss_family == AF_INET6 ? &((struct sockaddr_in6 *)address)->sin6_port
					      : &((struct sockaddr_in *)address)->sin_port;
}

/* A listening socket on @at, or -1 and errno. A port of 0 becomes the one the kernel chose. */
static int listener_open(const struct addrinfo *at, uint16_t *port)
{
	struct sockaddr_storage address = { 0 };
	socklen_t bytes = at->ai_addrlen;
	memcpy(&address, at->ai_addr, bytes);
	*address_port(&address) = htons(*port);

	int fd = socket(at->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (at->ai_family == AF_INET6)
		set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
	if (bind(fd, (struct sockaddr *)&address, bytes) || listen(fd, LISTEN_BACKLOG) ||
	    getsockname(fd, (struct sockaddr *)&address, &bytes)) {
		int saved = errno;
		close(fd);
		errno = saved;
		return -1;
	}
	*port = ntohs(*address_port(&address));
	return fd;
}

/* Listen on each address of the host; 0 if on one of them at least, else an errno. In use counts for all of them. */
static int listen_on(struct tcp_listen *listen, const struct addrinfo *addresses, uint16_t *port)
{
	int why = EADDRNOTAVAIL;

	for (const struct addrinfo *at = addresses; at && listen->count < TCP_LISTENERS_MAX; at = at->ai_next) {
		int fd = listener_open(at, port);
		if (fd >= 0) {
			listen->fds[listen->count++] = fd;
			continue;
		}
		why = errno;
		if (why == EADDRINUSE)
			return why;
	}
	return listen->count ? 0 : why;
}

static enum rdmamig_status note_listen(struct tcp_endpoint *e, int why)
{
	char name[300];
	tcp_address_name(&e->uri, name, sizeof(name));

	if (why == EADDRINUSE)
		return error_note(e->endpoint.error, RDMAMIG_E_LISTEN, why,
				  "cannot listen on %s: give another port, or see who has it with `ss -ltnp 'sport = :%u'`",
				  name, (unsigned)e->uri.port);
	if (why == EADDRNOTAVAIL)
		return error_note(e->endpoint.error, RDMAMIG_E_LISTEN, why,
				  "cannot listen on %s: `ip -br address` lists the addresses of this host", name);
	return error_note(e->endpoint.error, RDMAMIG_E_LISTEN, why, "cannot listen on %s", name);
}

enum rdmamig_status tcp_listen(struct endpoint *endpoint, uint16_t *port)
{
	struct tcp_endpoint *e = tcp_endpoint_of(endpoint);
	/* Without a host one IPv6 socket takes both families; where there is no IPv6 it is an IPv4 one. */
	const int families[] = { AF_INET6, AF_INET };
	bool is_any = tcp_address_is_any(&e->uri);
	uint16_t bound = e->uri.port;
	int why = EADDRNOTAVAIL;

	for (unsigned i = 0; i < (is_any ? 2 : 1) && !e->listen.count; i++) {
		struct addrinfo *addresses;
		int unknown = tcp_address_resolve(&e->uri, is_any ? families[i] : AF_UNSPEC, AI_PASSIVE, &addresses);
		if (unknown)
			return error_note(endpoint->error, RDMAMIG_E_LISTEN, 0, "cannot listen on %s: %s", e->uri.host,
					  gai_strerror(unknown));
		why = listen_on(&e->listen, addresses, &bound);
		freeaddrinfo(addresses);
		if (why == EADDRINUSE)
			break;
	}
	if (why) {
		tcp_listen_close(&e->listen);
		return note_listen(e, why);
	}
	*port = bound;
	return RDMAMIG_OK;
}

/* One line a second at most, however many there are. */
static void warn_dropped(struct tcp_endpoint *e, const char *peer, const char *why)
{
	uint64_t now = clock_now_ns(e->endpoint.clock);

	if (now < e->listen.warn_ns) {
		e->listen.unwarned++;
		return;
	}
	if (e->listen.unwarned)
		log_line(RDMAMIG_LOG_WARNING, "dropped a connection from %s: %s; and %u others before it", peer, why,
			 e->listen.unwarned);
	else
		log_line(RDMAMIG_LOG_WARNING, "dropped a connection from %s: %s", peer, why);
	e->listen.unwarned = 0;
	e->listen.warn_ns = now + WARN_MS * NS_PER_MS;
}

static void half_open_drop(struct tcp_endpoint *e, struct tcp_half_open *h, const char *why)
{
	close(h->fd);
	h->fd = -1;
	warn_dropped(e, h->peer, why);
}

static void half_open_expire(struct tcp_endpoint *e)
{
	uint64_t now = clock_now_ns(e->endpoint.clock);
	for (unsigned i = 0; i < TCP_HALF_OPEN_MAX; i++) {
		struct tcp_half_open *h = &e->listen.half_open[i];
		if (h->fd >= 0 && now >= h->deadline_ns)
			half_open_drop(e, h, "no rdmamig hello came in time");
	}
}

/* A free place, made by dropping the oldest if need be. */
static struct tcp_half_open *half_open_place(struct tcp_endpoint *e)
{
	struct tcp_half_open *oldest = &e->listen.half_open[0];

	for (unsigned i = 0; i < TCP_HALF_OPEN_MAX; i++) {
		struct tcp_half_open *h = &e->listen.half_open[i];
		if (h->fd < 0)
			return h;
		if (h->order < oldest->order)
			oldest = h;
	}
	half_open_drop(e, oldest, "too many connections that say nothing");
	return oldest;
}

/* The hello is all here: its place is free again and *out is its connection, or it was no hello and is dropped. */
static bool half_open_finish(struct tcp_endpoint *e, struct tcp_half_open *h, struct conn **out)
{
	struct tcp_header header;
	struct conn_hello hello;

	if (!tcp_header_decode(h->bytes, &header) || header.type != TCP_HELLO ||
	    hello_decode(h->bytes + TCP_HEADER_BYTES, HELLO_BYTES, &hello)) {
		half_open_drop(e, h, "it sent something else than an rdmamig hello");
		return false;
	}
	struct tcp_conn *t = tcp_conn_new(&e->endpoint, &hello, TCP_ACCEPTED, h->fd);
	if (!t) {
		half_open_drop(e, h, "no memory");
		return false;
	}
	memcpy(t->conn.peer, h->peer, sizeof(t->conn.peer));
	h->fd = -1;
	*out = &t->conn;
	return true;
}

/* Never reads past the hello: what follows is the connection's. */
static bool half_open_read(struct tcp_endpoint *e, struct tcp_half_open *h, struct conn **out)
{
	while (h->used < sizeof(h->bytes)) {
		ssize_t n = recv(h->fd, h->bytes + h->used, sizeof(h->bytes) - h->used, MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			/* "GET / HTTP/1.1" need not wait for its 60th byte. */
			struct tcp_header header;
			if (h->used >= TCP_HEADER_BYTES && !(tcp_header_decode(h->bytes, &header) && header.type == TCP_HELLO))
				half_open_drop(e, h, "it sent something else than an rdmamig hello");
			return false;
		}
		if (n <= 0) {
			half_open_drop(e, h, "it closed before its rdmamig hello was complete");
			return false;
		}
		h->used += (unsigned)n;
	}
	return half_open_finish(e, h, out);
}

static void pause_listening(struct tcp_endpoint *e, int why)
{
	char text[128];
	log_line(RDMAMIG_LOG_WARNING, "cannot accept connections just now: %s", strerror_r(why, text, sizeof(text)));
	e->listen.pause_ns = clock_after_ms(e->endpoint.clock, LISTEN_PAUSE_MS);
}

/* A new stranger in a place of its own; NULL: there is none at this listener. */
static struct tcp_half_open *half_open_accept(struct tcp_endpoint *e, int listener)
{
	struct sockaddr_storage address;
	socklen_t bytes = sizeof(address);
	int fd = accept4(listener, (struct sockaddr *)&address, &bytes, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
			pause_listening(e, errno);
		return NULL;	/* accept(2): all else is the network's trouble with one that was never here */
	}
	tcp_socket_tune(fd);

	struct tcp_half_open *h = half_open_place(e);
	*h = (struct tcp_half_open){ .fd = fd, .order = e->listen.arrived++,
				     .deadline_ns = clock_after_ms(e->endpoint.clock, TCP_HALF_OPEN_MS) };
	tcp_address_text((struct sockaddr *)&address, bytes, h->peer, sizeof(h->peer));
	return h;
}

enum rdmamig_status tcp_accept(struct endpoint *endpoint, struct conn **out)
{
	struct tcp_endpoint *e = tcp_endpoint_of(endpoint);

	half_open_expire(e);
	for (unsigned i = 0; i < TCP_HALF_OPEN_MAX; i++)
		if (e->listen.half_open[i].fd >= 0 && half_open_read(e, &e->listen.half_open[i], out))
			return RDMAMIG_OK;

	if (clock_now_ns(endpoint->clock) < e->listen.pause_ns)
		return RDMAMIG_AGAIN;
	for (unsigned i = 0; i < e->listen.count; i++) {
		for (unsigned accepted = 0; accepted < ACCEPTS_MAX; accepted++) {
			struct tcp_half_open *h = half_open_accept(e, e->listen.fds[i]);
			if (!h)
				break;
			/* At once: a real one has its hello here, and must not be pushed out by those behind it. */
			if (half_open_read(e, h, out))
				return RDMAMIG_OK;
		}
	}
	return RDMAMIG_AGAIN;
}

void tcp_listen_wait(struct endpoint *endpoint, struct wait *wait)
{
	struct tcp_endpoint *e = tcp_endpoint_of(endpoint);

	if (clock_now_ns(endpoint->clock) < e->listen.pause_ns)
		wait_until(wait, e->listen.pause_ns);
	else
		for (unsigned i = 0; i < e->listen.count; i++)
			wait_add_fd(wait, e->listen.fds[i], POLLIN);

	for (unsigned i = 0; i < TCP_HALF_OPEN_MAX; i++) {
		const struct tcp_half_open *h = &e->listen.half_open[i];
		if (h->fd < 0)
			continue;
		wait_add_fd(wait, h->fd, POLLIN);
		wait_until(wait, h->deadline_ns);
	}
}
