/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * check_kernel.c - may we see what a running guest writes? Tries each system call the dirty tracker needs, on ourselves.
 * Neighbours: check.c. A host that only receives needs none of these.
 */
#include "migration/check.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/compat.h"
#include "ram/uffd.h"

static const char kernel_cure[] = "boot Linux 6.7 or later with CONFIG_USERFAULTFD=y";

static void wp_async_tell(struct check *check, int uffd)
{
	if (uffd_handshake(uffd, true) == 0)
		check_tell(check, RDMAMIG_CHECK_PASS, "wp-async", "", "the kernel keeps track of writes to shared memory");
	else
		check_tell(check, RDMAMIG_CHECK_WARN, "wp-async", kernel_cure,
			   "not in this kernel: only guests run by root can be sent while they run, and slower");
}

void check_userfaultfd(struct check *check)
{
	bool is_user_only;
	int fd = uffd_open(&is_user_only);
	if (fd < 0) {
		check_tell(check, RDMAMIG_CHECK_FAIL, "userfaultfd",
			   fd == -EPERM ? "allow userfaultfd in the seccomp profile of this container" : kernel_cure,
			   "%s: a running guest cannot be sent from here", strerror(-fd));
		return;
	}
	check_tell(check, RDMAMIG_CHECK_PASS, "userfaultfd", "", "can be made%s", is_user_only ? ", for user mode only" : "");
	wp_async_tell(check, fd);
	close(fd);
}

/* An empty range: the kernel looks at the arguments and has nothing to walk. */
void check_pagemap_scan(struct check *check)
{
	struct pm_scan_arg scan = { .size = sizeof(scan) };
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	int rc = fd < 0 ? -1 : ioctl(fd, PAGEMAP_SCAN, &scan);
	int saved = errno;
	if (fd >= 0)
		close(fd);
	if (rc >= 0)
		check_tell(check, RDMAMIG_CHECK_PASS, "pagemap-scan", "", "works");
	else
		check_tell(check, RDMAMIG_CHECK_WARN, "pagemap-scan", kernel_cure,
			   "%s: only guests run by root can be sent while they run, and slower", strerror(saved));
}

void check_ptrace(struct check *check)
{
	static const char cure[] = "run as root, or `setcap cap_sys_ptrace+ep $(command -v rdmamig)`";
	char line[16];
	bool has_yama = check_read_line(check, line, sizeof(line), "/proc/sys/kernel/yama/ptrace_scope");
	unsigned long scope = has_yama ? strtoul(line, NULL, 10) : 0;

	if (scope >= 3)
		check_tell(check, RDMAMIG_CHECK_FAIL, "ptrace", "set kernel.yama.ptrace_scope=2 in /etc/sysctl.d and reboot",
			   "kernel.yama.ptrace_scope is %lu: nobody may attach to a guest until the next boot", scope);
	else if (check_has_capability(check, CAP_SYS_PTRACE))
		check_tell(check, RDMAMIG_CHECK_PASS, "ptrace", "", "CAP_SYS_PTRACE: any guest can be attached to");
	else if (scope > 0)
		check_tell(check, RDMAMIG_CHECK_FAIL, "ptrace", cure,
			   "kernel.yama.ptrace_scope is %lu and we lack CAP_SYS_PTRACE: a running guest cannot be sent", scope);
	else
		check_tell(check, RDMAMIG_CHECK_WARN, "ptrace", cure, "only guests of our own user can be attached to");
}

void check_pidfd_getfd(struct check *check)
{
	int saved = 0;
	int pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	int fd = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, pidfd, 0);
	if (fd < 0)
		saved = errno;
	if (fd >= 0)
		close(fd);
	if (pidfd >= 0)
		close(pidfd);

	if (!saved)
		check_tell(check, RDMAMIG_CHECK_PASS, "pidfd-getfd", "", "works");
	else
		check_tell(check, RDMAMIG_CHECK_FAIL, "pidfd-getfd",
			   saved == ENOSYS ? kernel_cure : "allow pidfd_open and pidfd_getfd in the seccomp profile of this container",
			   "%s: the userfaultfd cannot be taken from the guest", strerror(saved));
}
