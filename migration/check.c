/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * check.c - runs the host checks of its table and carries their rows to whoever asked.
 * Neighbours: check_rdma.c, check_memory.c and check_kernel.c, which look. On the caller's thread.
 */
#include "migration/check.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void (*const checks[])(struct check *check) = {
	check_rdma_devices,
	check_rdma_cm,
	check_memlock,
	check_cgroup,
	check_free_memory,
	check_hugetlb,
	check_userfaultfd,
	check_pagemap_scan,
	check_ptrace,
	check_pidfd_getfd,
};

enum rdmamig_status check_run(struct check *check)
{
	check->worst = RDMAMIG_CHECK_PASS;
	for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++)
		checks[i](check);
	return check->worst == RDMAMIG_CHECK_FAIL ? RDMAMIG_E_PRECHECK : RDMAMIG_OK;
}

enum rdmamig_status rdmamig_check_host(void (*row)(void *opaque, const struct rdmamig_check_row *row), void *opaque)
{
	struct check check = { .root = "", .row = row, .opaque = opaque };
	return check_run(&check);
}

void check_tell(struct check *check, enum rdmamig_check_result result, const char *name, const char *cure,
		const char *format, ...)
{
	char text[CHECK_TEXT_BYTES];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);

	struct rdmamig_check_row row = { .result = result, .name = name, .text = text, .cure = cure };
	check->row(check->opaque, &row);
	if (result > check->worst)
		check->worst = result;
}

void check_format(char *out, size_t out_bytes, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(out, out_bytes, format, args);
	va_end(args);
}

static void path_format(const struct check *check, char out[CHECK_PATH_BYTES], const char *format, va_list args)
{
	int used = snprintf(out, CHECK_PATH_BYTES, "%s", check->root);
	if (used >= 0 && used < CHECK_PATH_BYTES)
		vsnprintf(out + used, CHECK_PATH_BYTES - (size_t)used, format, args);
}

void check_path(const struct check *check, char out[CHECK_PATH_BYTES], const char *format, ...)
{
	va_list args;
	va_start(args, format);
	path_format(check, out, format, args);
	va_end(args);
}

bool check_read_line(const struct check *check, char *out, size_t out_bytes, const char *format, ...)
{
	char path[CHECK_PATH_BYTES];
	va_list args;
	va_start(args, format);
	path_format(check, path, format, args);
	va_end(args);

	out[0] = '\0';
	FILE *file = fopen(path, "re");
	if (!file)
		return false;
	bool got = fgets(out, (int)out_bytes, file) != NULL;
	fclose(file);
	if (got)
		out[strcspn(out, "\n")] = '\0';
	return got;
}

bool check_read_field(const struct check *check, const char *path, const char *key, char *out, size_t out_bytes)
{
	char full[CHECK_PATH_BYTES], line[256];
	check_path(check, full, "%s", path);
	FILE *file = fopen(full, "re");
	if (!file)
		return false;

	size_t key_len = strlen(key);
	bool found = false;
	while (!found && fgets(line, sizeof(line), file)) {
		if (strncmp(line, key, key_len))
			continue;
		const char *value = line + key_len + strspn(line + key_len, " \t");
		check_format(out, out_bytes, "%.*s", (int)strcspn(value, "\n"), value);
		found = true;
	}
	fclose(file);
	return found;
}

bool check_has_capability(const struct check *check, unsigned capability)
{
	char mask[32];
	if (!check_read_field(check, "/proc/self/status", "CapEff:", mask, sizeof(mask)))
		return false;
	return strtoull(mask, NULL, 16) >> capability & 1;
}

void check_size_text(uint64_t bytes, char out[16])
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double value = (double)bytes;
	unsigned unit = 0;
	for (; value >= 1024 && unit < sizeof(units) / sizeof(units[0]) - 1; unit++)
		value /= 1024;
	snprintf(out, 16, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
}
