/* SPDX-License-Identifier: BSD-2-Clause */
/* test_journal.c - one decision stands, whoever races, and nothing damaged is ever taken for one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <rdmamig/journal.h>

#define SESSION "000102030405060708090a0b0c0d0e0f"

enum { RACERS = 20, RACES = 20 };

static char state_dir[64];
static char why[512];
static const uint8_t random_id[RDMAMIG_SESSION_ID_BYTES];
static const uint8_t some_id[RDMAMIG_SESSION_ID_BYTES] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };

static const struct rdmamig_journal_info some_info = {
	.size = sizeof(some_info), .pid = 1234, .pid_start = 987654321, .guest_runs = true, .driver = "process",
	.peer = "tcp://[::1]:7471", .ram = "a=/dev/shm/a,b=/dev/shm/b c",
};

static int setup(void **state)
{
	(void)state;
	snprintf(state_dir, sizeof(state_dir), "/tmp/test_journal.XXXXXX");
	return mkdtemp(state_dir) ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	char command[128];
	snprintf(command, sizeof(command), "rm -rf %s", state_dir);
	return system(command);
}

static struct rdmamig_journal *make(enum rdmamig_role role, const uint8_t *id)
{
	struct rdmamig_journal *journal = NULL;
	assert_int_equal(rdmamig_journal_create(state_dir, role, id, &some_info, &journal, why, sizeof(why)), RDMAMIG_OK);
	return journal;
}

static struct rdmamig_journal *attach(enum rdmamig_role role, const char *session)
{
	struct rdmamig_journal *journal = NULL;
	assert_int_equal(rdmamig_journal_open(state_dir, role, session, &journal, why, sizeof(why)), RDMAMIG_OK);
	return journal;
}

static enum rdmamig_record decide(struct rdmamig_journal *journal, enum rdmamig_record wanted)
{
	enum rdmamig_record stands = RDMAMIG_RECORD_NONE;
	assert_int_equal(rdmamig_journal_decide(journal, wanted, &stands), RDMAMIG_OK);
	return stands;
}

static enum rdmamig_record record(struct rdmamig_journal *journal)
{
	enum rdmamig_record now = RDMAMIG_RECORD_NONE;
	assert_int_equal(rdmamig_journal_record(journal, &now), RDMAMIG_OK);
	return now;
}

static void put(const char *entry, const char *file, const char *text)
{
	char path[256];
	snprintf(path, sizeof(path), "%s/%s/%s", state_dir, entry, file);
	unlink(path);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void created_journal_says_what_was_put_in(void **state)
{
	(void)state;
	struct rdmamig_journal *journal = make(RDMAMIG_SOURCE, some_id);
	struct rdmamig_journal *again = attach(RDMAMIG_SOURCE, SESSION);
	struct rdmamig_journal_info info = { .size = sizeof(info) };
	uint8_t id[RDMAMIG_SESSION_ID_BYTES];

	assert_string_equal(rdmamig_journal_name(again), SESSION);
	rdmamig_journal_id(again, id);
	assert_memory_equal(id, some_id, sizeof(id));
	assert_int_equal(rdmamig_journal_role(again), RDMAMIG_SOURCE);
	rdmamig_journal_info(again, &info);
	assert_int_equal(info.pid, 1234);
	assert_int_equal(info.pid_start, 987654321);
	assert_true(info.guest_runs);
	assert_string_equal(info.driver, "process");
	assert_string_equal(info.peer, some_info.peer);
	assert_string_equal(info.ram, some_info.ram);
	assert_int_equal(record(again), RDMAMIG_RECORD_NONE);
	assert_false(rdmamig_journal_is_closed(again));

	info.guest_runs = false;
	assert_int_equal(rdmamig_journal_update(journal, &info), RDMAMIG_OK);
	info.guest_runs = true;
	rdmamig_journal_info(again, &info);	/* another handle, maybe another process's, sees it */
	assert_false(info.guest_runs);
	rdmamig_journal_free(again);
	rdmamig_journal_free(journal);
}

static void random_ids_differ_and_a_taken_one_is_busy(void **state)
{
	(void)state;
	struct rdmamig_journal *a = make(RDMAMIG_SOURCE, random_id), *b = make(RDMAMIG_SOURCE, random_id), *c = NULL;
	uint8_t id[RDMAMIG_SESSION_ID_BYTES];
	assert_string_not_equal(rdmamig_journal_name(a), rdmamig_journal_name(b));
	rdmamig_journal_id(a, id);
	rdmamig_journal_free(a);
	assert_int_equal(rdmamig_journal_create(state_dir, RDMAMIG_SOURCE, id, &some_info, &c, why, sizeof(why)), RDMAMIG_E_BUSY);
	assert_null(c);
	rdmamig_journal_free(make(RDMAMIG_DEST, id));	/* the other role is another journal */
	rdmamig_journal_free(b);
}

static void first_decision_stands(void **state)
{
	(void)state;
	struct rdmamig_journal *source = make(RDMAMIG_SOURCE, some_id), *dest = make(RDMAMIG_DEST, some_id);
	enum rdmamig_record stands;
	assert_int_equal(decide(source, RDMAMIG_RECORD_COMMIT), RDMAMIG_RECORD_COMMIT);
	assert_int_equal(decide(source, RDMAMIG_RECORD_ABORT), RDMAMIG_RECORD_COMMIT);
	assert_int_equal(rdmamig_journal_decide(source, RDMAMIG_RECORD_READY, &stands), RDMAMIG_E_USAGE);
	assert_int_equal(rdmamig_journal_decide(dest, RDMAMIG_RECORD_OWNED, &stands), RDMAMIG_E_USAGE);
	assert_int_equal(record(dest), RDMAMIG_RECORD_NONE);
	assert_int_equal(decide(dest, RDMAMIG_RECORD_READY), RDMAMIG_RECORD_READY);
	assert_int_equal(decide(dest, RDMAMIG_RECORD_READY), RDMAMIG_RECORD_READY);
	assert_int_equal(decide(dest, RDMAMIG_RECORD_DISCARDED), RDMAMIG_RECORD_DISCARDED);
	assert_int_equal(decide(dest, RDMAMIG_RECORD_OWNED), RDMAMIG_RECORD_DISCARDED);
	assert_int_equal(decide(dest, RDMAMIG_RECORD_READY), RDMAMIG_RECORD_DISCARDED);
	rdmamig_journal_free(source);
	rdmamig_journal_free(dest);
}

/* 20 processes wait for one pipe to close, then decide; each exits with what it read back. */
static void racing_processes_read_back_the_same(void **state)
{
	(void)state;
	for (unsigned race = 0; race < RACES; race++) {
		struct rdmamig_journal *journal = make(RDMAMIG_SOURCE, random_id);
		int start[2];
		pid_t racers[RACERS];
		assert_int_equal(pipe(start), 0);
		for (unsigned i = 0; i < RACERS; i++) {
			racers[i] = fork();
			if (racers[i] == 0) {
				char byte;
				enum rdmamig_record wanted = (i + race) % 2 ? RDMAMIG_RECORD_COMMIT : RDMAMIG_RECORD_ABORT;
				enum rdmamig_record stands = RDMAMIG_RECORD_NONE;
				close(start[1]);
				if (read(start[0], &byte, 1) != 0)
					_exit(99);
				rdmamig_journal_decide(journal, wanted, &stands);
				_exit((int)stands);
			}
		}
		close(start[0]);
		close(start[1]);
		int first = -1, wstatus;
		for (unsigned i = 0; i < RACERS; i++) {
			assert_int_equal(waitpid(racers[i], &wstatus, 0), racers[i]);
			assert_true(WIFEXITED(wstatus));
			first = first < 0 ? WEXITSTATUS(wstatus) : first;
			assert_int_equal(WEXITSTATUS(wstatus), first);
		}
		assert_true(first == RDMAMIG_RECORD_COMMIT || first == RDMAMIG_RECORD_ABORT);
		assert_int_equal(record(journal), first);
		rdmamig_journal_free(journal);
	}
}

static void racing_creators_of_one_id_get_one_journal(void **state)
{
	(void)state;
	int start[2], winners = 0, wstatus;
	assert_int_equal(pipe(start), 0);
	for (unsigned i = 0; i < RACERS; i++) {
		if (fork() == 0) {
			char byte;
			struct rdmamig_journal *journal;
			close(start[1]);
			if (read(start[0], &byte, 1) != 0)
				_exit(99);
			_exit(rdmamig_journal_create(state_dir, RDMAMIG_SOURCE, some_id, &some_info, &journal, why, sizeof(why))
			      == RDMAMIG_OK ? 1 : 0);
		}
	}
	close(start[0]);
	close(start[1]);
	while (wait(&wstatus) > 0)
		winners += WEXITSTATUS(wstatus);
	assert_int_equal(winners, 1);
}

static void damaged_decision_is_an_error_not_a_guess(void **state)
{
	(void)state;
	static const char *const bad[] = { "", "COMMIT", "COMMIT\n\n", "commit\n", "ABORT \n", "OWNED\n", "READY\n", "COMMIT\nABORT\n",
					   "a text that is much too long for any decision\n" };
	struct rdmamig_journal *journal = make(RDMAMIG_SOURCE, some_id);
	enum rdmamig_record now = RDMAMIG_RECORD_READY;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		put(SESSION ".source", "decision", bad[i]);
		assert_int_equal(rdmamig_journal_record(journal, &now), RDMAMIG_E_IO);
		assert_int_equal(rdmamig_journal_decide(journal, RDMAMIG_RECORD_ABORT, &now), RDMAMIG_E_IO);
		assert_int_equal(now, RDMAMIG_RECORD_READY);
	}
	put(SESSION ".source", "decision", "ABORT\n");
	assert_int_equal(record(journal), RDMAMIG_RECORD_ABORT);

	char path[256];
	snprintf(path, sizeof(path), "%s/" SESSION ".source/decision", state_dir);
	unlink(path);
	assert_int_equal(symlink("/dev/null", path), 0);
	assert_int_equal(rdmamig_journal_record(journal, &now), RDMAMIG_E_IO);
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(rdmamig_journal_record(journal, &now), RDMAMIG_E_IO);
	unlink(path);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(rdmamig_journal_decide(journal, RDMAMIG_RECORD_ABORT, &now), RDMAMIG_E_IO);
	rdmamig_journal_free(journal);
}

static void damaged_info_is_not_opened(void **state)
{
	(void)state;
	static const char good[] = "rdmamig-journal 1 source\npid=1\npid_start=2\nguest_runs=1\ndriver=process\npeer=p\nram=r\n";
	static const char *const bad[] = {
		"", "rdmamig-journal 1 source\n", "rdmamig-journal 2 source\npid=1\npid_start=2\nguest_runs=1\ndriver=process\npeer=p\nram=r\n",
		"rdmamig-journal 1 dest\npid=1\npid_start=2\nguest_runs=1\ndriver=process\npeer=p\nram=r\n",
		"rdmamig-journal 1 source\npid=-1\npid_start=2\nguest_runs=1\ndriver=process\npeer=p\nram=r\n",
		"rdmamig-journal 1 source\npid=1x\npid_start=2\nguest_runs=1\ndriver=process\npeer=p\nram=r\n",
		"rdmamig-journal 1 source\npid=1\npid_start=99999999999999999999\nguest_runs=1\ndriver=process\npeer=p\nram=r\n",
		"rdmamig-journal 1 source\npid=1\npid_start=2\nguest_runs=2\ndriver=process\npeer=p\nram=r\n",
		"rdmamig-journal 1 source\npid=1\npid_start=2\nguest_runs=1\ndriver=0123456789abcdef\npeer=p\nram=r\n",
		"rdmamig-journal 1 source\npid=1\npid_start=2\nguest_runs=1\ndriver=process\npeer=p\nram=r\nmore=1\n",
		"rdmamig-journal 1 source\npid=1\npid_start=2\nguest_runs=1\ndriver=process\npeer=p\nram=r",
	};
	struct rdmamig_journal *journal = make(RDMAMIG_SOURCE, some_id), *again = NULL;
	put(SESSION ".source", "session", good);
	rdmamig_journal_free(attach(RDMAMIG_SOURCE, SESSION));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		put(SESSION ".source", "session", bad[i]);
		assert_int_equal(rdmamig_journal_open(state_dir, RDMAMIG_SOURCE, SESSION, &again, why, sizeof(why)), RDMAMIG_E_IO);
		assert_non_null(strstr(why, SESSION));
	}
	rdmamig_journal_free(journal);
}

static void info_that_would_not_read_back_is_not_written(void **state)
{
	(void)state;
	struct rdmamig_journal *journal = make(RDMAMIG_SOURCE, some_id), *other = NULL;
	struct rdmamig_journal_info info = some_info;
	snprintf(info.peer, sizeof(info.peer), "a\nram=/etc/passwd");
	assert_int_equal(rdmamig_journal_update(journal, &info), RDMAMIG_E_USAGE);
	info = some_info;
	memset(info.ram, 'r', sizeof(info.ram));
	assert_int_equal(rdmamig_journal_create(state_dir, RDMAMIG_DEST, some_id, &info, &other, why, sizeof(why)), RDMAMIG_E_USAGE);
	info.ram[sizeof(info.ram) - 1] = '\0';		/* the longest that fits, and everything else at its longest */
	memset(info.peer, 'p', sizeof(info.peer) - 1);
	memset(info.driver, 'd', sizeof(info.driver) - 1);
	info.pid_start = UINT64_MAX;
	assert_int_equal(rdmamig_journal_update(journal, &info), RDMAMIG_OK);
	struct rdmamig_journal *again = attach(RDMAMIG_SOURCE, SESSION);
	struct rdmamig_journal_info back = { .size = sizeof(back) };
	rdmamig_journal_info(again, &back);
	assert_string_equal(back.ram, info.ram);
	assert_int_equal(back.pid_start, UINT64_MAX);
	rdmamig_journal_free(again);
	rdmamig_journal_free(journal);
}

static void unknown_session_is_no_file_and_a_bad_name_usage(void **state)
{
	(void)state;
	struct rdmamig_journal *journal = NULL;
	assert_int_equal(rdmamig_journal_open(state_dir, RDMAMIG_SOURCE, SESSION, &journal, why, sizeof(why)), RDMAMIG_E_NO_FILE);
	assert_int_equal(rdmamig_journal_open("/tmp/no-such-state-dir", RDMAMIG_SOURCE, SESSION, &journal, why, sizeof(why)), RDMAMIG_E_NO_FILE);
	assert_int_equal(rdmamig_journal_open(state_dir, RDMAMIG_SOURCE, "../../etc", &journal, why, sizeof(why)), RDMAMIG_E_USAGE);
	assert_int_equal(rdmamig_journal_open(state_dir, RDMAMIG_SOURCE, "000102030405060708090A0B0C0D0E0F", &journal, why, sizeof(why)),
			 RDMAMIG_E_USAGE);
}

/* The lock is the child's too: it is free only when both have gone, even by kill -9. */
static void lock_is_shared_with_a_child_and_free_once_all_are_dead(void **state)
{
	(void)state;
	int ready[2];
	char byte;
	assert_int_equal(pipe(ready), 0);
	pid_t parent = fork();
	if (parent == 0) {
		struct rdmamig_journal *journal = make(RDMAMIG_SOURCE, some_id);
		pid_t child = fork();
		if (child == 0) {
			for (;;)
				pause();
		}
		ssize_t n = write(ready[1], &child, sizeof(child));
		(void)n, (void)journal;
		for (;;)
			pause();
	}
	pid_t child;
	assert_int_equal(read(ready[0], &child, sizeof(child)), sizeof(child));
	close(ready[1]);

	struct rdmamig_journal *other = attach(RDMAMIG_SOURCE, SESSION);
	assert_int_equal(rdmamig_journal_lock(other, 20), RDMAMIG_E_BUSY);
	kill(parent, SIGKILL);
	waitpid(parent, NULL, 0);
	assert_int_equal(rdmamig_journal_lock(other, 20), RDMAMIG_E_BUSY);
	kill(child, SIGKILL);
	assert_int_equal(read(ready[0], &byte, 1), 0);	/* the last writer has gone */
	assert_int_equal(rdmamig_journal_lock(other, 5000), RDMAMIG_OK);
	close(ready[0]);
	rdmamig_journal_free(other);
}

static enum rdmamig_status count_visit(void *opaque, const char *session)
{
	(void)session;
	++*(unsigned *)opaque;
	return RDMAMIG_OK;
}

static void each_visits_the_open_ones_of_a_role(void **state)
{
	(void)state;
	unsigned count = 0;
	struct rdmamig_journal *open = make(RDMAMIG_SOURCE, random_id), *closed = make(RDMAMIG_SOURCE, random_id);
	struct rdmamig_journal *dest = make(RDMAMIG_DEST, random_id);
	assert_int_equal(rdmamig_journal_close(closed), RDMAMIG_OK);
	assert_int_equal(rdmamig_journal_close(closed), RDMAMIG_OK);
	assert_true(rdmamig_journal_is_closed(closed));
	assert_int_equal(rdmamig_journal_each(state_dir, RDMAMIG_SOURCE, count_visit, &count, why, sizeof(why)), RDMAMIG_OK);
	assert_int_equal(count, 1);
	assert_int_equal(rdmamig_journal_each("/tmp/no-such-state-dir", RDMAMIG_SOURCE, count_visit, &count, why, sizeof(why)), RDMAMIG_OK);
	assert_int_equal(count, 1);
	rdmamig_journal_free(open);
	rdmamig_journal_free(closed);
	rdmamig_journal_free(dest);
}

static void prune_keeps_64_closed_ones_and_everything_open_or_held(void **state)
{
	(void)state;
	struct rdmamig_journal *open = make(RDMAMIG_SOURCE, random_id), *held = make(RDMAMIG_SOURCE, random_id);
	rdmamig_journal_close(held);
	char open_name[64], held_name[64], command[256];
	snprintf(open_name, sizeof(open_name), "%s", rdmamig_journal_name(open));
	snprintf(held_name, sizeof(held_name), "%s", rdmamig_journal_name(held));
	for (unsigned i = 0; i < 70; i++) {
		struct rdmamig_journal *journal = make(RDMAMIG_SOURCE, random_id);
		decide(journal, RDMAMIG_RECORD_ABORT);
		rdmamig_journal_close(journal);
		rdmamig_journal_free(journal);
	}
	struct rdmamig_journal *last = make(RDMAMIG_SOURCE, random_id);
	rdmamig_journal_free(attach(RDMAMIG_SOURCE, open_name));
	rdmamig_journal_free(attach(RDMAMIG_SOURCE, held_name));
	rdmamig_journal_free(attach(RDMAMIG_SOURCE, rdmamig_journal_name(last)));
	snprintf(command, sizeof(command), "test $(ls -A %s | wc -l) = %d", state_dir, 64 + 3);
	assert_int_equal(system(command), 0);
	rdmamig_journal_free(open);
	rdmamig_journal_free(held);
	rdmamig_journal_free(last);
}

static void bad_state_dir_is_refused_with_a_reason(void **state)
{
	(void)state;
	struct rdmamig_journal *journal = NULL;
	char path[128];
	struct stat st;
	snprintf(path, sizeof(path), "%s/file", state_dir);
	close(open(path, O_CREAT | O_WRONLY, 0600));
	assert_int_equal(rdmamig_journal_create(path, RDMAMIG_SOURCE, random_id, &some_info, &journal, why, sizeof(why)), RDMAMIG_E_PRECHECK);
	assert_non_null(strstr(why, path));
	assert_int_equal(rdmamig_journal_create("/proc/rdmamig", RDMAMIG_SOURCE, random_id, &some_info, &journal, why, sizeof(why)), RDMAMIG_E_PRECHECK);
	assert_int_equal(rdmamig_journal_create("/tmp", RDMAMIG_SOURCE, random_id, &some_info, &journal, why, sizeof(why)), RDMAMIG_E_PERMISSION);
	assert_non_null(strstr(why, "chmod go-w /tmp"));
	assert_null(journal);

	snprintf(path, sizeof(path), "%s/new", state_dir);
	assert_int_equal(rdmamig_journal_create(path, RDMAMIG_SOURCE, random_id, &some_info, &journal, why, sizeof(why)), RDMAMIG_OK);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	rdmamig_journal_free(journal);
}

/* Whoever acts on nothing must be told that nobody knows. */
static void journal_removed_under_us_is_an_error(void **state)
{
	(void)state;
	struct rdmamig_journal *journal = make(RDMAMIG_SOURCE, some_id);
	enum rdmamig_record stands = RDMAMIG_RECORD_READY;
	char command[128];
	snprintf(command, sizeof(command), "rm -rf %s/*", state_dir);
	assert_int_equal(system(command), 0);
	assert_int_equal(rdmamig_journal_decide(journal, RDMAMIG_RECORD_ABORT, &stands), RDMAMIG_E_IO);
	assert_int_equal(stands, RDMAMIG_RECORD_READY);
	assert_int_equal(rdmamig_journal_close(journal), RDMAMIG_E_IO);
	rdmamig_journal_free(journal);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(created_journal_says_what_was_put_in),
		TEST(random_ids_differ_and_a_taken_one_is_busy),
		TEST(first_decision_stands),
		TEST(racing_processes_read_back_the_same),
		TEST(racing_creators_of_one_id_get_one_journal),
		TEST(damaged_decision_is_an_error_not_a_guess),
		TEST(damaged_info_is_not_opened),
		TEST(info_that_would_not_read_back_is_not_written),
		TEST(unknown_session_is_no_file_and_a_bad_name_usage),
		TEST(lock_is_shared_with_a_child_and_free_once_all_are_dead),
		TEST(each_visits_the_open_ones_of_a_role),
		TEST(prune_keeps_64_closed_ones_and_everything_open_or_held),
		TEST(bad_state_dir_is_refused_with_a_reason),
		TEST(journal_removed_under_us_is_an_error),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
