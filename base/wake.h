/* SPDX-License-Identifier: BSD-2-Clause */
/* wake.h - an eventfd with which one thread ends another's wait. wake_up() is safe in a signal handler. */
#ifndef BASE_WAKE_H
#define BASE_WAKE_H

#include <rdmamig/status.h>

struct wake {
	int fd;		/* -1 when closed */
};

enum rdmamig_status wake_open(struct wake *wake);	/* E_NO_MEMORY: no descriptor to be had */
void wake_close(struct wake *wake);
void wake_up(const struct wake *wake);
void wake_clear(const struct wake *wake);

#endif
