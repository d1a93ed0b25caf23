/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * spike_rdma.c - two processes prove over real verbs what struct endpoint_ops promises: `spike_rdma dest|source HOST`.
 * Neighbour: rdma_endpoint.c, the endpoint under test. One thread an end.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>

#include <rdmamig/log.h>

#include "rdma_endpoint.h"

enum {
	PORT = 7471,
	REGION_BYTES = 64 << 20,
	BATCH_BYTES = 64 << 10,
	BATCHES = REGION_BYTES / BATCH_BYTES,
	PASSES = 2,
	WINDOW = 32,		/* fences not acknowledged */
	ACK_EVERY = 8,		/* divides BATCHES and BURST */
	BURST = 2000,		/* control messages */
	RNR_FENCES = 200,	/* more than dest has receives for */
	KILLS = 6,
	KILL_BATCHES = 4,	/* few, so that dest overwrites them before a late packet could land */
	TURN_DEADLINE_MS = 10000,
};

enum what { KEY = 1, TOKEN, PASS, ACK, MATCH, NAP, BURST_ONE, CREDIT, GO, SAW_CLOSED, UNTOUCHED, BYE };

struct note {			/* the spike's own messages; wire/ is not what is tried here */
	enum what what;
	uint32_t value;
	uint64_t token;
	struct region_key key;
};

enum which { CONTROL, DATA, CONNS };

struct line {			/* a conn and what was seen of it */
	struct conn *conn;
	bool opened, closed;
	enum rdmamig_status status;
	uint64_t written, read;		/* how many */
	uint32_t fence;			/* the last */
};

struct end {
	struct error error;
	struct endpoint *endpoint;
	bool listens;
	struct line lines[CONNS];
	struct note notes[64];		/* received, in order; released at once */
	unsigned first_note, next_note;
	uint64_t sleeps;
	uint64_t token;			/* dest: the one that is good */
	uint8_t *memory;
	struct region *region;
};

static void log_print(void *opaque, enum rdmamig_log_level level, const char *line)
{
	(void)level;
	printf("%s: log: %s\n", (const char *)opaque, line);
}

static void check_at(bool good, const char *what, int line)
{
	if (good)
		return;
	printf("FAILED at line %d: %s\n", line, what);
	exit(1);
}
#define CHECK(x) check_at(x, #x, __LINE__)

static uint64_t now_us(void)
{
	return clock_now_ns(&clock_real) / 1000;
}

/* Each batch its own bytes, by seed: a page at a wrong place does not pass. */
static void pattern_fill(uint8_t *out, size_t bytes, uint64_t seed)
{
	uint64_t *words = (uint64_t *)out;
	for (size_t i = 0; i < bytes / 8; i++)
		words[i] = (seed << 40) + i * 0x9e3779b97f4a7c15ull;
}

static bool pattern_is(const uint8_t *in, size_t bytes, uint64_t seed)
{
	const uint64_t *words = (const uint64_t *)in;
	for (size_t i = 0; i < bytes / 8; i++)
		if (words[i] != (seed << 40) + i * 0x9e3779b97f4a7c15ull)
			return false;
	return true;
}

static void event_take(struct end *end, struct line *line, const struct conn_event *event)
{
	switch (event->type) {
	case CONN_OPENED: line->opened = true; break;
	case CONN_WRITTEN: line->written++; break;
	case CONN_READ: line->read++; break;
	case CONN_FENCE:
		CHECK(event->sequence == line->fence + 1);
		line->fence = event->sequence;
		break;
	case CONN_CLOSED:
		line->closed = true;
		line->status = event->status;
		break;
	case CONN_MESSAGE:
		CHECK(line->opened && event->bytes == sizeof(struct note) && end->next_note - end->first_note < 64);
		memcpy(&end->notes[end->next_note++ % 64], event->message, sizeof(struct note));
		conn_message_release(line->conn, event->slot);
		break;
	}
}

/* Poll everything once; if nothing happened, wait for it. */
static void turn(struct end *end)
{
	unsigned seen = 0;
	for (unsigned i = 0; i < CONNS; i++) {
		struct conn_event events[16];
		struct line *line = &end->lines[i];
		unsigned count = line->conn ? conn_poll(line->conn, events, 16) : 0;
		for (unsigned k = 0; k < count; k++)
			event_take(end, line, &events[k]);
		seen += count;
	}
	if (seen)
		return;
	struct wait wait;
	wait_reset(&wait);
	for (unsigned i = 0; i < CONNS; i++)
		if (end->lines[i].conn)
			conn_wait(end->lines[i].conn, &wait);
	if (end->listens)
		endpoint_wait(end->endpoint, &wait);
	bool forever = wait.deadline_ns == CLOCK_NEVER;
	wait_until(&wait, clock_after_ms(&clock_real, TURN_DEADLINE_MS));
	uint64_t start = now_us();
	wait_sleep(&wait, &clock_real);
	end->sleeps++;
	CHECK(!forever || now_us() - start < TURN_DEADLINE_MS * 1000ull);
}

#define UNTIL(end, x) do { while (!(x)) turn(end); } while (0)

static void note_send(struct end *end, struct note note)
{
	enum rdmamig_status status;
	while ((status = conn_send(end->lines[CONTROL].conn, &note, sizeof(note))) == RDMAMIG_AGAIN)
		turn(end);
	CHECK(status == RDMAMIG_OK);
}

static struct note note_next(struct end *end)
{
	UNTIL(end, end->first_note != end->next_note || end->lines[CONTROL].closed);
	CHECK(end->first_note != end->next_note);
	return end->notes[end->first_note++ % 64];
}

static struct note note_expect(struct end *end, enum what what)
{
	struct note note = note_next(end);
	if (note.what != what)
		printf("got %d, expected %d\n", note.what, what);
	CHECK(note.what == what);
	return note;
}

static void line_free(struct end *end, enum which which)
{
	conn_free(end->lines[which].conn);
	end->lines[which] = (struct line){ 0 };
}

static void end_open(struct end *end, const char *host)
{
	struct rdmamig_uri uri = { .scheme = "rdma", .port = PORT };
	snprintf(uri.host, sizeof(uri.host), "%s", host);
	error_init(&end->error);
	CHECK(endpoint_open(&rdma_endpoint_ops, &uri, &clock_real, &end->error, &end->endpoint) == RDMAMIG_OK);
	end->memory = mmap(NULL, REGION_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	CHECK(end->memory != MAP_FAILED);
}

static void end_close(struct end *end)
{
	region_remove(end->endpoint, end->region);
	endpoint_close(end->endpoint);
	error_fini(&end->error);
	munmap(end->memory, REGION_BYTES);
}

/* ---- dest ---- */

/* The source's CHANNEL_UP (here TOKEN) may be polled after its connection has come: only what is known is admitted. */
static void dest_accept_data(struct end *end)
{
	struct line *line = &end->lines[DATA];
	end->token = note_expect(end, TOKEN).token;
	for (;;) {
		struct conn *conn;
		if (endpoint_accept(end->endpoint, &conn) == RDMAMIG_AGAIN) {
			turn(end);
			continue;
		}
		if (conn->hello.kind == CONN_DATA && conn->hello.token == end->token) {
			*line = (struct line){ .conn = conn };
			break;
		}
		conn_reject(conn, RDMAMIG_E_PROTOCOL, "this token is not known here");
		end->token = note_expect(end, TOKEN).token;
	}
	end->token = 0;
	CHECK(conn_admit(line->conn) == RDMAMIG_OK);
	UNTIL(end, line->opened);
}

/* @first is not what line->fence says now: nothing orders PASS on the control conn with the fences on the data conn. */
static void dest_pass(struct end *end, uint64_t seed, uint32_t first)
{
	struct line *line = &end->lines[DATA];
	uint32_t acked = first;
	while (acked - first < BATCHES) {
		UNTIL(end, line->fence - acked >= ACK_EVERY || line->fence - first == BATCHES);
		acked = line->fence;
		note_send(end, (struct note){ .what = ACK, .value = acked });
	}
	bool same = true;
	for (unsigned i = 0; i < BATCHES; i++)
		same = same && pattern_is(end->memory + (size_t)i * BATCH_BYTES, BATCH_BYTES, seed + i);
	CHECK(same);
	note_send(end, (struct note){ .what = MATCH });
}

static void dest_burst(struct end *end)
{
	for (unsigned i = 1; i <= BURST; i++) {
		CHECK(note_expect(end, BURST_ONE).value == i);
		if (i % ACK_EVERY == 0)
			note_send(end, (struct note){ .what = CREDIT, .value = ACK_EVERY });
	}
}

/* The source writes all the time; after kill we write ourselves, and it must stay. */
static void dest_kill(struct end *end, unsigned round)
{
	struct line *line = &end->lines[DATA];
	dest_accept_data(end);
	note_send(end, (struct note){ .what = GO });
	UNTIL(end, line->fence >= 3 + round);	/* in the middle of its writes */
	uint64_t start = now_us();
	conn_kill(line->conn);
	uint64_t took = now_us() - start;
	memset(end->memory, 0x5a, KILL_BATCHES * BATCH_BYTES);
	start = now_us();
	if (round % 2)
		line_free(end, DATA);	/* tells the peer; else it must find out alone */
	uint64_t freed = now_us() - start;
	struct note saw = note_expect(end, SAW_CLOSED);
	for (size_t i = 0; i < KILL_BATCHES * BATCH_BYTES; i++)
		CHECK(end->memory[i] == 0x5a);
	if (!(round % 2)) {
		UNTIL(end, line->closed);
		line_free(end, DATA);
	}
	printf("dest: kill %u took %lu us (free %lu us); the source saw %s after %lu ms; nothing landed\n", round, took, freed,
	       rdmamig_status_name(saw.value), saw.token / 1000);
	note_send(end, (struct note){ .what = UNTOUCHED });
}

static void dest(const char *host)
{
	static struct end end = { .listens = true };
	struct line *control = &end.lines[CONTROL], *data = &end.lines[DATA];
	uint16_t port;
	struct region_key key;
	end_open(&end, host);
	CHECK(endpoint_listen(end.endpoint, &port) == RDMAMIG_OK && port == PORT);
	printf("dest: listening on %u\n", port);
	while (endpoint_accept(end.endpoint, &control->conn) == RDMAMIG_AGAIN)
		turn(&end);
	CHECK(control->conn->hello.kind == CONN_CONTROL && control->conn->hello.session_id[15] == 15);
	CHECK(conn_admit(control->conn) == RDMAMIG_OK);
	UNTIL(&end, control->opened);
	printf("dest: control from %s, versions %u..%u\n", control->conn->peer, control->conn->hello.version_min,
	       control->conn->hello.version_max);

	CHECK(region_add(end.endpoint, end.memory, REGION_BYTES, REGION_REMOTE_WRITE | REGION_REMOTE_READ, &end.region,
			 &key) == RDMAMIG_OK);
	note_send(&end, (struct note){ .what = KEY, .key = key });
	dest_accept_data(&end);
	UNTIL(&end, data->fence == 1);
	CHECK(pattern_is(end.memory, BATCH_BYTES, 1));
	printf("dest: fence 1: all %u bytes are right\n", BATCH_BYTES);
	note_send(&end, (struct note){ .what = MATCH });

	for (unsigned i = 0; i < PASSES; i++)
		dest_pass(&end, note_expect(&end, PASS).value, 1 + i * BATCHES);
	note_expect(&end, NAP);
	sleep(1);				/* polls nothing: the source's fences find no receive */
	UNTIL(&end, data->fence == 1 + PASSES * BATCHES + RNR_FENCES);
	note_send(&end, (struct note){ .what = MATCH });
	dest_burst(&end);
	UNTIL(&end, data->closed);
	printf("dest: data finished by the source: %s; %lu waits\n", rdmamig_status_name(data->status), end.sleeps);
	line_free(&end, DATA);
	for (unsigned i = 0; i < KILLS; i++)
		dest_kill(&end, i);
	note_expect(&end, BYE);
	UNTIL(&end, control->closed);
	printf("dest: control closed: %s\n", rdmamig_status_name(control->status));
	line_free(&end, CONTROL);
	end_close(&end);
}

/* ---- source ---- */

static void source_connect(struct end *end, enum which which, uint64_t token)
{
	struct conn_hello hello = { .kind = which == CONTROL ? CONN_CONTROL : CONN_DATA, .version_min = 1, .version_max = 1,
		.token = token, .session_id = { [15] = 15 } };
	struct line *line = &end->lines[which];
	*line = (struct line){ 0 };
	CHECK(conn_connect(end->endpoint, &hello, &line->conn) == RDMAMIG_OK);
	UNTIL(end, line->opened || line->closed);
}

static void source_place(struct end *end, const struct region_key *key, unsigned batch, unsigned pieces, bool read)
{
	struct line *line = &end->lines[DATA];
	struct write writes[16];
	size_t at = (size_t)batch * BATCH_BYTES, piece = BATCH_BYTES / pieces;
	for (unsigned i = 0; i < pieces; i++, at += piece)
		writes[i] = (struct write){ .local = end->memory + at, .region = end->region, .remote = key->base + at,
			.key = key->key, .bytes = (uint32_t)piece };
	enum rdmamig_status status;
	while ((status = read ? conn_read(line->conn, writes, pieces, batch) :
		conn_write(line->conn, writes, pieces, batch)) == RDMAMIG_AGAIN)
		turn(end);
	CHECK(status == RDMAMIG_OK || line->conn);	/* a broken one tells by CONN_CLOSED */
}

static void source_fence(struct end *end, uint32_t sequence)
{
	enum rdmamig_status status;
	while ((status = conn_fence(end->lines[DATA].conn, sequence)) == RDMAMIG_AGAIN)
		turn(end);
}

static uint32_t source_pass(struct end *end, const struct region_key *key, unsigned pieces, uint32_t seed, uint32_t fence)
{
	uint32_t acked = fence;
	for (unsigned i = 0; i < BATCHES; i++)
		pattern_fill(end->memory + (size_t)i * BATCH_BYTES, BATCH_BYTES, seed + i);
	note_send(end, (struct note){ .what = PASS, .value = seed });
	uint64_t sleeps = end->sleeps, start = now_us();
	for (unsigned i = 0; i < BATCHES; i++) {
		source_place(end, key, i, pieces, false);
		source_fence(end, ++fence);
		while (fence - acked >= WINDOW)
			acked = note_expect(end, ACK).value;
	}
	while (acked != fence)
		acked = note_expect(end, ACK).value;
	uint64_t took = now_us() - start;
	note_expect(end, MATCH);
	printf("source: 64 MiB as %u x %u pieces of %u: %lu MB/s, %lu waits, all bytes right\n", BATCHES, pieces,
	       BATCH_BYTES / pieces, (uint64_t)REGION_BYTES / took, end->sleeps - sleeps);
	return fence;
}

static void source_burst(struct end *end)
{
	unsigned credit = end->endpoint->limits.messages_max;
	uint64_t start = now_us();
	for (unsigned i = 1; i <= BURST; i++) {
		while (!credit)
			credit += note_expect(end, CREDIT).value;
		note_send(end, (struct note){ .what = BURST_ONE, .value = i });
		credit--;
	}
	while (credit < end->endpoint->limits.messages_max)
		credit += note_expect(end, CREDIT).value;
	printf("source: %u messages under credit: %lu a second\n", BURST, BURST * 1000000ul / (now_us() - start));
}

static void source_killed(struct end *end, const struct region_key *key, unsigned round)
{
	struct line *line = &end->lines[DATA];
	note_send(end, (struct note){ .what = TOKEN, .token = 100 + round });
	source_connect(end, DATA, 100 + round);
	CHECK(line->opened);
	note_expect(end, GO);
	uint32_t fence = 0;
	uint64_t moved = now_us(), written = 0;
	while (!line->closed) {
		source_place(end, key, fence % KILL_BATCHES, 16, false);
		source_fence(end, ++fence);
		if (line->written != written)
			moved = now_us();
		written = line->written;
		if (!line->closed && fence - line->written > 32)
			turn(end);
		struct conn_event event;
		if (conn_poll(line->conn, &event, 1))
			event_take(end, line, &event);
	}
	CHECK(line->status != RDMAMIG_OK);
	CHECK(conn_fence(line->conn, 1) == RDMAMIG_E_DISCONNECTED);
	note_send(end, (struct note){ .what = SAW_CLOSED, .value = line->status, .token = now_us() - moved });
	note_expect(end, UNTOUCHED);
	line_free(end, DATA);
}

static void source(const char *host)
{
	static struct end end;
	struct line *control = &end.lines[CONTROL], *data = &end.lines[DATA];
	end_open(&end, host);
	for (;;) {	/* until somebody listens */
		source_connect(&end, CONTROL, 0);
		if (control->opened)
			break;
		CHECK(control->status == RDMAMIG_E_CONNECT);
		line_free(&end, CONTROL);
		usleep(100000);
	}
	struct region_key key = note_expect(&end, KEY).key;
	CHECK(region_add(end.endpoint, end.memory, REGION_BYTES, REGION_LOCAL, &end.region, NULL) == RDMAMIG_OK);

	note_send(&end, (struct note){ .what = TOKEN, .token = 42 });
	source_connect(&end, DATA, 41);
	CHECK(data->closed && data->status == RDMAMIG_E_PROTOCOL);
	line_free(&end, DATA);
	note_send(&end, (struct note){ .what = TOKEN, .token = 43 });
	source_connect(&end, DATA, 43);
	CHECK(data->opened);

	pattern_fill(end.memory, BATCH_BYTES, 1);
	source_place(&end, &key, 0, 16, false);
	source_fence(&end, 1);
	UNTIL(&end, data->written == 1);
	note_expect(&end, MATCH);
	memset(end.memory, 0, BATCH_BYTES);
	source_place(&end, &key, 0, 16, true);
	UNTIL(&end, data->read == 1);
	CHECK(pattern_is(end.memory, BATCH_BYTES, 1));
	printf("source: 16 pieces written, fenced and read back\n");

	uint32_t fence = source_pass(&end, &key, 16, 1000, 1);
	fence = source_pass(&end, &key, 1, 5000, fence);
	note_send(&end, (struct note){ .what = NAP });
	uint64_t start = now_us();
	for (unsigned i = 0; i < RNR_FENCES; i++)
		source_fence(&end, ++fence);
	note_expect(&end, MATCH);
	printf("source: %u fences for %u receives, dest asleep for 1 s: through after %lu ms\n", RNR_FENCES, RDMA_FENCES_MAX,
	       (now_us() - start) / 1000);
	source_burst(&end);
	rdma_conn_finish(data->conn);
	UNTIL(&end, data->closed);
	CHECK(data->status == RDMAMIG_OK);
	line_free(&end, DATA);
	for (unsigned i = 0; i < KILLS; i++)
		source_killed(&end, &key, i);
	note_send(&end, (struct note){ .what = BYE });
	rdma_conn_finish(control->conn);
	UNTIL(&end, control->closed);
	CHECK(control->status == RDMAMIG_OK);
	start = now_us();
	line_free(&end, CONTROL);
	end_close(&end);
	printf("source: done, last free %lu us\n", now_us() - start);
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc != 3 || (strcmp(argv[1], "dest") && strcmp(argv[1], "source")))
		return fprintf(stderr, "usage: spike_rdma dest|source ADDRESS\n"), 2;
	rdmamig_log_set(log_print, argv[1], RDMAMIG_LOG_DEBUG);
	if (argv[1][0] == 'd')
		dest(argv[2]);
	else
		source(argv[2]);
	return 0;
}
