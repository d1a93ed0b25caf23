/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * stepper.h - a machine with a step() that never blocks, and a thread that merely loops on it.
 *
 * step() does what can be done now, adds to *wait what it is waiting for and returns true, or false when it is finished.
 * Tests and the simulator call step() themselves; the thread is the same loop with a real sleep in it.
 */
#ifndef BASE_STEPPER_H
#define BASE_STEPPER_H

#include <pthread.h>
#include <stdbool.h>

#include <rdmamig/status.h>

#include "base/clock.h"
#include "base/wake.h"

struct stepper {
	bool (*step)(void *self, struct wait *wait);
	void *self;
	const struct clock *clock;
	struct wake wake;	/* stepper_wake() ends the wait */
	pthread_t thread;
	bool started;
};

/* stepper_init - E_NO_MEMORY: no descriptor. stepper_fini() after stepper_join(); a zeroed one is not fine. */
enum rdmamig_status stepper_init(struct stepper *stepper, const struct clock *clock,
				 bool (*step)(void *self, struct wait *wait), void *self);
void stepper_fini(struct stepper *stepper);

/* stepper_start - @name is the thread's (at most 15 bytes). Its signals are blocked: they are the program's. */
enum rdmamig_status stepper_start(struct stepper *stepper, const char *name);
void stepper_wake(struct stepper *stepper);
void stepper_join(struct stepper *stepper);	/* returns at once if it was never started */

/* stepper_run_once - one turn of the loop without the sleep: for the thread, tests and the simulator. */
bool stepper_run_once(struct stepper *stepper, struct wait *wait);

#endif
