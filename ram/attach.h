/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * attach.h - a userfaultfd made inside another process, without its help.
 *
 * A kill of this program (SIGKILL) within the pause leaves the process with wrong registers; nothing else does.
 */
#ifndef RAM_ATTACH_H
#define RAM_ATTACH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <rdmamig/status.h>

#include "base/error.h"

struct attached {
	int uffd;		/* close-on-exec, not blocking; yours. None is left in the process */
	bool is_user_only;	/* see uffd_open() */
	uint64_t pause_us;	/* how long its main thread stood still */
};

/*
 * attach_uffd - about 0.1 to 1 ms, at most some seconds; on every path the process is let go as it was found.
 *
 * E_NO_PROCESS  no such process, or it ended meanwhile
 * E_PERMISSION  ptrace or userfaultfd refused, or a seccomp filter that cannot be suspended
 * E_BUSY        a debugger traces it
 * E_UNSUPPORTED other CPU than x86-64, 32-bit process, kernel without userfaultfd
 * E_TRACKER     it did not stop in time, has no descriptor free, ...
 */
enum rdmamig_status attach_uffd(pid_t pid, struct attached *out, struct error *error);

#endif
