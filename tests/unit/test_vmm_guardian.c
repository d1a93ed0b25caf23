/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_vmm_guardian.c - a stop of ours never outlives us (R13), whoever is killed or hangs, and whenever.
 *
 * The client, what rdmamig is to its guardian, is a forked child, so that it can be killed. The guardian's end shows by
 * the journal's lock: it is free once both have gone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <poll.h>
#include <stdio.h>
#include <sys/pidfd.h>

#include "tests/unit/busy_guest.h"
#include "vmm/driver.h"
#include "vmm/driver_process.h"
#include "vmm/guardian.h"

#define SESSION "000102030405060708090a0b0c0d0e0f"

enum { PATIENCE_MS = 20000, KILLS = 25 };

static const uint8_t some_id[RDMAMIG_SESSION_ID_BYTES] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };
static const struct guardian_params patient = { .silence_ms = 20000, .signal_ms = 5000, .undo_ms = 10000, .reply_ms = 15000 };
static const struct guardian_params nervous = { .silence_ms = 1000, .signal_ms = 5000, .undo_ms = 10000, .reply_ms = 15000 };
static const struct guardian_params no_wait = { .silence_ms = 20000, .signal_ms = 5000, .undo_ms = 10000, .reply_ms = 1500 };

static struct busy_guest guest;
static char state_dir[64];
static char why[DRIVER_WHY_BYTES];
static int tell[2], err[2];	/* the client's word to the test; its and its guardian's stderr */

static int setup(void **state)
{
	(void)state;
	/* tmpfs, as /run is: an fsync(2) on a busy disk may take longer than any patience here */
	snprintf(state_dir, sizeof(state_dir), "/dev/shm/test_guardian.XXXXXX");
	return mkdtemp(state_dir) && busy_guest_start(&guest) && !pipe(tell) && !pipe(err) ? 0 : -1;	/* the guest has no pipe */
}

static int teardown(void **state)
{
	(void)state;
	char command[128];
	busy_guest_end(&guest);
	close(tell[0]), close(tell[1]), close(err[0]), close(err[1]);
	snprintf(command, sizeof(command), "rm -rf %s", state_dir);
	return system(command);
}

/* In the client, where nothing may fail. */
static void must(bool ok, int code)
{
	if (ok)
		return;
	dprintf(STDOUT_FILENO, "client, step %d: %s\n", code, why);
	_exit(code);
}

/* A process being killed still looks alive for a moment. */
static void guest_kill(void)
{
	struct pollfd death = { .fd = pidfd_open(guest.pid, 0), .events = POLLIN };
	kill(guest.pid, SIGKILL);
	must(death.fd >= 0 && poll(&death, 1, PATIENCE_MS) == 1, 93);
	close(death.fd);
}

static void say(char word)
{
	must(write(tell[1], &word, 1) == 1, 90);
}

static void hear(void *out, size_t bytes)
{
	struct pollfd heard = { .fd = tell[0], .events = POLLIN };
	assert_int_equal(poll(&heard, 1, PATIENCE_MS), 1);	/* or the client died in a step that it printed */
	assert_int_equal(read(tell[0], out, bytes), bytes);
}

static void expect_word(char word)
{
	char got = '?';
	hear(&got, sizeof(got));
	assert_int_equal(got, word);
}

static struct driver *client_open(const struct guardian_params *params, struct rdmamig_journal **journal)
{
	struct rdmamig_journal_info info = { .size = sizeof(info), .guest_runs = true };
	struct driver *driver = NULL;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup2(err[1], STDERR_FILENO);
	must(!rdmamig_journal_create(state_dir, RDMAMIG_SOURCE, some_id, &info, journal, why, sizeof(why)), 91);
	must(!driver_process_open_source(guest.pid, *journal, params, &driver, why), 92);
	return driver;
}

static pid_t guardian_of(struct driver *driver)
{
	char path[64], line[128];
	int pid = 0;
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", driver->ops->fd(driver));
	FILE *f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f))
		sscanf(line, "Pid: %d", &pid);
	if (f)
		fclose(f);
	return pid;
}

static void expect_exit(pid_t client, int code)
{
	int wstatus;
	assert_int_equal(waitpid(client, &wstatus, 0), client);
	assert_true(WIFEXITED(wstatus));
	assert_int_equal(WEXITSTATUS(wstatus), code);
}

/* Client and guardian have gone; what did they leave? */
static void expect_journal(enum rdmamig_record expected, bool closed)
{
	struct rdmamig_journal *journal;
	enum rdmamig_record record;
	assert_int_equal(rdmamig_journal_open(state_dir, RDMAMIG_SOURCE, SESSION, &journal, why, sizeof(why)), RDMAMIG_OK);
	assert_int_equal(rdmamig_journal_lock(journal, PATIENCE_MS), RDMAMIG_OK);
	assert_int_equal(rdmamig_journal_record(journal, &record), RDMAMIG_OK);
	assert_int_equal(record, expected);
	assert_int_equal(rdmamig_journal_is_closed(journal), closed);
	rdmamig_journal_free(journal);
}

/* Everybody who held stderr open has gone. */
static void expect_line(const char *part, unsigned lines)
{
	char text[16384] = "";
	size_t used = 0;
	ssize_t n;
	unsigned seen = 0;
	close(err[1]);
	err[1] = -1;
	while ((n = read(err[0], text + used, sizeof(text) - 1 - used)) > 0)
		used += (size_t)n;
	for (size_t i = 0; i < used; i++)
		seen += text[i] == '\n';
	assert_int_equal(seen, lines);
	if (lines)
		assert_non_null(strstr(text, part));
}

static void stop_and_go_on_and_a_quiet_end(void **state)
{
	(void)state;
	pid_t client = fork();
	if (client == 0) {
		bool ran = false;
		struct rdmamig_journal *journal;
		struct driver *driver = client_open(&patient, &journal);
		kill(guardian_of(driver), SIGTERM);	/* as a service manager or a terminal might */
		kill(guardian_of(driver), SIGINT);
		kill(guardian_of(driver), SIGHUP);
		for (int i = 0; i < 5; i++) {
			must(!driver->ops->stop(driver, &ran, why) && ran, 1);
			must(busy_guest_is_still(&guest), 2);
			must(!driver->ops->resume(driver, why) && busy_guest_moves(&guest), 3);
		}
		must(!driver->ops->stop(driver, &ran, why) && ran, 4);
		must(!driver->ops->undo(driver, why) && busy_guest_moves(&guest), 5);
		must(driver->ops->stop(driver, &ran, why) == RDMAMIG_E_DRIVER && strstr(why, "ABORT"), 6);
		must(driver->ops->commit(driver, why) == RDMAMIG_E_DRIVER, 7);
		must(!driver->ops->undo(driver, why), 8);
		driver->ops->free(driver);
		_exit(0);
	}
	expect_exit(client, 0);
	expect_journal(RDMAMIG_RECORD_ABORT, true);
	assert_true(busy_guest_moves(&guest));
	expect_line("", 0);
}

static void guest_found_stopped_is_left_stopped(void **state)
{
	(void)state;
	kill(guest.pid, SIGSTOP);
	while (!busy_guest_is_still(&guest))
		;
	pid_t client = fork();
	if (client == 0) {
		bool ran = true;
		struct rdmamig_journal *journal;
		struct driver *driver = client_open(&patient, &journal);
		must(!driver->ops->stop(driver, &ran, why) && !ran, 1);
		say('s');
		for (;;)
			pause();
	}
	expect_word('s');
	kill(client, SIGKILL);
	waitpid(client, NULL, 0);
	expect_journal(RDMAMIG_RECORD_ABORT, true);
	assert_true(busy_guest_is_still(&guest));
	expect_line("paused here, as it was found", 1);
}

static void client_killed_at_any_instant_leaves_a_running_guest(void **state)
{
	(void)state;
	unsigned seed = 1;
	for (unsigned i = 0; i < KILLS; i++) {
		char command[128];
		pid_t client = fork();
		if (client == 0) {
			bool ran;
			struct rdmamig_journal *journal;
			struct driver *driver = client_open(&patient, &journal);
			say('o');
			for (unsigned pct = 10;; pct = (pct + 7) % 100) {
				must(!driver->ops->stop(driver, &ran, why), 1);
				driver->ops->beat(driver);
				must(!driver->ops->throttle(driver, pct, why), 2);
				must(!driver->ops->resume(driver, why), 3);
			}
		}
		expect_word('o');
		usleep((useconds_t)rand_r(&seed) % 20000);
		kill(client, SIGKILL);
		waitpid(client, NULL, 0);
		expect_journal(RDMAMIG_RECORD_ABORT, true);
		assert_true(busy_guest_moves(&guest));
		snprintf(command, sizeof(command), "rm -rf %s/*", state_dir);
		assert_int_equal(system(command), 0);
	}
	expect_line("runs here", KILLS);
}

static void client_that_hangs_is_undone_and_may_not_commit_later(void **state)
{
	(void)state;
	pid_t client = fork();
	if (client == 0) {
		bool ran;
		struct rdmamig_journal *journal;
		struct driver *driver = client_open(&nervous, &journal);
		must(!driver->ops->stop(driver, &ran, why) && ran, 1);
		say('s');
		raise(SIGSTOP);
		must(driver->ops->commit(driver, why) == RDMAMIG_E_DRIVER, 2);
		must(driver->ops->stop(driver, &ran, why) == RDMAMIG_E_DRIVER && strstr(why, "no sign of life"), 3);
		must(!driver->ops->undo(driver, why), 4);
		driver->ops->free(driver);
		_exit(0);
	}
	expect_word('s');
	assert_true(busy_guest_moves(&guest));
	kill(client, SIGCONT);
	expect_exit(client, 0);
	expect_journal(RDMAMIG_RECORD_ABORT, true);
	assert_true(busy_guest_moves(&guest));
	expect_line("gave no sign of life", 1);
}

static void client_that_beats_may_hold_the_guest(void **state)
{
	(void)state;
	pid_t client = fork();
	if (client == 0) {
		bool ran;
		struct rdmamig_journal *journal;
		struct driver *driver = client_open(&nervous, &journal);
		must(!driver->ops->stop(driver, &ran, why) && ran, 1);
		for (unsigned ms = 0; ms < 2 * nervous.silence_ms; ms += 10) {
			driver->ops->beat(driver);
			usleep(10000);
		}
		must(busy_guest_is_still(&guest), 2);
		must(!driver->ops->undo(driver, why), 3);
		driver->ops->free(driver);
		_exit(0);
	}
	expect_exit(client, 0);
	expect_line("", 0);
}

static void after_commit_nobody_runs_the_guest(void **state)
{
	(void)state;
	pid_t client = fork();
	if (client == 0) {
		bool ran;
		struct rdmamig_journal *journal;
		struct driver *driver = client_open(&nervous, &journal);
		must(!driver->ops->stop(driver, &ran, why) && ran, 1);
		must(!driver->ops->commit(driver, why), 2);
		must(driver->ops->undo(driver, why) == RDMAMIG_E_UNKNOWN_OWNER, 3);
		must(driver->ops->resume(driver, why) == RDMAMIG_E_DRIVER, 4);
		say('c');
		for (;;)
			pause();
	}
	expect_word('c');
	kill(client, SIGKILL);
	waitpid(client, NULL, 0);
	expect_journal(RDMAMIG_RECORD_COMMIT, false);
	assert_true(busy_guest_is_still(&guest));
	expect_line("rdmamig resolve " SESSION, 1);
}

static void done_closes_and_leaves_the_guest_stopped(void **state)
{
	(void)state;
	pid_t client = fork();
	if (client == 0) {
		bool ran;
		struct rdmamig_journal *journal;
		struct driver *driver = client_open(&nervous, &journal);
		must(!driver->ops->stop(driver, &ran, why) && ran, 1);
		must(!driver->ops->commit(driver, why), 2);
		driver->ops->done(driver);
		driver->ops->free(driver);
		_exit(0);
	}
	expect_exit(client, 0);
	expect_journal(RDMAMIG_RECORD_COMMIT, true);
	assert_true(busy_guest_is_still(&guest));
	expect_line("", 0);
}

static void guest_continued_by_a_stranger_is_not_committed(void **state)
{
	(void)state;
	pid_t client = fork();
	if (client == 0) {
		bool ran;
		struct rdmamig_journal *journal;
		struct driver *driver = client_open(&patient, &journal);
		must(!driver->ops->stop(driver, &ran, why) && ran, 1);
		kill(guest.pid, SIGCONT);
		must(driver->ops->commit(driver, why) == RDMAMIG_E_DRIVER, 2);
		must(!driver->ops->undo(driver, why), 3);
		driver->ops->free(driver);
		_exit(0);
	}
	expect_exit(client, 0);
	expect_journal(RDMAMIG_RECORD_ABORT, true);
}

static void killed_guardian_is_noticed_and_the_driver_undoes(void **state)
{
	(void)state;
	pid_t client = fork();
	if (client == 0) {
		bool ran;
		struct rdmamig_journal *journal;
		struct driver *driver = client_open(&patient, &journal);
		struct pollfd death = { .fd = driver->ops->fd(driver), .events = POLLIN };
		must(!driver->ops->stop(driver, &ran, why) && ran, 1);
		must(poll(&death, 1, 0) == 0, 2);
		kill(guardian_of(driver), SIGKILL);
		must(poll(&death, 1, PATIENCE_MS) == 1, 3);
		must(busy_guest_is_still(&guest), 4);
		must(driver->ops->stop(driver, &ran, why) == RDMAMIG_E_DRIVER_SILENT && strstr(why, "died"), 5);
		must(driver->ops->fd(driver) == -1, 6);
		must(driver->ops->commit(driver, why) == RDMAMIG_E_DRIVER, 7);
		must(!driver->ops->undo(driver, why) && busy_guest_moves(&guest), 8);
		driver->ops->free(driver);
		_exit(0);
	}
	expect_exit(client, 0);
	expect_journal(RDMAMIG_RECORD_ABORT, true);
}

static void stopped_guardian_is_killed_and_the_driver_undoes(void **state)
{
	(void)state;
	pid_t client = fork();
	if (client == 0) {
		bool ran;
		struct rdmamig_journal *journal;
		struct driver *driver = client_open(&no_wait, &journal);
		must(!driver->ops->stop(driver, &ran, why) && ran, 1);
		kill(guardian_of(driver), SIGSTOP);
		must(!driver->ops->undo(driver, why) && busy_guest_moves(&guest), 2);
		must(driver->ops->fd(driver) == -1, 3);
		driver->ops->free(driver);
		_exit(0);
	}
	expect_exit(client, 0);
	expect_journal(RDMAMIG_RECORD_ABORT, true);
}

static void guest_that_died_is_reported_as_not_running(void **state)
{
	(void)state;
	pid_t client = fork();
	if (client == 0) {
		bool ran;
		struct rdmamig_journal *journal;
		struct driver *driver = client_open(&patient, &journal);
		must(!driver->ops->stop(driver, &ran, why) && ran, 1);
		guest_kill();
		must(driver->ops->undo(driver, why) == RDMAMIG_E_NOT_RUNNING, 2);
		driver->ops->free(driver);
		_exit(0);
	}
	expect_exit(client, 0);
	expect_journal(RDMAMIG_RECORD_ABORT, true);
}

static void throttled_guest_stands_and_runs_by_turns(void **state)
{
	(void)state;
	pid_t client = fork();
	if (client == 0) {
		struct rdmamig_journal *journal;
		struct process process;
		struct driver *driver = client_open(&patient, &journal);
		must(!process_open(&process, guest.pid, 0, why), 1);
		must(driver->ops->throttle(driver, 100, why) == RDMAMIG_E_USAGE, 2);
		must(!driver->ops->throttle(driver, 50, why), 3);
		unsigned turns = 0;
		for (enum process_state last = PROCESS_RUNS; turns < 6;) {
			enum process_state now = process_look(&process);
			turns += now != last;
			last = now;
		}
		must(!driver->ops->throttle(driver, 0, why) && process_look(&process) == PROCESS_RUNS, 4);
		must(!driver->ops->throttle(driver, 99, why), 5);
		must(!driver->ops->undo(driver, why), 6);
		must(process_look(&process) == PROCESS_RUNS, 7);
		driver->ops->free(driver);
		_exit(0);
	}
	expect_exit(client, 0);
	assert_true(busy_guest_moves(&guest));
}

static void guardian_keeps_no_descriptor_of_ours(void **state)
{
	(void)state;
	pid_t client = fork();
	if (client == 0) {
		int ours[2];
		char byte;
		struct rdmamig_journal *journal;
		must(!pipe(ours), 1);
		struct driver *driver = client_open(&patient, &journal);
		close(ours[1]);
		must(read(ours[0], &byte, 1) == 0, 2);	/* would hang as long as the guardian holds it */
		driver->ops->free(driver);
		_exit(0);
	}
	expect_exit(client, 0);
	expect_journal(RDMAMIG_RECORD_ABORT, true);	/* never started: nothing is left open */
}

/* A client with a stopped guest, and it and its guardian both killed; @commit: after COMMIT. */
static void leave_stopped(bool commit)
{
	pid_t client = fork(), guardian = 0;
	if (client == 0) {
		bool ran;
		struct rdmamig_journal *journal;
		struct driver *driver = client_open(&patient, &journal);
		must(!driver->ops->stop(driver, &ran, why), 1);
		must(!commit || !driver->ops->commit(driver, why), 2);
		guardian = guardian_of(driver);
		must(write(tell[1], &guardian, sizeof(guardian)) == sizeof(guardian), 3);
		for (;;)
			pause();
	}
	hear(&guardian, sizeof(guardian));
	kill(guardian, SIGKILL);
	kill(client, SIGKILL);
	waitpid(client, NULL, 0);
	assert_true(busy_guest_is_still(&guest));
}

static void count_lines(void *opaque, const char *line)
{
	assert_non_null(strstr(line, SESSION));
	++*(unsigned *)opaque;
}

static enum rdmamig_status recover(const char *session, unsigned *lines)
{
	*lines = 0;
	return driver_recover(state_dir, session, session ? 5000 : 0, count_lines, lines, why);
}

static void recover_undoes_what_both_left(void **state)
{
	(void)state;
	unsigned lines;
	leave_stopped(false);
	assert_int_equal(recover(SESSION, &lines), RDMAMIG_OK);
	assert_int_equal(lines, 1);
	assert_true(busy_guest_moves(&guest));
	expect_journal(RDMAMIG_RECORD_ABORT, true);
	kill(guest.pid, SIGSTOP);
	while (!busy_guest_is_still(&guest))
		;
	assert_int_equal(recover(SESSION, &lines), RDMAMIG_OK);		/* closed: not ours to continue any more */
	assert_int_equal(recover(NULL, &lines), RDMAMIG_OK);
	assert_int_equal(lines, 0);
	assert_true(busy_guest_is_still(&guest));
}

static void recover_leaves_a_guest_paused_that_was_found_so(void **state)
{
	(void)state;
	unsigned lines;
	kill(guest.pid, SIGSTOP);
	while (!busy_guest_is_still(&guest))
		;
	leave_stopped(false);
	assert_int_equal(recover(NULL, &lines), RDMAMIG_OK);
	assert_true(busy_guest_is_still(&guest));
	expect_journal(RDMAMIG_RECORD_ABORT, true);
}

static void recover_leaves_a_committed_guest_alone(void **state)
{
	(void)state;
	unsigned lines;
	leave_stopped(true);
	assert_int_equal(recover(SESSION, &lines), RDMAMIG_E_UNKNOWN_OWNER);
	assert_int_equal(lines, 0);	/* nothing was done: the why says it */
	assert_true(busy_guest_is_still(&guest));
	expect_journal(RDMAMIG_RECORD_COMMIT, false);
}

static void recover_says_that_the_guest_has_ended(void **state)
{
	(void)state;
	unsigned lines;
	leave_stopped(false);
	kill(guest.pid, SIGKILL);
	waitpid(guest.pid, NULL, 0);
	assert_int_equal(recover(SESSION, &lines), RDMAMIG_E_NOT_RUNNING);
	expect_journal(RDMAMIG_RECORD_ABORT, true);
	assert_int_equal(recover(SESSION, &lines), RDMAMIG_OK);
}

static void recover_keeps_off_a_live_session(void **state)
{
	(void)state;
	unsigned lines;
	pid_t client = fork();
	if (client == 0) {
		bool ran;
		struct rdmamig_journal *journal;
		struct driver *driver = client_open(&patient, &journal);
		must(!driver->ops->stop(driver, &ran, why), 1);
		say('s');
		for (;;)
			pause();
	}
	expect_word('s');
	assert_int_equal(recover(NULL, &lines), RDMAMIG_E_BUSY);
	assert_true(busy_guest_is_still(&guest));
	kill(client, SIGKILL);
	waitpid(client, NULL, 0);
	expect_journal(RDMAMIG_RECORD_ABORT, true);
}

static void memory_nobody_runs_has_a_journal_all_the_same(void **state)
{
	(void)state;
	struct rdmamig_journal_info info = { .size = sizeof(info) };
	struct rdmamig_journal *journal;
	struct driver *driver;
	bool ran;
	assert_int_equal(rdmamig_journal_create(state_dir, RDMAMIG_SOURCE, some_id, &info, &journal, why, sizeof(why)), RDMAMIG_OK);
	assert_int_equal(driver_open_source(0, journal, &driver, why), RDMAMIG_OK);
	assert_int_equal(driver->ops->fd(driver), -1);
	assert_int_equal(driver->ops->stop(driver, &ran, why), RDMAMIG_OK);
	assert_true(ran);
	driver->ops->beat(driver);
	assert_int_equal(driver->ops->commit(driver, why), RDMAMIG_OK);
	assert_int_equal(driver->ops->undo(driver, why), RDMAMIG_E_UNKNOWN_OWNER);
	driver->ops->done(driver);
	driver->ops->free(driver);
	expect_journal(RDMAMIG_RECORD_COMMIT, true);
}

static struct driver *dest_open(pid_t pid, bool begin)
{
	struct rdmamig_journal_info info = { .size = sizeof(info) };
	struct rdmamig_journal *journal;
	struct driver *driver;
	assert_int_equal(driver_open_dest(pid, &driver, why), RDMAMIG_OK);
	if (begin)
		assert_int_equal(rdmamig_journal_create(state_dir, RDMAMIG_DEST, some_id, &info, &journal, why, sizeof(why)), RDMAMIG_OK);
	else
		assert_int_equal(rdmamig_journal_open(state_dir, RDMAMIG_DEST, SESSION, &journal, why, sizeof(why)), RDMAMIG_OK);
	driver_begin(driver, journal);
	return driver;
}

static enum rdmamig_record record_of(struct driver *driver)
{
	enum rdmamig_record record;
	assert_int_equal(rdmamig_journal_record(driver->journal, &record), RDMAMIG_OK);
	return record;
}

static void dest_runs_only_what_it_owns(void **state)
{
	(void)state;
	struct driver *driver = dest_open(guest.pid, true);
	assert_int_equal(driver->ops->load(driver, true, why), RDMAMIG_OK);
	assert_int_equal(record_of(driver), RDMAMIG_RECORD_READY);
	assert_true(busy_guest_is_still(&guest));
	assert_int_equal(driver->ops->run(driver, true, why), RDMAMIG_OK);
	assert_int_equal(record_of(driver), RDMAMIG_RECORD_OWNED);
	assert_true(busy_guest_moves(&guest));
	assert_int_equal(driver->ops->discard(driver, why), RDMAMIG_E_DRIVER);
	driver->ops->free(driver);
}

static void dest_discards_once_and_does_not_run(void **state)
{
	(void)state;
	struct driver *driver = dest_open(guest.pid, true);
	assert_int_equal(driver->ops->load(driver, true, why), RDMAMIG_OK);
	assert_int_equal(driver->ops->discard(driver, why), RDMAMIG_OK);
	assert_int_equal(record_of(driver), RDMAMIG_RECORD_DISCARDED);
	assert_int_equal(driver->ops->run(driver, true, why), RDMAMIG_E_DRIVER);
	assert_true(busy_guest_is_still(&guest));
	driver->ops->free(driver);
}

/* recv died in READY; resolve opens the old journal, with the right process and with a wrong one. */
static void dest_held_guest_arrives_paused_if_it_was_and_only_in_its_process(void **state)
{
	(void)state;
	struct busy_guest other = { 0 };
	struct driver *driver = dest_open(guest.pid, true);
	assert_int_equal(driver->ops->load(driver, false, why), RDMAMIG_OK);
	driver->ops->free(driver);

	assert_true(busy_guest_start(&other));
	driver = dest_open(other.pid, false);
	assert_int_equal(driver->ops->run(driver, true, why), RDMAMIG_E_HELD);
	assert_int_equal(record_of(driver), RDMAMIG_RECORD_READY);
	driver->ops->free(driver);
	busy_guest_end(&other);

	driver = dest_open(guest.pid, false);
	assert_int_equal(driver->ops->run(driver, false, why), RDMAMIG_OK);
	assert_true(busy_guest_is_still(&guest));
	driver->ops->free(driver);
}

static void dest_guest_that_ended_is_not_running_but_owned(void **state)
{
	(void)state;
	struct driver *driver = dest_open(guest.pid, true);
	assert_int_equal(driver->ops->load(driver, true, why), RDMAMIG_OK);
	guest_kill();
	assert_int_equal(driver->ops->run(driver, true, why), RDMAMIG_E_NOT_RUNNING);
	assert_int_equal(record_of(driver), RDMAMIG_RECORD_OWNED);
	driver->ops->free(driver);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(stop_and_go_on_and_a_quiet_end),
		TEST(guest_found_stopped_is_left_stopped),
		TEST(client_killed_at_any_instant_leaves_a_running_guest),
		TEST(client_that_hangs_is_undone_and_may_not_commit_later),
		TEST(client_that_beats_may_hold_the_guest),
		TEST(after_commit_nobody_runs_the_guest),
		TEST(done_closes_and_leaves_the_guest_stopped),
		TEST(guest_continued_by_a_stranger_is_not_committed),
		TEST(killed_guardian_is_noticed_and_the_driver_undoes),
		TEST(stopped_guardian_is_killed_and_the_driver_undoes),
		TEST(guest_that_died_is_reported_as_not_running),
		TEST(throttled_guest_stands_and_runs_by_turns),
		TEST(guardian_keeps_no_descriptor_of_ours),
		TEST(recover_undoes_what_both_left),
		TEST(recover_leaves_a_guest_paused_that_was_found_so),
		TEST(recover_leaves_a_committed_guest_alone),
		TEST(recover_says_that_the_guest_has_ended),
		TEST(recover_keeps_off_a_live_session),
		TEST(memory_nobody_runs_has_a_journal_all_the_same),
		TEST(dest_runs_only_what_it_owns),
		TEST(dest_discards_once_and_does_not_run),
		TEST(dest_held_guest_arrives_paused_if_it_was_and_only_in_its_process),
		TEST(dest_guest_that_ended_is_not_running_but_owned),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
