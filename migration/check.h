/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * check.h - what the host checks share: where they look and how they tell.
 *
 * Each check is one function that tells one row, or one a device. It reads /proc and /sys under @root, so that a test can
 * show it another host; only the system calls it probes are always those of this one.
 */
#ifndef MIGRATION_CHECK_H
#define MIGRATION_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rdmamig/check.h>

enum { CHECK_PATH_BYTES = 512, CHECK_TEXT_BYTES = 512 };

struct check {
	const char *root;	/* "" for this host */
	void (*row)(void *opaque, const struct rdmamig_check_row *row);
	void *opaque;
	enum rdmamig_check_result worst;
};

/* check_run - all of them, in the order of their table. OK, or E_PRECHECK if a row is FAIL. */
enum rdmamig_status check_run(struct check *check);

/* check_tell - one row. @cure is "" for PASS. */
void check_tell(struct check *check, enum rdmamig_check_result result, const char *name, const char *cure,
		const char *format, ...) __attribute__((format(printf, 5, 6)));

/* check_format - snprintf(), for names that are cut if they are too long. */
void check_format(char *out, size_t out_bytes, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* check_path - @format under the root. */
void check_path(const struct check *check, char out[CHECK_PATH_BYTES], const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* check_read_line - the first line of the file, without its newline; false and "" if it cannot be read. */
bool check_read_line(const struct check *check, char *out, size_t out_bytes, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* check_read_field - what follows "@key" and blanks at the start of a line, as in /proc/meminfo. */
bool check_read_field(const struct check *check, const char *path, const char *key, char *out, size_t out_bytes);

/* check_has_capability - in our effective set, as /proc/self/status tells it. */
bool check_has_capability(const struct check *check, unsigned capability);

/* check_size_text - "8.0 GiB"; for texts only. */
void check_size_text(uint64_t bytes, char out[16]);

/* check_rdma.c */
void check_rdma_devices(struct check *check);
void check_rdma_cm(struct check *check);

/* check_memory.c */
void check_memlock(struct check *check);
void check_cgroup(struct check *check);
void check_free_memory(struct check *check);
void check_hugetlb(struct check *check);

/* check_kernel.c */
void check_userfaultfd(struct check *check);
void check_pagemap_scan(struct check *check);
void check_ptrace(struct check *check);
void check_pidfd_getfd(struct check *check);

#endif
