/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tracker_uffd.h - the dirty tracker made of a userfaultfd in write-protect mode.
 *
 * In two steps, as finding the blocks does not touch the guest and getting the descriptor may stop it for a moment.
 */
#ifndef RAM_TRACKER_UFFD_H
#define RAM_TRACKER_UFFD_H

#include <stdbool.h>
#include <sys/types.h>

#include <rdmamig/status.h>
#include <rdmamig/tracker.h>

#include "base/error.h"
#include "ram/block.h"

struct tracker_uffd;

/* tracker_uffd_new - find @blocks in process @pid (0: us) and open its pagemap. Statuses of tracker_open_process(). */
enum rdmamig_status tracker_uffd_new(struct tracker_uffd **out, struct block *blocks, unsigned count, pid_t pid, struct error *error);

/* What is known of a userfaultfd. */
struct uffd_origin {
	int fd;
	bool is_user_only;
	bool is_handed_over;	/* others made it: whether it is user-only cannot be seen */
};

/*
 * tracker_uffd_use - settle on async or sync; on OK the descriptor is the tracker's.
 * E_UNSUPPORTED the kernel, or the descriptor's features, do not fit @mode. E_PERMISSION: sync with a user-only one.
 */
enum rdmamig_status tracker_uffd_use(struct tracker_uffd *tracker, const struct uffd_origin *origin, enum rdmamig_uffd_mode mode);

void tracker_uffd_free(void *tracker);	/* disarms first; NULL is fine */

extern const struct rdmamig_tracker_ops tracker_uffd_ops;

#endif
