/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * check_memory.c - how much memory this process may pin, touch and find: limits that strike in mid-migration.
 * Neighbours: check.c. Reads /proc and /sys only; no thread of its own.
 */
#include "migration/check.h"

#include <dirent.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FREE_MEMORY_LOW_KIB = 1 << 20 };

/* Nobody has this much: v1 writes "no limit" as a huge number, v2 as "max". */
#define CGROUP_NO_LIMIT (1ull << 60)

/* RDMA pins what it moves; an unprivileged process is held to RLIMIT_MEMLOCK, as /proc/self/limits tells it. */
void check_memlock(struct check *check)
{
	char value[64], size[16];
	if (check_has_capability(check, CAP_IPC_LOCK)) {
		check_tell(check, RDMAMIG_CHECK_PASS, "memlock", "", "CAP_IPC_LOCK: pinning is not limited");
		return;
	}
	if (!check_read_field(check, "/proc/self/limits", "Max locked memory", value, sizeof(value))) {
		check_tell(check, RDMAMIG_CHECK_WARN, "memlock", "mount /proc", "the limit cannot be read");
		return;
	}
	if (!strncmp(value, "unlimited", strlen("unlimited"))) {
		check_tell(check, RDMAMIG_CHECK_PASS, "memlock", "", "unlimited");
		return;
	}
	check_size_text(strtoull(value, NULL, 10), size);
	check_tell(check, RDMAMIG_CHECK_WARN, "memlock",
		   "ulimit -l unlimited   # for good: LimitMEMLOCK=infinity in the unit, or memlock in /etc/security/limits.conf",
		   "RDMA can pin %s only: a larger guest fails over rdma://", size);
}

struct cgroup_limit {
	char path[CHECK_PATH_BYTES];	/* of the file that limits; "" while nothing does */
	uint64_t left;
};

static bool read_number(const struct check *check, const char *path, uint64_t *out)
{
	char line[64];
	if (!check_read_line(check, line, sizeof(line), "%s", path) || line[0] < '0' || line[0] > '9')
		return false;
	*out = strtoull(line, NULL, 10);
	return true;
}

/* A group is held to its own limit and to those of all above it. */
static void cgroup_walk(const struct check *check, const char *mount, const char *group, const char *limit_name,
			const char *usage_name, struct cgroup_limit *tightest)
{
	char dir[CHECK_PATH_BYTES / 2], path[CHECK_PATH_BYTES];
	check_format(dir, sizeof(dir), "%s%s", mount, group);
	for (;;) {
		uint64_t limit, usage;
		check_format(path, sizeof(path), "%s/%s", dir, usage_name);
		bool known = read_number(check, path, &usage);
		check_format(path, sizeof(path), "%s/%s", dir, limit_name);
		if (known && read_number(check, path, &limit) && limit < CGROUP_NO_LIMIT) {
			uint64_t left = limit > usage ? limit - usage : 0;
			if (!tightest->path[0] || left < tightest->left) {
				tightest->left = left;
				check_format(tightest->path, sizeof(tightest->path), "%s", path);
			}
		}
		char *slash = strrchr(dir, '/');
		if (!slash || (size_t)(slash - dir) < strlen(mount))
			return;
		*slash = '\0';
	}
}

/* /proc/self/cgroup: "4:memory:/group" for v1, "0::/group" for v2; both may be there. */
static void cgroup_find(const struct check *check, struct cgroup_limit *tightest)
{
	char path[CHECK_PATH_BYTES], line[CHECK_PATH_BYTES / 2];
	check_path(check, path, "/proc/self/cgroup");
	FILE *file = fopen(path, "re");
	if (!file)
		return;
	while (fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = '\0';
		char *controllers = strchr(line, ':');
		char *group = controllers ? strchr(controllers + 1, ':') : NULL;
		if (!group)
			continue;
		*group++ = '\0';
		if (!strcmp(group, "/"))
			group = "";
		if (!strcmp(controllers + 1, ""))
			cgroup_walk(check, "/sys/fs/cgroup", group, "memory.max", "memory.current", tightest);
		else if (!strcmp(controllers + 1, "memory"))
			cgroup_walk(check, "/sys/fs/cgroup/memory", group, "memory.limit_in_bytes", "memory.usage_in_bytes",
				    tightest);
	}
	fclose(file);
}

/* Pages of tmpfs are charged to whoever touches them first: at dest that is `rdmamig recv`. */
void check_cgroup(struct check *check)
{
	struct cgroup_limit tightest = { .left = 0 };
	char size[16], cure[CHECK_PATH_BYTES + CHECK_TEXT_BYTES];
	cgroup_find(check, &tightest);
	if (!tightest.path[0]) {
		check_tell(check, RDMAMIG_CHECK_PASS, "cgroup-memory", "", "no limit");
		return;
	}
	check_size_text(tightest.left, size);
	check_format(cure, sizeof(cure), "raise %s, or leave the group: systemd-run --scope -p MemoryMax=infinity rdmamig ...",
		     tightest.path);
	check_tell(check, RDMAMIG_CHECK_WARN, "cgroup-memory", cure,
		   "%s left below the limit in %s: a larger guest at dest is killed for lack of memory", size, tightest.path);
}

void check_free_memory(struct check *check)
{
	char value[64], size[16];
	if (!check_read_field(check, "/proc/meminfo", "MemAvailable:", value, sizeof(value))) {
		check_tell(check, RDMAMIG_CHECK_WARN, "free-memory", "mount /proc", "/proc/meminfo cannot be read");
		return;
	}
	uint64_t kib = strtoull(value, NULL, 10);
	bool is_low = kib < FREE_MEMORY_LOW_KIB;
	check_size_text(kib << 10, size);
	check_tell(check, is_low ? RDMAMIG_CHECK_WARN : RDMAMIG_CHECK_PASS, "free-memory",
		   is_low ? "stop what is not needed: a dest needs as much as the guest holds" : "", "%s available", size);
}

static void hugetlb_add(const struct check *check, const char *pool, char *text, size_t text_bytes, bool *is_used_up)
{
	uint64_t all = 0, unused = 0, reserved = 0;
	char path[CHECK_PATH_BYTES], size[16];
	const char *const dir = "/sys/kernel/mm/hugepages";
	check_format(path, sizeof(path), "%s/%s/nr_hugepages", dir, pool);
	if (!read_number(check, path, &all) || !all)
		return;
	check_format(path, sizeof(path), "%s/%s/free_hugepages", dir, pool);
	read_number(check, path, &unused);
	check_format(path, sizeof(path), "%s/%s/resv_hugepages", dir, pool);
	read_number(check, path, &reserved);

	uint64_t to_have = unused > reserved ? unused - reserved : 0;
	size_t used = strlen(text);
	check_size_text(strtoull(pool + strcspn(pool, "0123456789"), NULL, 10) << 10, size);
	check_format(text + used, text_bytes - used, "%s%llu of %llu pages of %s free", used ? "; " : "",
		 (unsigned long long)to_have, (unsigned long long)all, size);
	*is_used_up |= !to_have;
}

/* No pool is no fault: only a guest on hugetlbfs needs one. */
void check_hugetlb(struct check *check)
{
	char path[CHECK_PATH_BYTES], text[CHECK_TEXT_BYTES] = "";
	bool is_used_up = false;
	check_path(check, path, "/sys/kernel/mm/hugepages");
	DIR *dir = opendir(path);
	if (dir) {
		for (struct dirent *entry; (entry = readdir(dir));)
			if (!strncmp(entry->d_name, "hugepages-", strlen("hugepages-")))
				hugetlb_add(check, entry->d_name, text, sizeof(text), &is_used_up);
		closedir(dir);
	}
	check_tell(check, is_used_up ? RDMAMIG_CHECK_WARN : RDMAMIG_CHECK_PASS, "hugetlb",
		   is_used_up ? "echo PAGES > /sys/kernel/mm/hugepages/hugepages-SIZE/nr_hugepages   # for a dest on hugetlbfs" : "",
		   "%s", text[0] ? text : "no pool; only guests on hugetlbfs need one");
}
