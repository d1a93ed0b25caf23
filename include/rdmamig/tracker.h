/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tracker.h - who finds out which pages the guest wrote.
 *
 * A source session has one tracker. Rule R2: it is armed before anyone asks which pages exist, and a page is
 * re-protected before its first byte is read for sending. All operations run on the session thread only.
 */
#ifndef RDMAMIG_TRACKER_H
#define RDMAMIG_TRACKER_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <rdmamig/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How a tracker's sync tells what was written: once per run of pages, in any order, a page may be named twice. */
struct rdmamig_dirty_sink {
	void (*mark)(void *opaque, unsigned block, uint64_t first_page, uint64_t pages);
	void *opaque;
};

/*
 * A tracker supplied by the embedding program (a VMM with its own dirty log).
 *
 * Each returns RDMAMIG_OK or an error that ends the session with the source running. @first_page and @pages count
 * 4 KiB pages of the block with index @block (the order of rdmamig_session_add_block()).
 */
struct rdmamig_tracker_ops {
	size_t size;	/* sizeof(struct rdmamig_tracker_ops) */

	/* Start tracking writes to these pages. Called again for pages that came into being later; their being armed
	 * before they are read is the tracker's promise. */
	enum rdmamig_status (*arm)(void *opaque, unsigned block, uint64_t first_page, uint64_t pages);

	/* Report every page written since it was armed or last reported, and protect it again before returning. */
	enum rdmamig_status (*sync)(void *opaque, const struct rdmamig_dirty_sink *dirty);

	/* Stop tracking everything and undo whatever arming did to the guest. Must not fail; may be called twice. */
	void (*disarm)(void *opaque);
};

/* How the built-in userfaultfd tracker gets its userfaultfd. */
enum rdmamig_uffd_mode {
	RDMAMIG_UFFD_AUTO = 0,	/* async where the kernel has it (6.7 and later), else sync */
	RDMAMIG_UFFD_ASYNC = 1,
	RDMAMIG_UFFD_SYNC = 2,	/* a thread marks and unprotects; needs a userfaultfd made as root */
};

#ifdef __cplusplus
}
#endif
#endif
