/* SPDX-License-Identifier: BSD-2-Clause */
/* guardian_main.h - the guardian process itself, and what goes over its socket: one struct a packet, one program. */
#ifndef VMM_GUARDIAN_MAIN_H
#define VMM_GUARDIAN_MAIN_H

#include <stdbool.h>

#include "vmm/driver.h"
#include "vmm/guardian.h"

struct guardian_message {
	enum guardian_request request;
	unsigned pct;
};

struct guardian_reply {
	enum rdmamig_status status;
	bool guest_ran;
	char why[DRIVER_WHY_BYTES];
};

/* guardian_main - right after fork(2), all signals blocked. Closes every descriptor but @fd, @process's, @journal's and stderr. */
_Noreturn void guardian_main(int fd, const struct process *process, struct rdmamig_journal *journal,
			    const struct guardian_params *params);

#endif
