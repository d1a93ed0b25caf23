/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pagemap.c - asks the page tables of a process what was written.
 * Neighbour: tracker_uffd.c, which arms the pages and decides when to protect again. Session thread.
 */
#include "ram/pagemap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "ram/page.h"

int pagemap_open(pid_t pid)
{
	char path[64] = "/proc/self/pagemap";
	if (pid)
		snprintf(path, sizeof(path), "/proc/%d/pagemap", (int)pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

void pagemap_scan_begin(struct pagemap_scan *scan, int fd, struct address_range range, bool protects)
{
	scan->fd = fd;
	scan->protects = protects;
	scan->for_absent = scan->by_entries = false;
	scan->at = range.start;
	scan->end = range.end;
	scan->next = scan->count = 0;
}

void pagemap_scan_begin_absent(struct pagemap_scan *scan, int fd, struct address_range range)
{
	pagemap_scan_begin(scan, fd, range, false);
	scan->for_absent = true;
}

/*
 * What to look for. A protected page is present, or has a marker ("swapped") in its place, and is not WRITTEN. An entry
 * that is neither lost its page to reclaim, or to the splitting of a huge mapping, which may leave no page table at all:
 * file memory keeps no trace of a write, so it may have been written.
 *   WRITTEN, or not PRESENT             the scan's any-of, PRESENT being inverted
 *   except SWAPPED and not WRITTEN      region_is_wanted()
 * Linux 6.18 calls such an entry WRITTEN; kernels differ in when they do, and this does not depend on it.
 */
static bool region_is_wanted(const struct pagemap_scan *scan, const struct page_region *region)
{
	if (scan->for_absent)
		return true;
	return region->categories & PAGE_IS_WRITTEN || !(region->categories & PAGE_IS_SWAPPED);
}

/* One region a run of absent pages, from the 8 bytes a page that every kernel gives. */
static int scan_fill_entries(struct pagemap_scan *scan)
{
	uint64_t entries[PAGEMAP_REGIONS];
	uint64_t left = (scan->end - scan->at) / PAGE_BYTES;
	size_t want = left < PAGEMAP_REGIONS ? left : PAGEMAP_REGIONS;
	ssize_t got = pread(scan->fd, entries, want * sizeof(entries[0]), (off_t)(scan->at / PAGE_BYTES * sizeof(entries[0])));
	if (got < (ssize_t)sizeof(entries[0]))
		return got < 0 ? -errno : -EIO;
	scan->next = scan->count = 0;
	for (size_t i = 0; i < (size_t)got / sizeof(entries[0]); i++, scan->at += PAGE_BYTES) {
		if (entries[i] & COMPAT_PM_PRESENT)
			continue;
		struct page_region *last = scan->count ? &scan->regions[scan->count - 1] : NULL;
		if (last && last->end == scan->at)
			last->end += PAGE_BYTES;
		else
			scan->regions[scan->count++] = (struct page_region){ .start = scan->at, .end = scan->at + PAGE_BYTES };
	}
	return 0;
}

static int scan_fill(struct pagemap_scan *scan)
{
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.flags = PM_SCAN_CHECK_WPASYNC | (scan->protects ? PM_SCAN_WP_MATCHING : 0),
		.start = scan->at,
		.end = scan->end,
		.vec = (uintptr_t)scan->regions,
		.vec_len = PAGEMAP_REGIONS,
		.category_inverted = PAGE_IS_PRESENT,
		.category_anyof_mask = PAGE_IS_WRITTEN | PAGE_IS_PRESENT,
		.return_mask = PAGE_IS_WRITTEN | PAGE_IS_SWAPPED,
	};
	if (scan->for_absent) {
		arg.flags = 0;
		arg.category_anyof_mask = arg.return_mask = PAGE_IS_PRESENT;
	}
	int count = ioctl(scan->fd, PAGEMAP_SCAN, &arg);
	if (count < 0)
		return -errno;
	if (arg.walk_end <= scan->at)
		return -EINVAL;		/* part of a huge page cannot be protected: this would go on for ever */
	scan->at = arg.walk_end;
	scan->next = 0;
	scan->count = (unsigned)count;
	return 0;
}

int pagemap_scan_next(struct pagemap_scan *scan, struct address_range *out)
{
	for (;;) {
		while (scan->next < scan->count) {
			const struct page_region *region = &scan->regions[scan->next++];
			if (!region_is_wanted(scan, region))
				continue;
			*out = (struct address_range){ .start = region->start, .end = region->end };
			return 1;
		}
		if (scan->at >= scan->end)
			return 0;
		int err = scan->by_entries ? scan_fill_entries(scan) : scan_fill(scan);
		if (err == -ENOTTY && scan->for_absent) {
			scan->by_entries = true;
			continue;
		}
		if (err)
			return err;
	}
}
