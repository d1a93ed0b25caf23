/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_batch.c - when a batch is full, and how a run of holes is cut where posted pages begin and end.
 * One thread.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "multifd/batch.h"

static void full_by_pages_or_by_runs(void **state)
{
	(void)state;
	static struct block block;
	struct batch *batch = calloc(1, sizeof(*batch));
	batch_begin(batch, &block, 3, false);
	assert_false(batch_is_full(batch, 16));
	batch_add(batch, (struct run){ 0, 15 });
	assert_false(batch_is_full(batch, 16));
	batch_add(batch, (struct run){ 20, 1 });
	assert_true(batch_is_full(batch, 16));
	assert_false(batch_is_full(batch, BATCH_HOLE_PAGES_MAX));

	batch_begin(batch, &block, 3, true);
	assert_int_equal(batch->pages, 0);
	for (uint64_t i = 0; i < BATCH_PAGES_MAX; i++) {
		assert_false(batch_is_full(batch, BATCH_HOLE_PAGES_MAX));
		batch_add(batch, (struct run){ i * 1000, 999 });
	}
	assert_true(batch_is_full(batch, BATCH_HOLE_PAGES_MAX));
	assert_int_equal(batch->pages, BATCH_PAGES_MAX * 999);
	free(batch);
}

static void holes_are_cut_where_posted_changes(void **state)
{
	(void)state;
	struct block block = { 0 };
	struct batch *batch = calloc(1, sizeof(*batch));
	assert_int_equal(bitmap_init(&block.posted, 1000), RDMAMIG_OK);
	bitmap_set_range(&block.posted, 0, 3);
	bitmap_set_range(&block.posted, 63, 2);
	bitmap_set_range(&block.posted, 999, 1);
	batch_begin(batch, &block, 0, true);

	static const uint64_t parts[] = { 3, 60, 2, 934, 1 };
	struct run run = { 0, 1000 };
	for (unsigned i = 0; i < 5; i++) {
		assert_int_equal(batch_add_hole(batch, run), parts[i]);
		assert_int_equal(batch->runs[i].first_page, run.first_page);
		run = (struct run){ run.first_page + parts[i], run.pages - parts[i] };
	}
	assert_int_equal(batch->run_count, 5);
	assert_int_equal(batch->pages, 1000);

	/* Only as many as there is room for. */
	batch_begin(batch, &block, 0, true);
	batch->pages = BATCH_HOLE_PAGES_MAX - 10;
	assert_int_equal(batch_add_hole(batch, (struct run){ 100, 50 }), 10);
	assert_true(batch_is_full(batch, BATCH_HOLE_PAGES_MAX));

	/* And none behind its own end. */
	batch_begin(batch, &block, 0, true);
	assert_int_equal(batch_add_hole(batch, (struct run){ 100, 50 }), 50);
	bitmap_fini(&block.posted);
	free(batch);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(full_by_pages_or_by_runs),
		cmocka_unit_test(holes_are_cut_where_posted_changes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
