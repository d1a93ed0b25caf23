/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * wake.c - ends another thread's wait.
 * Neighbours: queue.c and stepper.c, whose waits it ends. Any thread.
 */
#include "base/wake.h"

#include <errno.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum rdmamig_status wake_open(struct wake *wake)
{
	wake->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	return wake->fd < 0 ? RDMAMIG_E_NO_MEMORY : RDMAMIG_OK;
}

void wake_close(struct wake *wake)
{
	if (wake->fd >= 0)
		close(wake->fd);
	wake->fd = -1;
}

void wake_up(const struct wake *wake)
{
	int saved = errno;
	uint64_t one = 1;
	ssize_t n = write(wake->fd, &one, sizeof(one));	/* EAGAIN: it is awake already */
	(void)n;
	errno = saved;
}

void wake_clear(const struct wake *wake)
{
	uint64_t count;
	ssize_t n = read(wake->fd, &count, sizeof(count));
	(void)n;
}
