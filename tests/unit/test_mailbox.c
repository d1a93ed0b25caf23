/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_mailbox.c - asks, answers, deadlines, and what is dropped when the program does not take its events.
 * One thread; the last test has two.
 */
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "migration/mailbox.h"

struct bench {
	struct mailbox mailbox;
	struct wake session;
	struct clock clock;
	uint64_t now_ns;
};

static uint64_t bench_now(void *opaque)
{
	return ((struct bench *)opaque)->now_ns;
}

static int bench_open(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));
	b->clock = (struct clock){ .now_ns = bench_now, .opaque = b };
	b->now_ns = 1000;
	assert_int_equal(wake_open(&b->session), RDMAMIG_OK);
	assert_int_equal(mailbox_init(&b->mailbox, &b->session), RDMAMIG_OK);
	*state = b;
	return 0;
}

static int bench_close(void **state)
{
	struct bench *b = *state;
	mailbox_fini(&b->mailbox);
	wake_close(&b->session);
	free(b);
	return 0;
}

static bool is_readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	return poll(&p, 1, 0) == 1;
}

static void tell(struct bench *b, enum rdmamig_event_type type)
{
	mailbox_tell(&b->mailbox, &(struct rdmamig_event){ .type = type });
}

static void ask(struct bench *b, enum rdmamig_event_type type, uint64_t deadline_ns)
{
	mailbox_ask(&b->mailbox, &(struct rdmamig_event){ .type = type }, deadline_ns);
}

static enum rdmamig_event_type next(struct bench *b)
{
	struct rdmamig_event event = { .size = sizeof(event) };
	return mailbox_next(&b->mailbox, &event) ? RDMAMIG_EVENT_NONE : event.type;
}

static enum rdmamig_status answer(struct bench *b, enum rdmamig_event_type type, enum rdmamig_status st, const char *why)
{
	return mailbox_answer(&b->mailbox, type, st, false, why);
}

static void the_descriptor_tells_of_events(void **state)
{
	struct bench *b = *state;
	assert_false(is_readable(b->mailbox.out.fd));
	tell(b, RDMAMIG_EVENT_ROUND);
	tell(b, RDMAMIG_EVENT_CONVERGED);
	assert_true(is_readable(b->mailbox.out.fd));
	assert_int_equal(next(b), RDMAMIG_EVENT_ROUND);
	assert_true(is_readable(b->mailbox.out.fd));
	assert_int_equal(next(b), RDMAMIG_EVENT_CONVERGED);
	assert_int_equal(next(b), RDMAMIG_EVENT_NONE);
	assert_false(is_readable(b->mailbox.out.fd));
}

static void only_what_was_asked_is_answered_and_once(void **state)
{
	struct bench *b = *state;
	struct answer got;
	assert_int_equal(answer(b, RDMAMIG_EVENT_NEED_STOP, RDMAMIG_OK, NULL), RDMAMIG_E_USAGE);
	ask(b, RDMAMIG_EVENT_NEED_STOP, 5000);
	assert_true(mailbox_is_asking(&b->mailbox, RDMAMIG_EVENT_NEED_STOP));
	assert_int_equal(mailbox_answer_take(&b->mailbox, &b->clock, &got), RDMAMIG_AGAIN);
	assert_int_equal(answer(b, RDMAMIG_EVENT_UNDO, RDMAMIG_OK, NULL), RDMAMIG_E_USAGE);
	assert_false(is_readable(b->session.fd));
	assert_int_equal(mailbox_answer(&b->mailbox, RDMAMIG_EVENT_NEED_STOP, RDMAMIG_E_DRIVER, true, "no"), RDMAMIG_OK);
	assert_true(is_readable(b->session.fd));
	assert_int_equal(answer(b, RDMAMIG_EVENT_NEED_STOP, RDMAMIG_OK, NULL), RDMAMIG_E_USAGE);
	assert_int_equal(mailbox_answer_take(&b->mailbox, &b->clock, &got), RDMAMIG_OK);
	assert_int_equal(got.status, RDMAMIG_E_DRIVER);
	assert_true(got.guest_runs);
	assert_string_equal(got.why, "no");
	assert_false(mailbox_is_asking(&b->mailbox, RDMAMIG_EVENT_NEED_STOP));
}

static void a_silent_driver_is_noticed_and_the_ask_withdrawn(void **state)
{
	struct bench *b = *state;
	struct answer got;
	struct wait wait;
	ask(b, RDMAMIG_EVENT_LOAD, 5000);
	wait_reset(&wait);
	mailbox_wait(&b->mailbox, &wait);
	assert_int_equal(wait.deadline_ns, 5000);
	b->now_ns = 4999;
	assert_int_equal(mailbox_answer_take(&b->mailbox, &b->clock, &got), RDMAMIG_AGAIN);
	b->now_ns = 5000;
	assert_int_equal(mailbox_answer_take(&b->mailbox, &b->clock, &got), RDMAMIG_E_DRIVER_SILENT);
	assert_int_equal(answer(b, RDMAMIG_EVENT_LOAD, RDMAMIG_OK, NULL), RDMAMIG_E_USAGE);	/* too late */
}

/* An answer that came in time counts, however late the session looks. */
static void an_answer_beats_the_deadline(void **state)
{
	struct bench *b = *state;
	struct answer got;
	struct wait wait;
	ask(b, RDMAMIG_EVENT_COMMIT, 5000);
	assert_int_equal(answer(b, RDMAMIG_EVENT_COMMIT, RDMAMIG_OK, NULL), RDMAMIG_OK);
	wait_reset(&wait);
	mailbox_wait(&b->mailbox, &wait);
	assert_int_equal(wait.deadline_ns, 0);
	b->now_ns = 9000;
	assert_int_equal(mailbox_answer_take(&b->mailbox, &b->clock, &got), RDMAMIG_OK);
}

static void telling_is_dropped_asks_and_the_last_event_are_not(void **state)
{
	struct bench *b = *state;
	uint8_t bytes[WIRE_STATE_MAX] = { 0 };
	for (unsigned i = 0; i < 3 * MAILBOX_EVENTS; i++)
		tell(b, RDMAMIG_EVENT_ROUND);
	assert_false(mailbox_tell_state(&b->mailbox, bytes, sizeof(bytes)));
	tell(b, RDMAMIG_EVENT_RESUME);
	ask(b, RDMAMIG_EVENT_NEED_STOP, 5000);
	ask(b, RDMAMIG_EVENT_UNDO, 5000);	/* the one before it was never taken */
	mailbox_tell_last(&b->mailbox, &(struct rdmamig_event){ .type = RDMAMIG_EVENT_FAILED, .status = RDMAMIG_E_PEER });

	unsigned rounds = 0;
	enum rdmamig_event_type type;
	while ((type = next(b)) == RDMAMIG_EVENT_ROUND)
		rounds++;
	assert_true(rounds > MAILBOX_EVENTS / 2);
	assert_int_equal(type, RDMAMIG_EVENT_RESUME);
	assert_int_equal(next(b), RDMAMIG_EVENT_NEED_STOP);
	assert_int_equal(answer(b, RDMAMIG_EVENT_NEED_STOP, RDMAMIG_OK, NULL), RDMAMIG_E_USAGE);
	assert_int_equal(next(b), RDMAMIG_EVENT_UNDO);
	assert_int_equal(answer(b, RDMAMIG_EVENT_UNDO, RDMAMIG_OK, NULL), RDMAMIG_OK);
	assert_int_equal(next(b), RDMAMIG_EVENT_FAILED);
	assert_int_equal(next(b), RDMAMIG_EVENT_NONE);
}

static void state_stays_until_the_next_is_taken(void **state)
{
	struct bench *b = *state;
	uint8_t bytes[WIRE_STATE_MAX];
	unsigned put = 0, got = 0;
	struct rdmamig_event event = { .size = sizeof(event) };
	for (unsigned turns = 0; turns < 10 * MAILBOX_EVENTS; turns++) {
		memset(bytes, (int)put, sizeof(bytes));
		while (mailbox_tell_state(&b->mailbox, bytes, 100))
			memset(bytes, (int)++put, sizeof(bytes));
		assert_int_equal(mailbox_next(&b->mailbox, &event), RDMAMIG_OK);
		/* The queue is full again, but not with this one's bytes. */
		while (mailbox_tell_state(&b->mailbox, bytes, 100))
			memset(bytes, (int)++put, sizeof(bytes));
		assert_int_equal(event.type, RDMAMIG_EVENT_STATE);
		assert_int_equal(event.state_bytes, 100);
		for (unsigned i = 0; i < 100; i++)
			assert_int_equal(((const uint8_t *)event.state_data)[i], got & 0xff);
		got++;
	}
}

/* Taking an event from a full mailbox is what the session waits for: it must not have to look by the clock. */
static void room_for_state_wakes_the_session(void **state)
{
	struct bench *b = *state;
	uint8_t bytes[10] = { 0 };
	while (mailbox_tell_state(&b->mailbox, bytes, sizeof(bytes)))
		;
	wake_clear(&b->session);
	assert_int_equal(next(b), RDMAMIG_EVENT_STATE);
	assert_int_equal(next(b), RDMAMIG_EVENT_STATE);	/* gives the first slot back */
	assert_true(is_readable(b->session.fd));
	assert_true(mailbox_tell_state(&b->mailbox, bytes, sizeof(bytes)));
}

static void an_older_program_gets_what_it_knows(void **state)
{
	struct bench *b = *state;
	struct rdmamig_event event;
	memset(&event, 0x5a, sizeof(event));
	event.size = offsetof(struct rdmamig_event, throttle_pct);
	tell(b, RDMAMIG_EVENT_ROUND);
	assert_int_equal(mailbox_next(&b->mailbox, &event), RDMAMIG_OK);
	assert_int_equal(event.type, RDMAMIG_EVENT_ROUND);
	assert_int_equal(event.size, offsetof(struct rdmamig_event, throttle_pct));
	assert_int_equal(event.throttle_pct, 0x5a5a5a5a);
}

static void *take_all(void *arg)
{
	struct bench *b = arg;
	for (;;) {
		struct pollfd p = { .fd = b->mailbox.out.fd, .events = POLLIN };
		if (poll(&p, 1, 5000) != 1)
			return "the descriptor never told";
		enum rdmamig_event_type type = next(b);
		if (type == RDMAMIG_EVENT_NEED_PAUSE)
			answer(b, type, RDMAMIG_OK, NULL);
		if (type == RDMAMIG_EVENT_DONE)
			return NULL;
	}
}

static void no_wake_is_lost_between_two_threads(void **state)
{
	struct bench *b = *state;
	pthread_t program;
	struct answer got;
	void *wrong;
	assert_int_equal(pthread_create(&program, NULL, take_all, b), 0);
	for (unsigned i = 0; i < 5000; i++) {
		ask(b, RDMAMIG_EVENT_NEED_PAUSE, CLOCK_NEVER);
		while (mailbox_answer_take(&b->mailbox, &b->clock, &got)) {
			struct pollfd p = { .fd = b->session.fd, .events = POLLIN };
			assert_int_equal(poll(&p, 1, 5000), 1);
			wake_clear(&b->session);
		}
	}
	mailbox_tell_last(&b->mailbox, &(struct rdmamig_event){ .type = RDMAMIG_EVENT_DONE });
	pthread_join(program, &wrong);
	assert_null(wrong);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_descriptor_tells_of_events, bench_open, bench_close),
		cmocka_unit_test_setup_teardown(only_what_was_asked_is_answered_and_once, bench_open, bench_close),
		cmocka_unit_test_setup_teardown(a_silent_driver_is_noticed_and_the_ask_withdrawn, bench_open, bench_close),
		cmocka_unit_test_setup_teardown(an_answer_beats_the_deadline, bench_open, bench_close),
		cmocka_unit_test_setup_teardown(telling_is_dropped_asks_and_the_last_event_are_not, bench_open, bench_close),
		cmocka_unit_test_setup_teardown(state_stays_until_the_next_is_taken, bench_open, bench_close),
		cmocka_unit_test_setup_teardown(room_for_state_wakes_the_session, bench_open, bench_close),
		cmocka_unit_test_setup_teardown(an_older_program_gets_what_it_knows, bench_open, bench_close),
		cmocka_unit_test_setup_teardown(no_wake_is_lost_between_two_threads, bench_open, bench_close),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
