/* SPDX-License-Identifier: BSD-2-Clause */
/* interrupt.h - Ctrl-C, SIGTERM and a closed terminal as something to look at, so that a migration ends in order. */
#ifndef CLI_INTERRUPT_H
#define CLI_INTERRUPT_H

#include <stdbool.h>

struct interrupt {
	int fd;		/* -1: none; the signals then kill us, and the guardian undoes */
};

/* interrupt_open - from here on these signals wait for interrupt_take(). Call it before any thread or child. */
void interrupt_open(struct interrupt *interrupt);
void interrupt_close(struct interrupt *interrupt);

/* interrupt_take - has one come since the last call? */
bool interrupt_take(struct interrupt *interrupt);

#endif
