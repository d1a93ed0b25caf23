/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * faults.h - write tracking on kernels that cannot do it alone: a thread that is told of each first write.
 *
 * A write to a protected page waits; the thread marks the page, unprotects it and lets the write go on. If it cannot, it
 * lets everything go: the guest runs, the tracker is lost and faults_take() says so.
 */
#ifndef RAM_FAULTS_H
#define RAM_FAULTS_H

#include <pthread.h>
#include <stdbool.h>

#include <rdmamig/status.h>
#include <rdmamig/tracker.h>

#include "base/error.h"
#include "base/stepper.h"
#include "ram/tracked.h"

struct faults {
	pthread_mutex_t lock;	/* over written and protection, which change together, and over what follows */
	struct tracked *tracked;
	unsigned count;
	bool is_lost;
	bool is_ending;

	int uffd;
	int pagemap;		/* the caller's */
	struct stepper thread;
	bool is_started;
	struct error *error;
};

/* faults_start - serve @uffd until faults_stop(); @pagemap is that of the same process. E_NO_MEMORY: no thread; noted. */
enum rdmamig_status faults_start(struct faults *faults, int uffd, int pagemap, struct tracked *tracked, unsigned count,
				 struct error *error);
void faults_stop(struct faults *faults);	/* a zeroed one is fine */

/* faults_take - report what was written to block @index and protect it again. E_TRACKER: lost, or a failure; noted. */
enum rdmamig_status faults_take(struct faults *faults, unsigned index, const struct rdmamig_dirty_sink *dirty);

#endif
