/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_endpoint_tcp.c - two endpoints in one process over loopback sockets, stepped by hand; and peers that misbehave.
 * Neighbour: test_hello.c. One thread; the throughput print has two.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include <rdmamig/log.h>

#include "transport/tcp.h"

enum { MEMORY_BYTES = 4 << 20, GUARD_BYTES = 4096, TOKEN = 0x1234 };

/* What a connection has told so far. */
struct seen {
	unsigned opened, messages, written, reads, fences, closed;
	uint64_t written_id, read_id;
	uint32_t fence;
	enum rdmamig_status status;
	uint8_t message[TCP_MESSAGE_BYTES_MAX];
	size_t message_bytes;
	bool hold;		/* release no message */
	unsigned slots[TCP_MESSAGES_MAX];
};

struct pair {
	struct clock clock;
	uint64_t now_ns;
	struct error source_error, dest_error;
	struct endpoint *source, *dest;
	uint16_t port;
	struct conn *at_source, *at_dest;
	struct seen by_source, by_dest;
	uint8_t *source_memory, *dest_memory, *expected;
	struct region *region;
	struct region_key key;
};

static unsigned warnings;
static char last_line[1024];

static void count_lines(void *opaque, enum rdmamig_log_level level, const char *line)
{
	(void)opaque;
	snprintf(last_line, sizeof(last_line), "%s", line);
	warnings += level == RDMAMIG_LOG_WARNING;
}

/* Time stands still unless a test moves it: a busy machine must not make anybody late. */
static uint64_t still_now(void *opaque)
{
	return ((struct pair *)opaque)->now_ns;
}

static void still_sleep(void *opaque, struct pollfd *fds, unsigned count, uint64_t deadline_ns)
{
	struct pair *p = opaque;
	if (deadline_ns > p->now_ns && poll(fds, count, 10000) == 0)
		fail_msg("nothing happened for 10 s");
}

static size_t random_below(size_t limit)
{
	return (size_t)random() % limit;
}

static void fill_random(uint8_t *at, size_t bytes)
{
	for (size_t i = 0; i + 4 <= bytes; i += 4) {
		uint32_t r = (uint32_t)random();
		memcpy(at + i, &r, 4);
	}
}

static uint8_t *memory_new(size_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(at != MAP_FAILED);
	return at;
}

static struct rdmamig_uri uri_of(const char *host, uint16_t port)
{
	struct rdmamig_uri uri = { .size = sizeof(uri), .scheme = "tcp", .port = port };
	snprintf(uri.host, sizeof(uri.host), "%s", host);
	return uri;
}

static struct conn_hello hello_of(enum conn_kind kind)
{
	struct conn_hello hello = { .kind = kind, .version_min = 1, .version_max = 1, .session_id = "session" };
	if (kind == CONN_DATA) {
		hello.channel = 3;
		hello.token = TOKEN;
	}
	return hello;
}

static void note_event(struct seen *seen, struct conn *conn, const struct conn_event *event)
{
	assert_int_equal(seen->closed, 0);
	switch (event->type) {
	case CONN_OPENED:
		seen->opened++;
		break;
	case CONN_MESSAGE:
		memcpy(seen->message, event->message, event->bytes);
		seen->message_bytes = event->bytes;
		if (seen->hold)
			seen->slots[seen->messages % TCP_MESSAGES_MAX] = event->slot;
		else
			conn_message_release(conn, event->slot);
		seen->messages++;
		break;
	case CONN_WRITTEN:
		assert_true(event->id == ++seen->written_id);
		seen->written++;
		break;
	case CONN_READ:
		assert_true(event->id == ++seen->read_id);
		seen->reads++;
		break;
	case CONN_FENCE:
		seen->fence = event->sequence;
		seen->fences++;
		break;
	case CONN_CLOSED:
		seen->closed++;
		seen->status = event->status;
		break;
	}
}

static unsigned poll_one(struct conn *conn, struct seen *seen)
{
	struct conn_event events[5];
	unsigned n = conn ? conn_poll(conn, events, 1 + (unsigned)random_below(5)) : 0;
	for (unsigned i = 0; i < n; i++)
		note_event(seen, conn, &events[i]);
	return n;
}

/* One turn of both ends, and a wait for more when neither had anything to tell. A test that hangs fails here. */
static void turn(struct pair *p)
{
	struct wait wait;
	if (poll_one(p->at_source, &p->by_source) + poll_one(p->at_dest, &p->by_dest))
		return;
	wait_reset(&wait);
	if (p->at_source)
		conn_wait(p->at_source, &wait);
	if (p->at_dest)
		conn_wait(p->at_dest, &wait);
	else
		endpoint_wait(p->dest, &wait);
	wait_sleep(&wait, &p->clock);
}

#define TURN_UNTIL(p, condition) do { while (!(condition)) turn(p); } while (0)

/* Only what is on its way already: nothing more can follow from it. */
static void turn_while_busy(struct pair *p)
{
	struct pollfd none;
	for (unsigned quiet = 0; quiet < 3; quiet++) {
		while (poll_one(p->at_source, &p->by_source) + poll_one(p->at_dest, &p->by_dest))
			quiet = 0;
		poll(&none, 0, 1);
	}
}

static void pair_open(struct pair *p, const char *listen_host, const char *connect_host)
{
	memset(p, 0, sizeof(*p));
	p->clock = (struct clock){ .now_ns = still_now, .sleep = still_sleep, .opaque = p };
	p->now_ns = NS_PER_S;
	error_init(&p->source_error);
	error_init(&p->dest_error);

	const struct endpoint_ops *ops = endpoint_ops_find("tcp");
	struct rdmamig_uri uri = uri_of(listen_host, 0);
	assert_non_null(ops);
	assert_int_equal(endpoint_open(ops, &uri, &p->clock, &p->dest_error, &p->dest), RDMAMIG_OK);
	assert_int_equal(endpoint_listen(p->dest, &p->port), RDMAMIG_OK);
	assert_int_not_equal(p->port, 0);
	uri = uri_of(connect_host, p->port);
	assert_int_equal(endpoint_open(ops, &uri, &p->clock, &p->source_error, &p->source), RDMAMIG_OK);

	p->source_memory = memory_new(MEMORY_BYTES);
	p->dest_memory = memory_new(MEMORY_BYTES + 2 * GUARD_BYTES);
	p->expected = memory_new(MEMORY_BYTES + 2 * GUARD_BYTES);
	fill_random(p->source_memory, MEMORY_BYTES);
}

/* As bytes on the wire: the structs have padding. */
static void assert_hello_equal(const struct conn_hello *a, const struct conn_hello *b)
{
	uint8_t bytes_a[HELLO_BYTES], bytes_b[HELLO_BYTES];
	hello_encode(a, bytes_a);
	hello_encode(b, bytes_b);
	assert_memory_equal(bytes_a, bytes_b, HELLO_BYTES);
}

static void pair_connect(struct pair *p, enum conn_kind kind)
{
	struct conn_hello hello = hello_of(kind);
	assert_int_equal(conn_connect(p->source, &hello, &p->at_source), RDMAMIG_OK);
	while (endpoint_accept(p->dest, &p->at_dest) == RDMAMIG_AGAIN)
		turn(p);
	assert_hello_equal(&p->at_dest->hello, &hello);
	assert_int_equal(conn_admit(p->at_dest), RDMAMIG_OK);
	TURN_UNTIL(p, p->by_source.opened && p->by_dest.opened);
}

static void pair_region(struct pair *p, enum region_access access)
{
	assert_int_equal(region_add(p->dest, p->dest_memory + GUARD_BYTES, MEMORY_BYTES, access, &p->region, &p->key), RDMAMIG_OK);
}

static void pair_setup(struct pair *p, enum conn_kind kind)
{
	pair_open(p, "127.0.0.1", "127.0.0.1");
	pair_region(p, REGION_REMOTE_WRITE | REGION_REMOTE_READ);
	pair_connect(p, kind);
}

static void pair_close(struct pair *p)
{
	conn_free(p->at_source);
	conn_free(p->at_dest);
	region_remove(p->dest, p->region);
	endpoint_close(p->source);
	endpoint_close(p->dest);
	munmap(p->source_memory, MEMORY_BYTES);
	munmap(p->dest_memory, MEMORY_BYTES + 2 * GUARD_BYTES);
	munmap(p->expected, MEMORY_BYTES + 2 * GUARD_BYTES);
	error_fini(&p->source_error);
	error_fini(&p->dest_error);
}

static void assert_dest_as_expected(const struct pair *p)
{
	assert_int_equal(memcmp(p->dest_memory, p->expected, MEMORY_BYTES + 2 * GUARD_BYTES), 0);
}

static void assert_noted(struct error *error, enum rdmamig_status status, const char *part)
{
	char text[ERROR_TEXT_BYTES];
	error_text(error, text, sizeof(text));
	assert_int_equal(error_status(error), status);
	if (!strstr(text, part))
		fail_msg("'%s' does not say '%s'", text, part);
}

static int raw_connect(uint16_t port)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	return fd;
}

static void raw_send(int fd, const void *bytes, size_t size)
{
	assert_int_equal(send(fd, bytes, size, MSG_NOSIGNAL), (ssize_t)size);
}

static void raw_header(int fd, enum tcp_frame_type type, unsigned count, uint32_t sequence, uint64_t payload)
{
	struct tcp_header header = { .type = type, .count = (uint16_t)count, .sequence = sequence, .payload_bytes = payload };
	uint8_t bytes[TCP_HEADER_BYTES];
	tcp_header_encode(&header, bytes);
	raw_send(fd, bytes, sizeof(bytes));
}

static void raw_piece(int fd, uint64_t remote, uint32_t key, uint32_t size)
{
	struct tcp_piece piece = { .remote = remote, .key = key, .bytes = size };
	uint8_t bytes[TCP_PIECE_BYTES];
	tcp_piece_encode(&piece, bytes);
	raw_send(fd, bytes, sizeof(bytes));
}

/* A source of our own making: connected, admitted, and ready to misbehave. */
static int raw_source(struct pair *p, enum conn_kind kind)
{
	struct conn_hello hello = hello_of(kind);
	uint8_t bytes[HELLO_BYTES], answer[TCP_HEADER_BYTES];
	int fd = raw_connect(p->port);

	raw_header(fd, TCP_HELLO, 0, 0, HELLO_BYTES);
	hello_encode(&hello, bytes);
	raw_send(fd, bytes, sizeof(bytes));
	while (endpoint_accept(p->dest, &p->at_dest) == RDMAMIG_AGAIN)
		turn(p);
	assert_int_equal(conn_admit(p->at_dest), RDMAMIG_OK);
	TURN_UNTIL(p, p->by_dest.opened);
	assert_int_equal(recv(fd, answer, sizeof(answer), MSG_WAITALL), (ssize_t)sizeof(answer));
	assert_int_equal(answer[0], TCP_ADMIT);
	return fd;
}

/* Opening. */

static void opens_on_every_address(void **state)
{
	(void)state;
	static const char *const hosts[][2] = {
		{ "127.0.0.1", "127.0.0.1" }, { "::1", "::1" }, { "*", "127.0.0.1" }, { "", "::1" }, { "localhost", "localhost" },
		{ "localhost", "127.0.0.1" },
	};
	for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
		struct pair p;
		pair_open(&p, hosts[i][0], hosts[i][1]);
		pair_connect(&p, CONN_CONTROL);
		assert_int_equal(strncmp(p.at_dest->peer, strchr(hosts[i][1], ':') ? "[::1]:" : p.at_dest->peer, 6), 0);
		assert_null(strstr(p.at_dest->peer, "ffff"));
		assert_int_equal(error_status(&p.source_error), RDMAMIG_OK);
		pair_close(&p);
	}
}

static void names_the_command_when_refused(void **state)
{
	(void)state;
	struct pair p;
	char expected[200];
	pair_open(&p, "127.0.0.1", "127.0.0.1");
	endpoint_close(p.dest);		/* now nobody listens there */
	p.dest = NULL;

	struct conn_hello hello = hello_of(CONN_CONTROL);
	assert_int_equal(conn_connect(p.source, &hello, &p.at_source), RDMAMIG_OK);
	while (!p.by_source.closed) {
		struct wait wait;
		wait_reset(&wait);
		if (!poll_one(p.at_source, &p.by_source)) {
			conn_wait(p.at_source, &wait);
			wait_sleep(&wait, &p.clock);
		}
	}
	assert_int_equal(p.by_source.status, RDMAMIG_E_CONNECT);
	snprintf(expected, sizeof(expected),
		 "cannot connect to 127.0.0.1:%u: Connection refused; is `rdmamig recv` running there?", (unsigned)p.port);
	assert_noted(&p.source_error, RDMAMIG_E_CONNECT, expected);
	assert_int_equal(conn_poll(p.at_source, (struct conn_event[1]){ { 0 } }, 1), 0);
	pair_close(&p);
}

static void reports_unknown_names_and_bad_listeners(void **state)
{
	(void)state;
	struct pair p;
	struct endpoint *second;
	struct conn_hello hello = hello_of(CONN_CONTROL);
	struct error error;
	uint16_t port;
	pair_open(&p, "127.0.0.1", "no host");

	assert_int_equal(conn_connect(p.source, &hello, &p.at_source), RDMAMIG_OK);
	TURN_UNTIL(&p, p.by_source.closed);
	assert_int_equal(p.by_source.status, RDMAMIG_E_CONNECT);
	assert_noted(&p.source_error, RDMAMIG_E_CONNECT, "cannot connect to no host:");

	struct rdmamig_uri uri = uri_of("127.0.0.1", p.port);
	error_init(&error);
	assert_int_equal(endpoint_open(&tcp_ops, &uri, &p.clock, &error, &second), RDMAMIG_OK);
	assert_int_equal(endpoint_listen(second, &port), RDMAMIG_E_LISTEN);
	assert_noted(&error, RDMAMIG_E_LISTEN, "give another port");
	endpoint_close(second);
	error_fini(&error);

	uri = uri_of("192.0.2.77", 0);
	error_init(&error);
	assert_int_equal(endpoint_open(&tcp_ops, &uri, &p.clock, &error, &second), RDMAMIG_OK);
	assert_int_equal(endpoint_listen(second, &port), RDMAMIG_E_LISTEN);
	assert_noted(&error, RDMAMIG_E_LISTEN, "ip -br address");
	endpoint_close(second);
	error_fini(&error);
	pair_close(&p);
}

static void reject_tells_why(void **state)
{
	(void)state;
	static const struct { enum rdmamig_status sent, seen; } statuses[] = {
		{ RDMAMIG_E_BUSY, RDMAMIG_E_BUSY },
		{ RDMAMIG_E_VERSION, RDMAMIG_E_VERSION },
		{ RDMAMIG_E_HELD, RDMAMIG_E_PEER },	/* who refuses us cannot make it code 8 */
		{ RDMAMIG_OK, RDMAMIG_E_PEER },
		{ (enum rdmamig_status)199, RDMAMIG_E_PEER },
	};
	for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
		struct pair p;
		struct conn_hello hello = hello_of(CONN_CONTROL);
		char text[100] = "another session holds this guest\n\x1b[31m";
		pair_open(&p, "127.0.0.1", "127.0.0.1");
		assert_int_equal(conn_connect(p.source, &hello, &p.at_source), RDMAMIG_OK);
		while (endpoint_accept(p.dest, &p.at_dest) == RDMAMIG_AGAIN)
			turn(&p);
		if (i == 0)
			memset(text, 'x', sizeof(text) - 1);	/* longer than what is sent */
		conn_reject(p.at_dest, statuses[i].sent, text);
		p.at_dest = NULL;
		TURN_UNTIL(&p, p.by_source.closed);
		assert_int_equal(p.by_source.status, statuses[i].seen);
		assert_int_equal(p.by_source.opened, 0);
		assert_noted(&p.source_error, statuses[i].seen, i ? "refused: another session holds this guest..[31m" : "refused: xxx");
		assert_int_equal(error_status(&p.dest_error), RDMAMIG_OK);
		pair_close(&p);
	}
}

/* A listener that is no dest: what it answers is quoted. */
static void strangers_at_the_other_end_are_quoted(void **state)
{
	(void)state;
	static const struct { const char *answer; enum rdmamig_status status; const char *text; } cases[] = {
		{ "SSH-2.0-OpenSSH_9.2\r\n", RDMAMIG_E_PROTOCOL, "is not an rdmamig dest (it answered 'SSH-2.0-OpenSSH_9.2..')" },
		{ "x", RDMAMIG_E_PROTOCOL, "(it answered 'x')" },
		{ "\2\1admitted, honestly", RDMAMIG_E_PROTOCOL, "(it answered '..admitted, honestly')" },
		{ "\2", RDMAMIG_E_PROTOCOL, "(it answered '.')" },
		{ "", RDMAMIG_E_CONNECT, "closed the connection without a word" },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct pair p;
		struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
		socklen_t bytes = sizeof(at);
		struct conn_hello hello = hello_of(CONN_CONTROL);
		pair_open(&p, "127.0.0.1", "127.0.0.1");

		int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_int_equal(bind(listener, (struct sockaddr *)&at, bytes), 0);
		assert_int_equal(listen(listener, 1), 0);
		assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &bytes), 0);
		tcp_endpoint_of(p.source)->uri.port = ntohs(at.sin_port);

		assert_int_equal(conn_connect(p.source, &hello, &p.at_source), RDMAMIG_OK);
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		uint8_t heard[TCP_HEADER_BYTES + HELLO_BYTES];
		while (recv(fd, heard, sizeof(heard), MSG_PEEK | MSG_DONTWAIT) != (ssize_t)sizeof(heard))
			poll_one(p.at_source, &p.by_source);
		assert_int_equal(recv(fd, heard, sizeof(heard), 0), (ssize_t)sizeof(heard));
		raw_send(fd, cases[i].answer, strlen(cases[i].answer));
		close(fd);
		TURN_UNTIL(&p, p.by_source.closed);
		assert_int_equal(p.by_source.status, cases[i].status);
		assert_noted(&p.source_error, cases[i].status, cases[i].text);
		close(listener);
		pair_close(&p);
	}
}

/* Strangers at the listener. */

static void half_open_are_bounded_in_number_and_time(void **state)
{
	(void)state;
	struct pair p;
	int idle[40], chatty, trickler;
	uint8_t byte;
	pair_open(&p, "127.0.0.1", "127.0.0.1");
	warnings = 0;

	chatty = raw_connect(p.port);
	raw_send(chatty, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27);
	trickler = raw_connect(p.port);
	raw_header(trickler, TCP_HELLO, 0, 0, HELLO_BYTES);
	raw_send(trickler, "RDMX", 4);
	for (unsigned i = 0; i < 40; i++)
		idle[i] = raw_connect(p.port);

	pair_connect(&p, CONN_CONTROL);		/* gets in all the same */
	assert_int_equal(recv(chatty, &byte, 1, 0) <= 0, 1);
	assert_int_equal(recv(trickler, &byte, 1, 0) <= 0, 1);
	assert_int_equal(recv(idle[0], &byte, 1, 0) <= 0, 1);		/* the oldest went */
	assert_int_equal(recv(idle[39], &byte, 1, MSG_DONTWAIT), -1);	/* the youngest may still speak */
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(warnings, 1);

	struct conn *nobody;
	struct wait wait;
	wait_reset(&wait);
	endpoint_wait(p.dest, &wait);
	assert_int_equal(wait.count, 1 + TCP_HALF_OPEN_MAX - 1);	/* the real one had a place, too */
	assert_true(wait.deadline_ns == p.now_ns + TCP_HALF_OPEN_MS * NS_PER_MS);
	p.now_ns += TCP_HALF_OPEN_MS * NS_PER_MS;
	assert_int_equal(endpoint_accept(p.dest, &nobody), RDMAMIG_AGAIN);
	assert_int_equal(recv(idle[39], &byte, 1, 0), 0);
	assert_int_equal(warnings, 2);
	assert_non_null(strstr(last_line, "others before it"));
	wait_reset(&wait);
	endpoint_wait(p.dest, &wait);
	assert_int_equal(wait.count, 1);
	assert_true(wait.deadline_ns == CLOCK_NEVER);

	assert_int_equal(error_status(&p.dest_error), RDMAMIG_OK);
	assert_int_equal(p.by_dest.closed, 0);
	for (unsigned i = 0; i < 40; i++)
		close(idle[i]);
	close(chatty);
	close(trickler);
	pair_close(&p);
}

static void hello_may_come_byte_by_byte(void **state)
{
	(void)state;
	struct pair p;
	struct conn_hello hello = hello_of(CONN_DATA);
	struct tcp_header header = { .type = TCP_HELLO, .payload_bytes = HELLO_BYTES };
	uint8_t bytes[TCP_HEADER_BYTES + HELLO_BYTES];
	pair_open(&p, "127.0.0.1", "127.0.0.1");
	int fd = raw_connect(p.port);

	tcp_header_encode(&header, bytes);
	hello_encode(&hello, bytes + TCP_HEADER_BYTES);
	for (size_t i = 0; i < sizeof(bytes); i++) {
		assert_int_equal(endpoint_accept(p.dest, &p.at_dest), RDMAMIG_AGAIN);
		raw_send(fd, bytes + i, 1);
	}
	while (endpoint_accept(p.dest, &p.at_dest) == RDMAMIG_AGAIN)
		turn(&p);
	assert_true(p.at_dest->hello.token == TOKEN);
	close(fd);
	pair_close(&p);
}

/* Writes, fences and reads. */

/* A random list of pieces; what it will do to dest is done to what we expect, in order. */
static unsigned random_writes(struct pair *p, struct write *writes, unsigned count_max, size_t bytes_max)
{
	unsigned count = 1 + (unsigned)random_below(random_below(4) ? 8 : count_max);
	for (unsigned i = 0; i < count; i++) {
		size_t bytes = 1 + random_below(random_below(8) ? bytes_max : 40);
		size_t from = random_below(MEMORY_BYTES - bytes + 1), to = random_below(MEMORY_BYTES - bytes + 1);
		writes[i] = (struct write){ .local = p->source_memory + from, .remote = p->key.base + to, .key = p->key.key,
					    .bytes = (uint32_t)bytes };
		memcpy(p->expected + GUARD_BYTES + to, p->source_memory + from, bytes);
	}
	return count;
}

static void write_and_compare(struct pair *p, unsigned rounds, size_t bytes_max)
{
	static struct write writes[TCP_PIECES_MAX];
	uint64_t id = 0;

	for (uint32_t round = 1; round <= rounds; round++) {
		unsigned posts = 1 + (unsigned)random_below(TCP_POSTS_MAX + 10);
		for (unsigned i = 0; i < posts; i++) {
			unsigned count = random_writes(p, writes, TCP_PIECES_MAX, bytes_max);
			while (conn_write(p->at_source, writes, count, id + 1) == RDMAMIG_AGAIN)
				turn(p);
			id++;
		}
		while (conn_fence(p->at_source, round) == RDMAMIG_AGAIN)
			turn(p);
		TURN_UNTIL(p, p->by_dest.fences == round);
		assert_int_equal(p->by_dest.fence, round);
		assert_dest_as_expected(p);
		TURN_UNTIL(p, p->by_source.written == id);
	}
	assert_int_equal(p->by_source.closed + p->by_dest.closed, 0);
}

static void writes_land_before_their_fence(void **state)
{
	(void)state;
	struct pair p;
	pair_setup(&p, CONN_DATA);
	write_and_compare(&p, 10, 20000);
	assert_true(conn_bytes_sent(p.at_source) > 1 << 20);
	pair_close(&p);
}

static void small_writes_land(void **state)
{
	(void)state;
	struct pair p;
	pair_setup(&p, CONN_DATA);
	write_and_compare(&p, 50, 300);
	pair_close(&p);
}

static void writes_survive_tiny_socket_buffers(void **state)
{
	(void)state;
	struct pair p;
	int bytes = 8192;
	pair_setup(&p, CONN_DATA);
	setsockopt(tcp_conn_of(p.at_source)->fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
	write_and_compare(&p, 2, 3000);
	pair_close(&p);
}

static void posts_are_bounded(void **state)
{
	(void)state;
	struct pair p;
	pair_setup(&p, CONN_DATA);
	struct write write = { .local = p.source_memory, .remote = 0, .key = p.key.key, .bytes = 1 };

	for (unsigned i = 0; i < TCP_POSTS_MAX; i++)
		assert_int_equal(conn_write(p.at_source, &write, 1, i + 1), RDMAMIG_OK);
	assert_int_equal(conn_write(p.at_source, &write, 1, 99), RDMAMIG_AGAIN);
	assert_int_equal(conn_fence(p.at_source, 1), RDMAMIG_AGAIN);
	assert_int_equal(conn_read(p.at_source, &write, 1, 1), RDMAMIG_AGAIN);
	TURN_UNTIL(&p, p.by_source.written == TCP_POSTS_MAX);
	assert_int_equal(conn_fence(p.at_source, 1), RDMAMIG_OK);
	TURN_UNTIL(&p, p.by_dest.fences == 1);
	pair_close(&p);
}

/* The source reads what dest has, while writes go the same way. */
static void reads_fetch_every_byte(void **state)
{
	(void)state;
	struct pair p;
	static struct write reads[TCP_PIECES_MAX];
	uint64_t id = 0;
	pair_setup(&p, CONN_DATA);
	fill_random(p.dest_memory, MEMORY_BYTES + 2 * GUARD_BYTES);
	uint8_t *fetched = memory_new(MEMORY_BYTES);
	memcpy(fetched, p.source_memory, MEMORY_BYTES);

	for (unsigned round = 0; round < 100; round++) {
		unsigned count = 1 + (unsigned)random_below(TCP_PIECES_MAX);
		size_t stride = MEMORY_BYTES / count;
		for (unsigned i = 0; i < count; i++) {
			size_t bytes = 1 + random_below(stride < 30000 ? stride : 30000);
			size_t from = random_below(MEMORY_BYTES - bytes + 1), to = i * stride;
			reads[i] = (struct write){ .local = p.source_memory + to, .remote = from, .key = p.key.key, .bytes = (uint32_t)bytes };
			memcpy(fetched + to, p.dest_memory + GUARD_BYTES + from, bytes);
		}
		while (conn_read(p.at_source, reads, count, id + 1) == RDMAMIG_AGAIN)
			turn(&p);
		id++;
	}
	TURN_UNTIL(&p, p.by_source.reads == id);
	assert_int_equal(memcmp(fetched, p.source_memory, MEMORY_BYTES), 0);

	for (unsigned i = 0; i < TCP_READS_MAX; i++)
		assert_int_equal(conn_read(p.at_source, reads, 1, ++id), RDMAMIG_OK);
	assert_int_equal(conn_read(p.at_source, reads, 1, id + 1), RDMAMIG_AGAIN);
	TURN_UNTIL(&p, p.by_source.reads == id);
	munmap(fetched, MEMORY_BYTES);
	pair_close(&p);
}

/* Frames cut anywhere: whatever recv(2) returns, the same bytes come out. */
static void frames_may_come_in_any_pieces(void **state)
{
	(void)state;
	struct pair p;
	pair_open(&p, "127.0.0.1", "127.0.0.1");
	pair_region(&p, REGION_REMOTE_WRITE);
	int fd = raw_source(&p, CONN_DATA);
	uint8_t *stream = malloc(1 << 20);
	size_t used = 0, sent = 0;
	unsigned frames = 40;

	for (unsigned f = 0; f < frames; f++) {
		struct write writes[TCP_PIECES_MAX];
		struct tcp_header header = { .type = TCP_WRITE };
		header.count = (uint16_t)random_writes(&p, writes, 30, 600);
		for (unsigned i = 0; i < header.count; i++)
			header.payload_bytes += writes[i].bytes;
		tcp_header_encode(&header, stream + used);
		used += TCP_HEADER_BYTES;
		for (unsigned i = 0; i < header.count; i++, used += TCP_PIECE_BYTES) {
			struct tcp_piece piece = { .remote = writes[i].remote, .key = writes[i].key, .bytes = writes[i].bytes };
			tcp_piece_encode(&piece, stream + used);
		}
		for (unsigned i = 0; i < header.count; i++) {
			memcpy(stream + used, writes[i].local, writes[i].bytes);
			used += writes[i].bytes;
		}
		header = (struct tcp_header){ .type = TCP_FENCE, .sequence = f + 1 };
		tcp_header_encode(&header, stream + used);
		used += TCP_HEADER_BYTES;
	}
	while (sent < used) {
		size_t n = 1 + random_below(random_below(2) ? 40 : 5000);
		n = n < used - sent ? n : used - sent;
		raw_send(fd, stream + sent, n);
		sent += n;
		poll_one(p.at_dest, &p.by_dest);
	}
	TURN_UNTIL(&p, p.by_dest.fences == frames);
	assert_dest_as_expected(&p);
	free(stream);
	close(fd);
	TURN_UNTIL(&p, p.by_dest.closed);
	assert_int_equal(p.by_dest.status, RDMAMIG_OK);
	pair_close(&p);
}

/* Messages. */

static void messages_arrive_whole_and_in_order(void **state)
{
	(void)state;
	struct pair p;
	static uint8_t message[TCP_MESSAGE_BYTES_MAX];
	pair_setup(&p, CONN_CONTROL);

	for (unsigned i = 0; i < 2000; i++) {
		struct conn *from = i & 1 ? p.at_dest : p.at_source;
		struct seen *to = i & 1 ? &p.by_source : &p.by_dest;
		size_t bytes = i == 0 ? 1 : i == 1 ? sizeof(message) : 1 + random_below(sizeof(message));
		fill_random(message, sizeof(message));
		unsigned before = to->messages;
		assert_int_equal(conn_send(from, message, bytes), RDMAMIG_OK);
		TURN_UNTIL(&p, to->messages == before + 1);
		assert_int_equal(to->message_bytes, bytes);
		assert_memory_equal(to->message, message, bytes);
	}
	pair_close(&p);
}

static void held_messages_push_back(void **state)
{
	(void)state;
	struct pair p;
	unsigned sent = 0;
	uint32_t number;
	static uint8_t message[4000];
	pair_setup(&p, CONN_CONTROL);
	p.by_dest.hold = true;

	for (unsigned i = 0; i < TCP_MESSAGES_MAX; i++, sent++) {
		memcpy(message, &sent, sizeof(sent));
		assert_int_equal(conn_send(p.at_source, message, sizeof(message)), RDMAMIG_OK);
	}
	assert_int_equal(conn_send(p.at_source, message, sizeof(message)), RDMAMIG_AGAIN);
	TURN_UNTIL(&p, p.by_dest.messages == TCP_MESSAGES_MAX);
	for (unsigned i = 0; i < 20; i++, sent++) {
		memcpy(message, &sent, sizeof(sent));
		assert_int_equal(conn_send(p.at_source, message, sizeof(message)), RDMAMIG_OK);
	}
	turn_while_busy(&p);
	assert_int_equal(p.by_dest.messages, TCP_MESSAGES_MAX);

	struct wait wait;
	wait_reset(&wait);
	conn_wait(p.at_dest, &wait);
	assert_int_equal(wait.count, 0);
	assert_true(wait.deadline_ns == CLOCK_NEVER);

	for (unsigned i = 0; i < 5; i++)
		conn_message_release(p.at_dest, p.by_dest.slots[i * 7]);
	conn_wait(p.at_dest, &wait);
	assert_true(wait.deadline_ns == 0);
	TURN_UNTIL(&p, p.by_dest.messages == TCP_MESSAGES_MAX + 5);
	memcpy(&number, p.by_dest.message, sizeof(number));
	assert_int_equal(number, TCP_MESSAGES_MAX + 4);
	turn_while_busy(&p);
	assert_int_equal(p.by_dest.messages, TCP_MESSAGES_MAX + 5);
	pair_close(&p);
}

static void waits_ask_for_what_is_missing(void **state)
{
	(void)state;
	struct pair p;
	struct wait wait;
	pair_setup(&p, CONN_CONTROL);

	turn_while_busy(&p);
	wait_reset(&wait);
	conn_wait(p.at_source, &wait);
	assert_int_equal(wait.count, 1);
	assert_int_equal(wait.fds[0].events, POLLIN);
	assert_true(wait.deadline_ns == CLOCK_NEVER);

	assert_int_equal(conn_send(p.at_source, "x", 1), RDMAMIG_OK);
	wait_reset(&wait);
	conn_wait(p.at_source, &wait);
	assert_int_equal(wait.fds[0].events, POLLIN | POLLOUT);

	conn_kill(p.at_source);
	conn_kill(p.at_source);
	wait_reset(&wait);
	conn_wait(p.at_source, &wait);
	assert_int_equal(wait.count, 0);
	assert_int_equal(conn_send(p.at_source, "x", 1), RDMAMIG_E_DISCONNECTED);
	assert_int_equal(poll_one(p.at_source, &p.by_source), 0);
	pair_close(&p);
}

/* What the peer may not do. */

enum wrong {
	OUT_OF_BOUNDS, ACROSS_THE_END, WRAPS, WRONG_KEY, KEY_ZERO, REMOVED, NO_ACCESS, SECOND_PIECE, LENGTHS_DIFFER,
	EMPTY_PIECE, WRONG_KIND, ANSWER_UNASKED, READ_NO_ACCESS, READ_OUTSIDE, UNKNOWN_TYPE, TOO_MANY_READS,
};

static void wrong_frame(struct pair *p, int fd, enum wrong how)
{
	uint32_t key = p->key.key;
	static const uint8_t payload[64] = "must not land";

	switch (how) {
	case OUT_OF_BOUNDS:
	case ACROSS_THE_END:
	case WRAPS:
	case WRONG_KEY:
	case KEY_ZERO:
	case REMOVED:
	case NO_ACCESS:
		raw_header(fd, TCP_WRITE, 1, 0, sizeof(payload));
		raw_piece(fd, how == OUT_OF_BOUNDS ? MEMORY_BYTES : how == ACROSS_THE_END ? MEMORY_BYTES - 63 : how == WRAPS ? -32ull : 0,
			  how == WRONG_KEY ? key ^ 1u << 20 : how == KEY_ZERO ? 0 : key, sizeof(payload));
		raw_send(fd, payload, sizeof(payload));
		break;
	case SECOND_PIECE:
	case EMPTY_PIECE:
		raw_header(fd, TCP_WRITE, 2, 0, sizeof(payload));
		raw_piece(fd, 0, key, how == SECOND_PIECE ? 32 : 64);
		raw_piece(fd, MEMORY_BYTES - 31, key, how == SECOND_PIECE ? 32 : 0);
		raw_send(fd, payload, sizeof(payload));
		break;
	case LENGTHS_DIFFER:
		raw_header(fd, TCP_WRITE, 1, 0, sizeof(payload));
		raw_piece(fd, 0, key, sizeof(payload) - 1);
		raw_send(fd, payload, sizeof(payload));
		break;
	case WRONG_KIND:
		raw_header(fd, TCP_MESSAGE, 0, 0, sizeof(payload));
		raw_send(fd, payload, sizeof(payload));
		break;
	case ANSWER_UNASKED:
		raw_header(fd, TCP_READ_DATA, 0, 0, sizeof(payload));
		raw_send(fd, payload, sizeof(payload));
		break;
	case READ_NO_ACCESS:
	case READ_OUTSIDE:
		raw_header(fd, TCP_READ_REQUEST, 1, 0, 0);
		raw_piece(fd, how == READ_OUTSIDE ? MEMORY_BYTES : 0, key, 1);
		break;
	case UNKNOWN_TYPE:
		raw_header(fd, (enum tcp_frame_type)77, 0, 0, 0);
		break;
	case TOO_MANY_READS:	/* more than dest can have given to the kernel, as nobody takes them */
		for (unsigned i = 0; i < 200; i++) {
			raw_header(fd, TCP_READ_REQUEST, 1, i, 0);
			raw_piece(fd, 0, key, MEMORY_BYTES);
		}
		break;
	}
}

static void wrong_frames_close_and_change_nothing(void **state)
{
	(void)state;
	for (enum wrong how = OUT_OF_BOUNDS; how <= TOO_MANY_READS; how++) {
		struct pair p;
		char byte;
		pair_open(&p, "127.0.0.1", "127.0.0.1");
		pair_region(&p, how == NO_ACCESS ? REGION_REMOTE_READ : how == READ_OUTSIDE || how == TOO_MANY_READS ?
			    REGION_REMOTE_WRITE | REGION_REMOTE_READ : REGION_REMOTE_WRITE);
		int fd = raw_source(&p, CONN_DATA);
		if (how == REMOVED) {
			region_remove(p.dest, p.region);
			p.region = NULL;
		}
		wrong_frame(&p, fd, how);
		TURN_UNTIL(&p, p.by_dest.closed);
		if (p.by_dest.status != RDMAMIG_E_PROTOCOL)
			fail_msg("case %u: status %d", how, (int)p.by_dest.status);
		assert_noted(&p.dest_error, RDMAMIG_E_PROTOCOL, "broke the protocol");
		assert_dest_as_expected(&p);
		if (how != TOO_MANY_READS)
			assert_int_equal(recv(fd, &byte, 1, 0) <= 0, 1);
		close(fd);
		pair_close(&p);
	}
}

static void control_connections_reach_no_memory(void **state)
{
	(void)state;
	struct pair p;
	pair_open(&p, "127.0.0.1", "127.0.0.1");
	pair_region(&p, REGION_REMOTE_WRITE);
	int fd = raw_source(&p, CONN_CONTROL);
	wrong_frame(&p, fd, LENGTHS_DIFFER);
	TURN_UNTIL(&p, p.by_dest.closed);
	assert_int_equal(p.by_dest.status, RDMAMIG_E_PROTOCOL);
	assert_dest_as_expected(&p);
	close(fd);
	pair_close(&p);
}

/* Removed between the header and the payload: not a byte more. */
static void removal_stops_a_write_halfway(void **state)
{
	(void)state;
	struct pair p;
	pair_open(&p, "127.0.0.1", "127.0.0.1");
	pair_region(&p, REGION_REMOTE_WRITE);
	int fd = raw_source(&p, CONN_DATA);

	raw_header(fd, TCP_WRITE, 1, 0, 64);
	raw_piece(fd, 0, p.key.key, 64);
	raw_send(fd, "first", 5);
	memcpy(p.expected + GUARD_BYTES, "first", 5);
	while (memcmp(p.dest_memory + GUARD_BYTES, "first", 5))		/* of which there is no event */
		poll_one(p.at_dest, &p.by_dest);
	region_remove(p.dest, p.region);
	p.region = NULL;
	raw_send(fd, p.source_memory, 59);
	TURN_UNTIL(&p, p.by_dest.closed);
	assert_int_equal(p.by_dest.status, RDMAMIG_E_PROTOCOL);
	assert_dest_as_expected(&p);
	close(fd);
	pair_close(&p);
}

static void keys_are_new_each_time(void **state)
{
	(void)state;
	struct pair p;
	static struct region *regions[TCP_REGIONS_MAX];
	struct region_key key, first;
	struct region *more;
	pair_open(&p, "127.0.0.1", "127.0.0.1");

	for (unsigned i = 0; i < TCP_REGIONS_MAX; i++) {
		assert_int_equal(region_add(p.dest, p.dest_memory, 1, REGION_LOCAL, &regions[i], &key), RDMAMIG_OK);
		assert_int_not_equal(key.key, 0);
		if (i == 0)
			first = key;
	}
	assert_int_equal(region_add(p.dest, p.dest_memory, 1, REGION_LOCAL, &more, &key), RDMAMIG_E_NO_MEMORY);
	region_remove(p.dest, regions[0]);
	assert_int_equal(region_add(p.dest, p.dest_memory, 1, REGION_LOCAL, &regions[0], &key), RDMAMIG_OK);
	assert_int_not_equal(key.key, first.key);
	for (unsigned i = 0; i < TCP_REGIONS_MAX; i++)
		region_remove(p.dest, regions[i]);
	pair_close(&p);
}

/* Memory that cannot be had is an EFAULT to the kernel and would be a SIGBUS to us; a file cut short is the same. */
static void memory_that_cannot_be_had_ends_it(void **state)
{
	(void)state;
	for (unsigned read_ahead = 0; read_ahead < 2; read_ahead++) {
		struct pair p;
		char byte;
		int file = memfd_create("short", MFD_CLOEXEC);
		assert_int_equal(ftruncate(file, 4096), 0);
		uint8_t *at = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
		assert_true(at != MAP_FAILED);
		pair_open(&p, "127.0.0.1", "127.0.0.1");
		assert_int_equal(region_add(p.dest, at, 3 * 4096, REGION_REMOTE_WRITE, &p.region, &p.key), RDMAMIG_OK);
		int fd = raw_source(&p, CONN_DATA);

		raw_header(fd, TCP_WRITE, 1, 0, 8192);
		raw_piece(fd, 0, p.key.key, 8192);
		if (!read_ahead)
			poll_one(p.at_dest, &p.by_dest);	/* so that payload is not read together with the header */
		raw_send(fd, p.source_memory, 8192);
		TURN_UNTIL(&p, p.by_dest.closed);
		assert_int_equal(p.by_dest.status, RDMAMIG_E_NO_SPACE);
		assert_noted(&p.dest_error, RDMAMIG_E_NO_SPACE, "no room");
		assert_int_equal(memcmp(at, p.source_memory, 4096), 0);
		assert_int_equal(recv(fd, &byte, 1, 0) <= 0, 1);
		close(fd);
		pair_close(&p);
		munmap(at, 3 * 4096);
		close(file);
	}
}

static void memory_being_sent_that_goes_away_ends_it(void **state)
{
	(void)state;
	struct pair p;
	int file = memfd_create("short", MFD_CLOEXEC);
	uint8_t *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	pair_setup(&p, CONN_DATA);
	struct write write = { .local = at, .remote = 0, .key = p.key.key, .bytes = 4096 };

	assert_int_equal(conn_write(p.at_source, &write, 1, 1), RDMAMIG_OK);
	TURN_UNTIL(&p, p.by_source.closed);
	assert_int_equal(p.by_source.status, RDMAMIG_E_BLOCK_CHANGED);
	TURN_UNTIL(&p, p.by_dest.closed);
	assert_dest_as_expected(&p);
	munmap(at, 4096);
	close(file);
	pair_close(&p);
}

/* Ends. */

static void an_orderly_end_is_no_failure(void **state)
{
	(void)state;
	struct pair p;
	pair_setup(&p, CONN_CONTROL);
	assert_int_equal(conn_send(p.at_source, "last words", 10), RDMAMIG_OK);
	poll_one(p.at_source, &p.by_source);
	conn_free(p.at_source);
	p.at_source = NULL;
	TURN_UNTIL(&p, p.by_dest.closed);
	assert_int_equal(p.by_dest.status, RDMAMIG_OK);
	assert_int_equal(p.by_dest.messages, 1);
	assert_memory_equal(p.by_dest.message, "last words", 10);
	assert_int_equal(error_status(&p.dest_error), RDMAMIG_OK);
	pair_close(&p);
}

static void an_end_inside_a_frame_is_one(void **state)
{
	(void)state;
	for (unsigned cut = 1; cut <= TCP_HEADER_BYTES + TCP_PIECE_BYTES + 1; cut += 8) {
		struct pair p;
		uint8_t bytes[100] = { 0 };
		pair_open(&p, "127.0.0.1", "127.0.0.1");
		pair_region(&p, REGION_REMOTE_WRITE);
		int fd = raw_source(&p, CONN_DATA);
		struct tcp_header header = { .type = TCP_WRITE, .count = 1, .payload_bytes = 64 };
		struct tcp_piece piece = { .key = p.key.key, .bytes = 64 };
		tcp_header_encode(&header, bytes);
		tcp_piece_encode(&piece, bytes + TCP_HEADER_BYTES);
		raw_send(fd, bytes, cut);
		close(fd);
		TURN_UNTIL(&p, p.by_dest.closed);
		assert_int_equal(p.by_dest.status, RDMAMIG_E_DISCONNECTED);
		assert_noted(&p.dest_error, RDMAMIG_E_DISCONNECTED, "broke");
		pair_close(&p);
	}
}

static void a_reset_is_one(void **state)
{
	(void)state;
	struct pair p;
	struct linger now = { .l_onoff = 1, .l_linger = 0 };
	pair_setup(&p, CONN_DATA);
	setsockopt(tcp_conn_of(p.at_dest)->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	conn_free(p.at_dest);
	p.at_dest = NULL;
	TURN_UNTIL(&p, p.by_source.closed);
	assert_int_equal(p.by_source.status, RDMAMIG_E_DISCONNECTED);
	assert_noted(&p.source_error, RDMAMIG_E_DISCONNECTED, "Connection reset by peer");
	pair_close(&p);
}

/* The peer said why and went, with bytes of ours unread: its words are still told, though sending fails first. */
static void last_words_are_heard_before_a_broken_send(void **state)
{
	(void)state;
	struct pair p;
	pair_setup(&p, CONN_CONTROL);
	assert_int_equal(conn_send(p.at_dest, "why", 3), RDMAMIG_OK);
	poll_one(p.at_dest, &p.by_dest);
	assert_int_equal(conn_send(p.at_source, "never read", 10), RDMAMIG_OK);
	tcp_out_move(tcp_conn_of(p.at_source));
	conn_free(p.at_dest);
	p.at_dest = NULL;
	assert_int_equal(conn_send(p.at_source, "fails", 5), RDMAMIG_OK);
	TURN_UNTIL(&p, p.by_source.closed);
	assert_int_equal(p.by_source.messages, 1);
	assert_memory_equal(p.by_source.message, "why", 3);
	assert_int_equal(p.by_source.status, RDMAMIG_E_DISCONNECTED);
	pair_close(&p);
}

static void nothing_lands_after_kill(void **state)
{
	(void)state;
	struct pair p;
	pair_setup(&p, CONN_DATA);
	struct write write = { .local = p.source_memory, .remote = 0, .key = p.key.key, .bytes = MEMORY_BYTES };
	assert_int_equal(conn_write(p.at_source, &write, 1, 1), RDMAMIG_OK);
	TURN_UNTIL(&p, memcmp(p.dest_memory, p.expected, MEMORY_BYTES));
	conn_kill(p.at_dest);
	memcpy(p.expected, p.dest_memory, MEMORY_BYTES + 2 * GUARD_BYTES);
	turn_while_busy(&p);
	assert_dest_as_expected(&p);
	assert_int_equal(p.by_dest.closed, 0);
	pair_close(&p);
}

/* Throughput, for information: one data connection between two threads, and a plain socket copy of the same size. */

enum { SPEED_MEMORY = 64 << 20, SPEED_ROUNDS = 8, SPEED_PIECE = 1 << 20 };

struct speed_dest {
	struct conn *conn;
	bool failed;
};

static void *speed_receive(void *opaque)
{
	struct speed_dest *d = opaque;
	struct conn_event events[8];
	for (;;) {
		unsigned n = conn_poll(d->conn, events, 8);
		for (unsigned i = 0; i < n; i++) {
			if (events[i].type == CONN_FENCE)
				return NULL;
			d->failed |= events[i].type == CONN_CLOSED;
		}
		if (d->failed)
			return NULL;
		struct wait wait;
		wait_reset(&wait);
		conn_wait(d->conn, &wait);
		wait_sleep(&wait, &clock_real);
	}
}

static double speed_of_conn(uint32_t piece_bytes)
{
	struct pair p;
	pair_open(&p, "127.0.0.1", "127.0.0.1");
	uint8_t *from = memory_new(SPEED_MEMORY), *to = memory_new(SPEED_MEMORY);
	memset(from, 1, SPEED_MEMORY);
	memset(to, 2, SPEED_MEMORY);
	assert_int_equal(region_add(p.dest, to, SPEED_MEMORY, REGION_REMOTE_WRITE, &p.region, &p.key), RDMAMIG_OK);
	pair_connect(&p, CONN_DATA);

	struct speed_dest dest = { p.at_dest, false };
	static struct write writes[TCP_PIECES_MAX];
	pthread_t thread;
	uint64_t start = clock_now_ns(&clock_real), at = 0, end = (uint64_t)SPEED_MEMORY * SPEED_ROUNDS;
	bool fenced = false;
	pthread_create(&thread, NULL, speed_receive, &dest);
	while (!fenced && !p.by_source.closed) {
		unsigned count = 0;
		for (uint64_t next = at; next < end && count < TCP_PIECES_MAX && next - at < 4 << 20; next += piece_bytes, count++)
			writes[count] = (struct write){ .local = from + next % SPEED_MEMORY, .remote = next % SPEED_MEMORY, .key = p.key.key,
							.bytes = piece_bytes };
		if (count && !conn_write(p.at_source, writes, count, p.by_source.written_id + 1 + tcp_conn_of(p.at_source)->out.posts))
			at += (uint64_t)count * piece_bytes;
		else if (at == end)
			fenced = !conn_fence(p.at_source, 1);
		if (!poll_one(p.at_source, &p.by_source) && tcp_conn_of(p.at_source)->out.posts > 4) {
			struct wait wait;
			wait_reset(&wait);
			conn_wait(p.at_source, &wait);
			wait_sleep(&wait, &clock_real);
		}
	}
	while (tcp_conn_of(p.at_source)->out.count && !p.by_source.closed)
		poll_one(p.at_source, &p.by_source);
	pthread_join(thread, NULL);
	double seconds = (double)(clock_now_ns(&clock_real) - start) / NS_PER_S;
	assert_false(dest.failed);
	assert_int_equal(memcmp(from, to, SPEED_MEMORY), 0);
	p.at_dest = dest.conn;
	pair_close(&p);
	munmap(from, SPEED_MEMORY);
	munmap(to, SPEED_MEMORY);
	return (double)end / seconds / 1e6;
}

struct speed_plain {
	int fd;
	uint8_t *to;
};

static void *plain_receive(void *opaque)
{
	struct speed_plain *s = opaque;
	size_t at = 0;
	for (ssize_t n; (n = recv(s->fd, s->to + at, SPEED_PIECE < SPEED_MEMORY - at ? SPEED_PIECE : SPEED_MEMORY - at, 0)) > 0; )
		at = (at + (size_t)n) % SPEED_MEMORY;
	return NULL;
}

static double speed_of_plain(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t bytes = sizeof(at);
	uint8_t *from = memory_new(SPEED_MEMORY), *to = memory_new(SPEED_MEMORY);
	memset(from, 1, SPEED_MEMORY);
	memset(to, 2, SPEED_MEMORY);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&at, bytes), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &bytes), 0);
	int fd = raw_connect(ntohs(at.sin_port));
	struct speed_plain s = { accept4(listener, NULL, NULL, SOCK_CLOEXEC), to };
	pthread_t thread;
	uint64_t start = clock_now_ns(&clock_real);
	pthread_create(&thread, NULL, plain_receive, &s);
	for (unsigned round = 0; round < SPEED_ROUNDS; round++)
		for (size_t done = 0; done < SPEED_MEMORY; ) {
			ssize_t n = send(fd, from + done, SPEED_PIECE < SPEED_MEMORY - done ? SPEED_PIECE : SPEED_MEMORY - done, 0);
			assert_true(n > 0);
			done += (size_t)n;
		}
	close(fd);
	pthread_join(thread, NULL);
	double seconds = (double)(clock_now_ns(&clock_real) - start) / NS_PER_S;
	close(s.fd);
	close(listener);
	munmap(from, SPEED_MEMORY);
	munmap(to, SPEED_MEMORY);
	return (double)SPEED_MEMORY * SPEED_ROUNDS / seconds / 1e6;
}

static void print_throughput(void **state)
{
	(void)state;
	double plain = speed_of_plain(), large = speed_of_conn(SPEED_PIECE), pages = speed_of_conn(4096);
	print_message("plain socket copy %.0f MB/s; data conn %.0f MB/s in 1 MiB pieces (%.2f), %.0f in 4 KiB ones (%.2f)\n", plain,
		      large, large / plain, pages, pages / plain);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(opens_on_every_address),
		cmocka_unit_test(names_the_command_when_refused),
		cmocka_unit_test(reports_unknown_names_and_bad_listeners),
		cmocka_unit_test(reject_tells_why),
		cmocka_unit_test(strangers_at_the_other_end_are_quoted),
		cmocka_unit_test(half_open_are_bounded_in_number_and_time),
		cmocka_unit_test(hello_may_come_byte_by_byte),
		cmocka_unit_test(writes_land_before_their_fence),
		cmocka_unit_test(small_writes_land),
		cmocka_unit_test(writes_survive_tiny_socket_buffers),
		cmocka_unit_test(posts_are_bounded),
		cmocka_unit_test(reads_fetch_every_byte),
		cmocka_unit_test(frames_may_come_in_any_pieces),
		cmocka_unit_test(messages_arrive_whole_and_in_order),
		cmocka_unit_test(held_messages_push_back),
		cmocka_unit_test(waits_ask_for_what_is_missing),
		cmocka_unit_test(wrong_frames_close_and_change_nothing),
		cmocka_unit_test(control_connections_reach_no_memory),
		cmocka_unit_test(removal_stops_a_write_halfway),
		cmocka_unit_test(keys_are_new_each_time),
		cmocka_unit_test(memory_that_cannot_be_had_ends_it),
		cmocka_unit_test(memory_being_sent_that_goes_away_ends_it),
		cmocka_unit_test(an_orderly_end_is_no_failure),
		cmocka_unit_test(an_end_inside_a_frame_is_one),
		cmocka_unit_test(a_reset_is_one),
		cmocka_unit_test(last_words_are_heard_before_a_broken_send),
		cmocka_unit_test(nothing_lands_after_kill),
		cmocka_unit_test(print_throughput),
	};
	rdmamig_log_set(count_lines, NULL, RDMAMIG_LOG_WARNING);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
