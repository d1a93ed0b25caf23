/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * resident.h - which pages of this process's private anonymous memory were ever touched.
 *
 * Only of such memory does "neither present nor swapped" mean that it reads as zero. Any thread.
 */
#ifndef RAM_RESIDENT_H
#define RAM_RESIDENT_H

#include <stdbool.h>
#include <stdint.h>

#include "ram/page.h"

/*
 * resident_is_known - all of [memory, memory + bytes) is private anonymous memory whose missing pages nobody supplies
 * (a userfaultfd in missing mode would), and the kernel shows us its pages. false too if that cannot be found out.
 */
bool resident_is_known(const void *memory, uint64_t bytes);

/*
 * resident_next - the first run of touched pages in [from, end) of @memory, for which resident_is_known().
 * 1 found, 0 there is none, -1 errno says why it could not be read.
 */
int resident_next(const void *memory, uint64_t from, uint64_t end, struct run *out);

#endif
