/* SPDX-License-Identifier: BSD-2-Clause */
/* test_tracker_manual.c - the tracker that finds nothing, and freeing what was never opened. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ram/tracker.h"

static void never(void *opaque, unsigned block, uint64_t first_page, uint64_t pages)
{
	(void)opaque;
	fail_msg("block %u: %llu pages from %llu", block, (unsigned long long)pages, (unsigned long long)first_page);
}

static void test_manual(void **state)
{
	(void)state;
	struct tracker tracker;
	const struct rdmamig_dirty_sink sink = { .mark = never };
	tracker_open_manual(&tracker);
	assert_int_equal(tracker.ops.size, sizeof(struct rdmamig_tracker_ops));
	assert_int_equal(tracker.ops.arm(tracker.opaque, 3, 0, 100), RDMAMIG_OK);
	assert_int_equal(tracker.ops.sync(tracker.opaque, &sink), RDMAMIG_OK);
	tracker.ops.disarm(tracker.opaque);
	tracker.ops.disarm(tracker.opaque);
	tracker_free(&tracker);
	tracker_free(&tracker);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_manual) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
