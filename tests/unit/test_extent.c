/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_extent.c - extents and their births and deaths against a page-by-page look, under random writes and discards.
 */
#include <fcntl.h>
#include <linux/memfd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "ram/extent.h"

enum { PAGES = 203, SKIPPED_PAGES = 5, ROUNDS = 400 };

struct seen {
	bool born[PAGES];
	bool died[PAGES];
	unsigned born_calls;
	unsigned died_calls;
	unsigned fail_at;	/* this call of born and those after it fail; 0: none does */
};

static enum rdmamig_status on_born(void *opaque, struct block *block, struct run run)
{
	struct seen *seen = opaque;
	assert_true(run.pages > 0 && run.first_page + run.pages <= block->pages);
	seen->born_calls++;
	if (seen->fail_at && seen->born_calls >= seen->fail_at)
		return RDMAMIG_E_TRACKER;
	for (uint64_t i = run.first_page; i < run.first_page + run.pages; i++) {
		assert_false(seen->born[i]);
		assert_false(bitmap_test(&block->exists, i));
		seen->born[i] = true;
	}
	return RDMAMIG_OK;
}

static void on_died(void *opaque, struct block *block, struct run run)
{
	struct seen *seen = opaque;
	assert_true(run.pages > 0 && run.first_page + run.pages <= block->pages);
	seen->died_calls++;
	for (uint64_t i = run.first_page; i < run.first_page + run.pages; i++) {
		assert_false(seen->died[i]);
		seen->died[i] = true;
	}
}

static enum rdmamig_status refresh(struct block *block, struct seen *seen)
{
	const struct extent_changes changes = { .born = on_born, .died = on_died, .opaque = seen };
	return extent_refresh(block, &changes, NULL);
}

/* Memory under test: what its pages should be, and how they are written and discarded. */
struct subject {
	struct block block;
	bool has_data[PAGES];
	void (*discard)(struct block *block, struct run run);
};

static void discard_file(struct block *block, struct run run)
{
	assert_int_equal(fallocate(block->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				   (off_t)(block->offset + bytes_of_pages(run.first_page)), (off_t)bytes_of_pages(run.pages)), 0);
}

static void discard_private(struct block *block, struct run run)
{
	assert_int_equal(madvise(block->memory + bytes_of_pages(run.first_page), bytes_of_pages(run.pages), MADV_DONTNEED), 0);
}

static void change_at_random(struct subject *subject)
{
	for (unsigned n = (unsigned)random() % 6; n > 0; n--) {
		struct run run = { .first_page = (uint64_t)random() % PAGES };
		run.pages = 1 + (uint64_t)random() % (random() % 4 ? 4 : PAGES);
		if (run.pages > PAGES - run.first_page)
			run.pages = PAGES - run.first_page;
		bool is_write = random() % 2;
		if (!is_write)
			subject->discard(&subject->block, run);
		for (uint64_t i = run.first_page; i < run.first_page + run.pages; i++) {
			if (is_write)
				subject->block.memory[bytes_of_pages(i) + (uint64_t)random() % PAGE_BYTES] = 1;
			subject->has_data[i] = is_write;
		}
	}
}

static void assert_extents(const struct subject *subject)
{
	bool has_data[PAGES] = { false };
	struct run run = { 0 };
	bool found;
	for (uint64_t at = 0; ; at = run.first_page + run.pages) {
		assert_int_equal(extent_next(&subject->block, at, &run, &found, NULL), RDMAMIG_OK);
		if (!found)
			break;
		assert_true(run.first_page >= at && run.pages > 0 && run.first_page + run.pages <= PAGES);
		memset(has_data + run.first_page, true, run.pages);
	}
	assert_memory_equal(has_data, subject->has_data, sizeof(has_data));

	/* From any page on. */
	uint64_t from = (uint64_t)random() % (PAGES + 1), first = from;
	while (first < PAGES && !has_data[first])
		first++;
	assert_int_equal(extent_next(&subject->block, from, &run, &found, NULL), RDMAMIG_OK);
	assert_int_equal(found, first < PAGES);
	if (found)
		assert_int_equal(run.first_page, first);
}

static unsigned count_runs(const bool *pages)
{
	unsigned runs = 0;
	for (unsigned i = 0; i < PAGES; i++)
		runs += pages[i] && (i == 0 || !pages[i - 1]);
	return runs;
}

static void assert_refresh(struct subject *subject)
{
	struct seen seen = { 0 };
	bool existed[PAGES];
	for (unsigned i = 0; i < PAGES; i++)
		existed[i] = bitmap_test(&subject->block.exists, i);

	assert_int_equal(refresh(&subject->block, &seen), RDMAMIG_OK);
	for (unsigned i = 0; i < PAGES; i++) {
		assert_int_equal(seen.born[i], subject->has_data[i] && !existed[i]);
		assert_int_equal(seen.died[i], !subject->has_data[i] && existed[i]);
		assert_int_equal(bitmap_test(&subject->block.exists, i), subject->has_data[i]);
	}
	assert_int_equal(seen.born_calls, count_runs(seen.born));
	assert_int_equal(seen.died_calls, count_runs(seen.died));
}

static void run_subject(struct subject *subject)
{
	srandom(4);
	for (unsigned round = 0; round < ROUNDS; round++) {
		assert_extents(subject);
		assert_refresh(subject);
		change_at_random(subject);
	}
}

static int memfd_of(uint64_t bytes)
{
	int fd = memfd_create("extent", MFD_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	return fd;
}

static void block_of_fd(struct block *block, int fd, uint64_t offset, uint64_t bytes)
{
	const struct rdmamig_block spec = { .size = sizeof(spec), .name = "ram", .fd = fd, .offset = offset, .length = bytes };
	assert_int_equal(block_init(block, &spec, RDMAMIG_SOURCE, NULL), RDMAMIG_OK);
}

static void block_of_memory(struct block *block, void *memory, uint64_t bytes)
{
	const struct rdmamig_block spec = { .size = sizeof(spec), .name = "ram", .fd = -1, .addr = memory, .length = bytes };
	assert_int_equal(block_init(block, &spec, RDMAMIG_SOURCE, NULL), RDMAMIG_OK);
}

static void test_memfd(void **state)
{
	(void)state;
	/* Data before and behind the block is none of it. */
	int fd = memfd_of((PAGES + 2 * SKIPPED_PAGES) * PAGE_BYTES);
	for (unsigned i = 0; i < SKIPPED_PAGES; i++) {
		assert_int_equal(pwrite(fd, "x", 1, i * PAGE_BYTES), 1);
		assert_int_equal(pwrite(fd, "x", 1, (SKIPPED_PAGES + PAGES + i) * PAGE_BYTES), 1);
	}
	struct subject subject = { .discard = discard_file };
	block_of_fd(&subject.block, fd, SKIPPED_PAGES * PAGE_BYTES, PAGES * PAGE_BYTES);
	madvise(subject.block.memory, subject.block.bytes, MADV_NOHUGEPAGE);
	run_subject(&subject);
	block_fini(&subject.block);
	close(fd);
}

static void test_private_memory(void **state)
{
	(void)state;
	uint8_t *map = mmap(NULL, (PAGES + 2) * PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(map, MAP_FAILED);
	madvise(map, (PAGES + 2) * PAGE_BYTES, MADV_NOHUGEPAGE);
	map[0] = map[(PAGES + 1) * PAGE_BYTES] = 1;
	struct subject subject = { .discard = discard_private };
	block_of_memory(&subject.block, map + PAGE_BYTES, PAGES * PAGE_BYTES);
	assert_true(subject.block.is_private_anonymous);
	run_subject(&subject);
	block_fini(&subject.block);
	munmap(map, (PAGES + 2) * PAGE_BYTES);
}

/* Runs longer than what is read of pagemap at once, at places that fit no power of two. */
static void test_long_runs_of_private_memory(void **state)
{
	(void)state;
	static const struct run touched[] = { { 31, 1 }, { 33, 5000 }, { 20001, 3 }, { 29999, 1 } };
	const uint64_t pages = 30000;
	uint8_t *map = mmap(NULL, bytes_of_pages(pages), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(map, MAP_FAILED);
	madvise(map, bytes_of_pages(pages), MADV_NOHUGEPAGE);
	struct block block;
	block_of_memory(&block, map, bytes_of_pages(pages));

	uint64_t at = 0;
	struct run run;
	bool found;
	for (unsigned i = 0; i < sizeof(touched) / sizeof(touched[0]); i++)
		memset(map + bytes_of_pages(touched[i].first_page), 1, bytes_of_pages(touched[i].pages));
	for (unsigned i = 0; i < sizeof(touched) / sizeof(touched[0]); i++) {
		assert_int_equal(extent_next(&block, at, &run, &found, NULL), RDMAMIG_OK);
		assert_true(found);
		assert_int_equal(run.first_page, touched[i].first_page);
		assert_int_equal(run.pages, touched[i].pages);
		at = run.first_page + run.pages;
	}
	assert_int_equal(at, pages);
	assert_int_equal(extent_next(&block, at, &run, &found, NULL), RDMAMIG_OK);
	assert_false(found);
	block_fini(&block);
	munmap(map, bytes_of_pages(pages));
}

static void test_other_memory_is_all_data(void **state)
{
	(void)state;
	uint8_t *map = mmap(NULL, PAGES * PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(map, MAP_FAILED);
	struct subject subject = { 0 };
	memset(subject.has_data, true, sizeof(subject.has_data));
	block_of_memory(&subject.block, map, PAGES * PAGE_BYTES);
	assert_extents(&subject);
	assert_refresh(&subject);
	assert_refresh(&subject);	/* and nothing is born twice */
	block_fini(&subject.block);
	munmap(map, PAGES * PAGE_BYTES);
}

static void test_hugetlb_is_all_data(void **state)
{
	(void)state;
	const uint64_t bytes = 2 << 20;
	int fd = memfd_create("extent", MFD_CLOEXEC | MFD_HUGETLB | MFD_HUGE_2MB);
	void *map = MAP_FAILED;
	if (fd >= 0 && ftruncate(fd, (off_t)bytes) == 0)
		map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED) {
		close(fd);
		print_message("SKIP: no free huge page of 2 MiB\n");
		skip();
	}
	struct block block;
	struct run run;
	bool found;
	block_of_fd(&block, fd, 0, bytes);
	assert_int_equal(extent_next(&block, 7, &run, &found, NULL), RDMAMIG_OK);
	assert_true(found);
	assert_int_equal(run.first_page, 7);
	assert_int_equal(run.pages, block.pages - 7);
	block_fini(&block);
	munmap(map, bytes);
	close(fd);
}

static void test_failed_birth_ends_the_walk_and_is_told_again(void **state)
{
	(void)state;
	int fd = memfd_of(PAGES * PAGE_BYTES);
	struct block block;
	struct seen seen = { .fail_at = 2 };
	block_of_fd(&block, fd, 0, PAGES * PAGE_BYTES);
	block.memory[3 * PAGE_BYTES] = block.memory[50 * PAGE_BYTES] = block.memory[90 * PAGE_BYTES] = 1;

	assert_int_equal(refresh(&block, &seen), RDMAMIG_E_TRACKER);
	assert_int_equal(seen.born_calls, 2);
	assert_true(bitmap_test(&block.exists, 3));
	assert_int_equal(bitmap_count(&block.exists), 1);

	seen = (struct seen){ 0 };
	assert_int_equal(refresh(&block, &seen), RDMAMIG_OK);
	assert_int_equal(seen.born_calls, 2);
	assert_true(seen.born[50] && seen.born[90]);
	assert_int_equal(bitmap_count(&block.exists), 3);
	block_fini(&block);
	close(fd);
}

static void test_unreadable_file(void **state)
{
	(void)state;
	int fd = memfd_of(PAGE_BYTES), pipe_fds[2];
	struct block block;
	struct run run;
	bool found;
	block_of_fd(&block, fd, 0, PAGE_BYTES);
	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	assert_int_equal(dup3(pipe_fds[0], block.fd, O_CLOEXEC), block.fd);	/* cannot seek */
	assert_int_equal(extent_next(&block, 0, &run, &found, NULL), RDMAMIG_E_IO);
	block_fini(&block);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	close(fd);
}

/* A memory file of 1 TiB; skips where a sanitizer leaves no room to map it. */
static int tebibyte_memfd(void)
{
	int fd = memfd_of(1ull << 40);
	void *map = mmap(NULL, 1ull << 40, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED) {
		close(fd);
		print_message("SKIP: no 1 TiB of address space to be had\n");
		skip();
	}
	munmap(map, 1ull << 40);
	return fd;
}

static void test_sparse_tebibyte(void **state)
{
	(void)state;
	struct block block;
	int fd = tebibyte_memfd();
	struct run run;
	bool found;
	block_of_fd(&block, fd, 0, 1ull << 40);
	block.memory[bytes_of_pages(block.pages - 1)] = 1;
	uint64_t start_ns = clock_now_ns(&clock_real);
	assert_int_equal(extent_next(&block, 0, &run, &found, NULL), RDMAMIG_OK);
	print_message("1 TiB hole in a memfd: %.2f ms\n", (double)(clock_now_ns(&clock_real) - start_ns) / NS_PER_MS);
	assert_true(found);
	assert_int_equal(run.first_page, block.pages - 1);
	assert_int_equal(run.pages, 1);
	block_fini(&block);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_memfd),
		cmocka_unit_test(test_private_memory),
		cmocka_unit_test(test_long_runs_of_private_memory),
		cmocka_unit_test(test_other_memory_is_all_data),
		cmocka_unit_test(test_hugetlb_is_all_data),
		cmocka_unit_test(test_failed_birth_ends_the_walk_and_is_told_again),
		cmocka_unit_test(test_unreadable_file),
		cmocka_unit_test(test_sparse_tebibyte),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
