/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * uffd.h - userfaultfd(2) and the ioctls write tracking needs: one contract, 0 (or a descriptor) or -errno.
 *
 * The ioctls act on the process that made the descriptor, whoever calls them. Any thread.
 */
#ifndef RAM_UFFD_H
#define RAM_UFFD_H

#include <stdbool.h>
#include <stdint.h>

/*
 * uffd_open - make one for this process, with close-on-exec, not blocking.
 *
 * *is_user_only: writes of the kernel on the process's behalf are not stopped for us but fail with EFAULT; harmless in
 * async mode, where nothing is stopped. -EPERM: vm.unprivileged_userfaultfd is 0 and there is no CAP_SYS_PTRACE.
 */
int uffd_open(bool *is_user_only);

/*
 * uffd_features - those its maker asked for; *features is 0 if UFFDIO_API has not been done yet.
 * -EINVAL: @fd is not a userfaultfd.
 */
int uffd_features(int fd, uint64_t *features);

/* uffd_handshake - UFFDIO_API for write tracking, async or sync. -EINVAL: this kernel cannot, or it was done before. */
int uffd_handshake(int fd, bool is_async);

/*
 * uffd_register - the range may be written and that be tracked; nothing is protected yet.
 * -EBUSY: another userfaultfd has it. -EOPNOTSUPP: such memory cannot be write-protected.
 */
int uffd_register(int fd, uint64_t start, uint64_t bytes);
/* uffd_unregister - nothing is protected any more. Does not wake who waits: uffd_wake() after it. */
int uffd_unregister(int fd, uint64_t start, uint64_t bytes);

int uffd_protect(int fd, uint64_t start, uint64_t bytes);
int uffd_unprotect(int fd, uint64_t start, uint64_t bytes);	/* and wake */
int uffd_wake(int fd, uint64_t start, uint64_t bytes);

/* For ram/refills.h: UFFDIO_API and UFFDIO_REGISTER to be told of reads of tmpfs pages that are not there. */
int uffd_handshake_missing(int fd);
int uffd_register_missing(int fd, uint64_t start, uint64_t bytes);
int uffd_zero(int fd, uint64_t start, uint64_t bytes);	/* fill with zeros and wake; -EEXIST: something is there */

#endif
