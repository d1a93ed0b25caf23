/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * refills.h - which pages of the source's files were punched out and filled again without a write, so that dest has old
 * bytes of them: no tracker sees that, and SEEK_DATA finds data as before.
 *
 * By our own reading: a page may be punched out while a channel reads it; the first half of what was sent is then old,
 * and the reading itself puts a new page of zeros into the hole. So our mappings have a userfaultfd of their own: to
 * fill a hole they ask its thread, which remembers the page.
 *
 * By the guest's reading: a punch takes the page out of our mapping too. A page once posted was read there; if it is not
 * present at the next look it was punched since (or reclaimed, and is sent once more for nothing). Nothing but our own
 * reading of that very page may bring it back: being registered for write protection turns fault-around off.
 */
#ifndef RAM_REFILLS_H
#define RAM_REFILLS_H

#include <pthread.h>
#include <stdbool.h>

#include <rdmamig/status.h>

#include "base/error.h"
#include "base/stepper.h"
#include "ram/block.h"

struct refills {
	pthread_mutex_t lock;	/* over filled, is_lost and is_ending */
	struct block *blocks;
	unsigned count;
	struct bitmap *filled;	/* of each block */
	bool is_lost;
	bool is_ending;

	int uffd;
	int pagemap;		/* ours */
	struct stepper thread;
	bool is_started;
	struct error *error;
};

/*
 * refills_start - watch our mappings of @blocks that are tmpfs files until refills_stop(), which comes before
 * block_fini(). Nobody else may have registered them. Session thread.
 *
 * E_PERMISSION: no userfaultfd is to be had. E_UNSUPPORTED: this kernel's cannot do it. E_NO_MEMORY. All noted.
 */
enum rdmamig_status refills_start(struct refills *refills, struct block *blocks, unsigned count, struct error *error);
void refills_stop(struct refills *refills);	/* a zeroed one is fine */

/*
 * refills_take - set the bits of what was filled in block @index since the last call. A read that was over before the
 * call is in it. No channel may be at work. E_TRACKER: no longer known; noted.
 */
enum rdmamig_status refills_take(struct refills *refills, unsigned index, struct bitmap *into);

#endif
