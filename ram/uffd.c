/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * uffd.c - userfaultfd(2), its device and its ioctls, with -errno in place of errno.
 * Neighbours: attach.c makes one in another process, tracker_uffd.c and faults.c use them. Any thread.
 */
#include "ram/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/compat.h"

int uffd_open(bool *is_user_only)
{
	*is_user_only = false;
	int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	if (device >= 0) {
		int fd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
		close(device);
		if (fd >= 0)
			return fd;
	}

	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 && errno == EPERM) {
		*is_user_only = true;
		fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	}
	return fd < 0 ? -errno : fd;
}

int uffd_features(int fd, uint64_t *features)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	FILE *info = fopen(path, "re");
	if (!info)
		return -errno;

	/* "API:	aa:FEATURES:IOCTLS"; no other kind of descriptor has that line. */
	char line[128];
	int found = -EINVAL;
	while (found && fgets(line, sizeof(line), info))
		if (sscanf(line, "API: %*x:%" SCNx64 ":", features) == 1)
			found = 0;
	fclose(info);
	return found;
}

int uffd_handshake(int fd, bool is_async)
{
	/*
	 * async: a write to a protected page unprotects it in the kernel, and that is all.
	 * sync: it waits for us; a mapping moved or taken away is told, as its protection goes with it unseen.
	 */
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_HUGETLBFS_SHMEM };
	if (is_async)
		api.features |= UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED;
	else
		api.features |= UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_UNMAP;
	return ioctl(fd, UFFDIO_API, &api) ? -errno : 0;
}

int uffd_unregister(int fd, uint64_t start, uint64_t bytes)
{
	struct uffdio_range range = { .start = start, .len = bytes };
	return ioctl(fd, UFFDIO_UNREGISTER, &range) ? -errno : 0;
}

int uffd_register(int fd, uint64_t start, uint64_t bytes)
{
	struct uffdio_register reg = { .range = { .start = start, .len = bytes }, .mode = UFFDIO_REGISTER_MODE_WP };
	if (ioctl(fd, UFFDIO_REGISTER, &reg))
		return -errno;
	if (reg.ioctls & 1ull << _UFFDIO_WRITEPROTECT)
		return 0;
	uffd_unregister(fd, start, bytes);
	return -EOPNOTSUPP;
}

static int uffd_writeprotect(int fd, uint64_t start, uint64_t bytes, uint64_t mode)
{
	struct uffdio_writeprotect wp = { .range = { .start = start, .len = bytes }, .mode = mode };
	return ioctl(fd, UFFDIO_WRITEPROTECT, &wp) ? -errno : 0;
}

int uffd_protect(int fd, uint64_t start, uint64_t bytes)
{
	return uffd_writeprotect(fd, start, bytes, UFFDIO_WRITEPROTECT_MODE_WP);
}

int uffd_unprotect(int fd, uint64_t start, uint64_t bytes)
{
	return uffd_writeprotect(fd, start, bytes, 0);
}

int uffd_wake(int fd, uint64_t start, uint64_t bytes)
{
	struct uffdio_range range = { .start = start, .len = bytes };
	return ioctl(fd, UFFDIO_WAKE, &range) ? -errno : 0;
}

int uffd_handshake_missing(int fd)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_WP_HUGETLBFS_SHMEM };
	return ioctl(fd, UFFDIO_API, &api) ? -errno : 0;
}

int uffd_register_missing(int fd, uint64_t start, uint64_t bytes)
{
	struct uffdio_register reg = { .range = { .start = start, .len = bytes },
				       .mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP };
	return ioctl(fd, UFFDIO_REGISTER, &reg) ? -errno : 0;
}

int uffd_zero(int fd, uint64_t start, uint64_t bytes)
{
	struct uffdio_zeropage zero = { .range = { .start = start, .len = bytes } };
	return ioctl(fd, UFFDIO_ZEROPAGE, &zero) ? -errno : 0;
}
