/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_cursor.c - byte order, bounds and stickiness of base/cursor.
 * Neighbour: test_message.c, which leans on it. One thread.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cursor.h"

static const uint8_t sample[15] = {
	0x01, 0x03, 0x02, 0x07, 0x06, 0x05, 0x84,
	0x0f, 0x0e, 0x0d, 0x0c, 0x0b, 0x0a, 0x09, 0x88,
};

static void reads_little_endian(void **state)
{
	(void)state;
	struct cursor cursor = cursor_to_read(sample, sizeof(sample));
	assert_int_equal(cursor_get_u8(&cursor), 0x01);
	assert_int_equal(cursor_get_u16(&cursor), 0x0203);
	assert_int_equal(cursor_get_u32(&cursor), 0x84050607);
	assert_true(cursor_get_u64(&cursor) == 0x88090a0b0c0d0e0full);
	assert_true(cursor_is_ok(&cursor));
	assert_int_equal(cursor_left(&cursor), 0);
}

static void writes_little_endian(void **state)
{
	(void)state;
	uint8_t bytes[sizeof(sample)];
	struct cursor cursor = cursor_to_write(bytes, sizeof(bytes));
	cursor_put_u8(&cursor, 0x01);
	cursor_put_u16(&cursor, 0x0203);
	cursor_put_u32(&cursor, 0x84050607);
	cursor_put_u64(&cursor, 0x88090a0b0c0d0e0full);
	assert_true(cursor_is_ok(&cursor));
	assert_int_equal(cursor.used, sizeof(bytes));
	assert_memory_equal(bytes, sample, sizeof(bytes));
}

/* On the heap and exactly as large as said, so that ASan sees one byte too many. */
static void reading_past_the_end_fails_for_good(void **state)
{
	(void)state;
	for (size_t size = 0; size < 8; size++) {
		uint8_t *bytes = malloc(size ? size : 1);
		memset(bytes, 0xff, size ? size : 1);
		struct cursor cursor = cursor_to_read(bytes, size);
		assert_true(cursor_get_u64(&cursor) == 0);
		assert_false(cursor_is_ok(&cursor));
		assert_int_equal(cursor_left(&cursor), 0);
		assert_int_equal(cursor_get_u8(&cursor), 0);	/* would fit, but comes too late */
		assert_int_equal(cursor_get_u16(&cursor), 0);
		assert_int_equal(cursor_get_u32(&cursor), 0);
		assert_false(cursor_is_ok(&cursor));
		free(bytes);
	}
}

static void writing_past_the_end_writes_nothing(void **state)
{
	(void)state;
	uint8_t bytes[4] = { 1, 2, 3, 4 };
	struct cursor cursor = cursor_to_write(bytes, 3);
	cursor_put_u32(&cursor, 0xffffffff);
	cursor_put_u8(&cursor, 0xff);
	cursor_put_u16(&cursor, 0xffff);
	cursor_put_u64(&cursor, UINT64_MAX);
	cursor_put_bytes(&cursor, sample, 1);
	cursor_pad_zero(&cursor, 1);
	assert_false(cursor_is_ok(&cursor));
	assert_memory_equal(bytes, ((uint8_t[]){ 1, 2, 3, 4 }), 4);
}

static void bytes_that_are_missing_read_as_zero(void **state)
{
	(void)state;
	uint8_t out[4] = { 9, 9, 9, 9 };
	struct cursor cursor = cursor_to_read(sample, 3);
	cursor_get_bytes(&cursor, out, sizeof(out));
	assert_false(cursor_is_ok(&cursor));
	assert_memory_equal(out, ((uint8_t[4]){ 0 }), 4);

	cursor = cursor_to_read(sample, 4);
	cursor_get_bytes(&cursor, out, sizeof(out));
	assert_true(cursor_is_ok(&cursor));
	assert_memory_equal(out, sample, 4);
}

static void skip_and_pad_move_on(void **state)
{
	(void)state;
	struct cursor cursor = cursor_to_read(sample, sizeof(sample));
	cursor_skip_read(&cursor, 1);
	assert_int_equal(cursor_get_u16(&cursor), 0x0203);
	assert_int_equal(cursor_left(&cursor), sizeof(sample) - 3);
	cursor_skip_read(&cursor, SIZE_MAX);			/* must not wrap round to something that fits */
	assert_false(cursor_is_ok(&cursor));

	uint8_t bytes[3] = { 1, 2, 3 };
	cursor = cursor_to_write(bytes, sizeof(bytes));
	cursor_pad_zero(&cursor, 2);
	assert_true(cursor_is_ok(&cursor));
	assert_memory_equal(bytes, ((uint8_t[]){ 0, 0, 3 }), 3);
}

static void nothing_needs_no_room(void **state)
{
	(void)state;
	struct cursor cursor = cursor_to_read(sample, 0);
	uint8_t out = 7;
	cursor_get_bytes(&cursor, &out, 0);
	cursor_skip_read(&cursor, 0);
	assert_true(cursor_is_ok(&cursor));
	assert_int_equal(out, 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_little_endian),
		cmocka_unit_test(writes_little_endian),
		cmocka_unit_test(reading_past_the_end_fails_for_good),
		cmocka_unit_test(writing_past_the_end_writes_nothing),
		cmocka_unit_test(bytes_that_are_missing_read_as_zero),
		cmocka_unit_test(skip_and_pad_move_on),
		cmocka_unit_test(nothing_needs_no_room),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
