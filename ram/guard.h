/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * guard.h - touching guest memory whose file may be cut short or whose file system may be full.
 *
 * Such a touch raises SIGBUS. Inside guard_call() it is an error instead; outside, whatever the program had set up for
 * SIGBUS happens. The handler is installed once for the process by the first guard_install().
 */
#ifndef RAM_GUARD_H
#define RAM_GUARD_H

#include <stdbool.h>

#include <rdmamig/status.h>

/* guard_install - E_FAILED if sigaction refuses. Any thread, any number of times. */
enum rdmamig_status guard_install(void);

/* guard_call - run @work(@arg); false if it was cut off by SIGBUS. @work must hold no lock and own nothing. Not nested. */
bool guard_call(void (*work)(void *arg), void *arg);

#endif
