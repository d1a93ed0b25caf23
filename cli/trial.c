/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * trial.c - runs synth, recv and send on this machine and removes what they leave.
 * Neighbours: child.c has the processes, bench.c the plan and the verdict. One thread, with a deadline on every wait.
 */
#include "cli/trial.h"

#include <errno.h>
#include <ftw.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/guestcheck.h"
#include "cli/json.h"
#include "cli/why.h"

enum {
	LISTEN_MS = 20 * 1000,
	FILL_MS = 60 * 1000,
	FILL_BYTES_PER_MS = 50 * 1000,	/* far below any memory */
	CONVERGE_MS = 3600 * 1000,	/* send's default */
	AFTER_CONVERGE_MS = 600 * 1000,	/* the last round under a --bandwidth, and --verify */
	CANCEL_MS = 60 * 1000,
	DEST_END_MS = 60 * 1000,
	GUEST_SIGN_MS = 5000,
	GUEST_LOOK_MS = 5,
};

static enum rdmamig_status dirs_make(struct trial *trial, char *why)
{
	const char *temp = getenv("TMPDIR");
	snprintf(trial->files_dir, sizeof(trial->files_dir), "%s/rdmamig-bench.XXXXXX", trial->plan->dir);
	snprintf(trial->state_dir, sizeof(trial->state_dir), "%s/rdmamig-bench.XXXXXX", temp ? temp : "/tmp");
	if (!mkdtemp(trial->files_dir)) {
		trial->files_dir[0] = trial->state_dir[0] = '\0';
		return why_say(why, RDMAMIG_E_NO_FILE, "cannot make a directory in %s: %s", trial->plan->dir, strerror(errno));
	}
	if (!mkdtemp(trial->state_dir)) {
		trial->state_dir[0] = '\0';
		return why_say(why, RDMAMIG_E_NO_FILE, "cannot make a directory in %s: %s", temp ? temp : "/tmp", strerror(errno));
	}
	return RDMAMIG_OK;
}

static char *paths_join(const struct trial *trial, const char *name)
{
	char *paths = NULL;
	size_t bytes;
	FILE *out = open_memstream(&paths, &bytes);
	if (!out)
		return NULL;
	for (uint64_t i = 0; i < trial->plan->blocks; i++)
		fprintf(out, "%s%s/%s%" PRIu64, i ? "," : "", trial->files_dir, name, i);
	return fclose(out) ? NULL : paths;
}

static void line_take(struct trial *trial, struct child *child, const char *line)
{
	struct json_object *event = json_tokener_parse(line);
	const char *name = event ? json_string(event, "event") : NULL;
	if (!name) {
		/* not JSON: not for us */
	} else if (child == &trial->synth) {
		trial->guest_is_ready |= !strcmp(name, "ready");
	} else if (!strcmp(name, "listening") && child == &trial->recv && !trial->uri && json_string(event, "uri")) {
		trial->uri = strdup(json_string(event, "uri"));
	} else if (!strcmp(name, "progress") && child == &trial->send) {
		trial->progress(trial->opaque, line, event);
	} else if (!strcmp(name, "result")) {
		struct json_object **result = child == &trial->send ? &trial->send_result : &trial->recv_result;
		json_object_put(*result);
		*result = json_object_get(event);
	}
	json_object_put(event);
}

static void children_read(struct trial *trial)
{
	struct child *children[] = { &trial->synth, &trial->recv, &trial->send };
	for (unsigned i = 0; i < sizeof(children) / sizeof(children[0]); i++) {
		const char *line;
		if (!children[i]->pid)
			continue;
		child_read(children[i]);
		while ((line = child_take_line(children[i])))
			line_take(trial, children[i], line);
	}
}

/* Sleep until a child prints or ends, Ctrl-C, or the deadline. */
static void trial_sleep(const struct trial *trial, uint64_t deadline_ns)
{
	const struct child *children[] = { &trial->synth, &trial->recv, &trial->send };
	struct wait wait;
	wait_reset(&wait);
	wait_until(&wait, deadline_ns);
	wait_add_fd(&wait, trial->interrupt.fd, POLLIN);
	for (unsigned i = 0; i < sizeof(children) / sizeof(children[0]); i++)
		if (children[i]->pid)
			child_wait_add(children[i], &wait);
	wait_sleep(&wait, &clock_real);
}

/* What the child ended with: by the name in its result, else the first status of its exit code N, which is N00. */
static enum rdmamig_status child_status(const struct child *child, struct json_object *result)
{
	enum { CODE_MIN = 1, CODE_MAX = 8, PER_CODE = 100 };
	int code = child->exit_code >= CODE_MIN && child->exit_code <= CODE_MAX ? child->exit_code : CODE_MIN;
	const char *name = result ? json_string(result, "status-code") : NULL;
	for (int i = code * PER_CODE; name && i < (code + 1) * PER_CODE; i++)
		if (!strcmp(rdmamig_status_name((enum rdmamig_status)i), name))
			return (enum rdmamig_status)i;
	return (enum rdmamig_status)(code * PER_CODE);
}

static enum rdmamig_status child_failed(struct trial *trial, const struct child *child, struct json_object *result,
					char *why)
{
	const char *error = result ? json_string(result, "error") : NULL;
	enum rdmamig_status st = child_status(child, result);
	if (child->killed_by)
		return why_say(why, st, "%s was killed by signal %d", child->arguments[1], child->killed_by);
	trial->has_told = true;
	return why_say(why, st, "%s: %s", child->arguments[1], error ? error : "failed, its line is on stderr");
}

static bool guest_is_ready(const struct trial *trial)
{
	return trial->guest_is_ready;
}

static bool dest_listens(const struct trial *trial)
{
	return trial->uri;
}

static enum rdmamig_status trial_until(struct trial *trial, bool (*is_there)(const struct trial *trial),
				       const struct child *child, uint64_t timeout_ms, char *why)
{
	uint64_t deadline_ns = clock_after_ms(&clock_real, timeout_ms);
	for (;;) {
		children_read(trial);
		if (is_there(trial))
			return RDMAMIG_OK;
		if (child->is_over)
			return child_failed(trial, child, child == &trial->recv ? trial->recv_result : NULL, why);
		if (!trial->has_sent && interrupt_take(&trial->interrupt))	/* too late once it has moved */
			return why_say(why, RDMAMIG_E_CANCELLED, "cancelled");
		if (clock_now_ns(&clock_real) >= deadline_ns)
			return why_say(why, RDMAMIG_E_FAILED, "%s gave no sign within %" PRIu64 " s", child->arguments[1],
				       timeout_ms / 1000);
		trial_sleep(trial, deadline_ns);
	}
}

static enum rdmamig_status guest_start(struct trial *trial, char *why)
{
	const struct trial_plan *plan = trial->plan;
	struct child *synth = &trial->synth;
	uint64_t used_bytes = plan->used_bytes ? plan->used_bytes : plan->size_bytes;
	child_add(synth, "synth");
	child_add(synth, "%s", trial->source_paths);
	child_add(synth, "--json");
	child_add(synth, "--size=%" PRIu64, plan->size_bytes);
	child_add(synth, "--used=%" PRIu64, used_bytes);
	child_add(synth, "--dirty-rate=%" PRIu64, plan->dirty_rate);
	child_add(synth, "--discard=%" PRIu64, plan->discard_pct);
	child_add(synth, "--seed=%" PRIu64, plan->seed);
	if (plan->fill)
		child_add(synth, "--fill=%s", plan->fill);
	if (plan->pattern)
		child_add(synth, "--pattern=%s", plan->pattern);
	enum rdmamig_status st = child_start(synth, why);
	return st ? st : trial_until(trial, guest_is_ready, synth, FILL_MS + used_bytes / FILL_BYTES_PER_MS, why);
}

static void child_add_ram(struct child *child, const struct trial *trial, const char *name)
{
	for (uint64_t i = 0; i < trial->plan->blocks; i++)
		child_add(child, "--ram=ram%" PRIu64 "=%s/%s%" PRIu64, i, trial->files_dir, name, i);
}

static enum rdmamig_status recv_start(struct trial *trial, char *why)
{
	struct child *recv = &trial->recv;
	child_add(recv, "recv");
	child_add(recv, "%s", trial->plan->uri);
	child_add(recv, "--json");
	child_add(recv, "--state-dir=%s", trial->state_dir);
	child_add_ram(recv, trial, "dest");
	enum rdmamig_status st = child_start(recv, why);
	return st ? st : trial_until(trial, dest_listens, recv, LISTEN_MS, why);
}

static enum rdmamig_status send_start(struct trial *trial, char *why)
{
	const struct trial_plan *plan = trial->plan;
	struct child *send = &trial->send;
	child_add(send, "send");
	child_add(send, "%s", trial->uri);
	child_add(send, "--json");
	child_add(send, "--state-dir=%s", trial->state_dir);
	child_add(send, "--pid=%d", (int)trial->synth.pid);
	child_add_ram(send, trial, "source");
	if (plan->channels)
		child_add(send, "--channels=%" PRIu64, plan->channels);
	if (plan->downtime_ms)
		child_add(send, "--downtime-ms=%" PRIu64, plan->downtime_ms);
	if (plan->timeout_ms)
		child_add(send, "--timeout-s=%" PRIu64 "ms", plan->timeout_ms);
	if (plan->timeout_action)
		child_add(send, "--timeout-action=%s", plan->timeout_action);
	if (plan->bandwidth)
		child_add(send, "--bandwidth=%" PRIu64, plan->bandwidth);
	if (plan->zero_pages)
		child_add(send, "--zero-pages=%s", plan->zero_pages);
	if (plan->tracker)
		child_add(send, "--tracker=%s", plan->tracker);
	if (plan->verify)
		child_add(send, "--verify");
	trial->has_sent = true;
	return child_start(send, why);
}

/* The first Ctrl-C is passed on, and send ends in order; at the second its guardian must do. */
static enum rdmamig_status send_wait(struct trial *trial, char *why)
{
	uint64_t converge_ms = trial->plan->timeout_ms ? trial->plan->timeout_ms : CONVERGE_MS;
	uint64_t deadline_ns = clock_after_ms(&clock_real, converge_ms + AFTER_CONVERGE_MS);
	for (bool cancelled = false; ; ) {
		children_read(trial);
		if (trial->send.is_over)
			return trial->send.exit_code ? child_failed(trial, &trial->send, trial->send_result, why) : RDMAMIG_OK;
		if (interrupt_take(&trial->interrupt)) {
			if (cancelled)
				return why_say(why, RDMAMIG_E_CANCELLED, "cancelled twice");
			cancelled = true;
			deadline_ns = clock_after_ms(&clock_real, CANCEL_MS);
			kill(trial->send.pid, SIGINT);
		}
		if (clock_now_ns(&clock_real) >= deadline_ns)
			return why_say(why, RDMAMIG_E_UNKNOWN_OWNER, "send did not end in time");
		trial_sleep(trial, deadline_ns);
	}
}

static bool dest_is_over(const struct trial *trial)
{
	return trial->recv.is_over;
}

enum rdmamig_status trial_run(struct trial *trial, const struct trial_plan *plan, char *why)
{
	trial->plan = plan;
	interrupt_open(&trial->interrupt);
	child_init(&trial->synth);
	child_init(&trial->recv);
	child_init(&trial->send);
	enum rdmamig_status st = dirs_make(trial, why);
	if (st)
		return st;
	trial->source_paths = paths_join(trial, "source");
	trial->dest_paths = paths_join(trial, "dest");
	if (!trial->source_paths || !trial->dest_paths)
		return why_say(why, RDMAMIG_E_NO_MEMORY, "out of memory");
	st = guest_start(trial, why);
	if (!st)
		st = recv_start(trial, why);
	if (!st)
		st = send_start(trial, why);
	if (!st)
		st = send_wait(trial, why);
	if (!st)
		st = trial_until(trial, dest_is_over, &trial->recv, DEST_END_MS, why);
	if (!st && trial->recv.exit_code)
		st = child_failed(trial, &trial->recv, trial->recv_result, why);
	if (st)
		child_end(&trial->send);	/* its guardian undoes what it may have left */
	return st;
}

bool trial_guest_runs(const struct trial *trial)
{
	struct memory memory;
	char why[MEMORY_WHY_BYTES];
	uint32_t first, now;
	bool runs = false;
	if (!child_is_running(&trial->synth))
		return false;
	uint64_t deadline_ns = clock_after_ms(&clock_real, GUEST_SIGN_MS);
	if (!memory_open(&memory, trial->source_paths, why) && !guestcheck_beat(&memory, &first, why))
		while (!runs && clock_now_ns(&clock_real) < deadline_ns) {
			clock_real.sleep(NULL, NULL, 0, clock_after_ms(&clock_real, GUEST_LOOK_MS));
			runs = !guestcheck_beat(&memory, &now, why) && now != first;
		}
	memory_close(&memory);
	return runs;
}

bool trial_guest_is_stopped(const struct trial *trial)
{
	char path[64], line[512] = "";
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)trial->synth.pid);
	FILE *stat = fopen(path, "re");
	if (!stat)
		return false;
	const char *state = fgets(line, sizeof(line), stat) ? strrchr(line, ')') : NULL;
	fclose(stat);
	return state && state[1] && state[2] == 'T';
}

static int path_remove(const char *path, const struct stat *stat, int type, struct FTW *ftw)
{
	(void)stat;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void dir_remove(const char *dir, bool keep)
{
	enum { OPEN_DIRS = 8 };
	if (*dir && keep)
		fprintf(stderr, "rdmamig bench: kept %s\n", dir);
	else if (*dir && nftw(dir, path_remove, OPEN_DIRS, FTW_DEPTH | FTW_PHYS))
		fprintf(stderr, "rdmamig bench: cannot remove %s: %s\n", dir, strerror(errno));
}

void trial_end(struct trial *trial, bool keep)
{
	/* send first: were the guest or dest to go before it, it would report that */
	child_end(&trial->send);
	child_end(&trial->recv);
	child_end(&trial->synth);
	dir_remove(trial->files_dir, keep);
	dir_remove(trial->state_dir, keep);
	json_object_put(trial->send_result);
	json_object_put(trial->recv_result);
	free(trial->source_paths);
	free(trial->dest_paths);
	free(trial->uri);
	interrupt_close(&trial->interrupt);
}
