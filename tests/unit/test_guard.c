/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_guard.c - a touch beyond the end of a file is an error inside guard_call() and what it always was outside.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "ram/guard.h"
#include "ram/page.h"

struct touch {
	volatile uint8_t *at;
	bool done;
};

static void touch_run(void *arg)
{
	struct touch *touch = arg;
	*touch->at = 1;
	touch->done = true;
}

/* What guard_install() had set. cmocka sets its own action before each test. */
static struct sigaction guard_action;

static void guard_again(void)
{
	assert_int_equal(sigaction(SIGBUS, &guard_action, NULL), 0);
}

/* Two pages, of which the second is cut off. */
static uint8_t *cut_map(void)
{
	int fd = memfd_create("guard", MFD_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 2 * PAGE_BYTES), 0);
	uint8_t *map = mmap(NULL, 2 * PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(map, MAP_FAILED);
	assert_int_equal(ftruncate(fd, PAGE_BYTES), 0);
	close(fd);
	return map;
}

static void test_touch_of_a_cut_file(void **state)
{
	(void)state;
	uint8_t *map = cut_map();
	guard_again();
	for (unsigned i = 0; i < 1000; i++) {	/* again and again: the signal must not stay blocked */
		struct touch good = { .at = map }, bad = { .at = map + PAGE_BYTES };
		assert_true(guard_call(touch_run, &good));
		assert_true(good.done);
		assert_false(guard_call(touch_run, &bad));
		assert_false(bad.done);
	}
	sigset_t blocked;
	assert_int_equal(pthread_sigmask(SIG_BLOCK, NULL, &blocked), 0);
	assert_false(sigismember(&blocked, SIGBUS));
	munmap(map, 2 * PAGE_BYTES);
}

static void *thread_touches(void *arg)
{
	uint8_t *map = arg;
	for (unsigned i = 0; i < 1000; i++) {
		struct touch good = { .at = map }, bad = { .at = map + PAGE_BYTES };
		if (!guard_call(touch_run, &good) || guard_call(touch_run, &bad))
			return "wrong";
	}
	return NULL;
}

static void test_threads_have_their_own_way_out(void **state)
{
	(void)state;
	uint8_t *maps[3];
	pthread_t threads[3];
	guard_again();
	for (unsigned i = 0; i < 3; i++) {
		maps[i] = cut_map();
		assert_int_equal(pthread_create(&threads[i], NULL, thread_touches, maps[i]), 0);
	}
	for (unsigned i = 0; i < 3; i++) {
		void *wrong;
		pthread_join(threads[i], &wrong);
		assert_null(wrong);
		munmap(maps[i], 2 * PAGE_BYTES);
	}
}

enum { EXIT_PREVIOUS_RAN = 42, EXIT_GUARD_FAILED = 43, EXIT_SURVIVED = 44 };

static void previous_exits(int signal_number)
{
	_exit(signal_number == SIGBUS ? EXIT_PREVIOUS_RAN : EXIT_GUARD_FAILED);
}

static void previous_exits_with_info(int signal_number, siginfo_t *info, void *context)
{
	_exit(signal_number == SIGBUS && info && context ? EXIT_PREVIOUS_RAN : EXIT_GUARD_FAILED);
}

static void kill_run(void *arg)
{
	(void)arg;
	raise(SIGBUS);	/* not a touch of ours: guard_call() must not take it for one */
}

enum strike { STRIKE_TOUCH, STRIKE_KILL, STRIKE_KILL_IN_GUARD };

/* What becomes of a process that had @action for SIGBUS before guard_install(): its wait status. */
static int strike(const struct sigaction *action, enum strike strike)
{
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		const struct rlimit no_core = { 0 };
		setrlimit(RLIMIT_CORE, &no_core);
		uint8_t *map = cut_map();
		struct touch bad = { .at = map + PAGE_BYTES };
		sigaction(SIGBUS, action, NULL);
		if (guard_install() || guard_call(touch_run, &bad))
			_exit(EXIT_GUARD_FAILED);
		if (strike == STRIKE_TOUCH)
			touch_run(&bad);
		else if (strike == STRIKE_KILL)
			raise(SIGBUS);
		else
			guard_call(kill_run, NULL);
		_exit(EXIT_SURVIVED);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void assert_exits(int status, int code)
{
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), code);
}

static void assert_killed(int status)
{
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGBUS);
}

/* Before main() installs: the children must be the ones to do it. */
static void test_outside_the_previous_action_rules(void **state)
{
	(void)state;
	const struct sigaction plain = { .sa_handler = previous_exits };
	const struct sigaction with_info = { .sa_sigaction = previous_exits_with_info, .sa_flags = SA_SIGINFO };
	const struct sigaction ignored = { .sa_handler = SIG_IGN };
	const struct sigaction by_default = { .sa_handler = SIG_DFL };

	for (enum strike s = STRIKE_TOUCH; s <= STRIKE_KILL_IN_GUARD; s++) {
		assert_exits(strike(&plain, s), EXIT_PREVIOUS_RAN);
		assert_exits(strike(&with_info, s), EXIT_PREVIOUS_RAN);
		assert_killed(strike(&by_default, s));
	}
	assert_killed(strike(&ignored, STRIKE_TOUCH));
	assert_exits(strike(&ignored, STRIKE_KILL), EXIT_SURVIVED);
	assert_exits(strike(&ignored, STRIKE_KILL_IN_GUARD), EXIT_SURVIVED);
}

int main(void)
{
	const struct CMUnitTest before_install[] = {
		cmocka_unit_test(test_outside_the_previous_action_rules),
	};
	const struct CMUnitTest after_install[] = {
		cmocka_unit_test(test_touch_of_a_cut_file),
		cmocka_unit_test(test_threads_have_their_own_way_out),
	};
	int failed = cmocka_run_group_tests(before_install, NULL, NULL);
	if (guard_install() || guard_install() || sigaction(SIGBUS, NULL, &guard_action))
		return 1;
	return failed + cmocka_run_group_tests(after_install, NULL, NULL);
}
