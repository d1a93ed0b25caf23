/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tracker.h - the built-in dirty trackers, all behind struct rdmamig_tracker_ops.
 *
 * A tracker's ops are called with its opaque on the session thread. tracker_free() disarms first.
 */
#ifndef RAM_TRACKER_H
#define RAM_TRACKER_H

#include <stdint.h>
#include <sys/types.h>

#include <rdmamig/status.h>
#include <rdmamig/tracker.h>

#include "base/error.h"
#include "ram/block.h"

struct tracker {
	struct rdmamig_tracker_ops ops;
	void *opaque;
	void (*free)(void *opaque);	/* NULL: nothing to free */
	uint64_t attach_pause_us;	/* how long the guest stood still when it was opened */
};

/*
 * tracker_open_* - @blocks (count of them) must outlive the tracker; indices in its ops are into that array.
 *
 * process   makes the userfaultfd inside @pid (ram/attach.h); finds each block in its mappings by the file's inode
 * uffd      takes over @uffd, made by process @pid (0: ourselves, blocks where they are mapped here); on failure it is
 *           still yours. Its maker may or may not have done UFFDIO_API; nothing else may be registered with it
 * self      makes its own
 * E_PERMISSION  ptrace, userfaultfd or pagemap refused: the text says which and how to allow it
 * E_NO_PROCESS  no such process, or it does not map all of a block's file
 * E_BUSY        a debugger traces the process; from arm(): another userfaultfd has its memory
 * E_UNSUPPORTED the kernel lacks what @mode needs, or this CPU's injection is not written
 * E_TRACKER     anything else that failed
 */
enum rdmamig_status tracker_open_process(struct tracker *tracker, struct block *blocks, unsigned count, pid_t pid,
					 enum rdmamig_uffd_mode mode, struct error *error);
enum rdmamig_status tracker_open_uffd(struct tracker *tracker, struct block *blocks, unsigned count, int uffd, pid_t pid,
				      enum rdmamig_uffd_mode mode, struct error *error);
enum rdmamig_status tracker_open_self(struct tracker *tracker, struct block *blocks, unsigned count,
				      enum rdmamig_uffd_mode mode, struct error *error);

/* tracker_open_manual - never finds anything: marks come by rdmamig_session_mark_dirty(). Cannot fail. */
void tracker_open_manual(struct tracker *tracker);

void tracker_free(struct tracker *tracker);	/* a zeroed one is fine */

#endif
