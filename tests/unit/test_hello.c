/* SPDX-License-Identifier: BSD-2-Clause */
/* test_hello.c - the private data, byte by byte, and every way it can be wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "transport/hello.h"

static const struct conn_hello data_hello = {
	.kind = CONN_DATA,
	.version_min = 1,
	.version_max = 0x0203,
	.channel = 15,
	.epoch = 0x11223344,
	.token = 0x8877665544332211,
	.session_id = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 },
};

static const uint8_t data_bytes[HELLO_BYTES] = {
	'R', 'D', 'M', 'G', 44, 0, 1, 0, 2, 0, 1, 0, 3, 2, 15, 0, 0x44, 0x33, 0x22, 0x11,
	0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
};

static void test_golden(void **state)
{
	(void)state;
	uint8_t bytes[HELLO_BYTES_MAX] = { 0 };
	struct conn_hello hello;

	hello_encode(&data_hello, bytes);
	assert_memory_equal(bytes, data_bytes, HELLO_BYTES);
	assert_int_equal(hello_decode(bytes, HELLO_BYTES, &hello), RDMAMIG_OK);
	assert_int_equal(hello.kind, CONN_DATA);
	assert_int_equal(hello.version_min, 1);
	assert_int_equal(hello.version_max, 0x0203);
	assert_int_equal(hello.channel, 15);
	assert_int_equal(hello.epoch, 0x11223344);
	assert_true(hello.token == data_hello.token);
	assert_memory_equal(hello.session_id, data_hello.session_id, RDMAMIG_SESSION_ID_BYTES);

	/* rdma_cm pads it */
	assert_int_equal(hello_decode(bytes, HELLO_BYTES_MAX, &hello), RDMAMIG_OK);
}

static void test_short(void **state)
{
	(void)state;
	struct conn_hello hello;
	for (size_t size = 0; size < HELLO_BYTES; size++)
		assert_int_equal(hello_decode(data_bytes, size, &hello), RDMAMIG_E_PROTOCOL);
}

static void test_wrong(void **state)
{
	(void)state;
	static const struct { unsigned at; uint8_t value; } wrong[] = {
		{ 0, 'r' }, { 3, 'X' }, { 4, 43 }, { 4, 45 }, { 5, 1 }, { 6, 0 }, { 6, 2 }, { 7, 1 }, { 8, 0 }, { 8, 4 },
		{ 8, 255 }, { 9, 1 }, { 10, 0 }, { 11, 3 }, { 14, 16 }, { 15, 1 },
		{ 8, CONN_CONTROL }, { 8, CONN_RECORD },	/* with channel, epoch and token they are not */
	};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		uint8_t bytes[HELLO_BYTES];
		struct conn_hello hello = { .epoch = 77 };
		memcpy(bytes, data_bytes, sizeof(bytes));
		bytes[wrong[i].at] = wrong[i].value;
		if (hello_decode(bytes, sizeof(bytes), &hello) != RDMAMIG_E_PROTOCOL)
			fail_msg("byte %u = %u was taken", wrong[i].at, wrong[i].value);
		assert_int_equal(hello.epoch, 77);
	}
}

static void test_control(void **state)
{
	(void)state;
	for (int kind = CONN_CONTROL; kind <= CONN_RECORD; kind++) {
		struct conn_hello in = { .kind = (enum conn_kind)kind, .version_min = 1, .version_max = 1 }, out;
		uint8_t bytes[HELLO_BYTES];
		hello_encode(&in, bytes);
		assert_int_equal(hello_decode(bytes, sizeof(bytes), &out), RDMAMIG_OK);
		assert_int_equal(out.kind, kind);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_golden),
		cmocka_unit_test(test_short),
		cmocka_unit_test(test_wrong),
		cmocka_unit_test(test_control),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
