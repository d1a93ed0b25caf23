/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_tracker_uffd.c - what a real process writes is reported: async and sync, by attach, hand-over and for ourselves.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/error.h"
#include "ram/tracker.h"
#include "tests/unit/guest.h"

enum { PAGES = 1024 };

enum way { BY_ATTACH, BY_HANDOVER, BY_HANDOVER_READY };

struct rig {
	int file;
	struct guest guest;
	struct error error;
	struct block block;
	struct tracker tracker;
	uint8_t *is_dirty;		/* by page, what was reported */
	struct rdmamig_dirty_sink sink;
};

static void note_dirty(void *opaque, unsigned block, uint64_t first_page, uint64_t pages)
{
	struct rig *rig = opaque;
	assert_int_equal(block, 0);
	assert_true(first_page < rig->block.pages && pages <= rig->block.pages - first_page && pages > 0);
	memset(rig->is_dirty + first_page, 1, pages);
}

static uint64_t rig_dirty(const struct rig *rig)
{
	uint64_t n = 0;
	for (uint64_t i = 0; i < rig->block.pages; i++)
		n += rig->is_dirty[i];
	return n;
}

/* Sync and start with a clean slate. */
static enum rdmamig_status rig_sync(struct rig *rig)
{
	memset(rig->is_dirty, 0, rig->block.pages);
	return rig->tracker.ops.sync(rig->tracker.opaque, &rig->sink);
}

static void rig_arm(struct rig *rig, uint64_t first_page, uint64_t pages)
{
	assert_int_equal(rig->tracker.ops.arm(rig->tracker.opaque, 0, first_page, pages), RDMAMIG_OK);
}

static void rig_make(struct rig *rig, int file, uint64_t pages)
{
	*rig = (struct rig){ .file = file };
	assert_true(rig->file >= 0);
	guest_start(&rig->guest, rig->file, pages);
	error_init(&rig->error);
	struct rdmamig_block spec = { .size = sizeof(spec), .name = "ram0", .fd = rig->file, .length = pages * PAGE_BYTES };
	assert_int_equal(block_init(&rig->block, &spec, RDMAMIG_SOURCE, &rig->error), RDMAMIG_OK);
	rig->is_dirty = calloc(1, pages);
	rig->sink = (struct rdmamig_dirty_sink){ .mark = note_dirty, .opaque = rig };
}

static int memory_file(uint64_t pages)
{
	int file = memfd_create("ram", MFD_CLOEXEC);
	assert_int_equal(ftruncate(file, (off_t)(pages * PAGE_BYTES)), 0);
	return file;
}

static void rig_track(struct rig *rig, enum way way, enum rdmamig_uffd_mode mode)
{
	enum rdmamig_status st;
	if (way == BY_ATTACH) {
		st = tracker_open_process(&rig->tracker, &rig->block, 1, rig->guest.pid, mode, &rig->error);
	} else {
		uint64_t handshake = way == BY_HANDOVER ? 0 : mode == RDMAMIG_UFFD_SYNC ? 2 : 1;
		guest_order(&rig->guest, GUEST_GIVE_UFFD, 0, 0, handshake);
		int uffd = guest_recv_fd(rig->guest.socket);
		assert_true(guest_done(&rig->guest));
		st = tracker_open_uffd(&rig->tracker, &rig->block, 1, uffd, rig->guest.pid, mode, &rig->error);
	}
	if (st)
		fail_msg("%s", rig->error.text);
}

static void rig_free(struct rig *rig)
{
	tracker_free(&rig->tracker);
	block_fini(&rig->block);
	guest_stop(&rig->guest);
	close(rig->file);
	free(rig->is_dirty);
	error_fini(&rig->error);
}

static void assert_only(const struct rig *rig, uint64_t first_page, uint64_t pages)
{
	for (uint64_t i = 0; i < rig->block.pages; i++)
		if (rig->is_dirty[i] != (i >= first_page && i < first_page + pages))
			fail_msg("page %llu", (unsigned long long)i);
}

static void known_pages(enum way way, enum rdmamig_uffd_mode mode)
{
	struct rig rig;
	rig_make(&rig, memory_file(PAGES), PAGES);
	guest_do(&rig.guest, GUEST_WRITE, 0, PAGES / 2, 1);
	guest_do(&rig.guest, GUEST_MADVISE, 5, 4, MADV_DONTDUMP);	/* several mappings now */
	rig_track(&rig, way, mode);
	rig_arm(&rig, 0, PAGES / 2);
	guest_do(&rig.guest, GUEST_MADVISE, 6, 10, MADV_DONTFORK);
	assert_int_equal(rig_sync(&rig), RDMAMIG_OK);
	assert_int_equal(rig_dirty(&rig), 0);

	guest_do(&rig.guest, GUEST_READ, 0, PAGES / 2, 0);
	assert_int_equal(rig_sync(&rig), RDMAMIG_OK);
	assert_int_equal(rig_dirty(&rig), 0);

	guest_do(&rig.guest, GUEST_WRITE, 7, 3, 2);
	assert_int_equal(rig_sync(&rig), RDMAMIG_OK);
	assert_only(&rig, 7, 3);

	/* Reported once, protected again, and seen again. */
	assert_int_equal(rig_sync(&rig), RDMAMIG_OK);
	assert_int_equal(rig_dirty(&rig), 0);
	guest_do(&rig.guest, GUEST_WRITE, 8, 1, 3);
	assert_int_equal(rig_sync(&rig), RDMAMIG_OK);
	assert_only(&rig, 8, 1);

	/* Through the kernel. */
	guest_do(&rig.guest, GUEST_PREAD, 100, 20, 0);
	assert_int_equal(rig_sync(&rig), RDMAMIG_OK);
	assert_only(&rig, 100, 20);

	/* Arming what is armed forgets nothing. */
	guest_do(&rig.guest, GUEST_WRITE, 20, 1, 4);
	rig_arm(&rig, 0, PAGES / 2);
	assert_int_equal(rig_sync(&rig), RDMAMIG_OK);
	assert_only(&rig, 20, 1);

	/* Two writes with a short gap between: the gap is not reported. */
	guest_do(&rig.guest, GUEST_WRITE, 30, 1, 5);
	guest_do(&rig.guest, GUEST_WRITE, 33, 1, 5);
	assert_int_equal(rig_sync(&rig), RDMAMIG_OK);
	assert_int_equal(rig_dirty(&rig), 2);
	assert_true(rig.is_dirty[30] && rig.is_dirty[33]);

	/* A page born later, armed, written after. */
	guest_do(&rig.guest, GUEST_WRITE, PAGES - 2, 1, 5);
	rig_arm(&rig, PAGES - 2, 1);
	assert_int_equal(rig_sync(&rig), RDMAMIG_OK);
	assert_int_equal(rig_dirty(&rig), 0);
	guest_do(&rig.guest, GUEST_WRITE, PAGES - 2, 1, 6);
	assert_int_equal(rig_sync(&rig), RDMAMIG_OK);
	assert_only(&rig, PAGES - 2, 1);

	/* Disarmed, the guest writes as it likes; twice is fine. */
	rig.tracker.ops.disarm(rig.tracker.opaque);
	rig.tracker.ops.disarm(rig.tracker.opaque);
	guest_do(&rig.guest, GUEST_WRITE, 0, PAGES, 7);
	assert_int_equal(rig_sync(&rig), RDMAMIG_OK);
	assert_int_equal(rig_dirty(&rig), 0);
	rig_free(&rig);
}

static void test_known_pages(void **state)
{
	(void)state;
	known_pages(BY_ATTACH, RDMAMIG_UFFD_AUTO);
	known_pages(BY_ATTACH, RDMAMIG_UFFD_ASYNC);
	known_pages(BY_ATTACH, RDMAMIG_UFFD_SYNC);
	known_pages(BY_HANDOVER, RDMAMIG_UFFD_AUTO);
	known_pages(BY_HANDOVER, RDMAMIG_UFFD_SYNC);
	known_pages(BY_HANDOVER_READY, RDMAMIG_UFFD_AUTO);
	known_pages(BY_HANDOVER_READY, RDMAMIG_UFFD_SYNC);
}

/* A hole that was armed is not lost either, whatever the mapping went through. */
static void discarded(enum rdmamig_uffd_mode mode)
{
	struct rig rig;
	rig_make(&rig, memory_file(PAGES), PAGES);
	guest_do(&rig.guest, GUEST_WRITE, 0, PAGES, 1);
	rig_track(&rig, BY_ATTACH, mode);
	rig_arm(&rig, 0, PAGES);
	guest_do(&rig.guest, GUEST_PUNCH, 10, 10, 0);
	guest_do(&rig.guest, GUEST_DONTNEED, 15, 10, 0);
	assert_int_equal(rig_sync(&rig), RDMAMIG_OK);
	guest_do(&rig.guest, GUEST_WRITE, 12, 1, 2);
	guest_do(&rig.guest, GUEST_WRITE, 17, 1, 2);
	guest_do(&rig.guest, GUEST_WRITE, 22, 1, 2);
	assert_int_equal(rig_sync(&rig), RDMAMIG_OK);
	assert_true(rig.is_dirty[12] && rig.is_dirty[17] && rig.is_dirty[22]);

	/* Written, and then its page table entry taken away. */
	guest_do(&rig.guest, GUEST_WRITE, 40, 1, 3);
	guest_do(&rig.guest, GUEST_DONTNEED, 40, 1, 0);
	assert_int_equal(rig_sync(&rig), RDMAMIG_OK);
	assert_true(rig.is_dirty[40]);
	rig_free(&rig);
}

static void test_discarded_pages(void **state)
{
	(void)state;
	discarded(RDMAMIG_UFFD_ASYNC);
	discarded(RDMAMIG_UFFD_SYNC);
}

/* Holes cost neither a report nor page tables. */
static void test_holes_stay_holes(void **state)
{
	(void)state;
	const uint64_t pages = 64ull << 30 >> PAGE_SHIFT;
	struct rig rig;
	rig_make(&rig, memory_file(pages), pages);
	guest_do(&rig.guest, GUEST_WRITE, 5000, 10, 1);
	guest_do(&rig.guest, GUEST_WRITE, pages - 10, 10, 1);
	rig_track(&rig, BY_ATTACH, RDMAMIG_UFFD_ASYNC);
	rig_arm(&rig, 5000, 10);
	rig_arm(&rig, pages - 10, 10);
	guest_do(&rig.guest, GUEST_WRITE, 5001, 1, 1);
	guest_do(&rig.guest, GUEST_READ, 100000, 4, 1);	/* page tables with nothing armed in them */
	guest_do(&rig.guest, GUEST_WRITE, pages - 1, 1, 1);
	assert_int_equal(rig_sync(&rig), RDMAMIG_OK);
	assert_int_equal(rig_dirty(&rig), 2);
	assert_true(rig.is_dirty[5001] && rig.is_dirty[pages - 1]);

	char path[64], line[256];
	unsigned long table_kib = 0;
	snprintf(path, sizeof(path), "/proc/%d/status", (int)rig.guest.pid);
	FILE *status = fopen(path, "r");
	while (fgets(line, sizeof(line), status))
		sscanf(line, "VmPTE: %lu", &table_kib);
	fclose(status);
	assert_in_range(table_kib, 1, 1024);
	rig_free(&rig);
}

/* Rounds as a migration makes them: sync, copy what was reported; at last stop, sync, copy: both sides are equal. */
static void precopy(enum way way, enum rdmamig_uffd_mode mode, unsigned rounds)
{
	struct rig rig;
	rig_make(&rig, memory_file(PAGES), PAGES);
	guest_do(&rig.guest, GUEST_WRITE, 0, PAGES, 1);
	rig_track(&rig, way, mode);
	guest_do(&rig.guest, GUEST_WRITER_START, 0, 0, 0);
	rig_arm(&rig, 0, PAGES);
	uint8_t *copy = malloc(rig.block.bytes);
	memcpy(copy, rig.block.memory, rig.block.bytes);

	/* Enough rounds, and enough found in them: on a crowded machine the writer may not run for many. */
	uint64_t total = 0;
	bool is_last = false;
	for (unsigned round = 0; !is_last; round++) {
		is_last = round >= rounds && total >= 4 * PAGES;
		if (is_last)
			guest_do(&rig.guest, GUEST_WRITER_STOP, 0, 0, 0);
		else
			sched_yield();
		assert_int_equal(rig_sync(&rig), RDMAMIG_OK);
		total += rig_dirty(&rig);
		for (uint64_t i = 0; i < PAGES; i++)
			if (rig.is_dirty[i])
				memcpy(copy + i * PAGE_BYTES, rig.block.memory + i * PAGE_BYTES, PAGE_BYTES);
	}
	for (uint64_t i = 0; i < PAGES; i++)
		if (memcmp(copy + i * PAGE_BYTES, rig.block.memory + i * PAGE_BYTES, PAGE_BYTES))
			fail_msg("a write to page %llu was lost", (unsigned long long)i);
	assert_int_equal(rig_sync(&rig), RDMAMIG_OK);
	assert_int_equal(rig_dirty(&rig), 0);
	free(copy);
	rig_free(&rig);
}

static void test_no_write_is_lost(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 5; i++) {
		precopy(BY_ATTACH, RDMAMIG_UFFD_ASYNC, 150);
		precopy(BY_ATTACH, RDMAMIG_UFFD_SYNC, 150);
		precopy(BY_HANDOVER, RDMAMIG_UFFD_ASYNC, 150);
	}
}

/* As a migration finds it: the guest, its mapping, or what is mapped there, goes while it is tracked. */
static void taken_away(enum rdmamig_uffd_mode mode, enum guest_op op)
{
	struct rig rig;
	rig_make(&rig, memory_file(PAGES), PAGES);
	guest_do(&rig.guest, GUEST_WRITE, 0, PAGES, 1);
	rig_track(&rig, BY_ATTACH, mode);
	rig_arm(&rig, 0, PAGES);
	assert_int_equal(rig_sync(&rig), RDMAMIG_OK);
	guest_do(&rig.guest, op, 100, 10, 0);
	assert_int_equal(rig_sync(&rig), RDMAMIG_E_TRACKER);
	assert_true(rig.error.text[0]);
	guest_do(&rig.guest, GUEST_WRITE, 0, 50, 1);	/* and it does not hang */
	rig_free(&rig);
}

static void test_mapping_taken_away(void **state)
{
	(void)state;
	taken_away(RDMAMIG_UFFD_ASYNC, GUEST_REMAP);
	taken_away(RDMAMIG_UFFD_ASYNC, GUEST_UNMAP);
	taken_away(RDMAMIG_UFFD_SYNC, GUEST_REMAP);
	taken_away(RDMAMIG_UFFD_SYNC, GUEST_UNMAP);
}

static void killed(enum rdmamig_uffd_mode mode)
{
	struct rig rig;
	rig_make(&rig, memory_file(PAGES), PAGES);
	rig_track(&rig, BY_ATTACH, mode);
	rig_arm(&rig, 0, PAGES);
	guest_do(&rig.guest, GUEST_WRITE, 0, PAGES, 1);
	kill(rig.guest.pid, SIGKILL);
	siginfo_t info;
	waitid(P_PID, (id_t)rig.guest.pid, &info, WEXITED | WNOWAIT);
	assert_int_not_equal(rig_sync(&rig), RDMAMIG_OK);
	rig_free(&rig);
}

static void test_guest_killed(void **state)
{
	(void)state;
	killed(RDMAMIG_UFFD_ASYNC);
	killed(RDMAMIG_UFFD_SYNC);
}

/* A writer waiting for the fault thread is let go by the end of tracking. */
static void test_sync_lets_go(void **state)
{
	(void)state;
	struct rig rig;
	rig_make(&rig, memory_file(PAGES), PAGES);
	guest_do(&rig.guest, GUEST_WRITE, 0, PAGES, 1);
	for (unsigned i = 0; i < 20; i++) {
		rig_track(&rig, BY_ATTACH, RDMAMIG_UFFD_SYNC);
		rig_arm(&rig, 0, PAGES);
		guest_order(&rig.guest, GUEST_WRITE, 0, PAGES, i);
		if (i % 2)
			rig.tracker.ops.disarm(rig.tracker.opaque);
		tracker_free(&rig.tracker);
		assert_true(guest_done(&rig.guest));
	}
	rig_free(&rig);
}

static void test_another_tracks(void **state)
{
	(void)state;
	struct rig rig;
	rig_make(&rig, memory_file(PAGES), PAGES);
	guest_do(&rig.guest, GUEST_WRITE, 0, PAGES, 1);
	rig_track(&rig, BY_ATTACH, RDMAMIG_UFFD_AUTO);
	rig_arm(&rig, 0, PAGES);

	struct tracker second;
	struct error error;
	error_init(&error);
	assert_int_equal(tracker_open_process(&second, &rig.block, 1, rig.guest.pid, RDMAMIG_UFFD_AUTO, &error), RDMAMIG_OK);
	assert_int_equal(second.ops.arm(second.opaque, 0, 0, PAGES), RDMAMIG_E_BUSY);
	tracker_free(&second);

	/* The first is none the worse for it. */
	guest_do(&rig.guest, GUEST_WRITE, 3, 1, 2);
	assert_int_equal(rig_sync(&rig), RDMAMIG_OK);
	assert_only(&rig, 3, 1);

	/* And when it has gone, nothing of it is left. */
	tracker_free(&rig.tracker);
	assert_int_equal(tracker_open_process(&second, &rig.block, 1, rig.guest.pid, RDMAMIG_UFFD_AUTO, &error), RDMAMIG_OK);
	assert_int_equal(second.ops.arm(second.opaque, 0, 0, PAGES), RDMAMIG_OK);
	tracker_free(&second);
	error_fini(&error);
	rig_free(&rig);
}

static void test_refusals(void **state)
{
	(void)state;
	struct rig rig;
	struct tracker tracker;
	struct guest other;
	int file = memory_file(PAGES);
	guest_start(&other, file, PAGES);	/* maps another file; before ours is mapped, as a child has its parent's maps */
	rig_make(&rig, memory_file(PAGES), PAGES);
	assert_int_equal(tracker_open_process(&tracker, &rig.block, 1, other.pid, RDMAMIG_UFFD_AUTO, NULL), RDMAMIG_E_NO_PROCESS);
	guest_stop(&other);
	close(file);
	assert_int_equal(tracker_open_process(&tracker, &rig.block, 1, 0x3ffffff, RDMAMIG_UFFD_AUTO, NULL), RDMAMIG_E_NO_PROCESS);

	/* a part of it is missing */
	guest_do(&rig.guest, GUEST_UNMAP, PAGES - 1, 1, 0);
	assert_int_equal(tracker_open_process(&tracker, &rig.block, 1, rig.guest.pid, RDMAMIG_UFFD_AUTO, NULL), RDMAMIG_E_NO_PROCESS);
	guest_do(&rig.guest, GUEST_REMAP, PAGES - 1, 1, 0);

	/* what was handed over is no userfaultfd, or one of the other mode; it stays ours */
	int null = open("/dev/null", O_RDWR);
	assert_int_equal(tracker_open_uffd(&tracker, &rig.block, 1, null, rig.guest.pid, RDMAMIG_UFFD_AUTO, NULL), RDMAMIG_E_TRACKER);
	assert_int_equal(close(null), 0);
	for (uint64_t handshake = 1; handshake <= 2; handshake++) {
		guest_order(&rig.guest, GUEST_GIVE_UFFD, 0, 0, handshake);
		int uffd = guest_recv_fd(rig.guest.socket);
		assert_true(guest_done(&rig.guest));
		assert_int_equal(tracker_open_uffd(&tracker, &rig.block, 1, uffd, rig.guest.pid,
						   handshake == 1 ? RDMAMIG_UFFD_SYNC : RDMAMIG_UFFD_ASYNC, NULL), RDMAMIG_E_UNSUPPORTED);
		if (handshake == 2)
			assert_int_equal(tracker_open_uffd(&tracker, &rig.block, 1, uffd, rig.guest.pid,
							   RDMAMIG_UFFD_AUTO, NULL), RDMAMIG_E_UNSUPPORTED);
		assert_int_equal(close(uffd), 0);
	}
	rig_free(&rig);
}

/* Our own memory: private and anonymous by address, and a file. */
static void own(bool is_anonymous, enum rdmamig_uffd_mode mode)
{
	struct error error;
	struct tracker tracker;
	error_init(&error);
	int file = is_anonymous ? -1 : memory_file(PAGES);
	uint8_t *memory = mmap(NULL, PAGES * PAGE_BYTES, PROT_READ | PROT_WRITE,
			       is_anonymous ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED, file, 0);
	struct rig rig = { .is_dirty = calloc(1, PAGES) };
	rig.sink = (struct rdmamig_dirty_sink){ .mark = note_dirty, .opaque = &rig };
	struct rdmamig_block spec = { .size = sizeof(spec), .name = "own", .addr = is_anonymous ? memory : NULL,
				      .fd = file, .length = PAGES * PAGE_BYTES };
	assert_int_equal(block_init(&rig.block, &spec, RDMAMIG_SOURCE, &error), RDMAMIG_OK);
	assert_int_equal(tracker_open_self(&tracker, &rig.block, 1, mode, &error), RDMAMIG_OK);
	memset(memory, 1, PAGES * PAGE_BYTES / 2);
	rig.tracker = tracker;
	rig_arm(&rig, 0, PAGES);
	memory[5 * PAGE_BYTES] = 2;
	memory[(PAGES - 5) * PAGE_BYTES] = 2;	/* never touched before */
	assert_int_equal(rig_sync(&rig), RDMAMIG_OK);
	assert_true(rig.is_dirty[5] && rig.is_dirty[PAGES - 5]);
	assert_int_equal(rig_sync(&rig), RDMAMIG_OK);
	assert_int_equal(rig_dirty(&rig), 0);
	tracker_free(&tracker);
	block_fini(&rig.block);
	munmap(memory, PAGES * PAGE_BYTES);
	if (file >= 0)
		close(file);
	free(rig.is_dirty);
	error_fini(&error);
}

static void test_own_memory(void **state)
{
	(void)state;
	own(true, RDMAMIG_UFFD_ASYNC);
	own(false, RDMAMIG_UFFD_ASYNC);
	own(false, RDMAMIG_UFFD_SYNC);
}

static void test_hugetlb(void **state)
{
	(void)state;
	const uint64_t huge_pages = 4, pages = huge_pages * 512;
	int file = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB | 21u << 26);
	if (file < 0 || ftruncate(file, (off_t)(pages * PAGE_BYTES)) || fallocate(file, 0, 0, (off_t)(pages * PAGE_BYTES))) {
		print_message("no 4 free huge pages of 2 MiB; to run this: echo 8 > /proc/sys/vm/nr_hugepages\n");
		if (file >= 0)
			close(file);
		skip();
	}
	for (enum rdmamig_uffd_mode mode = RDMAMIG_UFFD_ASYNC; mode <= RDMAMIG_UFFD_SYNC; mode++) {
		struct rig rig;
		rig_make(&rig, dup(file), pages);
		guest_do(&rig.guest, GUEST_WRITE, 0, pages, 1);
		rig_track(&rig, BY_ATTACH, mode);
		rig_arm(&rig, 0, pages);
		guest_do(&rig.guest, GUEST_WRITE, 700, 1, 2);
		assert_int_equal(rig_sync(&rig), RDMAMIG_OK);
		assert_only(&rig, 512, 512);
		assert_int_equal(rig_sync(&rig), RDMAMIG_OK);
		assert_int_equal(rig_dirty(&rig), 0);
		rig_free(&rig);
	}
	close(file);
}

int main(void)
{
	alarm(300);		/* a guest that is not let go hangs */
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_known_pages),
		cmocka_unit_test(test_discarded_pages),
		cmocka_unit_test(test_holes_stay_holes),
		cmocka_unit_test(test_no_write_is_lost),
		cmocka_unit_test(test_mapping_taken_away),
		cmocka_unit_test(test_guest_killed),
		cmocka_unit_test(test_sync_lets_go),
		cmocka_unit_test(test_another_tracks),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_own_memory),
		cmocka_unit_test(test_hugetlb),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
