/* SPDX-License-Identifier: BSD-2-Clause */
/* compat.h - the one place that asks at compile time what machine, compiler or C library this is. */
#ifndef BASE_COMPAT_H
#define BASE_COMPAT_H

/* COMPAT_TARGET - compile a function for an x86 extension; elsewhere it is a plain one that COMPAT_CPU_HAS rules out. */
#if defined(__x86_64__)
#define COMPAT_TARGET(extension)  __attribute__((target(extension)))
#define COMPAT_CPU_HAS(extension) (__builtin_cpu_supports(extension) != 0)
#else
#define COMPAT_TARGET(extension)
#define COMPAT_CPU_HAS(extension) false
#endif

/*
 * COMPAT_HAS_INJECT - ram/remote.c can make another process do a system call: it has the registers' layout (those of
 * NT_PRSTATUS, a word each) and knows the instruction.
 */
#if defined(__x86_64__)
#define COMPAT_HAS_INJECT 1
enum {
	COMPAT_REGS = 27,
	COMPAT_REG_RESULT = 10,		/* rax; the call's number goes in there too */
	COMPAT_REG_ARG0 = 14,		/* rdi */
	COMPAT_REG_RESTART = 15,	/* orig_rax: -1, and the kernel sees no system call to restart */
	COMPAT_REG_PC = 16,		/* rip */
};
#define COMPAT_SYSCALL_INSN "\x0f\x05"
#else
#define COMPAT_HAS_INJECT 0
enum { COMPAT_REGS = 1, COMPAT_REG_RESULT = 0, COMPAT_REG_ARG0 = 0, COMPAT_REG_RESTART = 0, COMPAT_REG_PC = 0 };
#define COMPAT_SYSCALL_INSN "\0\0"
#endif
enum { COMPAT_SYSCALL_INSN_BYTES = sizeof(COMPAT_SYSCALL_INSN) - 1 };

/* Kernel interfaces younger than Debian 12's headers (Linux 6.1). */
#include <linux/fs.h>
#include <linux/types.h>
#include <linux/userfaultfd.h>

#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13)
#endif
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif

#ifndef PAGEMAP_SCAN
struct page_region {
	__u64 start;
	__u64 end;
	__u64 categories;
};

struct pm_scan_arg {
	__u64 size;
	__u64 flags;
	__u64 start;
	__u64 end;
	__u64 walk_end;
	__u64 vec;
	__u64 vec_len;
	__u64 max_pages;
	__u64 category_inverted;
	__u64 category_mask;
	__u64 category_anyof_mask;
	__u64 return_mask;
};

#define PAGEMAP_SCAN		_IOWR('f', 16, struct pm_scan_arg)
#define PM_SCAN_WP_MATCHING	(1 << 0)
#define PM_SCAN_CHECK_WPASYNC	(1 << 1)
#define PAGE_IS_WRITTEN		(1 << 1)
#define PAGE_IS_PRESENT		(1 << 3)
#define PAGE_IS_SWAPPED		(1 << 4)
#endif

#define COMPAT_PM_UFFD_WP	(1ull << 57)	/* /proc/PID/pagemap; in no header */
#define COMPAT_PM_PRESENT	(1ull << 63)

/* The C library's <sys/ptrace.h> lacks these and cannot be had together with <linux/ptrace.h>. */
#define COMPAT_PTRACE_EVENT_STOP	128
#define COMPAT_PTRACE_O_SUSPEND_SECCOMP	(1 << 21)

#endif
