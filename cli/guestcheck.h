/* SPDX-License-Identifier: BSD-2-Clause */
/* guestcheck.h - is every byte of a stopped guest's memory what the memory itself says it must be? Only reads. */
#ifndef CLI_GUESTCHECK_H
#define CLI_GUESTCHECK_H

#include <stdint.h>

#include <rdmamig/status.h>

#include "cli/memory.h"

enum { GUESTCHECK_LINES_MAX = 10 };

struct guestcheck {
	uint64_t pages;		/* checked */
	uint64_t bad_pages;
	uint64_t tick;
	uint64_t in_progress_page;	/* not checked: it was being rewritten; 0 if none */
};

/*
 * guestcheck_run - check all of it; never allocates memory in the files.
 *
 * @say gets a line for each of the first GUESTCHECK_LINES_MAX bad pages.
 * OK               all right; *out is set
 * E_NOT_VERIFIED   *out is set; @why says how many pages are wrong, or what is wrong with the header
 * E_IO, E_NO_MEMORY
 */
enum rdmamig_status guestcheck_run(const struct memory *memory, void (*say)(const char *line), struct guestcheck *out,
				   char *why);

/* guestcheck_beat - where the running guest's beat is, to see it grow. E_NOT_VERIFIED: there is no guest. */
enum rdmamig_status guestcheck_beat(const struct memory *memory, uint32_t *out, char *why);

#endif
