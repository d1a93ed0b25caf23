/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tracker_uffd.c - arms with UFFDIO_WRITEPROTECT; syncs by PAGEMAP_SCAN (async) or from the fault thread's marks (sync).
 * Neighbours: tracked.c holds a block, pagemap.c scans, faults.c is the sync mode, tracker.c gets the descriptor.
 * Session thread.
 *
 * No write is lost in async mode: the protecting scan sees a page as written and protects it under one hold of the
 * page table's lock, and has flushed the TLBs when it returns. A write before that is in its report; one after it
 * unprotects the page again, and is in the next. Nobody reads the page before the report.
 */
#include "ram/tracker_uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/compat.h"
#include "ram/faults.h"
#include "ram/pagemap.h"
#include "ram/tracked.h"
#include "ram/uffd.h"

/*
 * A protecting scan costs its call, and the guest a fault for each page of its range, written or not: a virtual
 * machine's second-level entries are dropped for all of it. So only short gaps are scanned too.
 */
enum { GAP_PAGES = 8 };

struct tracker_uffd {
	pid_t pid;
	int uffd;		/* -1: none yet */
	int pagemap;
	bool is_async;
	struct tracked *tracked;
	unsigned count;
	struct faults faults;	/* sync */
	struct pagemap_scan found;
	struct pagemap_scan protecting;
	struct error *error;
};

static enum rdmamig_status pagemap_take(struct tracker_uffd *tracker)
{
	tracker->pagemap = pagemap_open(tracker->pid);
	if (tracker->pagemap >= 0)
		return RDMAMIG_OK;
	int err = -tracker->pagemap;
	return error_note(tracker->error, err == EACCES || err == EPERM ? RDMAMIG_E_PERMISSION :
			  err == ENOENT || err == ESRCH ? RDMAMIG_E_NO_PROCESS : RDMAMIG_E_TRACKER, err,
			  "/proc/%d/pagemap: run as root or with CAP_SYS_PTRACE", (int)tracker->pid);
}

enum rdmamig_status tracker_uffd_new(struct tracker_uffd **out, struct block *blocks, unsigned count, pid_t pid, struct error *error)
{
	struct tracker_uffd *tracker = calloc(1, sizeof(*tracker));
	struct tracked *tracked = calloc(count ? count : 1, sizeof(*tracked));
	if (!tracker || !tracked) {
		free(tracker);
		free(tracked);
		return error_note(error, RDMAMIG_E_NO_MEMORY, 0, "the dirty tracker");
	}
	tracker->pid = pid;
	tracker->uffd = tracker->pagemap = -1;
	tracker->tracked = tracked;
	tracker->error = error;

	enum rdmamig_status st = RDMAMIG_OK;
	for (; !st && tracker->count < count; tracker->count++)
		st = tracked_init(&tracked[tracker->count], &blocks[tracker->count], pid, error);
	if (!st)
		st = pagemap_take(tracker);
	if (st) {
		tracker_uffd_free(tracker);
		return st;
	}
	*out = tracker;
	return RDMAMIG_OK;
}

/* Async if wanted and to be had. A maker who has done UFFDIO_API has decided already: @features. */
static enum rdmamig_status handshake(struct tracker_uffd *tracker, int fd, enum rdmamig_uffd_mode mode, uint64_t *features)
{
	if (*features)
		return RDMAMIG_OK;

	int err = mode == RDMAMIG_UFFD_SYNC ? -EINVAL : uffd_handshake(fd, true);
	if (err == -EINVAL && mode != RDMAMIG_UFFD_ASYNC)
		err = uffd_handshake(fd, false);
	if (err == -EINVAL)
		return error_note(tracker->error, RDMAMIG_E_UNSUPPORTED, 0, "this kernel cannot track writes to shared memory%s",
				  mode == RDMAMIG_UFFD_ASYNC ? " in async mode: that needs Linux 6.7" : ": that needs Linux 5.19");
	if (!err)
		err = uffd_features(fd, features);
	return err ? error_note(tracker->error, RDMAMIG_E_TRACKER, -err, "userfaultfd handshake") : RDMAMIG_OK;
}

static enum rdmamig_status features_check(struct tracker_uffd *tracker, uint64_t features, const struct uffd_origin *origin,
					  enum rdmamig_uffd_mode mode)
{
	const uint64_t needed = UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_HUGETLBFS_SHMEM;
	const uint64_t sync_events = UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_UNMAP;
	const uint64_t events = sync_events | UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_SIGBUS;
	bool is_async = features & UFFD_FEATURE_WP_ASYNC;

	if ((features & needed) != needed || (is_async ? mode == RDMAMIG_UFFD_SYNC : mode == RDMAMIG_UFFD_ASYNC))
		return error_note(tracker->error, RDMAMIG_E_UNSUPPORTED, 0, "the userfaultfd's features 0x%llx do not fit; it needs "
				  "PAGEFAULT_FLAG_WP, WP_HUGETLBFS_SHMEM and%s WP_ASYNC", (unsigned long long)features,
				  mode == RDMAMIG_UFFD_SYNC ? " no" : "");
	if (features & events & ~(is_async ? 0 : sync_events))
		return error_note(tracker->error, RDMAMIG_E_UNSUPPORTED, 0, "the userfaultfd's features 0x%llx hold events that nobody "
				  "would answer: the guest would hang", (unsigned long long)features);
	if (!is_async && origin->is_user_only)
		return error_note(tracker->error, RDMAMIG_E_PERMISSION, 0, "sync mode with a UFFD_USER_MODE_ONLY userfaultfd would fail "
				  "the guest's own I/O: run the guest as root, set vm.unprivileged_userfaultfd=1, or use Linux 6.7");
	if (!is_async && origin->is_handed_over && mode != RDMAMIG_UFFD_SYNC)
		return error_note(tracker->error, RDMAMIG_E_UNSUPPORTED, 0, "a userfaultfd that was handed over can only be used in "
				  "async mode (Linux 6.7), or in sync mode asked for by name: it must then not be UFFD_USER_MODE_ONLY");
	return RDMAMIG_OK;
}

enum rdmamig_status tracker_uffd_use(struct tracker_uffd *tracker, const struct uffd_origin *origin, enum rdmamig_uffd_mode mode)
{
	uint64_t features;
	int err = uffd_features(origin->fd, &features);
	if (err)
		return error_note(tracker->error, RDMAMIG_E_TRACKER, -err, "descriptor %d is no userfaultfd", origin->fd);
	int flags = fcntl(origin->fd, F_GETFL);
	fcntl(origin->fd, F_SETFL, flags | O_NONBLOCK);

	enum rdmamig_status st = handshake(tracker, origin->fd, mode, &features);
	if (!st)
		st = features_check(tracker, features, origin, mode);
	tracker->is_async = features & UFFD_FEATURE_WP_ASYNC;
	if (!st && !tracker->is_async)
		st = faults_start(&tracker->faults, origin->fd, tracker->pagemap, tracker->tracked, tracker->count, tracker->error);
	if (!st)
		tracker->uffd = origin->fd;
	return st;
}

/* The fault thread looks at placement and is_registered, so they change under its lock. */
static void faults_lock(struct tracker_uffd *tracker)
{
	if (!tracker->is_async)
		pthread_mutex_lock(&tracker->faults.lock);
}

static void faults_unlock(struct tracker_uffd *tracker)
{
	if (!tracker->is_async)
		pthread_mutex_unlock(&tracker->faults.lock);
}

static enum rdmamig_status not_armed(struct tracker_uffd *tracker, const struct block *block, int err)
{
	if (err == EBUSY)
		return error_note(tracker->error, RDMAMIG_E_BUSY, err, "block %s: another tool tracks this guest, or holds a userfaultfd of "
				  "it (see ls -l /proc/%d/fd)", block->name, (int)tracker->pid);
	if (err == ESRCH)
		return error_note(tracker->error, RDMAMIG_E_NO_PROCESS, err, "block %s: process %d has ended", block->name, (int)tracker->pid);
	if (err == EOPNOTSUPP || err == EINVAL)
		return error_note(tracker->error, RDMAMIG_E_UNSUPPORTED, err, "block %s: this kernel cannot write-protect such memory",
				  block->name);
	return error_note(tracker->error, RDMAMIG_E_TRACKER, err, "block %s: arming", block->name);
}

/*
 * Only what is not armed: protecting a page anew would forget that it was written. And only what the caller names, the
 * extents that hold data: protecting a hole makes page tables for it, 2 GiB of them for 1 TiB.
 */
static int tracked_arm(struct tracker_uffd *tracker, struct tracked *tracked, struct run run)
{
	int err = tracker->faults.is_lost ? -ENOENT : tracked_register(tracked, tracker->uffd);
	uint64_t end = run.first_page + run.pages;
	struct run gap;
	while (!err && bitmap_next_gap(&tracked->armed, run.first_page, end, run.pages, &gap)) {
		err = tracked_protect(tracked, tracker->uffd, gap);
		if (!err)
			bitmap_set_range(&tracked->armed, gap.first_page, gap.pages);
	}
	return err;
}

static enum rdmamig_status tracker_arm(void *opaque, unsigned block, uint64_t first_page, uint64_t pages)
{
	struct tracker_uffd *tracker = opaque;
	if (block >= tracker->count || pages == 0 || first_page >= tracker->tracked[block].block->pages ||
	    pages > tracker->tracked[block].block->pages - first_page)
		return error_note(tracker->error, RDMAMIG_E_TRACKER, 0, "arming pages that no block has");

	struct tracked *tracked = &tracker->tracked[block];
	struct run run = tracked_granules(tracked, (struct run){ .first_page = first_page, .pages = pages });
	faults_lock(tracker);
	int err = tracked_arm(tracker, tracked, run);
	faults_unlock(tracker);
	return err ? not_armed(tracker, tracked->block, -err) : RDMAMIG_OK;
}

/* What a sync in async mode is busy with: one piece of one block. */
struct async_sync {
	struct tracker_uffd *tracker;
	unsigned block;
	const struct piece *piece;
	const struct rdmamig_dirty_sink *dirty;
	struct address_range pending;	/* found written; empty: nothing */
};

/* Protect what of the pending range is written by now, and report that. */
static int pending_flush(struct async_sync *sync)
{
	struct pagemap_scan *scan = &sync->tracker->protecting;
	if (sync->pending.start == sync->pending.end)
		return 0;
	pagemap_scan_begin(scan, sync->tracker->pagemap, sync->pending, true);
	sync->pending = (struct address_range){ 0 };

	struct address_range range;
	int found;
	while ((found = pagemap_scan_next(scan, &range)) > 0) {
		struct run run = piece_run(sync->piece, range.start, range.end);
		sync->dirty->mark(sync->dirty->opaque, sync->block, run.first_page, run.pages);
	}
	return found;
}

/* Add armed pages to the pending range, if at most a short gap of armed pages lies between; else flush it before. */
static int pending_add(struct async_sync *sync, const struct bitmap *armed, struct address_range range)
{
	struct run gap = piece_run(sync->piece, sync->pending.end, range.start);
	if (sync->pending.end && gap.pages <= GAP_PAGES &&
	    bitmap_count_range(armed, gap.first_page, gap.pages) == gap.pages) {
		sync->pending.end = range.end;
		return 0;
	}
	int err = pending_flush(sync);
	sync->pending = range;
	return err;
}

/* The armed parts of a range found written. Holes are found too, and must stay as they are. */
static int found_add(struct async_sync *sync, const struct tracked *tracked, struct address_range found)
{
	struct run run = piece_run(sync->piece, found.start, found.end), part;
	uint64_t at = run.first_page, end = run.first_page + run.pages;
	int err = 0;
	while (!err && bitmap_next_run(&tracked->armed, at, end, run.pages, &part)) {
		struct address_range range;
		piece_clip(sync->piece, part, &range.start, &range.end);
		err = pending_add(sync, &tracked->armed, range);
		at = part.first_page + part.pages;
	}
	return err;
}

/* First a scan that changes nothing: a protecting one of everything costs an idle guest a fault for each page. */
static int piece_sync(struct async_sync *sync)
{
	struct tracker_uffd *tracker = sync->tracker;
	struct address_range range = { .start = sync->piece->start, .end = sync->piece->end };
	pagemap_scan_begin(&tracker->found, tracker->pagemap, range, false);

	int found, err = 0;
	while (!err && (found = pagemap_scan_next(&tracker->found, &range)) > 0)
		err = found_add(sync, &tracker->tracked[sync->block], range);
	if (!err)
		err = found;
	return err ? err : pending_flush(sync);
}

static enum rdmamig_status async_take(struct tracker_uffd *tracker, unsigned block, const struct rdmamig_dirty_sink *dirty)
{
	const struct tracked *tracked = &tracker->tracked[block];
	int err = 0;
	for (unsigned i = 0; !err && i < tracked->placement.count; i++)
		err = piece_sync(&(struct async_sync){
			.tracker = tracker, .block = block, .piece = &tracked->placement.pieces[i], .dirty = dirty });
	if (err == -EPERM)
		return error_note(tracker->error, RDMAMIG_E_TRACKER, 0, "process %d has mapped memory of block %s anew: its writes there "
				  "cannot be tracked", (int)tracker->pid, tracked->block->name);
	if (err)
		return error_note(tracker->error, RDMAMIG_E_TRACKER, -err, "block %s: PAGEMAP_SCAN", tracked->block->name);
	return RDMAMIG_OK;
}

/* The check comes last: a mapping that was in its place before the scan may be gone during it. */
static enum rdmamig_status tracker_sync(void *opaque, const struct rdmamig_dirty_sink *dirty)
{
	struct tracker_uffd *tracker = opaque;
	enum rdmamig_status st = RDMAMIG_OK;
	for (unsigned i = 0; !st && i < tracker->count; i++) {
		const struct tracked *tracked = &tracker->tracked[i];
		if (!tracker->is_async)
			st = faults_take(&tracker->faults, i, dirty);
		else if (tracked->is_registered)
			st = async_take(tracker, i, dirty);
		if (!st)
			st = tracked_check(tracked, tracker->pid, tracker->error);
	}
	return st;
}

static void tracker_disarm(void *opaque)
{
	struct tracker_uffd *tracker = opaque;
	if (tracker->uffd < 0)
		return;
	faults_lock(tracker);
	for (unsigned i = 0; i < tracker->count; i++)
		tracked_unregister(&tracker->tracked[i], tracker->uffd);
	faults_unlock(tracker);
}

void tracker_uffd_free(void *opaque)
{
	struct tracker_uffd *tracker = opaque;
	if (!tracker)
		return;
	tracker_disarm(tracker);
	faults_stop(&tracker->faults);
	if (tracker->uffd >= 0)
		close(tracker->uffd);
	if (tracker->pagemap >= 0)
		close(tracker->pagemap);
	for (unsigned i = 0; i < tracker->count; i++)
		tracked_fini(&tracker->tracked[i]);
	free(tracker->tracked);
	free(tracker);
}

const struct rdmamig_tracker_ops tracker_uffd_ops = {
	.size = sizeof(struct rdmamig_tracker_ops),
	.arm = tracker_arm,
	.sync = tracker_sync,
	.disarm = tracker_disarm,
};
