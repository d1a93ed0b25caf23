/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pagemap.h - PAGEMAP_SCAN: which pages of an async write-tracked mapping were written since they were protected, or which
 * pages of a mapping have no entry in the page table.
 *
 * One thread a scan.
 */
#ifndef RAM_PAGEMAP_H
#define RAM_PAGEMAP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/compat.h"

enum { PAGEMAP_REGIONS = 512 };

struct pagemap_scan {
	int fd;
	bool protects;
	bool for_absent;
	bool by_entries;	/* the kernel has no PAGEMAP_SCAN: reads the entries, for_absent only */
	uint64_t at;		/* [at, end) has not been looked at */
	uint64_t end;
	unsigned next;		/* regions [next, count) have not been told */
	unsigned count;
	struct page_region regions[PAGEMAP_REGIONS];
};

struct address_range {
	uint64_t start;
	uint64_t end;
};

/* pagemap_open - the pagemap of process @pid, 0: ours. The descriptor, or -errno: -EACCES, -EPERM, -ENOENT no process. */
int pagemap_open(pid_t pid);

/*
 * pagemap_scan_begin - look at @range, whole granules of one or more tracked mappings.
 * @protects: protect each page found, in one step with seeing that it was written. Else nothing changes.
 */
void pagemap_scan_begin(struct pagemap_scan *scan, int fd, struct address_range range, bool protects);

/* pagemap_scan_begin_absent - look for pages that are not present in @range, whatever is mapped there. */
void pagemap_scan_begin_absent(struct pagemap_scan *scan, int fd, struct address_range range);

/*
 * pagemap_scan_next - the next range of such pages. A protecting scan is ahead of what it has told: use up all of it.
 *
 * 1             *out is set
 * 0             no more
 * -EPERM        a mapping in the range is not, or no longer, tracked in async mode
 * -ENOTTY       the kernel is older than 6.7, and what was written is asked for
 * other -errno  as the ioctl gave it
 */
int pagemap_scan_next(struct pagemap_scan *scan, struct address_range *out);

#endif
