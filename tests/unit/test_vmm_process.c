/* SPDX-License-Identifier: BSD-2-Clause */
/* test_vmm_process.c - stopped means that no thread counts on; running that all do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <sys/ptrace.h>

#include "tests/unit/busy_guest.h"
#include "vmm/driver.h"
#include "vmm/process.h"

enum { PATIENCE_MS = 10000, ROUNDS = 20 };

static struct busy_guest guest;
static struct process process;
static char why[DRIVER_WHY_BYTES];

static int setup(void **state)
{
	(void)state;
	return busy_guest_start(&guest) && !process_open(&process, guest.pid, 0, why) ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	process_close(&process);
	busy_guest_end(&guest);
	return 0;
}

static void after_stop_no_thread_makes_progress(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ROUNDS; i++) {
		uint64_t at_return[GUEST_THREADS], later[GUEST_THREADS];
		assert_int_equal(process_look(&process), PROCESS_RUNS);
		assert_int_equal(process_stop(&process, PATIENCE_MS, why), RDMAMIG_OK);
		busy_guest_read(&guest, at_return);
		usleep(5000);
		busy_guest_read(&guest, later);
		assert_memory_equal(at_return, later, sizeof(later));
		assert_int_equal(process_look(&process), PROCESS_STOPPED);
		assert_int_equal(process_run(&process, PATIENCE_MS, why), RDMAMIG_OK);
		assert_true(busy_guest_moves(&guest));
	}
}

static void already_stopped_one_is_seen_and_may_be_stopped_again(void **state)
{
	(void)state;
	int wstatus;
	kill(guest.pid, SIGSTOP);
	assert_int_equal(waitpid(guest.pid, &wstatus, WUNTRACED), guest.pid);
	while (process_look(&process) != PROCESS_STOPPED)
		usleep(100);
	assert_int_equal(process_stop(&process, PATIENCE_MS, why), RDMAMIG_OK);
	assert_int_equal(process_run(&process, PATIENCE_MS, why), RDMAMIG_OK);
	assert_true(busy_guest_moves(&guest));
}

static void dead_one_is_dead_even_as_a_zombie(void **state)
{
	(void)state;
	siginfo_t info;
	struct process again;
	uint64_t start = process.start;
	kill(guest.pid, SIGKILL);
	assert_int_equal(waitid(P_PID, (id_t)guest.pid, &info, WEXITED | WNOWAIT), 0);
	assert_int_equal(process_look(&process), PROCESS_DEAD);
	assert_int_equal(process_stop(&process, PATIENCE_MS, why), RDMAMIG_E_NO_PROCESS);
	assert_int_equal(process_run(&process, PATIENCE_MS, why), RDMAMIG_E_NO_PROCESS);
	assert_int_equal(process_open(&again, guest.pid, start, why), RDMAMIG_E_NO_PROCESS);
	waitpid(guest.pid, NULL, 0);
	assert_int_equal(process_look(&process), PROCESS_DEAD);
	assert_int_equal(process_open(&again, guest.pid, 0, why), RDMAMIG_E_NO_PROCESS);
}

static void reused_pid_is_a_stranger(void **state)
{
	(void)state;
	struct process again;
	assert_true(process.start > 0);
	assert_int_equal(process_open(&again, guest.pid, process.start, why), RDMAMIG_OK);
	process_close(&again);
	assert_int_equal(process_open(&again, guest.pid, process.start - 1, why), RDMAMIG_E_NO_PROCESS);
	assert_non_null(strstr(why, "another process"));
	assert_int_equal(process_open(&again, getpid(), 0, why), RDMAMIG_E_NO_PROCESS);
}

/* One thread that a debugger holds could be let go by it at any time. */
static void thread_under_a_debugger_does_not_count_as_stopped(void **state)
{
	(void)state;
	assert_int_equal(ptrace(PTRACE_SEIZE, guest.pid, NULL, NULL), 0);
	assert_int_equal(ptrace(PTRACE_INTERRUPT, guest.pid, NULL, NULL), 0);
	assert_int_equal(waitpid(guest.pid, NULL, __WALL), guest.pid);
	assert_int_equal(process_stop(&process, 50, why), RDMAMIG_E_DRIVER);
	assert_non_null(strstr(why, "debugger"));
	assert_int_equal(ptrace(PTRACE_DETACH, guest.pid, NULL, NULL), 0);
	assert_int_equal(process_stop(&process, PATIENCE_MS, why), RDMAMIG_OK);
	assert_true(busy_guest_is_still(&guest));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(after_stop_no_thread_makes_progress),
		TEST(already_stopped_one_is_seen_and_may_be_stopped_again),
		TEST(dead_one_is_dead_even_as_a_zombie),
		TEST(reused_pid_is_a_stranger),
		TEST(thread_under_a_debugger_does_not_count_as_stopped),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
