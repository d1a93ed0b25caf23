/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_converge.c - when the guest is stopped and when it is throttled, as plain arithmetic.
 * One thread.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "migration/converge.h"

enum { MIB = 1 << 20 };

static void stops_when_the_rest_fits_the_downtime(void **state)
{
	(void)state;
	struct converge c = { .downtime_ms = 300 };
	converge_round(&c, 100 * MIB, 1000000);
	assert_int_equal(c.bandwidth, 100 * MIB);
	assert_false(converge_sync(&c, 40 * MIB, 0));
	assert_int_equal(c.expected_downtime_ms, 400);
	assert_true(converge_sync(&c, 30 * MIB, 0));
	assert_int_equal(c.expected_downtime_ms, 300);
}

static void the_last_sync_is_part_of_the_downtime(void **state)
{
	(void)state;
	struct converge c = { .downtime_ms = 300 };
	converge_round(&c, 100 * MIB, 1000000);
	assert_false(converge_sync(&c, 25 * MIB, 100000));
	assert_int_equal(c.expected_downtime_ms, 350);
	assert_true(converge_sync(&c, 20 * MIB, 100000));
}

static void little_rounds_say_nothing_about_bandwidth(void **state)
{
	(void)state;
	struct converge c = { .downtime_ms = 300 };
	converge_round(&c, CONVERGE_TELLS_BYTES - 1, 1);
	assert_int_equal(c.bandwidth, 0);
	converge_round(&c, 100 * MIB, 0);
	assert_int_equal(c.bandwidth, 0);
	converge_round(&c, 100 * MIB, 1000000);
	converge_round(&c, 4096, 1);
	assert_int_equal(c.bandwidth, 100 * MIB);
}

static void without_bandwidth_only_little_is_enough(void **state)
{
	(void)state;
	struct converge c = { .downtime_ms = 300 };
	assert_true(converge_sync(&c, 0, 10));
	assert_true(converge_sync(&c, CONVERGE_FEW_BYTES, 10));
	assert_false(converge_sync(&c, CONVERGE_FEW_BYTES + 4096, 10));
}

static void throttles_after_two_rounds_that_did_not_shrink(void **state)
{
	(void)state;
	struct converge c = { .downtime_ms = 300 };
	assert_false(converge_throttle(&c, 60, 100));
	assert_false(converge_throttle(&c, 50, 100));	/* shrank: counts from nothing again */
	assert_false(converge_throttle(&c, 60, 100));
	assert_true(converge_throttle(&c, 60, 100));
	assert_int_equal(c.throttle_pct, CONVERGE_THROTTLE_FIRST);
	unsigned before = c.throttle_pct, asked = 0;
	for (unsigned i = 0; i < 100; i++) {
		if (!converge_throttle(&c, 100, 100))
			continue;
		assert_true(c.throttle_pct > before);
		assert_true(c.throttle_pct <= CONVERGE_THROTTLE_MAX);
		before = c.throttle_pct;
		asked++;
	}
	assert_int_equal(c.throttle_pct, CONVERGE_THROTTLE_MAX);
	assert_int_equal(asked, 8);	/* 30, 40, ... 90, 99, then no more */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stops_when_the_rest_fits_the_downtime),
		cmocka_unit_test(the_last_sync_is_part_of_the_downtime),
		cmocka_unit_test(little_rounds_say_nothing_about_bandwidth),
		cmocka_unit_test(without_bandwidth_only_little_is_enough),
		cmocka_unit_test(throttles_after_two_rounds_that_did_not_shrink),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
