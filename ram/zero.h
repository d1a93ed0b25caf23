/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * zero.h - is this page all zero?
 *
 * zero_scan_best() looks at the CPU once (AVX-512, AVX2, scalar); keep the answer. Bytes are a multiple of 4096 and the
 * address is page aligned. Memory may change while it is scanned: the answer is then that of some moment for each byte,
 * which is enough, as the page is dirty again. Any thread.
 */
#ifndef RAM_ZERO_H
#define RAM_ZERO_H

#include <stdbool.h>
#include <stddef.h>

typedef bool zero_scan(const void *memory, size_t bytes);	/* the one typedef: a function's type */

zero_scan *zero_scan_best(void);
zero_scan zero_scan_scalar;	/* the reference */

/* All that this CPU can run, for tests: name and function; false past the last. */
bool zero_scan_at(unsigned index, const char **name, zero_scan **out);

#endif
