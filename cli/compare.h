/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * compare.h - are two memories equal, byte by byte? Shares nothing with the library, so that it can convict it.
 */
#ifndef CLI_COMPARE_H
#define CLI_COMPARE_H

#include <stdint.h>

#include <rdmamig/status.h>

#include "cli/memory.h"

struct comparison {
	uint64_t data_bytes;		/* read and compared; the rest is holes on both sides */
	uint64_t different_pages;
	uint64_t first_different;	/* offset of the byte */
};

/*
 * compare_memories - holes read as zero, extents that are data on either side are compared; nothing is allocated.
 *
 * OK               equal
 * E_NOT_VERIFIED   not; *out says where, @why too
 * E_IO, E_NO_MEMORY
 */
enum rdmamig_status compare_memories(const struct memory *a, const struct memory *b, struct comparison *out, char *why);

#endif
