/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_split.c - rule R4 at the source: which list a page of a batch ends in, and when it is marked posted.
 * Neighbour: test_apply.c is the other half. One thread.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "multifd/split.h"
#include "ram/guard.h"

enum { PAGES = 1024 };

/* What guard_install() had set. cmocka sets its own action before each test. */
static struct sigaction guard_action;

struct bench {
	struct error error;
	int file;
	struct block block;
	struct batch *batch;
};

static int bench_open(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));
	error_init(&b->error);
	b->file = memfd_create("split", MFD_CLOEXEC);
	assert_int_equal(ftruncate(b->file, PAGES * PAGE_BYTES), 0);
	struct rdmamig_block spec = { .size = sizeof(spec), .name = "ram", .fd = b->file, .length = PAGES * PAGE_BYTES };
	assert_int_equal(block_init(&b->block, &spec, RDMAMIG_SOURCE, &b->error), RDMAMIG_OK);
	b->batch = calloc(1, sizeof(*b->batch));
	batch_begin(b->batch, &b->block, 7, false);
	*state = b;
	return 0;
}

static int bench_close(void **state)
{
	struct bench *b = *state;
	block_fini(&b->block);
	close(b->file);
	error_fini(&b->error);
	free(b->batch);
	free(b);
	return 0;
}

static void page_write(struct bench *b, uint64_t page)
{
	b->block.memory[bytes_of_pages(page) + 4095] = 1;	/* the last byte: a scan that stops early misses it */
}

static void add(struct bench *b, uint64_t first, uint64_t pages)
{
	batch_add(b->batch, (struct run){ .first_page = first, .pages = pages });
}

static void assert_run(const struct message_run *run, uint64_t first, uint32_t pages)
{
	assert_int_equal(run->first_page, first);
	assert_int_equal(run->pages, pages);
}

static const struct message_batch *split(struct bench *b, zero_scan *scan)
{
	assert_true(batch_split(b->batch, scan));
	const struct message_batch *lists = &b->batch->description.batch;
	assert_int_equal(lists->block, 7);
	return lists;
}

static void zero_is_forced_only_once_posted(void **state)
{
	struct bench *b = *state;
	page_write(b, 10);
	add(b, 8, 4);
	const struct message_batch *lists = split(b, zero_scan_best());
	assert_int_equal(lists->normal_count, 1);
	assert_int_equal(lists->zero_count, 2);
	assert_int_equal(lists->forced_count, 0);
	assert_run(&lists->runs[0], 10, 1);
	assert_run(&lists->runs[1], 8, 2);
	assert_run(&lists->runs[2], 11, 1);
	assert_int_equal(b->batch->normal_pages, 1);
	assert_int_equal(b->batch->zero_pages, 3);
	assert_true(bitmap_test_atomic(&b->block.posted, 10));
	assert_int_equal(bitmap_count(&b->block.posted), 1);

	memset(b->block.memory + 10 * PAGE_BYTES, 0, PAGE_BYTES);
	batch_begin(b->batch, &b->block, 7, false);
	add(b, 8, 4);
	lists = split(b, zero_scan_best());
	assert_int_equal(lists->normal_count, 0);
	assert_int_equal(lists->zero_count, 2);
	assert_int_equal(lists->forced_count, 1);
	assert_run(&lists->runs[2], 10, 1);
	assert_int_equal(b->batch->zero_pages, 4);
	assert_int_equal(b->batch->normal_pages, 0);
}

static void neighbours_of_one_kind_are_one_run(void **state)
{
	struct bench *b = *state;
	for (uint64_t page = 0; page < 6; page++)
		page_write(b, page);
	add(b, 0, 3);
	add(b, 3, 3);	/* touches the run before it */
	add(b, 6, 2);
	add(b, 100, 2);
	const struct message_batch *lists = split(b, zero_scan_best());
	assert_int_equal(lists->normal_count, 1);
	assert_run(&lists->runs[0], 0, 6);
	assert_int_equal(lists->zero_count, 2);
	assert_run(&lists->runs[1], 6, 2);
	assert_run(&lists->runs[2], 100, 2);
}

static void alternating_pages_fit_one_description(void **state)
{
	struct bench *b = *state;
	for (uint64_t page = 0; page < BATCH_PAGES_MAX; page += 2)
		page_write(b, page);
	for (uint64_t page = 1; page < BATCH_PAGES_MAX; page += 4)
		bitmap_set_range(&b->block.posted, page, 1);
	add(b, 0, BATCH_PAGES_MAX);
	const struct message_batch *lists = split(b, zero_scan_best());
	assert_int_equal(lists->normal_count, 128);
	assert_int_equal(lists->zero_count, 64);
	assert_int_equal(lists->forced_count, 64);
	assert_run(&lists->runs[127], 254, 1);
	assert_run(&lists->runs[128], 3, 1);
	assert_run(&lists->runs[128 + 64], 1, 1);

	struct message again;
	uint8_t bytes[WIRE_MESSAGE_BYTES];
	const char *why;
	b->batch->description.header.type = MESSAGE_BATCH;
	b->batch->description.batch.batch_sequence = 1;
	size_t size = message_encode(&b->batch->description, bytes, sizeof(bytes));
	assert_int_equal(message_decode(bytes, size, &again, &why), RDMAMIG_OK);
}

static void no_scan_makes_all_normal_and_posted(void **state)
{
	struct bench *b = *state;
	add(b, 0, 100);
	const struct message_batch *lists = split(b, NULL);
	assert_int_equal(lists->normal_count, 1);
	assert_run(&lists->runs[0], 0, 100);
	assert_int_equal(lists->zero_count + lists->forced_count, 0);
	assert_int_equal(bitmap_count(&b->block.posted), 100);
}

/* A hole is zero without a look, since looking would fill it; forced exactly where pages were posted. */
static void holes_are_not_read(void **state)
{
	struct bench *b = *state;
	struct stat st;
	bitmap_set_range(&b->block.posted, 10, 5);
	batch_begin(b->batch, &b->block, 7, true);
	struct run hole = { .first_page = 0, .pages = PAGES };
	while (hole.pages) {
		uint64_t took = batch_add_hole(b->batch, hole);
		hole = (struct run){ .first_page = hole.first_page + took, .pages = hole.pages - took };
	}
	const struct message_batch *lists = split(b, zero_scan_best());
	assert_int_equal(lists->normal_count, 0);
	assert_int_equal(lists->zero_count, 2);
	assert_run(&lists->runs[0], 0, 10);
	assert_run(&lists->runs[1], 15, PAGES - 15);
	assert_int_equal(lists->forced_count, 1);
	assert_run(&lists->runs[2], 10, 5);
	assert_int_equal(fstat(b->file, &st), 0);
	assert_int_equal(st.st_blocks, 0);
}

static void a_file_cut_short_is_an_error_not_a_crash(void **state)
{
	struct bench *b = *state;
	assert_int_equal(sigaction(SIGBUS, &guard_action, NULL), 0);
	assert_int_equal(ftruncate(b->file, 4 * PAGE_BYTES), 0);
	add(b, 0, 8);
	assert_false(batch_split(b->batch, zero_scan_best()));
	batch_begin(b->batch, &b->block, 7, false);
	add(b, 0, 4);
	assert_true(batch_split(b->batch, zero_scan_best()));	/* and the guard is armed again */
}

/* The page is marked before the lists are handed on: a scan that looks at posted sees it set for none of its own run. */
static const struct bitmap *posted_seen;

static bool scan_that_checks(const void *memory, size_t bytes)
{
	assert_int_equal(bitmap_count(posted_seen), 0);
	return zero_scan_scalar(memory, bytes);
}

static void posted_is_marked_after_the_look_and_before_the_post(void **state)
{
	struct bench *b = *state;
	page_write(b, 0);
	page_write(b, 1);
	posted_seen = &b->block.posted;
	add(b, 0, 3);
	split(b, scan_that_checks);
	assert_int_equal(bitmap_count(&b->block.posted), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(zero_is_forced_only_once_posted, bench_open, bench_close),
		cmocka_unit_test_setup_teardown(neighbours_of_one_kind_are_one_run, bench_open, bench_close),
		cmocka_unit_test_setup_teardown(alternating_pages_fit_one_description, bench_open, bench_close),
		cmocka_unit_test_setup_teardown(no_scan_makes_all_normal_and_posted, bench_open, bench_close),
		cmocka_unit_test_setup_teardown(holes_are_not_read, bench_open, bench_close),
		cmocka_unit_test_setup_teardown(a_file_cut_short_is_an_error_not_a_crash, bench_open, bench_close),
		cmocka_unit_test_setup_teardown(posted_is_marked_after_the_look_and_before_the_post, bench_open, bench_close),
	};
	if (guard_install() || sigaction(SIGBUS, NULL, &guard_action))
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
