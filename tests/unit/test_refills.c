/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_refills.c - holes our own reading fills are remembered, whoever reads; holes nobody reads stay holes.
 * Two threads: the test reads, the thread of refills answers.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "ram/refills.h"

enum { PAGES = 64 };

struct rig {
	struct error error;
	struct block blocks[2];
	int files[2];
	struct refills refills;
	struct bitmap taken;
};

static int rig_open(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));
	error_init(&rig->error);
	for (unsigned i = 0; i < 2; i++) {
		rig->files[i] = memfd_create("refills", MFD_CLOEXEC);
		assert_int_equal(ftruncate(rig->files[i], PAGES * PAGE_BYTES), 0);
		struct rdmamig_block spec = { .size = sizeof(spec), .name = i ? "ram1" : "ram0", .fd = rig->files[i],
					      .length = PAGES * PAGE_BYTES };
		assert_int_equal(block_init(&rig->blocks[i], &spec, RDMAMIG_SOURCE, &rig->error), RDMAMIG_OK);
	}
	assert_int_equal(bitmap_init(&rig->taken, PAGES), RDMAMIG_OK);
	assert_int_equal(refills_start(&rig->refills, rig->blocks, 2, &rig->error), RDMAMIG_OK);
	*state = rig;
	return 0;
}

static int rig_close(void **state)
{
	struct rig *rig = *state;
	refills_stop(&rig->refills);
	for (unsigned i = 0; i < 2; i++) {
		block_fini(&rig->blocks[i]);
		close(rig->files[i]);
	}
	bitmap_fini(&rig->taken);
	error_fini(&rig->error);
	free(rig);
	return 0;
}

/* As the guest does: not through our mapping. */
static void page_put(struct rig *rig, unsigned block, uint64_t page)
{
	uint8_t bytes[PAGE_BYTES];
	memset(bytes, 0xab, sizeof(bytes));
	assert_int_equal(pwrite(rig->files[block], bytes, sizeof(bytes), (off_t)bytes_of_pages(page)), sizeof(bytes));
}

static void page_punch(struct rig *rig, unsigned block, uint64_t page)
{
	assert_int_equal(fallocate(rig->files[block], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)bytes_of_pages(page),
				   PAGE_BYTES), 0);
}

static uint8_t page_read(struct rig *rig, unsigned block, uint64_t page)
{
	return *(volatile uint8_t *)(rig->blocks[block].memory + bytes_of_pages(page) + 5);
}

static uint64_t taken(struct rig *rig, unsigned block)
{
	bitmap_clear_range(&rig->taken, 0, PAGES);
	assert_int_equal(refills_take(&rig->refills, block, &rig->taken), RDMAMIG_OK);
	return bitmap_count(&rig->taken);
}

static void pages_that_are_there_are_no_refills(void **state)
{
	struct rig *rig = *state;
	page_put(rig, 0, 3);
	assert_int_equal(page_read(rig, 0, 3), 0xab);
	assert_int_equal(taken(rig, 0), 0);
}

static void page_punched_between_two_reads_is_remembered_once(void **state)
{
	struct rig *rig = *state;
	page_put(rig, 1, 7);
	assert_int_equal(page_read(rig, 1, 7), 0xab);
	page_punch(rig, 1, 7);
	assert_int_equal(taken(rig, 1), 0);
	assert_int_equal(page_read(rig, 1, 7), 0);
	assert_int_equal(taken(rig, 0), 0);
	assert_int_equal(taken(rig, 1), 1);
	assert_true(bitmap_test(&rig->taken, 7));
	assert_int_equal(taken(rig, 1), 0);
	assert_int_equal(page_read(rig, 1, 7), 0);
	assert_int_equal(taken(rig, 1), 0);
}

static void kernel_reading_for_us_is_remembered(void **state)
{
	struct rig *rig = *state;
	int pair[2];
	uint8_t got[PAGE_BYTES] = { 1 };
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(send(pair[0], rig->blocks[0].memory + bytes_of_pages(9), PAGE_BYTES, 0), PAGE_BYTES);
	assert_int_equal(recv(pair[1], got, sizeof(got), MSG_WAITALL), PAGE_BYTES);
	assert_int_equal(got[0], 0);
	assert_int_equal(taken(rig, 0), 1);
	assert_true(bitmap_test(&rig->taken, 9));
	close(pair[0]);
	close(pair[1]);
}

static void holes_nobody_reads_stay(void **state)
{
	struct rig *rig = *state;
	struct stat st;
	page_put(rig, 0, 1);
	page_read(rig, 0, 1);
	assert_int_equal(fstat(rig->files[0], &st), 0);
	assert_int_equal(st.st_blocks, PAGE_BYTES / 512);
}

static void mapping_is_as_before_once_it_is_stopped(void **state)
{
	struct rig *rig = *state;
	refills_stop(&rig->refills);
	assert_int_equal(page_read(rig, 0, 20), 0);
	assert_int_equal(taken(rig, 0), 0);
}

/* The guest punches a page that was sent and reads it: it holds zeros then, and nobody saw a write. */
static void page_punched_and_read_by_the_guest_is_remembered(void **state)
{
	struct rig *rig = *state;
	uint8_t byte;
	for (uint64_t page = 0; page < PAGES; page++) {
		page_put(rig, 0, page);
		page_read(rig, 0, page);
	}
	bitmap_set_range(&rig->blocks[0].posted, 8, 30);
	assert_int_equal(refills_take(&rig->refills, 0, &rig->taken), RDMAMIG_OK);
	assert_int_equal(bitmap_count(&rig->taken), 0);

	for (uint64_t page = 7; page < 11; page++) {
		page_punch(rig, 0, page);
		assert_int_equal(pwrite(rig->files[0], "", 1, (off_t)bytes_of_pages(page)), 1);	/* a zero: there is data again */
	}
	page_read(rig, 0, 12);		/* beside them: must not bring them back */
	page_punch(rig, 0, 12);
	page_put(rig, 0, 12);
	page_read(rig, 0, 12);
	assert_int_equal(refills_take(&rig->refills, 0, &rig->taken), RDMAMIG_OK);
	for (uint64_t page = 0; page < PAGES; page++)
		assert_int_equal(bitmap_test(&rig->taken, page), page >= 8 && page < 11);	/* 7 was not posted */
	assert_int_equal(pread(rig->files[0], &byte, 1, (off_t)bytes_of_pages(9)), 1);
	assert_int_equal(byte, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(pages_that_are_there_are_no_refills, rig_open, rig_close),
		cmocka_unit_test_setup_teardown(page_punched_between_two_reads_is_remembered_once, rig_open, rig_close),
		cmocka_unit_test_setup_teardown(kernel_reading_for_us_is_remembered, rig_open, rig_close),
		cmocka_unit_test_setup_teardown(page_punched_and_read_by_the_guest_is_remembered, rig_open, rig_close),
		cmocka_unit_test_setup_teardown(holes_nobody_reads_stay, rig_open, rig_close),
		cmocka_unit_test_setup_teardown(mapping_is_as_before_once_it_is_stopped, rig_open, rig_close),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
