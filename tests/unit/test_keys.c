/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_keys.c - the table of the peer's keys: what it refuses, finds, and covers, also while it grows.
 * Two threads in the last test.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "multifd/keys.h"

static struct key_row row_of(uint16_t block, uint64_t first_page, uint64_t pages)
{
	return (struct key_row){ .block = block, .offset = bytes_of_pages(first_page), .bytes = bytes_of_pages(pages),
				 .base = 0x10000 + bytes_of_pages(first_page), .key = 100u * block + (uint32_t)first_page };
}

static enum rdmamig_status add(struct keys *keys, uint16_t block, uint64_t first_page, uint64_t pages)
{
	struct key_row row = row_of(block, first_page, pages);
	return keys_add(keys, &row);
}

static const struct key_row *find(const struct keys *keys, uint16_t block, uint64_t first_page, uint64_t pages)
{
	return keys_find(keys, block, (struct run){ .first_page = first_page, .pages = pages });
}

static void finds_the_row_that_holds_all(void **state)
{
	(void)state;
	struct keys keys;
	assert_int_equal(keys_init(&keys), RDMAMIG_OK);
	assert_null(find(&keys, 0, 0, 1));
	assert_int_equal(add(&keys, 0, 0, 10), RDMAMIG_OK);
	assert_int_equal(add(&keys, 0, 20, 10), RDMAMIG_OK);
	assert_int_equal(add(&keys, 1, 0, 10), RDMAMIG_OK);
	assert_int_equal(find(&keys, 0, 0, 10)->key, 0);
	assert_int_equal(find(&keys, 0, 29, 1)->key, 20);
	assert_int_equal(find(&keys, 1, 9, 1)->key, 100);
	assert_null(find(&keys, 0, 9, 2));
	assert_null(find(&keys, 0, 15, 1));
	assert_null(find(&keys, 0, 19, 2));
	assert_null(find(&keys, 2, 0, 1));
	keys_fini(&keys);
	keys_fini(&keys);
}

static void refuses_what_overlaps(void **state)
{
	(void)state;
	struct keys keys;
	assert_int_equal(keys_init(&keys), RDMAMIG_OK);
	assert_int_equal(add(&keys, 0, 10, 10), RDMAMIG_OK);
	assert_int_equal(add(&keys, 0, 10, 10), RDMAMIG_E_PROTOCOL);
	assert_int_equal(add(&keys, 0, 0, 11), RDMAMIG_E_PROTOCOL);
	assert_int_equal(add(&keys, 0, 19, 1), RDMAMIG_E_PROTOCOL);
	assert_int_equal(add(&keys, 0, 0, 100), RDMAMIG_E_PROTOCOL);
	assert_int_equal(add(&keys, 0, 0, 10), RDMAMIG_OK);
	assert_int_equal(add(&keys, 0, 20, 1), RDMAMIG_OK);
	assert_true(keys_cover(&keys, 0, bytes_of_pages(21)));
	assert_false(keys_cover(&keys, 0, bytes_of_pages(22)));
	assert_false(keys_cover(&keys, 1, bytes_of_pages(1)));
	keys_fini(&keys);
}

static void refuses_more_than_its_bound(void **state)
{
	(void)state;
	struct keys keys;
	assert_int_equal(keys_init(&keys), RDMAMIG_OK);
	for (uint64_t i = 0; i < KEYS_MAX; i++)
		assert_int_equal(add(&keys, 0, i, 1), RDMAMIG_OK);
	assert_int_equal(add(&keys, 0, KEYS_MAX, 1), RDMAMIG_E_PROTOCOL);
	assert_true(keys_cover(&keys, 0, bytes_of_pages(KEYS_MAX)));
	keys_fini(&keys);
}

static void *look_until_full(void *arg)
{
	const struct keys *keys = arg;
	const struct key_row *row;
	do {
		row = find(keys, 0, 999, 1);
		const struct key_row *first = find(keys, 0, 0, 1);
		if (first && first->base != 0x10000)
			return "a row was seen half written";
	} while (!row);
	return row->key == 999 ? NULL : "the wrong row";
}

static void is_read_while_it_grows(void **state)
{
	(void)state;
	struct keys keys;
	pthread_t reader;
	void *wrong;
	assert_int_equal(keys_init(&keys), RDMAMIG_OK);
	assert_int_equal(pthread_create(&reader, NULL, look_until_full, &keys), 0);
	for (uint64_t i = 0; i < 1000; i++)
		add(&keys, 0, i, 1);
	pthread_join(reader, &wrong);
	assert_null(wrong);
	keys_fini(&keys);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_the_row_that_holds_all),
		cmocka_unit_test(refuses_what_overlaps),
		cmocka_unit_test(refuses_more_than_its_bound),
		cmocka_unit_test(is_read_while_it_grows),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
