/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tracker.c - opens the built-in trackers: where their userfaultfd comes from, and the one that finds nothing.
 * Neighbours: tracker_uffd.c tracks, attach.c and uffd.c make descriptors. Session thread.
 */
#include "ram/tracker.h"

#include <unistd.h>

#include "ram/attach.h"
#include "ram/tracker_uffd.h"
#include "ram/uffd.h"

/* The tracker takes @origin's descriptor; on failure it is still the caller's, and @uffd is freed. */
static enum rdmamig_status tracker_finish(struct tracker *tracker, struct tracker_uffd *uffd, const struct uffd_origin *origin,
					  enum rdmamig_uffd_mode mode)
{
	enum rdmamig_status st = tracker_uffd_use(uffd, origin, mode);
	if (st) {
		tracker_uffd_free(uffd);
		return st;
	}
	*tracker = (struct tracker){ .ops = tracker_uffd_ops, .opaque = uffd, .free = tracker_uffd_free };
	return RDMAMIG_OK;
}

enum rdmamig_status tracker_open_uffd(struct tracker *tracker, struct block *blocks, unsigned count, int uffd, pid_t pid,
				      enum rdmamig_uffd_mode mode, struct error *error)
{
	struct tracker_uffd *made;
	enum rdmamig_status st = tracker_uffd_new(&made, blocks, count, pid, error);
	if (st)
		return st;
	return tracker_finish(tracker, made, &(struct uffd_origin){ .fd = uffd, .is_handed_over = true }, mode);
}

enum rdmamig_status tracker_open_process(struct tracker *tracker, struct block *blocks, unsigned count, pid_t pid,
					 enum rdmamig_uffd_mode mode, struct error *error)
{
	struct tracker_uffd *made;
	enum rdmamig_status st = tracker_uffd_new(&made, blocks, count, pid, error);
	if (st)
		return st;

	struct attached attached;
	st = attach_uffd(pid, &attached, error);
	if (st) {
		tracker_uffd_free(made);
		return st;
	}
	st = tracker_finish(tracker, made, &(struct uffd_origin){ .fd = attached.uffd, .is_user_only = attached.is_user_only }, mode);
	if (st)
		close(attached.uffd);
	else
		tracker->attach_pause_us = attached.pause_us;
	return st;
}

enum rdmamig_status tracker_open_self(struct tracker *tracker, struct block *blocks, unsigned count,
				      enum rdmamig_uffd_mode mode, struct error *error)
{
	struct tracker_uffd *made;
	enum rdmamig_status st = tracker_uffd_new(&made, blocks, count, 0, error);
	if (st)
		return st;

	struct uffd_origin own = { 0 };
	own.fd = uffd_open(&own.is_user_only);
	if (own.fd < 0) {
		tracker_uffd_free(made);
		return error_note(error, RDMAMIG_E_PERMISSION, -own.fd, "userfaultfd: run as root, or let this user read and write "
				  "/dev/userfaultfd, or set vm.unprivileged_userfaultfd=1");
	}
	st = tracker_finish(tracker, made, &own, mode);
	if (st)
		close(own.fd);
	return st;
}

static enum rdmamig_status manual_arm(void *opaque, unsigned block, uint64_t first_page, uint64_t pages)
{
	(void)opaque, (void)block, (void)first_page, (void)pages;
	return RDMAMIG_OK;
}

static enum rdmamig_status manual_sync(void *opaque, const struct rdmamig_dirty_sink *dirty)
{
	(void)opaque, (void)dirty;
	return RDMAMIG_OK;
}

static void manual_disarm(void *opaque)
{
	(void)opaque;
}

void tracker_open_manual(struct tracker *tracker)
{
	*tracker = (struct tracker){
		.ops = { .size = sizeof(tracker->ops), .arm = manual_arm, .sync = manual_sync, .disarm = manual_disarm },
	};
}

void tracker_free(struct tracker *tracker)
{
	if (tracker->free)
		tracker->free(tracker->opaque);
	*tracker = (struct tracker){ 0 };
}
