/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_block.c - which memory is taken and which refused; that cleaning leaves zeros and takes no memory.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/memfd.h>
#include <linux/userfaultfd.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "ram/block.h"
#include "ram/guard.h"

enum { PAGES = 40 };

/* What guard_install() had set. cmocka sets its own action before each test. */
static struct sigaction guard_action;

static int memfd_of(uint64_t bytes)
{
	int fd = memfd_create("block", MFD_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	return fd;
}

static struct rdmamig_block by_fd(int fd, uint64_t offset, uint64_t bytes)
{
	return (struct rdmamig_block){ .size = sizeof(struct rdmamig_block), .name = "ram", .fd = fd, .offset = offset, .length = bytes };
}

static struct rdmamig_block by_addr(void *addr, uint64_t bytes)
{
	return (struct rdmamig_block){ .size = sizeof(struct rdmamig_block), .name = "ram", .fd = -1, .addr = addr, .length = bytes };
}

static void init_ok(struct block *block, struct rdmamig_block spec, enum rdmamig_role role)
{
	assert_int_equal(block_init(block, &spec, role, NULL), RDMAMIG_OK);
}

static void *map_of(uint64_t bytes, int flags, int fd)
{
	void *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, fd, 0);
	assert_ptr_not_equal(map, MAP_FAILED);
	return map;
}

static void clean_all(struct block *block)
{
	uint64_t next_page = 0;
	while (next_page < block->pages) {
		uint64_t before = next_page;
		assert_int_equal(block_clean(block, &next_page, NULL), RDMAMIG_OK);
		assert_true(next_page > before && next_page <= block->pages);
	}
}

static uint64_t allocated_bytes(int fd)
{
	struct stat st;
	assert_int_equal(fstat(fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static void assert_all(const uint8_t *memory, uint64_t bytes, uint8_t value)
{
	for (uint64_t i = 0; i < bytes; i++)
		assert_int_equal(memory[i], value);
}

static void refuse(struct rdmamig_block spec, enum rdmamig_status expected)
{
	static const struct block zeroed;
	struct block block;
	struct error error;
	char text[ERROR_TEXT_BYTES];
	error_init(&error);
	assert_int_equal(block_init(&block, &spec, RDMAMIG_SOURCE, &error), expected);
	assert_int_equal(error_status(&error), expected);
	error_text(&error, text, sizeof(text));
	assert_true(text[0]);
	assert_memory_equal(&block, &zeroed, sizeof(block));
	error_fini(&error);
}

static void test_refused_specs(void **state)
{
	(void)state;
	int fd = memfd_of(PAGES * PAGE_BYTES);
	uint8_t *map = map_of(PAGES * PAGE_BYTES, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	struct rdmamig_block good = by_fd(fd, 0, PAGES * PAGE_BYTES), bad;
	char name[RDMAMIG_BLOCK_NAME_BYTES + 1];

	bad = good, bad.name = NULL, refuse(bad, RDMAMIG_E_USAGE);
	bad = good, bad.name = "", refuse(bad, RDMAMIG_E_USAGE);
	memset(name, 'n', sizeof(name) - 1);
	name[RDMAMIG_BLOCK_NAME_BYTES] = '\0';
	bad = good, bad.name = name, refuse(bad, RDMAMIG_E_USAGE);
	bad = good, bad.fd = -1, refuse(bad, RDMAMIG_E_USAGE);
	bad = good, bad.addr = map, refuse(bad, RDMAMIG_E_USAGE);
	bad = good, bad.length = 0, refuse(bad, RDMAMIG_E_USAGE);
	bad = good, bad.length = PAGE_BYTES + 1, refuse(bad, RDMAMIG_E_USAGE);
	bad = good, bad.length = (1ull << BLOCK_BYTES_MAX_SHIFT) + PAGE_BYTES, refuse(bad, RDMAMIG_E_USAGE);
	bad = good, bad.length = PAGE_BYTES, bad.offset = 1, refuse(bad, RDMAMIG_E_USAGE);
	bad = good, bad.offset = UINT64_MAX - PAGE_BYTES + 1, refuse(bad, RDMAMIG_E_USAGE);
	refuse(by_addr(map + 1, PAGE_BYTES), RDMAMIG_E_USAGE);
	bad = good, bad.offset = PAGE_BYTES, refuse(bad, RDMAMIG_E_NO_FILE);	/* too short */
	bad = good, bad.length += PAGE_BYTES, refuse(bad, RDMAMIG_E_NO_FILE);

	struct block block;
	name[RDMAMIG_BLOCK_NAME_BYTES - 1] = '\0';	/* the longest */
	bad = good, bad.name = name, init_ok(&block, bad, RDMAMIG_SOURCE);
	assert_string_equal(block.name, name);
	block_fini(&block);
	munmap(map, PAGES * PAGE_BYTES);
	close(fd);
}

static void test_refused_files(void **state)
{
	(void)state;
	int closed = memfd_of(PAGE_BYTES);
	close(closed);
	refuse(by_fd(closed, 0, PAGE_BYTES), RDMAMIG_E_NO_FILE);

	int directory = open("/dev/shm", O_RDONLY | O_CLOEXEC);
	assert_true(directory >= 0);
	refuse(by_fd(directory, 0, PAGE_BYTES), RDMAMIG_E_NO_FILE);
	close(directory);

	int zero = open("/dev/zero", O_RDWR | O_CLOEXEC);
	assert_true(zero >= 0);
	refuse(by_fd(zero, 0, PAGE_BYTES), RDMAMIG_E_NO_FILE);
	close(zero);

	int sealed = memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_true(sealed >= 0);
	assert_int_equal(ftruncate(sealed, PAGE_BYTES), 0);
	assert_int_equal(fcntl(sealed, F_ADD_SEALS, F_SEAL_WRITE), 0);
	refuse(by_fd(sealed, 0, PAGE_BYTES), RDMAMIG_E_NO_FILE);
	close(sealed);
}

static void test_file_on_disk_is_refused(void **state)
{
	(void)state;
	char path[] = "/var/tmp/rdmamig-test-block-XXXXXX";
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	unlink(path);
	assert_int_equal(ftruncate(fd, PAGE_BYTES), 0);
	struct statfs fs;
	assert_int_equal(fstatfs(fd, &fs), 0);
	if (fs.f_type == TMPFS_MAGIC) {
		close(fd);
		print_message("SKIP: /var/tmp is a tmpfs, no file on a disk to be had\n");
		skip();
	}
	refuse(by_fd(fd, 0, PAGE_BYTES), RDMAMIG_E_NO_FILE);
	close(fd);
}

/* The VmFlags of the mapping that begins at @at. */
static bool mapping_has_flag(const void *at, const char *flag)
{
	char line[512], start[32];
	bool here = false, has = false;
	FILE *smaps = fopen("/proc/self/smaps", "r");
	assert_non_null(smaps);
	snprintf(start, sizeof(start), "%lx-", (unsigned long)at);
	while (fgets(line, sizeof(line), smaps)) {
		here |= strncmp(line, start, strlen(start)) == 0;
		if (here && strncmp(line, "VmFlags:", 8) == 0) {
			has = strstr(line, flag);
			break;
		}
	}
	fclose(smaps);
	return has;
}

static void test_memfd(void **state)
{
	(void)state;
	int fd = memfd_of(PAGES * PAGE_BYTES);
	struct block source, dest;
	init_ok(&source, by_fd(fd, 3 * PAGE_BYTES, 30 * PAGE_BYTES), RDMAMIG_SOURCE);
	init_ok(&dest, by_fd(fd, 3 * PAGE_BYTES, 30 * PAGE_BYTES), RDMAMIG_DEST);
	close(fd);	/* theirs are duplicates */

	assert_string_equal(source.name, "ram");
	assert_int_equal(source.bytes, 30 * PAGE_BYTES);
	assert_int_equal(source.pages, 30);
	assert_int_equal(source.granule, 4096);
	assert_int_equal(source.offset, 3 * PAGE_BYTES);
	assert_false(source.is_hugetlb);
	assert_false(source.is_private_anonymous);
	assert_true(fcntl(source.fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(source.dirty.bits, 30);
	assert_int_equal(source.posted.bits, 30);
	assert_int_equal(source.exists.bits, 30);
	assert_int_equal(source.gone.bits, 30);
	assert_int_equal(source.received.bitmap.bits, 0);
	assert_int_equal(dest.received.bitmap.bits, 30);
	assert_int_equal(dest.dirty.bits, 0);

	uint8_t byte;
	dest.memory[5 * PAGE_BYTES] = 77;
	assert_int_equal(source.memory[5 * PAGE_BYTES], 77);
	assert_int_equal(pread(source.fd, &byte, 1, 8 * PAGE_BYTES), 1);
	assert_int_equal(byte, 77);
	assert_true(mapping_has_flag(source.memory, " dd"));

	int source_fd = source.fd;
	block_fini(&dest);
	block_fini(&source);
	assert_int_equal(fcntl(source_fd, F_GETFD), -1);
	block_fini(&source);	/* zeroed now; fd 0 is not its */
	assert_true(fcntl(0, F_GETFD) >= 0 || errno == EBADF);
}

static void test_zeroed_block_leaves_fd_0(void **state)
{
	(void)state;
	struct block zeroed = { 0 };
	int saved = dup(0);
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_int_equal(dup2(null, 0), 0);
	block_fini(&zeroed);
	assert_true(fcntl(0, F_GETFD) >= 0);
	close(null);
	if (saved >= 0) {
		dup2(saved, 0);
		close(saved);
	}
}

static void test_has_changed(void **state)
{
	(void)state;
	int fd = memfd_of(PAGES * PAGE_BYTES);
	struct block block;
	init_ok(&block, by_fd(fd, PAGE_BYTES, 30 * PAGE_BYTES), RDMAMIG_SOURCE);
	assert_false(block_has_changed(&block));
	assert_int_equal(ftruncate(fd, 31 * PAGE_BYTES), 0);	/* still all there */
	assert_false(block_has_changed(&block));
	assert_int_equal(ftruncate(fd, 31 * PAGE_BYTES - 1), 0);
	assert_true(block_has_changed(&block));
	block_fini(&block);
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

/* That its bitmaps take none either is in test_bitmap.c. */
static void test_sparse_tebibyte_takes_no_memory(void **state)
{
	(void)state;
	int fd = tebibyte_memfd();
	struct block block;
	init_ok(&block, by_fd(fd, 0, 1ull << 40), RDMAMIG_SOURCE);
	assert_int_equal(bitmap_count(&block.dirty), 0);
	block_fini(&block);
	init_ok(&block, by_fd(fd, 0, 1ull << 40), RDMAMIG_DEST);
	clean_all(&block);
	block_discard(&block);
	assert_int_equal(receivedmap_count(&block.received), 0);
	assert_int_equal(allocated_bytes(fd), 0);
	block_fini(&block);
	close(fd);
}

static void test_clean_and_discard_tmpfs(void **state)
{
	(void)state;
	int fd = memfd_of(PAGES * PAGE_BYTES);
	uint8_t *map = map_of(PAGES * PAGE_BYTES, MAP_SHARED, fd);
	struct block block;
	init_ok(&block, by_fd(fd, 3 * PAGE_BYTES, 30 * PAGE_BYTES), RDMAMIG_DEST);
	for (unsigned pass = 0; pass < 2; pass++) {
		memset(map, 0xab, PAGES * PAGE_BYTES);
		if (pass == 0)
			clean_all(&block);
		else
			block_discard(&block);
		assert_int_equal(allocated_bytes(fd), 10 * PAGE_BYTES);
		assert_all(map, 3 * PAGE_BYTES, 0xab);		/* what is not the block's is left alone */
		assert_all(map + 3 * PAGE_BYTES, 30 * PAGE_BYTES, 0);
		assert_all(map + 33 * PAGE_BYTES, 7 * PAGE_BYTES, 0xab);
	}
	block_fini(&block);
	munmap(map, PAGES * PAGE_BYTES);
	close(fd);
}

static void test_clean_private_memory(void **state)
{
	(void)state;
	const uint64_t bytes = 3ull << 30;	/* more than a call looks at */
	static const uint64_t touched[] = { 0, 1, 77, 20000, 300000, 300002, 786431 };
	uint8_t *map = map_of(bytes, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
	madvise(map, bytes, MADV_NOHUGEPAGE);
	struct block block;
	init_ok(&block, by_addr(map, bytes), RDMAMIG_DEST);
	assert_true(block.is_private_anonymous);
	for (unsigned i = 0; i < sizeof(touched) / sizeof(touched[0]); i++)
		memset(map + bytes_of_pages(touched[i]), 0xcd, PAGE_BYTES);

	clean_all(&block);
	unsigned char in_core[1 << 18];
	for (uint64_t at = 0, i = 0; at < bytes; at += 1ull << 30) {
		uint64_t count = 0;
		assert_int_equal(mincore(map + at, 1ull << 30, in_core), 0);
		for (unsigned page = 0; page < 1 << 18; page++)
			count += in_core[page] & 1;
		for (; i < sizeof(touched) / sizeof(touched[0]) && bytes_of_pages(touched[i]) < at + (1ull << 30); i++) {
			assert_all(map + bytes_of_pages(touched[i]), PAGE_BYTES, 0);
			count--;
		}
		assert_int_equal(count, 0);	/* nothing else was as much as read */
	}
	memset(map + 77 * PAGE_BYTES, 0xcd, PAGE_BYTES);
	block_discard(&block);
	assert_all(map + 77 * PAGE_BYTES, PAGE_BYTES, 0);
	block_fini(&block);
	assert_int_equal(map[0], 0);	/* the caller's mapping stays */
	munmap(map, bytes);
}

static void test_clean_shared_memory_by_address(void **state)
{
	(void)state;
	uint8_t *map = map_of(PAGES * PAGE_BYTES, MAP_SHARED | MAP_ANONYMOUS, -1);
	struct block block;
	init_ok(&block, by_addr(map, PAGES * PAGE_BYTES), RDMAMIG_DEST);
	assert_false(block.is_private_anonymous);
	memset(map, 1, PAGES * PAGE_BYTES);
	clean_all(&block);
	assert_all(map, PAGES * PAGE_BYTES, 0);
	memset(map, 1, PAGES * PAGE_BYTES);
	block_discard(&block);
	assert_all(map, PAGES * PAGE_BYTES, 0);
	block_fini(&block);
	munmap(map, PAGES * PAGE_BYTES);
}

static void test_clean_of_memory_cut_short(void **state)
{
	(void)state;
	int fd = memfd_of(PAGES * PAGE_BYTES);
	uint8_t *map = map_of(PAGES * PAGE_BYTES, MAP_SHARED, fd);
	struct block block;
	init_ok(&block, by_addr(map, PAGES * PAGE_BYTES), RDMAMIG_DEST);
	assert_int_equal(ftruncate(fd, 20 * PAGE_BYTES), 0);

	uint64_t next_page = 0;
	assert_int_equal(sigaction(SIGBUS, &guard_action, NULL), 0);
	assert_int_equal(block_clean(&block, &next_page, NULL), RDMAMIG_E_NO_SPACE);
	assert_int_equal(next_page, 0);
	block_discard(&block);	/* gives up, but ends */
	block_fini(&block);
	munmap(map, PAGES * PAGE_BYTES);
	close(fd);
}

static void test_what_is_private_anonymous(void **state)
{
	(void)state;
	struct block block;
	int fd = memfd_of(PAGES * PAGE_BYTES);
	uint8_t *map = map_of(PAGES * PAGE_BYTES, MAP_PRIVATE, fd);
	init_ok(&block, by_addr(map, PAGES * PAGE_BYTES), RDMAMIG_SOURCE);
	assert_false(block.is_private_anonymous);
	block_fini(&block);

	/* In the middle of several mappings, one of them with other rights. */
	assert_ptr_equal(mmap(map, PAGES * PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), map);
	assert_int_equal(mprotect(map + 10 * PAGE_BYTES, 5 * PAGE_BYTES, PROT_READ), 0);
	init_ok(&block, by_addr(map + PAGE_BYTES, (PAGES - 2) * PAGE_BYTES), RDMAMIG_SOURCE);
	assert_true(block.is_private_anonymous);
	block_fini(&block);

	/* One page of it is a file's. */
	assert_ptr_equal(mmap(map + 20 * PAGE_BYTES, PAGE_BYTES, PROT_READ, MAP_FIXED | MAP_PRIVATE, fd, 0), map + 20 * PAGE_BYTES);
	init_ok(&block, by_addr(map, PAGES * PAGE_BYTES), RDMAMIG_SOURCE);
	assert_false(block.is_private_anonymous);
	block_fini(&block);
	init_ok(&block, by_addr(map, 20 * PAGE_BYTES), RDMAMIG_SOURCE);
	assert_true(block.is_private_anonymous);
	block_fini(&block);

	/* One page of it is not mapped. */
	assert_int_equal(munmap(map + 20 * PAGE_BYTES, PAGE_BYTES), 0);
	init_ok(&block, by_addr(map, 21 * PAGE_BYTES), RDMAMIG_SOURCE);
	assert_false(block.is_private_anonymous);
	block_fini(&block);
	munmap(map, PAGES * PAGE_BYTES);
	close(fd);
}

/* A missing page of such memory is not zero: somebody is to bring its bytes. */
static void test_lazily_filled_memory_is_not_taken_for_holes(void **state)
{
	(void)state;
	int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	if (uffd < 0) {
		print_message("SKIP: userfaultfd(2) is not to be had: %s\n", strerror(errno));
		skip();
	}
	uint8_t *map = map_of(PAGES * PAGE_BYTES, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = {
		.range = { .start = (uintptr_t)map + 7 * PAGE_BYTES, .len = PAGE_BYTES },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	assert_int_equal(ioctl(uffd, UFFDIO_API, &api), 0);
	assert_int_equal(ioctl(uffd, UFFDIO_REGISTER, &reg), 0);
	struct block block;
	init_ok(&block, by_addr(map, PAGES * PAGE_BYTES), RDMAMIG_SOURCE);
	assert_false(block.is_private_anonymous);
	block_fini(&block);
	close(uffd);
	munmap(map, PAGES * PAGE_BYTES);
}

static uint64_t free_huge_pages(void)
{
	unsigned long pages = 0;
	FILE *file = fopen("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "r");
	if (!file)
		return 0;
	if (fscanf(file, "%lu", &pages) != 1)
		pages = 0;
	fclose(file);
	return pages;
}

static int huge_memfd_of(uint64_t pages)
{
	int fd = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB | MFD_HUGE_2MB);
	if (fd < 0) {
		print_message("SKIP: no hugetlbfs of 2 MiB pages: %s\n", strerror(errno));
		skip();
	}
	assert_int_equal(ftruncate(fd, (off_t)(pages << 21)), 0);
	return fd;
}

static void test_hugetlb_pool_too_small(void **state)
{
	(void)state;
	uint64_t too_many = free_huge_pages() + 100000;
	int fd = huge_memfd_of(too_many);
	refuse(by_fd(fd, 0, too_many << 21), RDMAMIG_E_NO_SPACE);
	close(fd);
}

static void test_hugetlb_alignment(void **state)
{
	(void)state;
	int fd = huge_memfd_of(4);
	refuse(by_fd(fd, PAGE_BYTES, 2 << 20), RDMAMIG_E_USAGE);
	refuse(by_fd(fd, 0, PAGE_BYTES), RDMAMIG_E_USAGE);
	close(fd);
}

static void test_clean_hugetlb(void **state)
{
	(void)state;
	if (free_huge_pages() < 4) {
		print_message("SKIP: fewer than 4 free huge pages of 2 MiB in the pool\n");
		skip();
	}
	const uint64_t bytes = 4 << 21;
	int fd = huge_memfd_of(4);
	struct block block;
	init_ok(&block, by_fd(fd, 0, bytes), RDMAMIG_DEST);
	assert_int_equal(block.granule, 2 << 20);
	assert_true(block.is_hugetlb);

	clean_all(&block);
	assert_int_equal(allocated_bytes(fd), 0);	/* a fresh one is left alone */
	memset(block.memory + (2 << 20), 0xab, 2 << 20);
	clean_all(&block);
	assert_all(block.memory, bytes, 0);
	memset(block.memory, 0xab, bytes);
	block_discard(&block);
	assert_int_equal(allocated_bytes(fd), bytes);	/* not punched */
	assert_all(block.memory, bytes, 0);
	block_fini(&block);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refused_specs),
		cmocka_unit_test(test_refused_files),
		cmocka_unit_test(test_file_on_disk_is_refused),
		cmocka_unit_test(test_memfd),
		cmocka_unit_test(test_zeroed_block_leaves_fd_0),
		cmocka_unit_test(test_has_changed),
		cmocka_unit_test(test_sparse_tebibyte_takes_no_memory),
		cmocka_unit_test(test_clean_and_discard_tmpfs),
		cmocka_unit_test(test_clean_private_memory),
		cmocka_unit_test(test_clean_shared_memory_by_address),
		cmocka_unit_test(test_clean_of_memory_cut_short),
		cmocka_unit_test(test_what_is_private_anonymous),
		cmocka_unit_test(test_lazily_filled_memory_is_not_taken_for_holes),
		cmocka_unit_test(test_hugetlb_pool_too_small),
		cmocka_unit_test(test_hugetlb_alignment),
		cmocka_unit_test(test_clean_hugetlb),
	};
	if (guard_install() || sigaction(SIGBUS, NULL, &guard_action))
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
