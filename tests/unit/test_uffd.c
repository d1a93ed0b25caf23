/* SPDX-License-Identifier: BSD-2-Clause */
/* test_uffd.c - opening, handshake, registration, and a write that waits until it is let go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/compat.h"
#include "ram/page.h"
#include "ram/uffd.h"

static int opened(bool is_async)
{
	bool is_user_only;
	int fd = uffd_open(&is_user_only);
	assert_true(fd >= 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_int_equal(uffd_handshake(fd, is_async), 0);
	return fd;
}

static void test_handshake(void **state)
{
	(void)state;
	bool is_user_only;
	uint64_t features;
	int fd = uffd_open(&is_user_only);
	assert_true(fd >= 0);
	assert_int_equal(uffd_features(fd, &features), 0);
	assert_int_equal(features, 0);
	assert_int_equal(uffd_register(fd, 0, PAGE_BYTES), -EINVAL);	/* nothing before the handshake */
	assert_int_equal(uffd_handshake(fd, true), 0);
	assert_int_equal(uffd_features(fd, &features), 0);
	assert_true(features & UFFD_FEATURE_WP_ASYNC);
	assert_int_equal(uffd_handshake(fd, true), -EINVAL);		/* once */
	close(fd);

	fd = opened(false);
	assert_int_equal(uffd_features(fd, &features), 0);
	assert_false(features & UFFD_FEATURE_WP_ASYNC);
	close(fd);

	fd = open("/dev/null", O_RDONLY);
	assert_int_equal(uffd_features(fd, &features), -EINVAL);
	close(fd);
	assert_true(uffd_features(fd, &features) < 0);
}

static uint8_t *shared_page(void)
{
	uint8_t *page = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	page[0] = 1;
	return page;
}

static void test_register(void **state)
{
	(void)state;
	uint8_t *page = shared_page();
	uint64_t at = (uintptr_t)page;
	int first = opened(true), second = opened(true);
	assert_int_equal(uffd_protect(first, at, PAGE_BYTES), -ENOENT);
	assert_int_equal(uffd_register(first, at, PAGE_BYTES), 0);
	assert_int_equal(uffd_register(second, at, PAGE_BYTES), -EBUSY);
	assert_int_equal(uffd_protect(first, at, PAGE_BYTES), 0);
	page[0] = 2;		/* async: goes on */
	assert_int_equal(uffd_unregister(first, at, PAGE_BYTES), 0);
	assert_int_equal(uffd_register(second, at, PAGE_BYTES), 0);
	close(first);
	close(second);
	munmap(page, PAGE_BYTES);
}

struct writer {
	uint8_t *page;
	_Atomic bool is_done;
};

static void *write_byte(void *arg)
{
	struct writer *writer = arg;
	*(volatile uint8_t *)writer->page = 9;
	atomic_store(&writer->is_done, true);
	return NULL;
}

enum { UNPROTECT, UNREGISTER, CLOSE };

static void waits(int ending)
{
	struct writer writer = { .page = shared_page() };
	uint64_t at = (uintptr_t)writer.page;
	int fd = opened(false);
	assert_int_equal(uffd_register(fd, at, PAGE_BYTES), 0);
	assert_int_equal(uffd_protect(fd, at, PAGE_BYTES), 0);
	pthread_t thread;
	assert_int_equal(pthread_create(&thread, NULL, write_byte, &writer), 0);

	struct uffd_msg msg;
	assert_int_equal(poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 10000), 1);
	assert_int_equal(read(fd, &msg, sizeof(msg)), sizeof(msg));
	assert_int_equal(msg.event, UFFD_EVENT_PAGEFAULT);
	assert_int_equal(msg.arg.pagefault.address, at);
	assert_false(atomic_load(&writer.is_done));

	if (ending == UNPROTECT) {
		assert_int_equal(uffd_unprotect(fd, at, PAGE_BYTES), 0);
	} else if (ending == UNREGISTER) {
		assert_int_equal(uffd_unregister(fd, at, PAGE_BYTES), 0);
		assert_int_equal(uffd_wake(fd, at, PAGE_BYTES), 0);
	} else {
		close(fd);
	}
	pthread_join(thread, NULL);
	assert_int_equal(writer.page[0], 9);
	if (ending != CLOSE)
		close(fd);
	munmap(writer.page, PAGE_BYTES);
}

static void test_a_write_waits(void **state)
{
	(void)state;
	waits(UNPROTECT);
	waits(UNREGISTER);
	waits(CLOSE);
}

int main(void)
{
	alarm(60);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_handshake),
		cmocka_unit_test(test_register),
		cmocka_unit_test(test_a_write_waits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
