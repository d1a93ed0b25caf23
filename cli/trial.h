/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * trial.h - one migration on one machine: synth is the guest, send and recv move it, each a process; and their files.
 *
 * What send and recv found is judged by others, from the files; a trial only runs them and always cleans up.
 */
#ifndef CLI_TRIAL_H
#define CLI_TRIAL_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include <json-c/json.h>

#include <rdmamig/status.h>

#include "cli/child.h"
#include "cli/interrupt.h"
#include "cli/memory.h"

/* 0 or NULL: not given, and then not passed on, so that defaults are those of send, recv and synth. */
struct trial_plan {
	const char *uri;	/* recv listens on it; port 0: any */
	const char *dir;	/* for the memory files */
	uint64_t blocks;
	uint64_t size_bytes;
	uint64_t used_bytes;
	const char *fill;
	uint64_t dirty_rate;
	const char *pattern;
	uint64_t discard_pct;
	uint64_t seed;
	uint64_t channels;
	uint64_t downtime_ms;
	uint64_t timeout_ms;
	const char *timeout_action;
	uint64_t bandwidth;
	const char *zero_pages;
	const char *tracker;
	bool verify;
};

struct trial {
	const struct trial_plan *plan;
	char files_dir[PATH_MAX];	/* "" until made */
	char state_dir[PATH_MAX];
	char *source_paths;		/* comma separated, as for memory_open() */
	char *dest_paths;
	struct child synth, recv, send;
	struct interrupt interrupt;
	bool guest_is_ready;
	bool has_sent;			/* send was started: it may have stopped the guest */
	bool has_told;			/* a child has put the reason on stderr */
	char *uri;			/* recv's, once it listens */
	struct json_object *send_result;	/* their last lines; NULL until then */
	struct json_object *recv_result;
	/* Called with each progress line of send, as printed and parsed. */
	void (*progress)(void *opaque, const char *line, struct json_object *event);
	void *opaque;
};

/*
 * trial_run - all of it: fill, listen, send, wait for both ends. trial_end() in any case.
 *
 * OK            send and recv both ended with 0; the source guest stands still, the files are there
 * E_CANCELLED   Ctrl-C before send ran; while it ran it is send's answer that counts
 * otherwise     by the exit code of whoever failed first; @why has its line
 */
enum rdmamig_status trial_run(struct trial *trial, const struct trial_plan *plan, char *why);

/* trial_guest_runs - does the source guest go on? Waits up to a few seconds for a sign. */
bool trial_guest_runs(const struct trial *trial);

/* trial_guest_is_stopped - by a signal, this instant. */
bool trial_guest_is_stopped(const struct trial *trial);

/* trial_end - end all processes, remove all files unless @keep. */
void trial_end(struct trial *trial, bool keep);

#endif
