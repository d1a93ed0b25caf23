/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_receivedmap.c - set and test from several threads; the exported form byte by byte; every kind of bad import.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ram/receivedmap.h"

static void test_set_clear_count(void **state)
{
	(void)state;
	struct receivedmap map;
	assert_int_equal(receivedmap_init(&map, 130), RDMAMIG_OK);
	receivedmap_set(&map, 129);
	receivedmap_set_range(&map, 60, 10);
	receivedmap_set_offset(&map, 3 * 4096 + 4095);
	assert_int_equal(receivedmap_count(&map), 12);
	for (uint64_t page = 0; page < 130; page++)
		assert_int_equal(receivedmap_test(&map, page), page == 3 || page == 129 || (page >= 60 && page < 70));
	receivedmap_clear_range(&map, 0, 65);
	assert_int_equal(receivedmap_count(&map), 6);
	assert_false(receivedmap_test(&map, 64));
	assert_true(receivedmap_test(&map, 65));
	receivedmap_fini(&map);
}

static const uint8_t golden[] = {
	0x10, 0, 0, 0, 0, 0, 0, 0,				/* 16 bytes of bitmap */
	0x03, 0, 0, 0, 0, 0, 0, 0x80,				/* pages 0, 1, 63 */
	0x20, 0, 0, 0, 0, 0, 0, 0,				/* page 69, the last of 70 */
	0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01,
};

enum { GOLDEN_PAGES = 70 };

static void test_export_golden(void **state)
{
	(void)state;
	struct receivedmap map;
	uint8_t bytes[sizeof(golden) + 8] = { 0 };
	assert_int_equal(receivedmap_init(&map, GOLDEN_PAGES), RDMAMIG_OK);
	receivedmap_set_range(&map, 0, 2);
	receivedmap_set(&map, 63);
	receivedmap_set(&map, 69);
	assert_int_equal(receivedmap_export_bytes(&map), sizeof(golden));
	assert_int_equal(receivedmap_export(&map, bytes, sizeof(bytes)), sizeof(golden));
	assert_memory_equal(bytes, golden, sizeof(golden));
	receivedmap_fini(&map);
}

static void test_import_golden(void **state)
{
	(void)state;
	struct receivedmap map;
	assert_int_equal(receivedmap_init(&map, GOLDEN_PAGES), RDMAMIG_OK);
	receivedmap_set(&map, 5);	/* replaced, not added to */
	assert_int_equal(receivedmap_import(&map, golden, sizeof(golden)), RDMAMIG_OK);
	for (uint64_t page = 0; page < GOLDEN_PAGES; page++)
		assert_int_equal(receivedmap_test(&map, page), page < 2 || page == 63 || page == 69);
	receivedmap_fini(&map);
}

static void test_round_trip_at_every_size(void **state)
{
	(void)state;
	srandom(3);
	for (uint64_t pages = 0; pages < 200; pages++) {
		struct receivedmap map, copy;
		assert_int_equal(receivedmap_init(&map, pages), RDMAMIG_OK);
		assert_int_equal(receivedmap_init(&copy, pages), RDMAMIG_OK);
		for (uint64_t page = 0; page < pages; page++)
			if (random() % 2)
				receivedmap_set(&map, page);

		size_t size = receivedmap_export_bytes(&map);
		uint8_t *bytes = malloc(size);
		assert_non_null(bytes);
		assert_int_equal(receivedmap_export(&map, bytes, size), size);
		assert_int_equal(receivedmap_import(&copy, bytes, size), RDMAMIG_OK);
		for (uint64_t page = 0; page < pages; page++)
			assert_int_equal(receivedmap_test(&copy, page), receivedmap_test(&map, page));
		free(bytes);
		receivedmap_fini(&copy);
		receivedmap_fini(&map);
	}
}

static void refuse(const void *bytes, size_t size)
{
	struct receivedmap map;
	assert_int_equal(receivedmap_init(&map, GOLDEN_PAGES), RDMAMIG_OK);
	receivedmap_set(&map, 5);
	assert_int_equal(receivedmap_import(&map, bytes, size), RDMAMIG_E_PROTOCOL);
	assert_int_equal(receivedmap_count(&map), 1);
	assert_true(receivedmap_test(&map, 5));
	receivedmap_fini(&map);
}

static void test_bad_imports(void **state)
{
	(void)state;
	uint8_t bytes[sizeof(golden) + 8];

	for (size_t size = 0; size < sizeof(golden); size++) {	/* cut short; from the heap, for the address sanitizer */
		uint8_t *cut = malloc(size ? size : 1);
		assert_non_null(cut);
		memcpy(cut, golden, size);
		refuse(cut, size);
		free(cut);
	}
	memset(bytes, 0, sizeof(bytes));
	memcpy(bytes, golden, sizeof(golden));
	refuse(bytes, sizeof(bytes));				/* something follows */

	for (unsigned bit = 0; bit < 64; bit++) {		/* each wrong size and end mark */
		memcpy(bytes, golden, sizeof(golden));
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		refuse(bytes, sizeof(golden));
		memcpy(bytes, golden, sizeof(golden));
		bytes[24 + bit / 8] ^= (uint8_t)(1 << bit % 8);
		refuse(bytes, sizeof(golden));
	}
	for (unsigned bit = GOLDEN_PAGES; bit < 128; bit++) {	/* each padding bit */
		memcpy(bytes, golden, sizeof(golden));
		bytes[8 + bit / 8] ^= (uint8_t)(1 << bit % 8);
		refuse(bytes, sizeof(golden));
	}
}

static void test_import_of_another_size(void **state)
{
	(void)state;
	struct receivedmap map;
	for (uint64_t pages = 0; pages < 300; pages++) {
		bool fits = pages > 69 && pages <= 128;	/* page 69 is set: below, it is a padding bit */
		assert_int_equal(receivedmap_init(&map, pages), RDMAMIG_OK);
		assert_int_equal(receivedmap_import(&map, golden, sizeof(golden)), fits ? RDMAMIG_OK : RDMAMIG_E_PROTOCOL);
		assert_int_equal(receivedmap_count(&map), fits ? 4 : 0);
		receivedmap_fini(&map);
	}
}

enum { THREADS = 4, PAGES = 20011 };

struct channel {
	struct receivedmap *map;
	unsigned *bytes;	/* one a page, written before its bit is set */
	unsigned index;
};

static void *channel_write(void *arg)
{
	const struct channel *channel = arg;
	for (unsigned page = channel->index; page < PAGES; page += THREADS) {
		channel->bytes[page] = page + 1;
		receivedmap_set(channel->map, page);
	}
	return NULL;
}

static void test_who_sees_the_bit_sees_the_bytes(void **state)
{
	(void)state;
	struct receivedmap map;
	struct channel channels[THREADS];
	pthread_t threads[THREADS];
	unsigned *bytes = calloc(PAGES, sizeof(*bytes));
	assert_non_null(bytes);
	assert_int_equal(receivedmap_init(&map, PAGES), RDMAMIG_OK);
	for (unsigned i = 0; i < THREADS; i++) {
		channels[i] = (struct channel){ &map, bytes, i };
		assert_int_equal(pthread_create(&threads[i], NULL, channel_write, &channels[i]), 0);
	}
	for (unsigned page = 0; page < PAGES; ) {	/* ends only if no bit is lost */
		if (!receivedmap_test(&map, page))
			continue;
		assert_int_equal(bytes[page], page + 1);
		page++;
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(receivedmap_count(&map), PAGES);
	receivedmap_fini(&map);
	free(bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_set_clear_count),
		cmocka_unit_test(test_export_golden),
		cmocka_unit_test(test_import_golden),
		cmocka_unit_test(test_round_trip_at_every_size),
		cmocka_unit_test(test_bad_imports),
		cmocka_unit_test(test_import_of_another_size),
		cmocka_unit_test(test_who_sees_the_bit_sees_the_bytes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
