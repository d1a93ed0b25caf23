/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_control.c - two controls over a loopback connection, and one against a peer made by hand that misbehaves.
 * Neighbour: test_credit.c. Each control has its thread; the test is both sessions, or the session and the peer.
 */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "migration/control.h"

/* Real time, or time that only the test moves; it counts how often a thread slept. */
struct test_clock {
	struct clock clock;
	bool is_manual;
	_Atomic uint64_t now_ns;
	_Atomic unsigned sleeps;
};

struct bench {
	struct test_clock time;
	struct error errors[2];
	struct wake wakes[2];
	struct endpoint *endpoints[2];
	struct conn *conns[2];		/* not yet, or never, a control's */
	struct control controls[2];
	uint32_t peer_sequence;
	unsigned heard[MESSAGE_RECORD + 1];	/* by the peer made by hand */
	uint32_t credit_given;
};

static uint64_t test_now(void *opaque)
{
	struct test_clock *time = opaque;
	return time->is_manual ? atomic_load(&time->now_ns) : clock_now_ns(&clock_real);
}

static void test_sleep(void *opaque, struct pollfd *fds, unsigned count, uint64_t deadline_ns)
{
	struct test_clock *time = opaque;
	atomic_fetch_add(&time->sleeps, 1);
	if (time->is_manual)
		poll(fds, count, deadline_ns <= atomic_load(&time->now_ns) ? 0 : 1);
	else
		clock_real.sleep(NULL, fds, count, deadline_ns);
}

static bool opens(struct conn *conn)
{
	struct conn_event event;
	return conn && conn_poll(conn, &event, 1) && event.type == CONN_OPENED;
}

static int bench_open(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));
	b->time.clock = (struct clock){ .now_ns = test_now, .sleep = test_sleep, .opaque = &b->time };
	struct rdmamig_uri uri = { .size = sizeof(uri), .scheme = "tcp", .host = "127.0.0.1" };
	for (unsigned i = 0; i < 2; i++) {
		error_init(&b->errors[i]);
		assert_int_equal(wake_open(&b->wakes[i]), RDMAMIG_OK);
		assert_int_equal(control_init(&b->controls[i], &b->time.clock, &b->errors[i], &b->wakes[i]), RDMAMIG_OK);
	}
	assert_int_equal(endpoint_open(endpoint_ops_find("tcp"), &uri, &b->time.clock, &b->errors[1], &b->endpoints[1]), RDMAMIG_OK);
	assert_int_equal(endpoint_listen(b->endpoints[1], &uri.port), RDMAMIG_OK);
	assert_int_equal(endpoint_open(endpoint_ops_find("tcp"), &uri, &b->time.clock, &b->errors[0], &b->endpoints[0]), RDMAMIG_OK);

	struct conn_hello hello = { .kind = CONN_CONTROL, .version_min = 1, .version_max = 1, .session_id = "session" };
	assert_int_equal(conn_connect(b->endpoints[0], &hello, &b->conns[0]), RDMAMIG_OK);
	bool open[2] = { false, false };
	while (!open[0] || !open[1]) {
		if (!b->conns[1] && !endpoint_accept(b->endpoints[1], &b->conns[1]))
			assert_int_equal(conn_admit(b->conns[1]), RDMAMIG_OK);
		for (unsigned i = 0; i < 2; i++)
			open[i] = open[i] || opens(b->conns[i]);
	}
	*state = b;
	return 0;
}

static int bench_close(void **state)
{
	struct bench *b = *state;
	for (unsigned i = 0; i < 2; i++) {
		control_fini(&b->controls[i]);
		conn_free(b->conns[i]);
	}
	for (unsigned i = 0; i < 2; i++) {
		endpoint_close(b->endpoints[i]);
		wake_close(&b->wakes[i]);
		error_fini(&b->errors[i]);
	}
	free(b);
	return 0;
}

static void start(struct bench *b, unsigned i)
{
	assert_int_equal(control_start(&b->controls[i], b->conns[i]), RDMAMIG_OK);
	b->conns[i] = NULL;
}

static void grant(struct bench *b)
{
	for (unsigned i = 0; i < 2; i++)
		control_grant(&b->controls[i], CONTROL_MESSAGES);
}

static enum rdmamig_status send_number(struct control *control, uint32_t number)
{
	struct message message = { .header.type = MESSAGE_ROUND, .round.round = number };
	return control_send(control, &message);
}

/* Wait for the session of side @i to be woken; a test that hangs fails here. */
static void await(struct bench *b, unsigned i)
{
	struct pollfd p = { .fd = b->wakes[i].fd, .events = POLLIN };
	assert_int_equal(poll(&p, 1, 10000), 1);
	wake_clear(&b->wakes[i]);
}

static void await_message(struct bench *b, unsigned i, struct message *out)
{
	enum rdmamig_status st;
	while ((st = control_receive(&b->controls[i], out)) == RDMAMIG_AGAIN)
		await(b, i);
	assert_int_equal(st, RDMAMIG_OK);
}

static void await_end(struct bench *b, unsigned i, enum rdmamig_status expected)
{
	struct message message;
	while (control_is_open(&b->controls[i]))
		await(b, i);
	while (!control_receive(&b->controls[i], &message))
		;
	assert_int_equal(control_receive(&b->controls[i], &message), expected);
}

static void assert_noted(struct error *error, enum rdmamig_status status, const char *part)
{
	char text[ERROR_TEXT_BYTES];
	error_text(error, text, sizeof(text));
	assert_int_equal(error_status(error), status);
	if (!strstr(text, part))
		fail_msg("'%s' does not say '%s'", text, part);
}

/* --- two controls --- */

static void messages_come_in_order_both_ways(void **state)
{
	struct bench *b = *state;
	uint32_t sent[2] = { 0 }, got[2] = { 0 };
	start(b, 0);
	start(b, 1);
	while (got[0] < 2000 || got[1] < 2000) {
		bool moved = false;
		for (unsigned i = 0; i < 2; i++) {
			struct message message;
			if (sent[i] == 1000 && i == 0)
				grant(b);	/* HELLO says more in the middle of it */
			while (sent[i] < 2000 && !send_number(&b->controls[i], sent[i]))
				sent[i]++, moved = true;
			while (!control_receive(&b->controls[i], &message)) {
				assert_int_equal(message.header.type, MESSAGE_ROUND);
				assert_int_equal(message.round.round, got[i]++);
				moved = true;
			}
			assert_true(control_is_open(&b->controls[i]));
		}
		struct pollfd p[2] = { { .fd = b->wakes[0].fd, .events = POLLIN }, { .fd = b->wakes[1].fd, .events = POLLIN } };
		if (!moved && poll(p, 2, 10000) < 1)
			fail_msg("nothing came for 10 s: %u and %u", got[0], got[1]);
		wake_clear(&b->wakes[0]);
		wake_clear(&b->wakes[1]);
	}
}

static void sessions_that_do_not_read_keep_the_heartbeat(void **state)
{
	struct bench *b = *state;
	struct message message;
	start(b, 0);
	start(b, 1);
	grant(b);
	for (unsigned i = 0; i < 2; i++)
		for (uint32_t n = 0; n < CONTROL_MESSAGES; n++)
			assert_int_equal(send_number(&b->controls[i], n), RDMAMIG_OK);
	poll(NULL, 0, CONTROL_DEAD_MS + 300);	/* nothing is to happen: there is no event for that */
	for (unsigned i = 0; i < 2; i++) {
		assert_true(control_is_open(&b->controls[i]));
		assert_int_equal(error_status(&b->errors[i]), RDMAMIG_OK);
	}
	for (unsigned i = 0; i < 2; i++)
		for (uint32_t n = 0; n < CONTROL_MESSAGES; n++) {
			await_message(b, i, &message);
			assert_int_equal(message.round.round, n);
		}
	assert_int_equal(control_receive(&b->controls[0], &message), RDMAMIG_AGAIN);
}

static void an_error_is_known_before_what_waits_is_read(void **state)
{
	struct bench *b = *state;
	struct message message;
	start(b, 0);
	start(b, 1);
	uint32_t sent = 0;
	while (!send_number(&b->controls[0], sent))
		sent++;
	assert_in_range(sent, CONTROL_MESSAGES, CONTROL_MESSAGES + CREDIT_INITIAL);
	control_send_failure(&b->controls[0], RDMAMIG_E_CANCELLED, "ctrl-c");
	while (!error_status(&b->errors[1]))
		await(b, 1);
	assert_noted(&b->errors[1], RDMAMIG_E_PEER_CANCELLED, "ctrl-c");

	/* Its place in the inbox is before the ones that had no credit. */
	uint32_t numbers = 0;
	for (;;) {
		await_message(b, 1, &message);
		if (message.header.type == MESSAGE_ERROR)
			break;
		assert_int_equal(message.round.round, numbers++);
	}
	assert_in_range(numbers, 0, CREDIT_INITIAL - CREDIT_RESERVED);
	assert_int_equal(message.text.status, RDMAMIG_E_CANCELLED);
	for (; numbers < sent; numbers++) {
		await_message(b, 1, &message);
		assert_int_equal(message.round.round, numbers);
	}
}

static unsigned inbox_count(struct control *control)
{
	pthread_mutex_lock(&control->lock);
	unsigned count = control->inbox_count;
	pthread_mutex_unlock(&control->lock);
	return count;
}

static void what_came_before_the_end_is_still_read(void **state)
{
	struct bench *b = *state;
	struct message message;
	start(b, 0);
	start(b, 1);
	for (uint32_t n = 0; n < 4; n++)
		send_number(&b->controls[0], n);
	await_message(b, 1, &message);
	while (inbox_count(&b->controls[1]) < 3)	/* sent is not yet delivered */
		await(b, 1);
	control_fini(&b->controls[0]);
	while (control_is_open(&b->controls[1]))
		await(b, 1);
	for (uint32_t n = 1; n < 4; n++) {
		assert_int_equal(control_receive(&b->controls[1], &message), RDMAMIG_OK);
		assert_int_equal(message.round.round, n);
	}
	assert_int_equal(control_receive(&b->controls[1], &message), RDMAMIG_E_DISCONNECTED);
	assert_int_equal(control_receive(&b->controls[1], &message), RDMAMIG_E_DISCONNECTED);
	assert_int_equal(send_number(&b->controls[1], 0), RDMAMIG_OK);	/* goes nowhere, and harms nobody */
}

/* --- a peer made by hand: side 1 has a conn and no control --- */

static void peer_send(struct bench *b, const struct message *message, uint32_t credit)
{
	uint8_t bytes[WIRE_MESSAGE_BYTES];
	size_t size = message_encode(message, bytes, sizeof(bytes));
	message_stamp(bytes, b->peer_sequence++, credit);
	assert_int_equal(conn_send(b->conns[1], bytes, size), RDMAMIG_OK);
	struct conn_event event;
	assert_int_equal(conn_poll(b->conns[1], &event, 0), 0);
}

static void peer_ping(struct bench *b, uint32_t credit)
{
	struct message message = { .header.type = MESSAGE_PING };
	peer_send(b, &message, credit);
}

/* Take what is there for up to @ms; the sum of what has come. */
static unsigned peer_hear(struct bench *b, unsigned ms)
{
	uint64_t end_ns = clock_after_ms(&clock_real, ms);
	unsigned n = 0;
	while (clock_now_ns(&clock_real) < end_ns) {
		struct conn_event event;
		if (!conn_poll(b->conns[1], &event, 1)) {
			struct wait wait;
			wait_reset(&wait);
			wait_until(&wait, end_ns);
			conn_wait(b->conns[1], &wait);
			wait_sleep(&wait, &clock_real);
			continue;
		}
		assert_int_equal(event.type, CONN_MESSAGE);
		struct message_header header;
		const char *why;
		assert_int_equal(message_peek(event.message, event.bytes, &header, &why), RDMAMIG_OK);
		b->heard[header.type]++;
		b->credit_given += header.credit;
		conn_message_release(b->conns[1], event.slot);
		n++;
	}
	return n;
}

/* The thread of side 0 has looked at what the clock says now; false: it has ended. */
static bool looks(struct bench *b)
{
	unsigned before = atomic_load(&b->time.sleeps);
	while (atomic_load(&b->time.sleeps) < before + 2 && control_is_open(&b->controls[0]))
		peer_hear(b, 1);
	return control_is_open(&b->controls[0]);
}

static void credit_is_never_exceeded_and_error_has_its_own(void **state)
{
	struct bench *b = *state;
	start(b, 0);
	for (uint32_t n = 0; n < 40; n++)
		send_number(&b->controls[0], n);
	assert_in_range(peer_hear(b, 400), 6, 7);	/* of 8: the last is ERROR's */
	assert_in_range(b->heard[MESSAGE_ROUND], 3, 5);

	unsigned rounds = b->heard[MESSAGE_ROUND];
	peer_ping(b, 2);
	peer_hear(b, 50);
	assert_in_range(b->heard[MESSAGE_ROUND], rounds, rounds + 2);

	rounds = b->heard[MESSAGE_ROUND];
	control_send_failure(&b->controls[0], RDMAMIG_E_IO, "disk");
	peer_hear(b, 50);
	assert_int_equal(b->heard[MESSAGE_ERROR], 1);
	assert_int_equal(b->heard[MESSAGE_ROUND], rounds);
}

/* Credit that is used up is waited for, not looked for: the thread sleeps. */
static void does_not_spin_without_credit(void **state)
{
	struct bench *b = *state;
	start(b, 0);
	for (uint32_t n = 0; n < 40; n++)
		send_number(&b->controls[0], n);
	peer_hear(b, 300);
	unsigned before = atomic_load(&b->time.sleeps);
	peer_hear(b, 500);
	assert_in_range(atomic_load(&b->time.sleeps) - before, 0, 30);
}

static void credit_goes_back_by_itself(void **state)
{
	struct bench *b = *state;
	struct message message = { .header.type = MESSAGE_ROUND };
	start(b, 0);
	for (uint32_t n = 0; n < CREDIT_TELL_AT; n++)
		peer_send(b, &message, 0);
	for (uint32_t n = 0; n < CREDIT_TELL_AT; n++)
		await_message(b, 0, &message);
	uint64_t begin_ns = clock_now_ns(&clock_real);
	while (b->credit_given < CREDIT_TELL_AT)
		peer_hear(b, 1);
	assert_true(clock_now_ns(&clock_real) - begin_ns < 2000 * NS_PER_MS);
	assert_int_equal(b->credit_given, CREDIT_TELL_AT);
}

static void a_silent_peer_is_dead_after_two_seconds(void **state)
{
	struct bench *b = *state;
	const uint64_t begin_ns = 1000 * NS_PER_S;
	b->time.is_manual = true;
	atomic_store(&b->time.now_ns, begin_ns);
	start(b, 0);
	for (unsigned ms = 0; ms < CONTROL_DEAD_MS; ms += 100) {
		atomic_store(&b->time.now_ns, begin_ns + ms * NS_PER_MS);
		assert_true(looks(b));
	}
	assert_int_equal(b->heard[MESSAGE_PING], CREDIT_INITIAL - 2);	/* then it had no credit */
	atomic_store(&b->time.now_ns, begin_ns + CONTROL_DEAD_MS * NS_PER_MS);
	await_end(b, 0, RDMAMIG_E_PEER_SILENT);
	assert_noted(&b->errors[0], RDMAMIG_E_PEER_SILENT, "no sign of life");
}

/* Time that passed while our own thread did not run says nothing about the peer. */
static void a_stall_of_our_own_is_not_the_peers(void **state)
{
	struct bench *b = *state;
	b->time.is_manual = true;
	atomic_store(&b->time.now_ns, 1000 * NS_PER_S);
	start(b, 0);
	for (unsigned i = 0; i < 200; i++) {	/* some fall into the middle of a turn */
		atomic_fetch_add(&b->time.now_ns, 3 * CONTROL_DEAD_MS * NS_PER_MS);
		assert_true(looks(b));
	}
}

static void any_message_is_a_sign_of_life(void **state)
{
	struct bench *b = *state;
	b->time.is_manual = true;
	atomic_store(&b->time.now_ns, 1000 * NS_PER_S);
	start(b, 0);
	for (unsigned i = 0; i < 4; i++) {
		struct message message = { .header.type = MESSAGE_ROUND };
		for (unsigned ms = 0; ms < CONTROL_DEAD_MS - 100; ms += 100) {
			atomic_fetch_add(&b->time.now_ns, 100 * NS_PER_MS);
			assert_true(looks(b));
		}
		peer_send(b, &message, 0);
		await_message(b, 0, &message);
		assert_true(control_is_open(&b->controls[0]));
	}
}

static void garbage_ends_it(void **state)
{
	struct bench *b = *state;
	uint8_t garbage[100];
	memset(garbage, 0xee, sizeof(garbage));
	start(b, 0);
	assert_int_equal(conn_send(b->conns[1], garbage, sizeof(garbage)), RDMAMIG_OK);
	peer_hear(b, 1);
	await_end(b, 0, RDMAMIG_E_PROTOCOL);
	assert_int_equal(error_status(&b->errors[0]), RDMAMIG_E_PROTOCOL);
}

/* The header is fine, the body is not: the session finds out, in order, and the slot is given back. */
static void a_bad_body_is_told_in_order(void **state)
{
	struct bench *b = *state;
	struct message message = { .header.type = MESSAGE_STATE, .state.last = 1 };
	uint8_t bytes[WIRE_MESSAGE_BYTES];
	start(b, 0);
	peer_send(b, &(struct message){ .header.type = MESSAGE_READY }, 0);
	size_t size = message_encode(&message, bytes, sizeof(bytes));
	bytes[WIRE_HEADER_BYTES] = 7;
	message_stamp(bytes, b->peer_sequence++, 0);
	assert_int_equal(conn_send(b->conns[1], bytes, size), RDMAMIG_OK);
	peer_hear(b, 1);
	await_message(b, 0, &message);
	assert_int_equal(message.header.type, MESSAGE_READY);
	enum rdmamig_status st;
	while ((st = control_receive(&b->controls[0], &message)) == RDMAMIG_AGAIN)
		await(b, 0);
	assert_int_equal(st, RDMAMIG_E_PROTOCOL);
	assert_noted(&b->errors[0], RDMAMIG_E_PROTOCOL, "STATE");
}

static void a_wrong_number_ends_it(void **state)
{
	struct bench *b = *state;
	start(b, 0);
	peer_ping(b, 0);
	b->peer_sequence++;
	peer_ping(b, 0);
	await_end(b, 0, RDMAMIG_E_PROTOCOL);
	assert_noted(&b->errors[0], RDMAMIG_E_PROTOCOL, "control message 1 came as number 2");
}

static void too_much_credit(struct bench *b, uint32_t credit)
{
	start(b, 0);
	peer_ping(b, credit);
	await_end(b, 0, RDMAMIG_E_PROTOCOL);
	assert_noted(&b->errors[0], RDMAMIG_E_PROTOCOL, "more credit than it had");
}

static void more_credit_than_there_is_ends_it(void **state)
{
	too_much_credit(*state, CONTROL_MESSAGES);
}

static void credit_does_not_wrap_around(void **state)
{
	too_much_credit(*state, UINT32_MAX);
}

/* Before HELLO has said more, CREDIT_INITIAL is all there is: more would overrun a peer that holds no more. */
static void credit_is_bounded_by_what_was_granted(void **state)
{
	too_much_credit(*state, 2 * CREDIT_INITIAL);
}

static void unused_and_unstarted_are_freed(void **state)
{
	(void)state;
	struct error error;
	struct wake wake;
	struct control control = { 0 };
	struct message message;
	control_fini(&control);
	error_init(&error);
	assert_int_equal(wake_open(&wake), RDMAMIG_OK);
	assert_int_equal(control_init(&control, &clock_real, &error, &wake), RDMAMIG_OK);
	assert_false(control_is_open(&control));
	assert_int_equal(control_receive(&control, &message), RDMAMIG_AGAIN);
	control_send_failure(&control, RDMAMIG_E_IO, "nobody hears it");
	control_fini(&control);
	control_fini(&control);
	wake_close(&wake);
	error_fini(&error);
}

#define BENCH(test) cmocka_unit_test_setup_teardown(test, bench_open, bench_close)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BENCH(messages_come_in_order_both_ways),
		BENCH(sessions_that_do_not_read_keep_the_heartbeat),
		BENCH(an_error_is_known_before_what_waits_is_read),
		BENCH(what_came_before_the_end_is_still_read),
		BENCH(credit_is_never_exceeded_and_error_has_its_own),
		BENCH(does_not_spin_without_credit),
		BENCH(credit_goes_back_by_itself),
		BENCH(a_silent_peer_is_dead_after_two_seconds),
		BENCH(a_stall_of_our_own_is_not_the_peers),
		BENCH(any_message_is_a_sign_of_life),
		BENCH(garbage_ends_it),
		BENCH(a_bad_body_is_told_in_order),
		BENCH(a_wrong_number_ends_it),
		BENCH(more_credit_than_there_is_ends_it),
		BENCH(credit_does_not_wrap_around),
		BENCH(credit_is_bounded_by_what_was_granted),
		cmocka_unit_test(unused_and_unstarted_are_freed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
