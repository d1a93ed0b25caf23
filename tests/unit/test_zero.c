/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_zero.c - every variant this CPU can run finds a single non-zero byte wherever it is, and nothing where none is.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "ram/page.h"
#include "ram/zero.h"

enum { PAGES = 3 };

/* Pages that nothing may be read before or behind. */
static uint8_t *fenced_pages(void)
{
	uint8_t *map = mmap(NULL, (PAGES + 2) * PAGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(map, MAP_FAILED);
	assert_int_equal(mprotect(map + PAGE_BYTES, PAGES * PAGE_BYTES, PROT_READ | PROT_WRITE), 0);
	return map + PAGE_BYTES;
}

static void test_each_byte_counts(void **state)
{
	(void)state;
	uint8_t *memory = fenced_pages();
	const char *name;
	zero_scan *scan;
	for (unsigned i = 0; zero_scan_at(i, &name, &scan); i++) {
		print_message("variant %s\n", name);
		for (unsigned pages = 1; pages <= PAGES; pages++) {
			assert_true(scan(memory, pages * PAGE_BYTES));
			for (unsigned at = 0; at < pages * PAGE_BYTES; at++) {
				memory[at] = (uint8_t)(1 << at % 8);
				assert_false(scan(memory, pages * PAGE_BYTES));
				memory[at] = 0;
			}
		}
	}
	munmap(memory - PAGE_BYTES, (PAGES + 2) * PAGE_BYTES);
}

static void test_neighbours_do_not_count(void **state)
{
	(void)state;
	uint8_t *memory = fenced_pages();
	const char *name;
	zero_scan *scan;
	memset(memory, 0xff, PAGES * PAGE_BYTES);
	memset(memory + PAGE_BYTES, 0, PAGE_BYTES);
	for (unsigned i = 0; zero_scan_at(i, &name, &scan); i++) {
		assert_false(scan(memory, PAGE_BYTES));
		assert_true(scan(memory + PAGE_BYTES, PAGE_BYTES));
		assert_false(scan(memory + PAGE_BYTES, 2 * PAGE_BYTES));
	}
	munmap(memory - PAGE_BYTES, (PAGES + 2) * PAGE_BYTES);
}

static void test_variants(void **state)
{
	(void)state;
	const char *name = NULL;
	zero_scan *scan = NULL;
	unsigned count = 0;
	assert_true(zero_scan_at(0, &name, &scan));
	assert_ptr_equal(scan, zero_scan_best());
	while (zero_scan_at(count, &name, &scan))
		count++;
	assert_string_equal(name, "scalar");	/* the last one any CPU has */
	assert_ptr_equal(scan, zero_scan_scalar);
	assert_false(zero_scan_at(count + 1, &name, &scan));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_byte_counts),
		cmocka_unit_test(test_neighbours_do_not_count),
		cmocka_unit_test(test_variants),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
