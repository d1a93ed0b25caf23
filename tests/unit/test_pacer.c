/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_pacer.c - bytes over time stay below the limit: after pauses, with refunds, and for a second of it.
 * One thread, time as a number.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "migration/pacer.h"

static const uint64_t T0 = 1000 * NS_PER_S;

static void no_limit_never_waits(void **state)
{
	(void)state;
	struct pacer pacer = { 0 };
	pacer_spend(&pacer, T0, 1ull << 40);
	pacer_refund(&pacer, 1ull << 40);
	assert_int_equal(pacer_ready_ns(&pacer), 0);
}

static void a_second_of_batches_is_a_second_of_bytes(void **state)
{
	(void)state;
	struct pacer pacer = { .bytes_per_s = 100 << 20 };
	uint64_t now = T0, sent = 0;
	while (now < T0 + NS_PER_S) {
		if (pacer_ready_ns(&pacer) > now)
			now = pacer_ready_ns(&pacer) + (uint64_t)random() % NS_PER_MS;	/* woken late */
		pacer_spend(&pacer, now, 1 << 20);
		sent += 1 << 20;
	}
	assert_in_range(sent, 99 << 20, 104 << 20);	/* 20 ms of slack, and the batch paid last */
}

static void a_pause_does_not_save_up(void **state)
{
	(void)state;
	struct pacer pacer = { .bytes_per_s = 100 << 20 };
	pacer_spend(&pacer, T0, 1 << 20);
	uint64_t now = T0 + 60 * NS_PER_S, burst = 0;
	while (pacer_ready_ns(&pacer) <= now) {
		pacer_spend(&pacer, now, 1 << 20);
		burst++;
	}
	assert_in_range(burst, 1, 4);
}

static void zero_pages_are_paid_back(void **state)
{
	(void)state;
	struct pacer pacer = { .bytes_per_s = 1 << 20 };
	pacer_spend(&pacer, T0, 1 << 20);
	uint64_t all = pacer_ready_ns(&pacer);
	pacer_refund(&pacer, 1 << 19);
	assert_int_equal(all - pacer_ready_ns(&pacer), NS_PER_S / 2);
	pacer_refund(&pacer, 1 << 19);
	assert_true(pacer_ready_ns(&pacer) <= T0);
	assert_true(pacer_ready_ns(&pacer) >= T0 - 20 * NS_PER_MS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_limit_never_waits),
		cmocka_unit_test(a_second_of_batches_is_a_second_of_bytes),
		cmocka_unit_test(a_pause_does_not_save_up),
		cmocka_unit_test(zero_pages_are_paid_back),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
