/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * interrupt.c - takes the signals that ask us to end through a signalfd: no handler, no global.
 * Neighbours: send.c and recv.c, which look at every tick of driver_drive(). Main thread.
 */
#include "cli/interrupt.h"

#include <signal.h>
#include <stddef.h>
#include <sys/signalfd.h>
#include <unistd.h>

void interrupt_open(struct interrupt *interrupt)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	interrupt->fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (interrupt->fd >= 0)
		sigprocmask(SIG_BLOCK, &set, NULL);
}

void interrupt_close(struct interrupt *interrupt)
{
	if (interrupt->fd >= 0)
		close(interrupt->fd);
	interrupt->fd = -1;
}

bool interrupt_take(struct interrupt *interrupt)
{
	struct signalfd_siginfo info;
	bool any = false;
	while (interrupt->fd >= 0 && read(interrupt->fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		any = true;
	return any;
}
