/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tracked.c - a block's mappings under a userfaultfd.
 * Neighbours: placement.c finds them, uffd.c does the ioctls; used by tracker_uffd.c and faults.c, under their locks.
 */
#include "ram/tracked.h"

#include <errno.h>

#include "ram/uffd.h"

static enum rdmamig_status not_placed(const struct block *block, pid_t pid, int err, struct error *error)
{
	if (err == ENXIO && block->fd < 0)
		return error_note(error, RDMAMIG_E_NO_PROCESS, 0, "block %s is memory of this process, not a file that process %d "
				  "could have mapped", block->name, (int)pid);
	if (err == ENXIO)
		return error_note(error, RDMAMIG_E_NO_PROCESS, 0, "process %d does not map all of block %s's file shared and writable; "
				  "is it the right process and file, and share=on?", (int)pid, block->name);
	if (err == ENOENT || err == ESRCH)
		return error_note(error, RDMAMIG_E_NO_PROCESS, 0, "there is no process %d", (int)pid);
	if (err == EACCES || err == EPERM)
		return error_note(error, RDMAMIG_E_PERMISSION, err, "/proc/%d/maps: run as root or as the user of process %d",
				  (int)pid, (int)pid);
	return error_note(error, RDMAMIG_E_TRACKER, err, "block %s: its mappings in process %d", block->name, (int)pid);
}

enum rdmamig_status tracked_init(struct tracked *tracked, const struct block *block, pid_t pid, struct error *error)
{
	*tracked = (struct tracked){ .block = block };
	int err = placement_find(&tracked->placement, block, pid);
	if (err)
		return not_placed(block, pid, -err, error);
	if (bitmap_init(&tracked->armed, block->pages) || bitmap_init(&tracked->written, block->pages)) {
		tracked_fini(tracked);
		return error_note(error, RDMAMIG_E_NO_MEMORY, 0, "bitmaps of block %s", block->name);
	}
	return RDMAMIG_OK;
}

void tracked_fini(struct tracked *tracked)
{
	bitmap_fini(&tracked->armed);
	bitmap_fini(&tracked->written);
}

enum rdmamig_status tracked_check(const struct tracked *tracked, pid_t pid, struct error *error)
{
	struct placement now;
	int err = placement_find(&now, tracked->block, pid);
	if (err && err != -ENXIO)
		return not_placed(tracked->block, pid, -err, error);
	if (err || !placement_is_same(&now, &tracked->placement))
		return error_note(error, RDMAMIG_E_TRACKER, 0, "process %d has moved or unmapped memory of block %s: its writes there "
				  "cannot be tracked", (int)pid, tracked->block->name);
	return RDMAMIG_OK;
}

/* Only what is ours: many kernels let one userfaultfd unregister another's range. */
static void pieces_unregister(const struct tracked *tracked, unsigned count, int uffd)
{
	for (unsigned i = 0; i < count; i++) {
		const struct piece *piece = &tracked->placement.pieces[i];
		/* The process may be gone, or the mapping: then there is nothing to undo. */
		uffd_unregister(uffd, piece->start, piece->end - piece->start);
		uffd_wake(uffd, piece->start, piece->end - piece->start);
	}
}

int tracked_register(struct tracked *tracked, int uffd)
{
	int err = 0;
	for (unsigned i = 0; !tracked->is_registered && !err && i < tracked->placement.count; i++) {
		const struct piece *piece = &tracked->placement.pieces[i];
		err = uffd_register(uffd, piece->start, piece->end - piece->start);
		if (err)
			pieces_unregister(tracked, i, uffd);
	}
	tracked->is_registered = !err;
	return err;
}

void tracked_unregister(struct tracked *tracked, int uffd)
{
	if (tracked->is_registered)
		pieces_unregister(tracked, tracked->placement.count, uffd);
	tracked->is_registered = false;
}

int tracked_protect(const struct tracked *tracked, int uffd, struct run run)
{
	for (unsigned i = 0; i < tracked->placement.count; i++) {
		uint64_t start, end;
		if (!piece_clip(&tracked->placement.pieces[i], run, &start, &end))
			continue;
		int err = uffd_protect(uffd, start, end - start);
		if (err)
			return err;
	}
	return 0;
}

struct run tracked_granules(const struct tracked *tracked, struct run run)
{
	uint64_t granule = pages_of_bytes(tracked->block->granule);
	uint64_t first = run.first_page / granule * granule;
	uint64_t end = (run.first_page + run.pages + granule - 1) / granule * granule;
	return (struct run){ .first_page = first, .pages = end - first };
}
