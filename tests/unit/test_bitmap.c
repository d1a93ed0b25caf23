/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_bitmap.c - every operation against an array of bytes, at odd sizes; what an untouched bitmap costs.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "ram/bitmap.h"

enum { BITS_MAX = 1000, STEPS = 20000 };

static const uint64_t sizes[] = { 1, 2, 63, 64, 65, 127, 128, 129, 500, 511, 512, 513, BITS_MAX };

struct reference {
	bool bits[BITS_MAX];
	uint64_t count;
};

static uint64_t random_below(uint64_t limit)
{
	return (uint64_t)random() % limit;
}

static void reference_fill(struct reference *reference, uint64_t first, uint64_t count, bool value)
{
	for (uint64_t i = first; i < first + count; i++)
		reference->bits[i] = value;
}

static bool reference_next(const struct reference *reference, uint64_t from, uint64_t end, uint64_t max, bool value, struct run *out)
{
	uint64_t first = from;
	while (first < end && reference->bits[first] != value)
		first++;
	if (first >= end)
		return false;
	uint64_t stop = first;
	while (stop < end && stop - first < max && reference->bits[stop] == value)
		stop++;
	*out = (struct run){ first, stop - first };
	return true;
}

static void assert_same_bits(const struct bitmap *bitmap, const struct reference *reference)
{
	uint64_t count = 0;
	for (uint64_t i = 0; i < reference->count; i++) {
		assert_int_equal(bitmap_test(bitmap, i), reference->bits[i]);
		assert_int_equal(bitmap_test_atomic(bitmap, i), reference->bits[i]);
		count += reference->bits[i];
	}
	assert_int_equal(bitmap_count(bitmap), count);
	if (reference->count % 64)	/* what bitmap_count() counts, but also what an export would show */
		assert_int_equal(bitmap->words[reference->count / 64] >> reference->count % 64, 0);
}

static void assert_same_run(bool found, struct run run, bool expected_found, struct run expected)
{
	assert_int_equal(found, expected_found);
	if (found) {
		assert_int_equal(run.first_page, expected.first_page);
		assert_int_equal(run.pages, expected.pages);
	}
}

static void random_change(struct bitmap *bitmap, struct reference *reference)
{
	uint64_t first = random_below(reference->count + 1);
	uint64_t count = random_below(reference->count - first + 1);
	if (random_below(2) && count > 3)
		count = 3;

	switch (random_below(3)) {
	case 0:
		bitmap_set_range(bitmap, first, count);
		reference_fill(reference, first, count, true);
		break;
	case 1:
		bitmap_set_range_atomic(bitmap, first, count);
		reference_fill(reference, first, count, true);
		break;
	case 2:
		bitmap_clear_range(bitmap, first, count);
		reference_fill(reference, first, count, false);
		break;
	}
}

static void random_question(struct bitmap *bitmap, struct reference *reference)
{
	uint64_t end = random_below(reference->count + 1);
	uint64_t from = random_below(reference->count + 1);
	uint64_t max = random_below(2) ? UINT64_MAX : 1 + random_below(100);
	struct run run = { 0 }, expected = { 0 };

	bool expected_found = reference_next(reference, from, end, max, true, &expected);
	assert_same_run(bitmap_next_run(bitmap, from, end, max, &run), run, expected_found, expected);
	if (random_below(4) == 0) {
		assert_same_run(bitmap_take_run(bitmap, from, end, max, &run), run, expected_found, expected);
		if (expected_found)
			reference_fill(reference, expected.first_page, expected.pages, false);
	}
	expected_found = reference_next(reference, from, end, max, false, &expected);
	assert_same_run(bitmap_next_gap(bitmap, from, end, max, &run), run, expected_found, expected);

	uint64_t sum = 0;
	for (uint64_t i = from; i < end; i++)
		sum += reference->bits[i];
	assert_int_equal(bitmap_count_range(bitmap, from, from < end ? end - from : 0), sum);
}

static void test_random_operations(void **state)
{
	(void)state;
	srandom(1);
	for (unsigned s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
		struct reference reference = { .count = sizes[s] };
		struct bitmap bitmap;
		assert_int_equal(bitmap_init(&bitmap, sizes[s]), RDMAMIG_OK);
		for (unsigned i = 0; i < STEPS; i++) {
			random_change(&bitmap, &reference);
			random_question(&bitmap, &reference);
			if (i % 64 == 0)
				assert_same_bits(&bitmap, &reference);
		}
		bitmap_fini(&bitmap);
	}
}

static void test_or(void **state)
{
	(void)state;
	srandom(2);
	for (unsigned s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
		struct reference a = { .count = sizes[s] }, b = { .count = sizes[s] };
		struct bitmap into, from;
		assert_int_equal(bitmap_init(&into, sizes[s]), RDMAMIG_OK);
		assert_int_equal(bitmap_init(&from, sizes[s]), RDMAMIG_OK);
		for (unsigned i = 0; i < 8; i++) {
			random_change(&into, &a);
			random_change(&from, &b);
		}
		bitmap_or(&into, &from);
		for (uint64_t i = 0; i < sizes[s]; i++)
			a.bits[i] |= b.bits[i];
		assert_same_bits(&into, &a);
		assert_same_bits(&from, &b);
		bitmap_fini(&from);
		bitmap_fini(&into);
	}
}

static void test_no_bits(void **state)
{
	(void)state;
	struct bitmap bitmap;
	struct run run;
	assert_int_equal(bitmap_init(&bitmap, 0), RDMAMIG_OK);
	assert_int_equal(bitmap_count(&bitmap), 0);
	assert_false(bitmap_next_run(&bitmap, 0, 0, 1, &run));
	assert_false(bitmap_next_gap(&bitmap, 0, 0, 1, &run));
	bitmap_fini(&bitmap);

	struct bitmap zeroed = { 0 };
	bitmap_fini(&zeroed);
}

static void test_too_many_bits(void **state)
{
	(void)state;
	struct bitmap bitmap;
	assert_int_equal(bitmap_init(&bitmap, UINT64_MAX / 2), RDMAMIG_E_NO_MEMORY);
	bitmap_fini(&bitmap);
}

/* Memory that was written to in the mapping @at lies in. */
static uint64_t written_bytes(const void *at)
{
	char line[512];
	unsigned long start, end, kib, found = ~0ul;
	bool here = false;
	FILE *smaps = fopen("/proc/self/smaps", "r");
	assert_non_null(smaps);
	while (fgets(line, sizeof(line), smaps)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			here = (uintptr_t)at >= start && (uintptr_t)at < end;
		else if (here && sscanf(line, "Anonymous: %lu kB", &kib) == 1)
			found = kib << 10;
	}
	fclose(smaps);
	assert_int_not_equal(found, ~0ul);
	return found;
}

static void test_untouched_words_cost_nothing(void **state)
{
	(void)state;
	const uint64_t bits = 1ull << 28;	/* a block of 1 TiB */
	struct bitmap bitmap, other;
	struct run run;
	assert_int_equal(bitmap_init(&bitmap, bits), RDMAMIG_OK);
	assert_int_equal(bitmap_init(&other, bits), RDMAMIG_OK);
	bitmap_set_range(&bitmap, bits / 2 - 5, 10);
	bitmap_set_range(&bitmap, bits - 1, 1);
	bitmap_clear_range(&bitmap, 0, bits / 2 - 5);
	bitmap_or(&other, &bitmap);
	assert_true(bitmap_take_run(&other, 0, bits, UINT64_MAX, &run));
	assert_int_equal(run.first_page, bits / 2 - 5);
	assert_int_equal(run.pages, 10);
	assert_int_equal(bitmap_count(&bitmap), 11);
	assert_int_equal(bitmap_count(&other), 1);
	/* The words set lie in three pages of each; the two may lie in one mapping. */
	assert_in_range(written_bytes(bitmap.words), 12 << 10, 24 << 10);
	assert_in_range(written_bytes(other.words), 12 << 10, 24 << 10);
	bitmap_fini(&other);
	bitmap_fini(&bitmap);
}

static void test_empty_scan_is_fast(void **state)
{
	(void)state;
	const uint64_t bits = 1ull << 28;
	struct bitmap bitmap;
	struct run run;
	assert_int_equal(bitmap_init(&bitmap, bits), RDMAMIG_OK);
	uint64_t best_ns = UINT64_MAX;
	for (unsigned pass = 0; pass < 5; pass++) {
		uint64_t start_ns = clock_now_ns(&clock_real);
		assert_false(bitmap_next_run(&bitmap, 0, bits, 1, &run));
		uint64_t ns = clock_now_ns(&clock_real) - start_ns;
		best_ns = ns < best_ns ? ns : best_ns;
	}
	print_message("2^28 clear bits: %.2f ms\n", (double)best_ns / NS_PER_MS);
	assert_true(best_ns < 100 * NS_PER_MS);	/* out of reach for a bit a step, easy even under a sanitizer */
	bitmap_fini(&bitmap);
}

enum { THREADS = 4, SHARED_BITS = 1000001 };

struct setter {
	struct bitmap *bitmap;
	pthread_barrier_t *start;
	unsigned index;
};

static void *setter_run(void *arg)
{
	const struct setter *setter = arg;
	pthread_barrier_wait(setter->start);
	for (uint64_t bit = setter->index; bit < setter->bitmap->bits; bit += THREADS)
		bitmap_set_range_atomic(setter->bitmap, bit, 1);
	return NULL;
}

static void test_threads_share_words(void **state)
{
	(void)state;
	struct bitmap bitmap;
	pthread_t threads[THREADS];
	struct setter setters[THREADS];
	pthread_barrier_t start;
	pthread_barrier_init(&start, NULL, THREADS);
	assert_int_equal(bitmap_init(&bitmap, SHARED_BITS), RDMAMIG_OK);
	for (unsigned i = 0; i < THREADS; i++) {
		setters[i] = (struct setter){ &bitmap, &start, i };
		assert_int_equal(pthread_create(&threads[i], NULL, setter_run, &setters[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(bitmap_count(&bitmap), SHARED_BITS);
	pthread_barrier_destroy(&start);
	bitmap_fini(&bitmap);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_operations),
		cmocka_unit_test(test_or),
		cmocka_unit_test(test_no_bits),
		cmocka_unit_test(test_too_many_bits),
		cmocka_unit_test(test_untouched_words_cost_nothing),
		cmocka_unit_test(test_empty_scan_is_fast),
		cmocka_unit_test(test_threads_share_words),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
