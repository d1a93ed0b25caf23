/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_verify.c - the hash of a block: blind for how a zero page is stored, and for nothing else.
 * One thread.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "migration/verify.h"
#include "ram/guard.h"

enum { PAGES = 10000, BLOCKS = 2 };	/* more than one slice */

/* What guard_install() had set. cmocka sets its own action before each test. */
static struct sigaction guard_action;

struct end {
	int files[BLOCKS];
	struct block blocks[BLOCKS];
	struct verify verify;
};

static struct error error;

static void end_open(struct end *e)
{
	memset(e, 0, sizeof(*e));
	for (unsigned i = 0; i < BLOCKS; i++) {
		e->files[i] = memfd_create("verify", MFD_CLOEXEC);
		assert_int_equal(ftruncate(e->files[i], PAGES * PAGE_BYTES), 0);
		struct rdmamig_block spec = { .size = sizeof(spec), .name = i ? "b" : "a", .fd = e->files[i],
					      .length = PAGES * PAGE_BYTES };
		assert_int_equal(block_init(&e->blocks[i], &spec, RDMAMIG_DEST, &error), RDMAMIG_OK);
		for (unsigned page = 0; page < 6000; page += 3)
			memset(e->blocks[i].memory + bytes_of_pages(page), (int)(page % 251 + i), PAGE_BYTES);
	}
}

static void end_close(struct end *e)
{
	verify_end(&e->verify);
	verify_end(&e->verify);
	for (unsigned i = 0; i < BLOCKS; i++) {
		block_fini(&e->blocks[i]);
		close(e->files[i]);
	}
}

static unsigned hash(struct end *e)
{
	unsigned steps = 0;
	enum rdmamig_status st;
	assert_int_equal(verify_begin(&e->verify, &error), RDMAMIG_OK);
	while ((st = verify_step(&e->verify, e->blocks, BLOCKS, &error)) == RDMAMIG_AGAIN)
		steps++;
	assert_int_equal(st, RDMAMIG_OK);
	assert_int_equal(e->verify.done, BLOCKS);
	return steps;
}

static enum rdmamig_status compare(struct end *a, const struct end *b)
{
	return verify_compare(&a->verify, b->verify.hashes, b->verify.done, a->blocks, &error);
}

static int errors_begin(void **state)
{
	(void)state;
	error_init(&error);
	return 0;
}

static void holes_and_zero_pages_are_the_same(void **state)
{
	(void)state;
	struct end a, b;
	end_open(&a);
	end_open(&b);
	memset(b.blocks[0].memory + bytes_of_pages(7000), 0, 2000 * PAGE_BYTES);	/* written, so no holes */
	assert_true(hash(&a) > BLOCKS);
	hash(&b);
	assert_int_equal(compare(&a, &b), RDMAMIG_OK);
	assert_int_equal(a.verify.compared, BLOCKS);
	end_close(&a);
	end_close(&b);
}

static void assert_differs(void (*change)(struct block *block))
{
	struct end a, b;
	end_open(&a);
	end_open(&b);
	change(&b.blocks[1]);
	hash(&a);
	hash(&b);
	assert_int_equal(compare(&a, &b), RDMAMIG_E_NOT_VERIFIED);
	assert_int_equal(error_status(&error), RDMAMIG_E_NOT_VERIFIED);
	end_close(&a);
	end_close(&b);
}

static void change_last_bit(struct block *block)
{
	block->memory[block->bytes - 1] = 0x80;
}

static void move_a_page(struct block *block)
{
	memcpy(block->memory + PAGE_BYTES, block->memory + 3 * PAGE_BYTES, PAGE_BYTES);
	memset(block->memory + 3 * PAGE_BYTES, 0, PAGE_BYTES);
}

static void swap_two_pages(struct block *block)
{
	uint8_t page[PAGE_BYTES];
	memcpy(page, block->memory + 3 * PAGE_BYTES, PAGE_BYTES);
	memcpy(block->memory + 3 * PAGE_BYTES, block->memory + 6 * PAGE_BYTES, PAGE_BYTES);
	memcpy(block->memory + 6 * PAGE_BYTES, page, PAGE_BYTES);
}

static void lose_a_page(struct block *block)
{
	memset(block->memory + 5997 * PAGE_BYTES, 0, PAGE_BYTES);
}

static void any_other_difference_is_seen(void **state)
{
	(void)state;
	void (*const changes[])(struct block *block) = { change_last_bit, move_a_page, swap_two_pages, lose_a_page };
	for (unsigned i = 0; i < sizeof(changes) / sizeof(changes[0]); i++)
		assert_differs(changes[i]);
}

static void hashes_out_of_order_or_too_many_are_refused(void **state)
{
	(void)state;
	struct end a;
	struct message_hash theirs[3];
	end_open(&a);
	hash(&a);
	theirs[0] = a.verify.hashes[1];
	assert_int_equal(verify_compare(&a.verify, theirs, 1, a.blocks, &error), RDMAMIG_E_PROTOCOL);
	theirs[0] = a.verify.hashes[0];
	theirs[1] = theirs[2] = a.verify.hashes[1];
	assert_int_equal(verify_compare(&a.verify, theirs, 3, a.blocks, &error), RDMAMIG_E_PROTOCOL);
	assert_int_equal(a.verify.compared, 2);
	end_close(&a);
}

static void memory_that_goes_away_is_an_error(void **state)
{
	(void)state;
	struct end a;
	enum rdmamig_status st;
	assert_int_equal(sigaction(SIGBUS, &guard_action, NULL), 0);
	end_open(&a);
	int address = memfd_create("cut", MFD_CLOEXEC);	/* by address nobody knows of holes, so it is read */
	assert_int_equal(ftruncate(address, 16 * PAGE_BYTES), 0);
	void *at = mmap(NULL, 16 * PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, address, 0);
	struct rdmamig_block spec = { .size = sizeof(spec), .name = "cut", .fd = -1, .addr = at, .length = 16 * PAGE_BYTES };
	struct block cut;
	assert_int_equal(block_init(&cut, &spec, RDMAMIG_DEST, &error), RDMAMIG_OK);
	assert_int_equal(ftruncate(address, PAGE_BYTES), 0);
	assert_int_equal(verify_begin(&a.verify, &error), RDMAMIG_OK);
	while ((st = verify_step(&a.verify, &cut, 1, &error)) == RDMAMIG_AGAIN)
		;
	assert_int_equal(st, RDMAMIG_E_BLOCK_CHANGED);
	block_fini(&cut);
	munmap(at, 16 * PAGE_BYTES);
	close(address);
	end_close(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(holes_and_zero_pages_are_the_same, errors_begin),
		cmocka_unit_test_setup(any_other_difference_is_seen, errors_begin),
		cmocka_unit_test_setup(hashes_out_of_order_or_too_many_are_refused, errors_begin),
		cmocka_unit_test_setup(memory_that_goes_away_is_an_error, errors_begin),
	};
	if (guard_install() || sigaction(SIGBUS, NULL, &guard_action))
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
