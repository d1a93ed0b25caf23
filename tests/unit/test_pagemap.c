/* SPDX-License-Identifier: BSD-2-Clause */
/* test_pagemap.c - a scan finds every page that was written, and what it protects is found again when written again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>

#include "ram/page.h"
#include "ram/pagemap.h"
#include "ram/uffd.h"

enum { PAGES = 4096, HUGE_PAGES = 512 };

struct rig {
	uint8_t *memory;
	uint8_t *mapped;
	size_t mapped_bytes;
	int uffd;
	int pagemap;
	uint8_t found[PAGES];
};

/* Aligned to a huge page; tracked, nothing protected. */
static void rig_make(struct rig *rig, int file)
{
	*rig = (struct rig){ .mapped_bytes = (PAGES + HUGE_PAGES) * PAGE_BYTES };
	rig->mapped = mmap(NULL, rig->mapped_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uintptr_t at = ((uintptr_t)rig->mapped + HUGE_PAGES * PAGE_BYTES - 1) / (HUGE_PAGES * PAGE_BYTES) * (HUGE_PAGES * PAGE_BYTES);
	rig->memory = mmap((void *)at, PAGES * PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0);
	assert_ptr_not_equal(rig->memory, MAP_FAILED);
	bool is_user_only;
	rig->uffd = uffd_open(&is_user_only);
	assert_true(rig->uffd >= 0);
	assert_int_equal(uffd_handshake(rig->uffd, true), 0);
	assert_int_equal(uffd_register(rig->uffd, at, PAGES * PAGE_BYTES), 0);
	rig->pagemap = pagemap_open(0);
	assert_true(rig->pagemap >= 0);
}

static void rig_free(struct rig *rig)
{
	close(rig->uffd);
	close(rig->pagemap);
	munmap(rig->mapped, rig->mapped_bytes);
}

static int memory_file(void)
{
	int file = memfd_create("ram", MFD_CLOEXEC);
	assert_int_equal(ftruncate(file, PAGES * PAGE_BYTES), 0);
	return file;
}

/* Pages found in [first, first + pages), or -errno. */
static int rig_scan(struct rig *rig, uint64_t first, uint64_t pages, bool protects)
{
	static struct pagemap_scan scan;
	uint64_t start = (uintptr_t)rig->memory + first * PAGE_BYTES;
	struct address_range range = { .start = start, .end = start + pages * PAGE_BYTES };
	memset(rig->found, 0, sizeof(rig->found));
	pagemap_scan_begin(&scan, rig->pagemap, range, protects);
	int found, count = 0;
	while ((found = pagemap_scan_next(&scan, &range)) > 0) {
		uint64_t page = (range.start - (uintptr_t)rig->memory) / PAGE_BYTES;
		uint64_t n = (range.end - range.start) / PAGE_BYTES;
		assert_true(page >= first && page + n <= first + pages);
		memset(rig->found + page, 1, n);
		count += (int)n;
	}
	return found < 0 ? found : count;
}

static void rig_write(struct rig *rig, uint64_t page)
{
	*(volatile uint8_t *)(rig->memory + page * PAGE_BYTES) += 1;
}

static void test_written_pages(void **state)
{
	(void)state;
	struct rig rig;
	int file = memory_file();
	rig_make(&rig, file);
	memset(rig.memory, 1, PAGES * PAGE_BYTES);
	assert_int_equal(rig_scan(&rig, 0, PAGES, false), PAGES);
	assert_int_equal(rig_scan(&rig, 0, PAGES, false), PAGES);	/* a look changes nothing */
	assert_int_equal(rig_scan(&rig, 0, PAGES, true), PAGES);
	assert_int_equal(rig_scan(&rig, 0, PAGES, true), 0);

	/* More single pages than a scan's buffer holds. */
	for (uint64_t i = 0; i < PAGES; i += 2)
		rig_write(&rig, i);
	assert_int_equal(rig_scan(&rig, 0, PAGES, false), PAGES / 2);
	assert_int_equal(rig_scan(&rig, 0, PAGES, true), PAGES / 2);
	for (uint64_t i = 0; i < PAGES; i++)
		assert_int_equal(rig.found[i], i % 2 == 0);
	assert_int_equal(rig_scan(&rig, 0, PAGES, false), 0);

	/* Only the range asked for. */
	rig_write(&rig, 9);
	rig_write(&rig, 10);
	assert_int_equal(rig_scan(&rig, 10, 1, true), 1);
	assert_int_equal(rig_scan(&rig, 0, PAGES, true), 1);
	assert_true(rig.found[9]);
	rig_free(&rig);
	close(file);
}

/* Data in the file, but nothing in the page table: it may have been written. A protected page never looked at: not. */
static void test_no_page_table_entry(void **state)
{
	(void)state;
	struct rig rig;
	int file = memory_file();
	rig_make(&rig, file);
	rig_write(&rig, 3);
	madvise(rig.memory, 10 * PAGE_BYTES, MADV_DONTNEED);
	assert_int_equal(rig_scan(&rig, 3, 1, false), 1);
	assert_int_equal(rig_scan(&rig, HUGE_PAGES, 1, false), 1);	/* not even a table */

	assert_int_equal(uffd_protect(rig.uffd, (uintptr_t)rig.memory, PAGES * PAGE_BYTES), 0);
	assert_int_equal(rig_scan(&rig, 0, PAGES, false), 0);
	assert_int_equal(rig_scan(&rig, 0, PAGES, true), 0);
	rig_write(&rig, 3);
	rig_write(&rig, HUGE_PAGES);
	assert_int_equal(rig_scan(&rig, 0, PAGES, true), 2);
	rig_free(&rig);
	close(file);
}

static int huge_file(void)
{
	char dir[] = "/tmp/test_pagemap_XXXXXX", path[64];
	assert_non_null(mkdtemp(dir));
	int file = -1;
	if (!mount("none", dir, "tmpfs", 0, "size=32m,huge=always")) {
		snprintf(path, sizeof(path), "%s/ram", dir);
		file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		assert_int_equal(ftruncate(file, PAGES * PAGE_BYTES), 0);
		umount2(dir, MNT_DETACH);
	}
	rmdir(dir);
	return file;
}

/* A huge mapping of a file that is split leaves nothing, not even a page table; the write before that must not be lost with it. */
static void test_split_huge_page(void **state)
{
	(void)state;
	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL)) {
		print_message("a tmpfs with huge=always cannot be mounted here: run as root\n");
		skip();
	}
	int file = huge_file();
	assert_true(file >= 0);
	struct rig rig;
	rig_make(&rig, file);
	memset(rig.memory, 1, PAGES * PAGE_BYTES);
	assert_int_equal(rig_scan(&rig, 0, PAGES, true), PAGES);
	assert_int_equal(rig_scan(&rig, 0, PAGES, false), 0);

	rig_write(&rig, 7);
	assert_int_equal(rig_scan(&rig, 0, PAGES, false), HUGE_PAGES);	/* mapped as a huge page */
	madvise(rig.memory + 100 * PAGE_BYTES, PAGE_BYTES, MADV_DONTNEED);
	rig_scan(&rig, 0, PAGES, true);
	assert_true(rig.found[7]);
	assert_int_equal(rig_scan(&rig, 0, PAGES, false), 0);

	/* A part of it protected: the rest is still written. */
	rig_write(&rig, 7);
	assert_int_equal(rig_scan(&rig, 7, 1, true), 1);
	rig_write(&rig, HUGE_PAGES + 7);
	rig_scan(&rig, HUGE_PAGES + 100, 1, true);
	assert_int_equal(rig_scan(&rig, HUGE_PAGES + 7, 1, true), 1);
	rig_write(&rig, 7);
	rig_write(&rig, HUGE_PAGES + 7);
	rig_scan(&rig, 0, PAGES, true);
	assert_true(rig.found[7] && rig.found[HUGE_PAGES + 7]);
	rig_free(&rig);
	close(file);
}

static void test_refusals(void **state)
{
	(void)state;
	struct rig rig;
	int file = memory_file();
	rig_make(&rig, file);

	/* Mapped anew, it is tracked no more: both scans say so. */
	mmap(rig.memory + 5 * PAGE_BYTES, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 5 * PAGE_BYTES);
	assert_int_equal(rig_scan(&rig, 0, PAGES, false), -EPERM);
	assert_int_equal(rig_scan(&rig, 0, PAGES, true), -EPERM);
	assert_true(pagemap_open(0x3ffffff) < 0);
	rig_free(&rig);
	close(file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_written_pages),
		cmocka_unit_test(test_no_page_table_entry),
		cmocka_unit_test(test_split_huge_page),
		cmocka_unit_test(test_refusals),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
