/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * stepper.c - the thread that loops on a machine's step().
 * Neighbours: clock.c sleeps for it, wake.c ends the sleep. Every thread of the library is one of these.
 */
#include "base/stepper.h"

#include <signal.h>
#include <string.h>

enum rdmamig_status stepper_init(struct stepper *stepper, const struct clock *clock,
				 bool (*step)(void *self, struct wait *wait), void *self)
{
	memset(stepper, 0, sizeof(*stepper));
	stepper->step = step;
	stepper->self = self;
	stepper->clock = clock;
	return wake_open(&stepper->wake);
}

void stepper_fini(struct stepper *stepper)
{
	wake_close(&stepper->wake);
}

bool stepper_run_once(struct stepper *stepper, struct wait *wait)
{
	wait_reset(wait);
	wake_clear(&stepper->wake);	/* before the look, so that a wake during it is not lost */
	wait_add_fd(wait, stepper->wake.fd, POLLIN);
	return stepper->step(stepper->self, wait);
}

static void *stepper_loop(void *arg)
{
	struct stepper *stepper = arg;
	struct wait wait;
	while (stepper_run_once(stepper, &wait))
		wait_sleep(&wait, stepper->clock);
	return NULL;
}

enum rdmamig_status stepper_start(struct stepper *stepper, const char *name)
{
	sigset_t all, old;
	sigfillset(&all);
	sigdelset(&all, SIGBUS);	/* ram/guard.c turns it into an error */
	sigdelset(&all, SIGSEGV);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int err = pthread_create(&stepper->thread, NULL, stepper_loop, stepper);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (err)
		return RDMAMIG_E_NO_MEMORY;
	pthread_setname_np(stepper->thread, name);
	stepper->started = true;
	return RDMAMIG_OK;
}

void stepper_wake(struct stepper *stepper)
{
	wake_up(&stepper->wake);
}

void stepper_join(struct stepper *stepper)
{
	if (!stepper->started)
		return;
	pthread_join(stepper->thread, NULL);
	stepper->started = false;
}
