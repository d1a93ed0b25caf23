/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * split.h - zero pages apart from the rest, in the channel's thread.
 *
 * Rule R4: a zero page never posted is *zero*; one ever posted is *forced*, for its WRITE may have landed though its
 * fence was lost. A page is marked posted here, before it is posted.
 */
#ifndef MULTIFD_SPLIT_H
#define MULTIFD_SPLIT_H

#include <stdbool.h>

#include <rdmamig/status.h>

#include "multifd/batch.h"
#include "ram/zero.h"

/*
 * batch_split - fill in the description's lists. @scan NULL: zero detection is off, every page is normal.
 * false: the memory went away while it was looked at (the file was cut short).
 */
bool batch_split(struct batch *batch, zero_scan *scan);

#endif
