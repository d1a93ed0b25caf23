/* SPDX-License-Identifier: BSD-2-Clause */
/* why.h - the one line that says what went wrong, where, and what to do; cut to DRIVER_WHY_BYTES if need be. */
#ifndef CLI_WHY_H
#define CLI_WHY_H

#include <rdmamig/status.h>

/* why_say - returns @status, so that it can be returned. */
enum rdmamig_status why_say(char *why, enum rdmamig_status status, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* why_add - append to the line. */
void why_add(char *why, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
