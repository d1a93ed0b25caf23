/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tracked.h - one block as the userfaultfd tracker sees it: where it is mapped, what of it is armed.
 *
 * Functions that return int give 0 or -errno of the userfaultfd ioctl. They need the struct to themselves.
 */
#ifndef RAM_TRACKED_H
#define RAM_TRACKED_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <rdmamig/status.h>

#include "base/error.h"
#include "ram/bitmap.h"
#include "ram/block.h"
#include "ram/placement.h"

struct tracked {
	const struct block *block;
	struct placement placement;
	struct bitmap armed;	/* was protected; whole granules; never taken back */
	struct bitmap written;	/* sync mode: since it was last reported */
	bool is_registered;
};

/* tracked_init - find @block in process @pid (0: us). E_NO_PROCESS, E_PERMISSION, E_NO_MEMORY, E_TRACKER, noted. */
enum rdmamig_status tracked_init(struct tracked *tracked, const struct block *block, pid_t pid, struct error *error);
void tracked_fini(struct tracked *tracked);	/* a zeroed one is fine */

/* tracked_check - it is still mapped where it was; else its writes went by unseen. E_TRACKER, or as tracked_init(). */
enum rdmamig_status tracked_check(const struct tracked *tracked, pid_t pid, struct error *error);

int tracked_register(struct tracked *tracked, int uffd);	/* once; a failure leaves nothing registered */
void tracked_unregister(struct tracked *tracked, int uffd);	/* and wake; any number of times */

/* tracked_protect - @run wherever it is mapped. */
int tracked_protect(const struct tracked *tracked, int uffd, struct run run);

/* tracked_granules - @run widened to whole granules: less than one can be neither protected nor told apart. */
struct run tracked_granules(const struct tracked *tracked, struct run run);

#endif
