/* SPDX-License-Identifier: BSD-2-Clause */
/* test_uri.c - what is a URI of ours, what is not, and that the reason names the trouble. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <rdmamig/uri.h>

static const struct {
	const char *text, *scheme, *device, *host;
	unsigned port;
} good[] = {
	{ "tcp://10.1.0.2:7471", "tcp", "", "10.1.0.2", 7471 },
	{ "tcp://10.1.0.2", "tcp", "", "10.1.0.2", RDMAMIG_PORT },
	{ "tcp://dst.example.org:1", "tcp", "", "dst.example.org", 1 },
	{ "tcp://my-host_2:65535", "tcp", "", "my-host_2", 65535 },
	{ "tcp://", "tcp", "", "", RDMAMIG_PORT },
	{ "tcp://:0", "tcp", "", "", 0 },
	{ "tcp://*", "tcp", "", "*", RDMAMIG_PORT },
	{ "tcp://*:99", "tcp", "", "*", 99 },
	{ "tcp://[::1]:5", "tcp", "", "::1", 5 },
	{ "tcp://[::]", "tcp", "", "::", RDMAMIG_PORT },
	{ "tcp://[::ffff:10.0.0.1]:5", "tcp", "", "::ffff:10.0.0.1", 5 },
	{ "tcp://[fe80::1%eth0]:5", "tcp", "", "fe80::1%eth0", 5 },
	{ "rdma://0.0.0.0:7471", "rdma", "", "0.0.0.0", 7471 },
	{ "rdma://mlx5_0%10.1.0.2:7471", "rdma", "mlx5_0", "10.1.0.2", 7471 },
	{ "rdma://rxe0%[2001:db8::2]", "rdma", "rxe0", "2001:db8::2", RDMAMIG_PORT },
	{ "rdma://rxe0%[fe80::2%eth1]:8", "rdma", "rxe0", "fe80::2%eth1", 8 },
	{ "rdma://rxe0%", "rdma", "rxe0", "", RDMAMIG_PORT },
};

static const struct {
	const char *text, *why;		/* a part of it */
} bad[] = {
	{ "", "not a URI" },
	{ "10.1.0.2:7471", "not a URI" },
	{ "tcp:10.1.0.2", "not a URI" },
	{ "tcp:/10.1.0.2", "not a URI" },
	{ "://host", "unknown scheme ''" },
	{ "udp://host", "unknown scheme 'udp'" },
	{ "tcpx://host", "unknown scheme 'tcpx'" },
	{ "TCP://host", "unknown scheme 'TCP'" },
	{ "tc://host", "unknown scheme 'tc'" },
	{ "file:/tmp/x", "not supported yet" },
	{ "file:///tmp/x", "not supported yet" },
	{ "tcp://host:", "not a port" },
	{ "tcp://host:x", "not a port" },
	{ "tcp://host:7471x", "not a port" },
	{ "tcp://host:-1", "not a port" },
	{ "tcp://host:+1", "not a port" },
	{ "tcp://host: 1", "not a port" },
	{ "tcp://host:65536", "not a port" },
	{ "tcp://host:4294967297", "not a port" },
	{ "tcp://host:99999999999999999999999", "not a port" },
	{ "tcp://host:7471/", "not a port" },
	{ "tcp://host/", "not a host" },
	{ "tcp://ho st", "not a host" },
	{ "tcp://user@host", "not a host" },
	{ "tcp://h\xc3\xb6st", "not a host" },
	{ "tcp://**", "not a host" },
	{ "tcp://*.example.org", "not a host" },
	{ "tcp://::1:7471", "in brackets" },
	{ "tcp://2001:db8::1", "in brackets" },
	{ "tcp://[::1", "']'" },
	{ "tcp://[]", "not an IPv6" },
	{ "tcp://[10.0.0.1]", "not an IPv6" },
	{ "tcp://[::1%]", "not an IPv6" },
	{ "tcp://[::1%a/b]", "not an IPv6" },
	{ "tcp://[::g]", "not an IPv6" },
	{ "tcp://[::1]7471", "after the host" },
	{ "tcp://[::1]]", "after the host" },
	{ "tcp://mlx5_0%10.0.0.1", "only rdma" },
	{ "rdma://%10.0.0.1", "not the name" },
	{ "rdma://a/b%10.0.0.1", "not the name" },
	{ "rdma://a%b%10.0.0.1", "not a host" },
	{ "rdma://fe80::1%eth0", "not the name" },
};

static void test_good(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct rdmamig_uri uri = { .size = sizeof(uri) };
		char why[200] = "";
		if (rdmamig_uri_parse(good[i].text, &uri, why, sizeof(why)))
			fail_msg("%s: %s", good[i].text, why);
		assert_string_equal(uri.scheme, good[i].scheme);
		assert_string_equal(uri.device, good[i].device);
		assert_string_equal(uri.host, good[i].host);
		assert_int_equal(uri.port, good[i].port);
		assert_int_equal(uri.size, sizeof(uri));
	}
}

static void test_bad(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct rdmamig_uri uri, before;
		char why[200] = "";
		memset(&uri, 0x5a, sizeof(uri));
		uri.size = sizeof(uri);
		before = uri;
		if (rdmamig_uri_parse(bad[i].text, &uri, why, sizeof(why)) != RDMAMIG_E_URI)
			fail_msg("%s was taken", bad[i].text);
		if (!strstr(why, bad[i].why))
			fail_msg("%s: '%s' does not say '%s'", bad[i].text, why, bad[i].why);
		assert_memory_equal(&uri, &before, sizeof(uri));
	}
}

/* The longest that fits, and one more, for host and device. */
static void test_lengths(void **state)
{
	(void)state;
	char text[600], name[300], why[100];
	struct rdmamig_uri uri = { .size = sizeof(uri) };
	memset(name, 'a', sizeof(name));

	snprintf(text, sizeof(text), "tcp://%.255s:1", name);
	assert_int_equal(rdmamig_uri_parse(text, &uri, why, sizeof(why)), RDMAMIG_OK);
	assert_int_equal(strlen(uri.host), 255);
	snprintf(text, sizeof(text), "tcp://%.256s:1", name);
	assert_int_equal(rdmamig_uri_parse(text, &uri, why, sizeof(why)), RDMAMIG_E_URI);
	snprintf(text, sizeof(text), "rdma://%.63s%%h", name);
	assert_int_equal(rdmamig_uri_parse(text, &uri, why, sizeof(why)), RDMAMIG_OK);
	assert_int_equal(strlen(uri.device), 63);
	snprintf(text, sizeof(text), "rdma://%.64s%%h", name);
	assert_int_equal(rdmamig_uri_parse(text, &uri, why, sizeof(why)), RDMAMIG_E_URI);
	snprintf(text, sizeof(text), "tcp://[%.290s]", name);
	assert_int_equal(rdmamig_uri_parse(text, &uri, why, sizeof(why)), RDMAMIG_E_URI);
}

static void test_size(void **state)
{
	(void)state;
	char why[100];
	struct rdmamig_uri uri = { .size = 0 };
	assert_int_equal(rdmamig_uri_parse("tcp://h", &uri, why, sizeof(why)), RDMAMIG_E_URI);
	assert_non_null(strstr(why, "size"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_size),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
