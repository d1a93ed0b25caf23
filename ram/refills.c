/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * refills.c - answers the missing-page faults of our own mappings with zeros, remembers where, and sees what has left them.
 * Neighbours: uffd.c does the ioctls; migration/rounds.c takes what was filled at each look. Its own thread answers.
 */
#include "ram/refills.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/compat.h"
#include "ram/pagemap.h"
#include "ram/uffd.h"

enum { MESSAGES = 32 };		/* read at a time */

static bool is_watched(const struct block *block)
{
	return block->is_mapped && !block->is_hugetlb;
}

/* Under the lock. Whoever reads goes on, filling holes unseen: refills_take() says so. */
static void refills_lose(struct refills *refills, int err)
{
	if (!refills->is_lost)
		error_note(refills->error, RDMAMIG_E_TRACKER, err, "userfaultfd: a hole of the guest's memory cannot be filled");
	refills->is_lost = true;
	for (unsigned i = 0; i < refills->count; i++)
		if (is_watched(&refills->blocks[i])) {
			uffd_unregister(refills->uffd, (uintptr_t)refills->blocks[i].memory, refills->blocks[i].bytes);
			uffd_wake(refills->uffd, (uintptr_t)refills->blocks[i].memory, refills->blocks[i].bytes);
		}
}

/* Under the lock. Remembered first: the reader goes on before the ioctl returns. */
static void refill(struct refills *refills, uint64_t address)
{
	uint64_t at = address / PAGE_BYTES * PAGE_BYTES;
	for (unsigned i = 0; i < refills->count; i++) {
		const struct block *block = &refills->blocks[i];
		uint64_t offset = at - (uintptr_t)block->memory;	/* huge if it lies before */
		if (is_watched(block) && offset < block->bytes)
			bitmap_set_range(&refills->filled[i], pages_of_bytes(offset), 1);
	}
	int err = uffd_zero(refills->uffd, at, PAGE_BYTES);
	if (err == -EEXIST || err == -EAGAIN)	/* the guest was first, or mappings change: the reader looks again */
		err = uffd_wake(refills->uffd, at, PAGE_BYTES);
	if (err)
		refills_lose(refills, -err);
}

static bool refills_step(void *self, struct wait *wait)
{
	struct refills *refills = self;
	struct uffd_msg messages[MESSAGES];
	ssize_t got = read(refills->uffd, messages, sizeof(messages));
	pthread_mutex_lock(&refills->lock);
	if (got < 0 && errno != EAGAIN && errno != EINTR)
		refills_lose(refills, errno);
	for (size_t i = 0; got > 0 && i < (size_t)got / sizeof(messages[0]); i++)
		refill(refills, messages[i].arg.pagefault.address);
	bool goes_on = !refills->is_ending;
	pthread_mutex_unlock(&refills->lock);

	wait_add_fd(wait, refills->uffd, POLLIN);
	return goes_on;
}

static enum rdmamig_status not_started(struct refills *refills, enum rdmamig_status status, int err, const char *what)
{
	error_note(refills->error, status, err, "%s", what);
	refills_stop(refills);
	return status;
}

static enum rdmamig_status watch(struct refills *refills)
{
	bool is_user_only;	/* then the kernel's reading for us fails with EFAULT where it would fill a hole: safe, too */
	refills->uffd = uffd_open(&is_user_only);
	if (refills->uffd < 0)
		return not_started(refills, RDMAMIG_E_PERMISSION, -refills->uffd, "userfaultfd: run as root, or let this user read "
				   "and write /dev/userfaultfd");
	refills->pagemap = pagemap_open(0);
	if (refills->pagemap < 0)
		return not_started(refills, RDMAMIG_E_PERMISSION, -refills->pagemap, "/proc/self/pagemap");
	int err = uffd_handshake_missing(refills->uffd);
	for (unsigned i = 0; i < refills->count && !err; i++)
		if (is_watched(&refills->blocks[i]))
			err = uffd_register_missing(refills->uffd, (uintptr_t)refills->blocks[i].memory, refills->blocks[i].bytes);
	return err ? not_started(refills, RDMAMIG_E_UNSUPPORTED, -err, "this kernel's userfaultfd cannot watch for holes") : RDMAMIG_OK;
}

enum rdmamig_status refills_start(struct refills *refills, struct block *blocks, unsigned count, struct error *error)
{
	*refills = (struct refills){ .blocks = blocks, .count = count, .uffd = -1, .pagemap = -1, .error = error };
	if (stepper_init(&refills->thread, &clock_real, refills_step, refills))
		return error_note(error, RDMAMIG_E_NO_MEMORY, 0, "a descriptor for the thread that fills holes");
	pthread_mutex_init(&refills->lock, NULL);
	refills->is_started = true;

	refills->filled = calloc(count ? count : 1, sizeof(*refills->filled));
	bool has_all = refills->filled;
	for (unsigned i = 0; i < count && has_all; i++)
		has_all = !bitmap_init(&refills->filled[i], blocks[i].pages);
	if (!has_all)
		return not_started(refills, RDMAMIG_E_NO_MEMORY, 0, "bitmaps of filled holes");

	enum rdmamig_status st = watch(refills);
	if (!st && stepper_start(&refills->thread, "rdmamig-refills"))
		st = not_started(refills, RDMAMIG_E_NO_MEMORY, 0, "the thread that fills holes");
	return st;
}

void refills_stop(struct refills *refills)
{
	if (!refills->is_started)
		return;
	pthread_mutex_lock(&refills->lock);
	refills->is_ending = true;
	pthread_mutex_unlock(&refills->lock);
	stepper_wake(&refills->thread);
	stepper_join(&refills->thread);
	stepper_fini(&refills->thread);
	if (refills->uffd >= 0)
		close(refills->uffd);	/* unregisters and wakes */
	if (refills->pagemap >= 0)
		close(refills->pagemap);
	for (unsigned i = 0; refills->filled && i < refills->count; i++)
		bitmap_fini(&refills->filled[i]);
	free(refills->filled);
	pthread_mutex_destroy(&refills->lock);
	*refills = (struct refills){ 0 };
}

static void mark_posted(const struct block *block, uint64_t first, uint64_t end, struct bitmap *into)
{
	struct run run;
	for (; bitmap_next_run(&block->posted, first, end, end - first, &run); first = run.first_page + run.pages) {
		bitmap_set_range(into, run.first_page, run.pages);
		if (run.first_page + run.pages == end)
			return;
	}
}

/* What was posted and has left our mapping. */
static enum rdmamig_status take_absent(struct refills *refills, const struct block *block, struct bitmap *into)
{
	struct pagemap_scan scan;
	uint64_t base = (uintptr_t)block->memory;
	struct address_range range = { .start = base, .end = base + block->bytes };
	pagemap_scan_begin_absent(&scan, refills->pagemap, range);
	int found;
	while ((found = pagemap_scan_next(&scan, &range)) > 0)
		mark_posted(block, pages_of_bytes(range.start - base), pages_of_bytes(range.end - base), into);
	return found ? error_note(refills->error, RDMAMIG_E_TRACKER, -found, "looking for punched pages of block %s", block->name) :
		       RDMAMIG_OK;
}

enum rdmamig_status refills_take(struct refills *refills, unsigned index, struct bitmap *into)
{
	if (!refills->is_started)
		return RDMAMIG_OK;
	if (is_watched(&refills->blocks[index])) {
		enum rdmamig_status absent = take_absent(refills, &refills->blocks[index], into);
		if (absent)
			return absent;
	}
	struct run run;
	uint64_t from = 0;
	pthread_mutex_lock(&refills->lock);
	struct bitmap *filled = &refills->filled[index];
	while (bitmap_take_run(filled, from, filled->bits, filled->bits, &run)) {
		bitmap_set_range(into, run.first_page, run.pages);
		from = run.first_page + run.pages;
	}
	enum rdmamig_status st = refills->is_lost ? RDMAMIG_E_TRACKER : RDMAMIG_OK;
	pthread_mutex_unlock(&refills->lock);
	return st;
}
