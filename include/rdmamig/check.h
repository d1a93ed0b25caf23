/* SPDX-License-Identifier: BSD-2-Clause */
/* check.h - can this host do it? Looks only; changes nothing. */
#ifndef RDMAMIG_CHECK_H
#define RDMAMIG_CHECK_H

#include <rdmamig/status.h>

#ifdef __cplusplus
extern "C" {
#endif

enum rdmamig_check_result { RDMAMIG_CHECK_PASS = 0, RDMAMIG_CHECK_WARN = 1, RDMAMIG_CHECK_FAIL = 2 };

struct rdmamig_check_row {
	enum rdmamig_check_result result;
	const char *name;	/* "userfaultfd", "memlock", ...: stable, for scripts */
	const char *text;	/* what was found */
	const char *cure;	/* the line to type or change; "" for PASS */
};

/*
 * rdmamig_check_host - call @row once per thing looked at; strings live until it returns.
 *
 * Devices, ports, GIDs and MTU from sysfs; memlock, cgroup memory, free memory, hugetlb; userfaultfd, WP_ASYNC,
 * PAGEMAP_SCAN, ptrace, pidfd_getfd. OK if no row is FAIL, else E_PRECHECK.
 */
enum rdmamig_status rdmamig_check_host(void (*row)(void *opaque, const struct rdmamig_check_row *row), void *opaque);

#ifdef __cplusplus
}
#endif
#endif
