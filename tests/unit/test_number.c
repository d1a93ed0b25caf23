/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_number.c - what a user may type for a number, and what must be refused.
 * The subject is compiled in: the command's files are in no library. One thread.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cli/number.c"

static void bytes_have_powers_of_1024(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		uint64_t bytes;
	} rows[] = {
		{ "0", 0 }, { "1", 1 }, { "4096", 4096 }, { "007", 7 }, { "1K", 1024 }, { "3M", 3u << 20 }, { "1G", 1u << 30 },
		{ "16T", 16ull << 40 }, { "18446744073709551615", UINT64_MAX }, { "16777215T", 16777215ull << 40 },
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint64_t bytes = 42;
		assert_true(number_parse_bytes(rows[i].text, &bytes));
		assert_true(bytes == rows[i].bytes);
	}
}

static void bytes_refuses_the_rest(void **state)
{
	(void)state;
	static const char *const bad[] = {
		"", " ", "K", "-1", "+1", " 1", "1 ", "1k", "1KB", "1KiB", "1.5G", "0x10", "1G1", "1GG", "1,000", "1e3", "\t1",
		"18446744073709551616", "99999999999999999999999", "16777216T", "18446744073709551615K",
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		uint64_t bytes = 42;
		assert_false(number_parse_bytes(bad[i], &bytes));
		assert_true(bytes == 42);
	}
}

static void count_keeps_its_range(void **state)
{
	(void)state;
	uint64_t count = 42;
	assert_true(number_parse_count("1", 1, 16, &count) && count == 1);
	assert_true(number_parse_count("16", 1, 16, &count) && count == 16);
	assert_false(number_parse_count("0", 1, 16, &count));
	assert_false(number_parse_count("17", 1, 16, &count));
	assert_false(number_parse_count("1K", 1, 4096, &count));
	assert_true(count == 16);
}

static void durations_take_the_unit_of_their_option(void **state)
{
	(void)state;
	uint64_t ms = 42;
	assert_true(number_parse_duration("300", 1, &ms) && ms == 300);
	assert_true(number_parse_duration("300", 1000, &ms) && ms == 300000);
	assert_true(number_parse_duration("300ms", 1000, &ms) && ms == 300);
	assert_true(number_parse_duration("2s", 1, &ms) && ms == 2000);
	assert_true(number_parse_duration("3m", 1, &ms) && ms == 180000);
	assert_true(number_parse_duration("8760h", 1, &ms) && ms == NUMBER_DURATION_MAX_MS);
	assert_true(number_parse_duration("0", 1000, &ms) && ms == 0);
}

static void durations_refuse_the_rest(void **state)
{
	(void)state;
	static const char *const bad[] = { "", "s", "-1s", "1.5s", "1 s", "1d", "1M", "8761h", "31536001", "18446744073709551615h" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		uint64_t ms = 42;
		assert_false(number_parse_duration(bad[i], 1000, &ms));
		assert_true(ms == 42);
	}
}

static void formats_for_people(void **state)
{
	(void)state;
	char text[NUMBER_TEXT_BYTES];
	assert_string_equal(number_format_bytes(0, text), "0 B");
	assert_string_equal(number_format_bytes(1023, text), "1023 B");
	assert_string_equal(number_format_bytes(1536, text), "1.50 KiB");
	assert_string_equal(number_format_bytes(256u << 20, text), "256 MiB");
	assert_string_equal(number_format_bytes(UINT64_MAX, text), "16.00 EiB");
	assert_string_equal(number_format_duration(0, text), "0 ms");
	assert_string_equal(number_format_duration(999, text), "999 ms");
	assert_string_equal(number_format_duration(3249, text), "3.2 s");
	assert_string_equal(number_format_duration(3723000, text), "1:02:03");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_have_powers_of_1024),
		cmocka_unit_test(bytes_refuses_the_rest),
		cmocka_unit_test(count_keeps_its_range),
		cmocka_unit_test(durations_take_the_unit_of_their_option),
		cmocka_unit_test(durations_refuse_the_rest),
		cmocka_unit_test(formats_for_people),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
