/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_apply.c - rule R4 at dest: what a batch does to memory and receivedmap, and that a hole stays one.
 * Neighbour: test_split.c is the other half. One thread.
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

#include "multifd/apply.h"
#include "ram/guard.h"

enum { PAGES = 512 };

/* What guard_install() had set. cmocka sets its own action before each test. */
static struct sigaction guard_action;

struct bench {
	struct error error;
	int file;
	struct block block;
	struct message_batch batch;
};

static int bench_open(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));
	error_init(&b->error);
	b->file = memfd_create("apply", MFD_CLOEXEC);
	assert_int_equal(ftruncate(b->file, PAGES * PAGE_BYTES), 0);
	struct rdmamig_block spec = { .size = sizeof(spec), .name = "ram", .fd = b->file, .length = PAGES * PAGE_BYTES };
	assert_int_equal(block_init(&b->block, &spec, RDMAMIG_DEST, &b->error), RDMAMIG_OK);
	*state = b;
	return 0;
}

static int bench_close(void **state)
{
	struct bench *b = *state;
	block_fini(&b->block);
	close(b->file);
	error_fini(&b->error);
	free(b);
	return 0;
}

static uint64_t file_pages(const struct bench *b)
{
	struct stat st;
	assert_int_equal(fstat(b->file, &st), 0);
	return (uint64_t)st.st_blocks * 512 / PAGE_BYTES;
}

static void page_fill(struct bench *b, uint64_t page, uint8_t value)
{
	memset(b->block.memory + bytes_of_pages(page), value, PAGE_BYTES);
}

static bool page_is(const struct bench *b, uint64_t page, uint8_t value)
{
	for (unsigned i = 0; i < PAGE_BYTES; i++)
		if (b->block.memory[bytes_of_pages(page) + i] != value)
			return false;
	return true;
}

static void list(struct bench *b, uint16_t normal, uint16_t zero, uint16_t forced, const struct message_run *runs)
{
	b->batch.normal_count = normal;
	b->batch.zero_count = zero;
	b->batch.forced_count = forced;
	memcpy(b->batch.runs, runs, (size_t)(normal + zero + forced) * sizeof(*runs));
}

/* Page 20 holds bytes of a WRITE whose fence was never seen: only a forced zero may touch it. */
static void zero_touches_only_what_was_received(void **state)
{
	struct bench *b = *state;
	page_fill(b, 10, 0xaa);
	receivedmap_set(&b->block.received, 10);
	page_fill(b, 20, 0xbb);
	list(b, 0, 2, 0, (struct message_run[]){ { 9, 3 }, { 20, 1 } });
	assert_true(batch_apply(&b->block, &b->batch));
	assert_true(page_is(b, 10, 0));
	assert_true(page_is(b, 20, 0xbb));
	assert_int_equal(receivedmap_count(&b->block.received), 4);
	assert_int_equal(file_pages(b), 2);	/* 9 and 11 are holes still */

	list(b, 0, 0, 1, (struct message_run[]){ { 20, 1 } });
	assert_true(batch_apply(&b->block, &b->batch));
	assert_true(page_is(b, 20, 0));
}

static void forced_always_zeroes(void **state)
{
	struct bench *b = *state;
	page_fill(b, 5, 0xcc);
	page_fill(b, 6, 0xcc);
	page_fill(b, 7, 0xcc);
	receivedmap_set(&b->block.received, 6);
	list(b, 0, 0, 1, (struct message_run[]){ { 5, 2 } });
	assert_true(batch_apply(&b->block, &b->batch));
	assert_true(page_is(b, 5, 0) && page_is(b, 6, 0) && page_is(b, 7, 0xcc));
	assert_true(receivedmap_test(&b->block.received, 5));
	assert_false(receivedmap_test(&b->block.received, 7));
}

static void normal_sets_bits_and_leaves_bytes(void **state)
{
	struct bench *b = *state;
	page_fill(b, 1, 0x11);
	page_fill(b, 2, 0x22);
	page_fill(b, 3, 0x33);
	page_fill(b, 4, 0x44);
	receivedmap_set(&b->block.received, 3);
	receivedmap_set(&b->block.received, 4);
	list(b, 1, 1, 1, (struct message_run[]){ { 1, 2 }, { 3, 1 }, { 4, 1 } });	/* each list finds its own runs */
	assert_true(batch_apply(&b->block, &b->batch));
	assert_true(page_is(b, 1, 0x11) && page_is(b, 2, 0x22) && page_is(b, 3, 0) && page_is(b, 4, 0));
	assert_int_equal(receivedmap_count(&b->block.received), 4);
}

static void a_block_of_holes_costs_nothing(void **state)
{
	struct bench *b = *state;
	list(b, 0, 1, 0, (struct message_run[]){ { 0, PAGES } });
	assert_true(batch_apply(&b->block, &b->batch));
	assert_int_equal(file_pages(b), 0);
	assert_int_equal(receivedmap_count(&b->block.received), PAGES);
}

static void memory_that_is_gone_is_told_and_no_bit_set(void **state)
{
	struct bench *b = *state;
	assert_int_equal(sigaction(SIGBUS, &guard_action, NULL), 0);
	assert_int_equal(ftruncate(b->file, 2 * PAGE_BYTES), 0);
	list(b, 1, 0, 1, (struct message_run[]){ { 0, 1 }, { 4, 1 } });
	assert_false(batch_apply(&b->block, &b->batch));
	assert_int_equal(receivedmap_count(&b->block.received), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(zero_touches_only_what_was_received, bench_open, bench_close),
		cmocka_unit_test_setup_teardown(forced_always_zeroes, bench_open, bench_close),
		cmocka_unit_test_setup_teardown(normal_sets_bits_and_leaves_bytes, bench_open, bench_close),
		cmocka_unit_test_setup_teardown(a_block_of_holes_costs_nothing, bench_open, bench_close),
		cmocka_unit_test_setup_teardown(memory_that_is_gone_is_told_and_no_bit_set, bench_open, bench_close),
	};
	if (guard_install() || sigaction(SIGBUS, NULL, &guard_action))
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
