/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_check.c - the host checks, shown hosts made of files.
 * Neighbours: migration/check*.c.
 */
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "migration/check.h"

enum { TOLD_MAX = 32 };

struct told {
	unsigned count;
	struct {
		enum rdmamig_check_result result;
		char name[64];
		char text[CHECK_TEXT_BYTES];
		char cure[CHECK_TEXT_BYTES];
	} rows[TOLD_MAX];
};

struct host {
	char root[64];
	struct told told;
	struct check check;
};

static void remember(void *opaque, const struct rdmamig_check_row *row)
{
	struct told *told = opaque;
	assert_true(told->count < TOLD_MAX);
	told->rows[told->count].result = row->result;
	snprintf(told->rows[told->count].name, sizeof(told->rows[0].name), "%s", row->name);
	snprintf(told->rows[told->count].text, sizeof(told->rows[0].text), "%s", row->text);
	snprintf(told->rows[told->count].cure, sizeof(told->rows[0].cure), "%s", row->cure);
	told->count++;
}

/* Write @text to @path below the host's root, with its directories. */
static void host_put(struct host *host, const char *path, const char *text)
{
	char full[512];
	snprintf(full, sizeof(full), "%s%s", host->root, path);
	for (char *slash = strchr(full + strlen(host->root) + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		mkdir(full, 0700);
		*slash = '/';
	}
	FILE *file = fopen(full, "w");
	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static int host_set_up(void **state)
{
	struct host *host = calloc(1, sizeof(*host));
	snprintf(host->root, sizeof(host->root), "/tmp/test_check.XXXXXX");
	assert_non_null(mkdtemp(host->root));
	host->check = (struct check){ .root = host->root, .row = remember, .opaque = &host->told };
	*state = host;
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

static int host_tear_down(void **state)
{
	struct host *host = *state;
	nftw(host->root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	free(host);
	return 0;
}

static unsigned find(const struct told *told, const char *name)
{
	for (unsigned i = 0; i < told->count; i++)
		if (!strcmp(told->rows[i].name, name))
			return i;
	fail_msg("no row %s", name);
	return 0;
}

static void expect(struct host *host, const char *name, enum rdmamig_check_result result, const char *in_text)
{
	unsigned i = find(&host->told, name);
	assert_int_equal(host->told.rows[i].result, result);
	if (!strstr(host->told.rows[i].text, in_text))
		fail_msg("%s: '%s' lacks '%s'", name, host->told.rows[i].text, in_text);
	assert_int_equal(host->told.rows[i].cure[0] != '\0', result != RDMAMIG_CHECK_PASS);
}

static void port_put(struct host *host, const char *file, const char *text)
{
	char path[256];
	snprintf(path, sizeof(path), "/sys/class/infiniband/mlx5_0/ports/1/%s", file);
	host_put(host, path, text);
}

static void roce_put(struct host *host, const char *type, const char *mtu)
{
	port_put(host, "state", "4: ACTIVE\n");
	port_put(host, "link_layer", "Ethernet\n");
	port_put(host, "rate", "100 Gb/sec (4X EDR)\n");
	port_put(host, "gids/0", "fe80:0000:0000:0000:5054:00ff:fe12:3456\n");
	port_put(host, "gids/1", "0000:0000:0000:0000:0000:0000:0000:0000\n");
	port_put(host, "gid_attrs/types/0", type);
	port_put(host, "gid_attrs/ndevs/0", "eth7\n");
	host_put(host, "/sys/class/net/eth7/mtu", mtu);
}

static void no_device_is_a_warning(void **state)
{
	struct host *host = *state;
	check_rdma_devices(&host->check);
	assert_int_equal(host->told.count, 1);
	expect(host, "rdma-device", RDMAMIG_CHECK_WARN, "only tcp://");
	assert_int_equal(host->check.worst, RDMAMIG_CHECK_WARN);
}

static void good_roce_port_passes(void **state)
{
	struct host *host = *state;
	roce_put(host, "RoCE v2\n", "9000\n");
	check_rdma_devices(&host->check);
	expect(host, "rdma-port", RDMAMIG_CHECK_PASS, "mlx5_0 port 1: ACTIVE, Ethernet, 100 Gb/sec");
	expect(host, "rdma-gid", RDMAMIG_CHECK_PASS, "1 GIDs, RoCE v2");
	expect(host, "rdma-mtu", RDMAMIG_CHECK_PASS, "eth7 has MTU 9000");
	expect(host, "rdma-device", RDMAMIG_CHECK_PASS, "1 RDMA devices, 1 active ports");
	assert_int_equal(host->check.worst, RDMAMIG_CHECK_PASS);
}

static void small_mtu_and_old_roce_are_warned(void **state)
{
	struct host *host = *state;
	roce_put(host, "IB/RoCE v1\n", "1500\n");
	check_rdma_devices(&host->check);
	expect(host, "rdma-gid", RDMAMIG_CHECK_WARN, "none of RoCE v2");
	expect(host, "rdma-mtu", RDMAMIG_CHECK_WARN, "1500");
	assert_non_null(strstr(host->told.rows[find(&host->told, "rdma-mtu")].cure, "ip link set eth7 mtu"));
}

static void port_that_is_down_is_warned(void **state)
{
	struct host *host = *state;
	port_put(host, "state", "1: DOWN\n");
	port_put(host, "link_layer", "InfiniBand\n");
	port_put(host, "rate", "2.5 Gb/sec (1X SDR)\n");
	check_rdma_devices(&host->check);
	expect(host, "rdma-port", RDMAMIG_CHECK_WARN, "DOWN, InfiniBand");
	expect(host, "rdma-device", RDMAMIG_CHECK_WARN, "without an active port");
	assert_int_equal(host->told.count, 2);
}

static void infiniband_needs_no_roce_gid(void **state)
{
	struct host *host = *state;
	port_put(host, "state", "4: ACTIVE\n");
	port_put(host, "link_layer", "InfiniBand\n");
	port_put(host, "gids/0", "fe80:0000:0000:0000:506b:4b03:00c2:1234\n");
	port_put(host, "gid_attrs/types/0", "IB/RoCE v1\n");
	check_rdma_devices(&host->check);
	expect(host, "rdma-gid", RDMAMIG_CHECK_PASS, "1 GIDs");
	assert_int_equal(host->check.worst, RDMAMIG_CHECK_PASS);
}

static void memlock_limit_is_told(void **state)
{
	struct host *host = *state;
	host_put(host, "/proc/self/status", "Name:\tx\nCapEff:\t0000000000000000\n");
	host_put(host, "/proc/self/limits", "Limit                     Soft Limit           Hard Limit           Units\n"
					    "Max locked memory         8388608              8388608              bytes\n");
	check_memlock(&host->check);
	expect(host, "memlock", RDMAMIG_CHECK_WARN, "8.0 MiB");
}

static void memlock_does_not_hold_the_privileged(void **state)
{
	struct host *host = *state;
	host_put(host, "/proc/self/status", "CapEff:\t0000000000004000\n");	/* CAP_IPC_LOCK is 14 */
	host_put(host, "/proc/self/limits", "Max locked memory         65536                65536                bytes\n");
	check_memlock(&host->check);
	expect(host, "memlock", RDMAMIG_CHECK_PASS, "CAP_IPC_LOCK");
}

static void memlock_unlimited_passes(void **state)
{
	struct host *host = *state;
	host_put(host, "/proc/self/status", "CapEff:\t0000000000000000\n");
	host_put(host, "/proc/self/limits", "Max locked memory         unlimited            unlimited            bytes\n");
	check_memlock(&host->check);
	expect(host, "memlock", RDMAMIG_CHECK_PASS, "unlimited");
}

static void tightest_cgroup_counts(void **state)
{
	struct host *host = *state;
	host_put(host, "/proc/self/cgroup", "0::/a/b\n");
	host_put(host, "/sys/fs/cgroup/a/b/memory.max", "max\n");
	host_put(host, "/sys/fs/cgroup/a/b/memory.current", "1048576\n");
	host_put(host, "/sys/fs/cgroup/a/memory.max", "3221225472\n");
	host_put(host, "/sys/fs/cgroup/a/memory.current", "1073741824\n");
	check_cgroup(&host->check);
	expect(host, "cgroup-memory", RDMAMIG_CHECK_WARN, "2.0 GiB left");
	assert_non_null(strstr(host->told.rows[0].cure, "/sys/fs/cgroup/a/memory.max"));
}

static void cgroup_v1_is_read(void **state)
{
	struct host *host = *state;
	host_put(host, "/proc/self/cgroup", "9:cpu:/\n4:memory:/g\n0::/\n");
	host_put(host, "/sys/fs/cgroup/memory/g/memory.limit_in_bytes", "1073741824\n");
	host_put(host, "/sys/fs/cgroup/memory/g/memory.usage_in_bytes", "536870912\n");
	host_put(host, "/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
	host_put(host, "/sys/fs/cgroup/memory/memory.usage_in_bytes", "0\n");
	check_cgroup(&host->check);
	expect(host, "cgroup-memory", RDMAMIG_CHECK_WARN, "512.0 MiB left");
}

static void no_cgroup_limit_passes(void **state)
{
	struct host *host = *state;
	host_put(host, "/proc/self/cgroup", "4:memory:/\n0::/\n");
	host_put(host, "/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
	host_put(host, "/sys/fs/cgroup/memory/memory.usage_in_bytes", "0\n");
	check_cgroup(&host->check);
	expect(host, "cgroup-memory", RDMAMIG_CHECK_PASS, "no limit");
}

static void free_memory_is_told(void **state)
{
	struct host *host = *state;
	host_put(host, "/proc/meminfo", "MemTotal:       16000000 kB\nMemAvailable:     524288 kB\n");
	check_free_memory(&host->check);
	expect(host, "free-memory", RDMAMIG_CHECK_WARN, "512.0 MiB");
}

static void used_up_hugetlb_pool_is_warned(void **state)
{
	struct host *host = *state;
	host_put(host, "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "10\n");
	host_put(host, "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "4\n");
	host_put(host, "/sys/kernel/mm/hugepages/hugepages-2048kB/resv_hugepages", "4\n");
	host_put(host, "/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages", "0\n");
	check_hugetlb(&host->check);
	expect(host, "hugetlb", RDMAMIG_CHECK_WARN, "0 of 10 pages of 2.0 MiB free");
	assert_null(strstr(host->told.rows[0].text, "1.0 GiB"));
}

static void ptrace_rules(void **state)
{
	static const struct {
		const char *scope;
		const char *capabilities;
		enum rdmamig_check_result result;
		const char *text;
	} cases[] = {
		{ "3\n", "CapEff:\tffffffffffffffff\n", RDMAMIG_CHECK_FAIL, "ptrace_scope is 3" },
		{ "1\n", "CapEff:\t0000000000080000\n", RDMAMIG_CHECK_PASS, "CAP_SYS_PTRACE" },
		{ "1\n", "CapEff:\t0000000000000000\n", RDMAMIG_CHECK_FAIL, "ptrace_scope is 1" },
		{ "0\n", "CapEff:\t0000000000000000\n", RDMAMIG_CHECK_WARN, "our own user" },
	};
	struct host *host = *state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		host->told.count = 0;
		host_put(host, "/proc/sys/kernel/yama/ptrace_scope", cases[i].scope);
		host_put(host, "/proc/self/status", cases[i].capabilities);
		check_ptrace(&host->check);
		expect(host, "ptrace", cases[i].result, cases[i].text);
	}
}

/* Whatever this host is: each row is whole, and the status is that of the worst. */
static void count_row(void *opaque, const struct rdmamig_check_row *row)
{
	struct told *told = opaque;
	remember(told, row);
	assert_true(row->name[0] && row->text[0]);
	assert_int_equal(row->cure[0] != '\0', row->result != RDMAMIG_CHECK_PASS);
}

static void this_host_is_looked_at(void **state)
{
	struct host *host = *state;
	bool fails = false;
	enum rdmamig_status status = rdmamig_check_host(count_row, &host->told);
	for (unsigned i = 0; i < host->told.count; i++)
		fails |= host->told.rows[i].result == RDMAMIG_CHECK_FAIL;
	assert_int_equal(status, fails ? RDMAMIG_E_PRECHECK : RDMAMIG_OK);
	find(&host->told, "userfaultfd");
	find(&host->told, "pagemap-scan");
	find(&host->told, "pidfd-getfd");
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, host_set_up, host_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(no_device_is_a_warning), TEST(good_roce_port_passes), TEST(small_mtu_and_old_roce_are_warned),
		TEST(port_that_is_down_is_warned), TEST(infiniband_needs_no_roce_gid), TEST(memlock_limit_is_told),
		TEST(memlock_does_not_hold_the_privileged), TEST(memlock_unlimited_passes), TEST(tightest_cgroup_counts),
		TEST(cgroup_v1_is_read), TEST(no_cgroup_limit_passes), TEST(free_memory_is_told),
		TEST(used_up_hugetlb_pool_is_warned), TEST(ptrace_rules), TEST(this_host_is_looked_at),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
