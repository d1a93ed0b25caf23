/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * send.c - `rdmamig send`: the source of a migration, from memory files and the process that writes them.
 * Neighbours: recv.c is the other end; vmm/driver.h stops the guest and keeps the journal. Main thread.
 */
#include <rdmamig/rdmamig.h>

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "cli/claim.h"
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "cli/ram.h"
#include "cli/result.h"
#include "cli/why.h"
#include "vmm/driver.h"

struct send_args {
	const char *uri;
	struct option_list ram;
	pid_t pid;
	uint64_t downtime_ms;
	uint64_t timeout_ms;
	uint64_t handover_timeout_ms;
	enum rdmamig_timeout_action timeout_action;
	uint64_t channels;
	uint64_t bandwidth;
	const char *codec;
	enum rdmamig_uffd_mode tracker;
	bool zero_pages_off;
	bool auto_converge;
	bool verify;
	const char *state_dir;
	bool json;
	bool quiet;
};

static const char *const timeout_actions[] = { [RDMAMIG_TIMEOUT_CANCEL] = "cancel", [RDMAMIG_TIMEOUT_FORCE] = "force" };
static const char *const trackers[] = {
	[RDMAMIG_UFFD_AUTO] = "auto", [RDMAMIG_UFFD_ASYNC] = "async", [RDMAMIG_UFFD_SYNC] = "sync",
};

static bool set_timeout_action(const char *value, void *field)
{
	enum rdmamig_timeout_action *action = field;
	*action = strcmp(value, "force") ? RDMAMIG_TIMEOUT_CANCEL : RDMAMIG_TIMEOUT_FORCE;
	return !strcmp(value, timeout_actions[*action]);
}

static bool set_tracker(const char *value, void *field)
{
	enum rdmamig_uffd_mode *mode = field;
	for (*mode = RDMAMIG_UFFD_AUTO; *mode <= RDMAMIG_UFFD_SYNC; (*mode)++)
		if (!strcmp(value, trackers[*mode]))
			return true;
	return false;
}

static bool set_zero_pages(const char *value, void *field)
{
	*(bool *)field = !strcmp(value, "off");
	return !strcmp(value, "off") || !strcmp(value, "detect");
}

#define FIELD(name) offsetof(struct send_args, name)

static const struct option_row rows[] = {
	{ "ram", 0, "NAME=PATH", "a memory file of the guest, on tmpfs or hugetlbfs; once for each", option_set_list, FIELD(ram) },
	{ "pid", 0, "PID", "the process that writes them; without it nobody does", option_set_pid, FIELD(pid) },
	{ "downtime-ms", 0, "MS", "how long the guest may stand still (300)", option_set_ms, FIELD(downtime_ms) },
	{ "timeout-s", 0, "S", "how long it may take to get there (3600)", option_set_s, FIELD(timeout_ms) },
	{ "timeout-action", 0, "cancel|force", "then give up, or stop the guest whatever the downtime (cancel)",
	  set_timeout_action, FIELD(timeout_action) },
	{ "channels", 0, "N", "data connections, 1 to 16 (1)", option_set_count, FIELD(channels) },
	{ "bandwidth", 0, "BYTES", "at most this much a second while the guest runs; K M G T (no limit)", option_set_bytes,
	  FIELD(bandwidth) },
	{ "codec", 0, "NAME", "how pages are encoded (none)", option_set_string, FIELD(codec) },
	{ "zero-pages", 0, "detect|off", "look for pages of zeros and do not send them (detect)", set_zero_pages,
	  FIELD(zero_pages_off) },
	{ "auto-converge", 0, NULL, "slow the guest when it writes faster than it can be sent", option_set_flag,
	  FIELD(auto_converge) },
	{ "verify", 0, NULL, "compare hashes of both ends while the guest stands still", option_set_flag, FIELD(verify) },
	{ "tracker", 0, "auto|async|sync", "how writes are tracked (auto)", set_tracker, FIELD(tracker) },
	{ "state-dir", 0, "DIR", "where the journal is (" RDMAMIG_STATE_DIR ")", option_set_string, FIELD(state_dir) },
	{ "handover-timeout-s", 0, "S", "how long to wait for dest's last word (30)", option_set_s, FIELD(handover_timeout_ms) },
	{ "json", 'j', NULL, "one JSON object per line on stdout", option_set_flag, FIELD(json) },
	{ "quiet", 'q', NULL, "nothing but failures", option_set_flag, FIELD(quiet) },
};

static const struct option_table table = {
	"send", "URI --ram NAME=PATH [OPTION...]",
	"Moves a guest to the `rdmamig recv` that listens at URI: tcp://HOST:PORT or rdma://HOST:PORT (port 7471 if none\n"
	"is given). Exit code 0: the dest owns the guest. 1 to 7: it stays here as it was. 8: see `rdmamig resolve`.\n",
	rows, sizeof(rows) / sizeof(rows[0]),
};

static bool args_parse(struct send_args *args, int argc, char **argv, int *exit_code)
{
	int first_operand;
	char why[DRIVER_WHY_BYTES];
	struct rdmamig_uri uri = { .size = sizeof(uri) };
	enum options_result parsed = options_parse(&table, argc, argv, args, &first_operand);
	if (parsed == OPTIONS_PARSED) {
		if (first_operand != argc - 1)
			parsed = options_bad(&table, "it takes one URI");
		else if (rdmamig_uri_parse(argv[first_operand], &uri, why, sizeof(why)))
			parsed = options_bad(&table, "%s", why);
		else if (args->channels < 1 || args->channels > RDMAMIG_CHANNELS_MAX)
			parsed = options_bad(&table, "--channels is 1 to %d", (int)RDMAMIG_CHANNELS_MAX);
		else if (!args->downtime_ms || !args->timeout_ms || !args->handover_timeout_ms)
			parsed = options_bad(&table, "--downtime-ms, --timeout-s and --handover-timeout-s are more than 0");
		args->uri = argv[first_operand];
	}
	*exit_code = parsed == OPTIONS_HELPED ? 0 : 2;
	return parsed == OPTIONS_PARSED;
}

/* What lives from the first check to the last line. */
struct sending {
	const struct send_args *args;
	struct ram_set ram;
	struct driver *driver;
	struct rdmamig_session *session;
	struct interrupt interrupt;
	struct progress progress;
	struct result result;
};

static enum rdmamig_status check_local(struct sending *s)
{
	const struct send_args *args = s->args;
	enum rdmamig_status status = ram_open(&s->ram, &args->ram, false, s->result.why);
	if (!status)
		status = claim_fill(&s->result.claim, args->pid, args->uri, &s->ram, s->result.why);
	if (!status)
		status = claim_recover("send", args->state_dir, &s->result.claim, s->result.why);
	if (!status)
		status = claim_check(args->state_dir, &s->result.claim, s->result.why);
	if (!status)
		s->result.why[0] = '\0';	/* what was said of other guests' sessions */
	return status;
}

/* The guardian is forked here, so before any thread exists. */
static enum rdmamig_status open_driver(struct sending *s)
{
	static const uint8_t any_id[RDMAMIG_SESSION_ID_BYTES];
	struct rdmamig_journal *journal;
	enum rdmamig_status status = rdmamig_journal_create(s->args->state_dir, RDMAMIG_SOURCE, any_id, &s->result.claim,
							    &journal, s->result.why, sizeof(s->result.why));
	if (status)
		return status;
	snprintf(s->result.session, sizeof(s->result.session), "%s", rdmamig_journal_name(journal));

	status = driver_open_source(s->args->pid, journal, &s->driver, s->result.why);
	if (status) {
		rdmamig_journal_close(journal);		/* nothing was touched, nothing is to be undone */
		rdmamig_journal_free(journal);
	}
	return status;
}

static enum rdmamig_status open_session(struct sending *s)
{
	const struct send_args *args = s->args;
	struct rdmamig_options options = {
		.size = sizeof(options), .uri = args->uri, .channels = (unsigned)args->channels,
		.downtime_ms = args->downtime_ms, .timeout_ms = args->timeout_ms, .timeout_action = args->timeout_action,
		.bandwidth = args->bandwidth, .zero_pages_off = args->zero_pages_off, .auto_converge = args->auto_converge,
		.verify = args->verify, .codec = args->codec, .handover_timeout_ms = args->handover_timeout_ms,
	};
	rdmamig_journal_id(s->driver->journal, options.session_id);

	enum rdmamig_status status = rdmamig_session_new(RDMAMIG_SOURCE, &options, &s->session, s->result.why,
							 sizeof(s->result.why));
	if (!status)
		status = ram_add_blocks(&s->ram, s->session, s->result.why);
	if (!status && args->pid)
		status = rdmamig_session_track_process(s->session, args->pid, args->tracker);
	if (!status)
		status = rdmamig_session_start(s->session);
	return status;
}

static void observe(void *opaque, const struct rdmamig_event *event)
{
	struct sending *s = opaque;
	struct rdmamig_stats stats = { .size = sizeof(stats) };
	if (interrupt_take(&s->interrupt)) {
		progress_clear(&s->progress);
		fprintf(stderr, "rdmamig send: cancelling\n");
		rdmamig_session_cancel(s->session);
	}
	if (event)
		return;
	rdmamig_session_stats(s->session, &stats);
	progress_show(&s->progress, &stats, clock_now_ns(&clock_real) / NS_PER_MS);
}

/* A session that never started has asked for no undo, and its journal must not stay open. */
static void undo_unstarted(struct sending *s)
{
	char why[DRIVER_WHY_BYTES];
	enum rdmamig_status status = s->driver->ops->undo(s->driver, why);
	if (status)
		s->result.status = why_say(s->result.why, status, "%s", why);
}

static void send_guest(struct sending *s)
{
	const struct driver_callbacks callbacks = { .observe = observe, .opaque = s };
	s->result.status = check_local(s);
	if (s->result.status)
		return;
	interrupt_open(&s->interrupt);
	s->result.status = open_driver(s);
	if (s->result.status)
		return;
	s->result.status = open_session(s);
	if (s->result.status)
		undo_unstarted(s);
	else
		s->result.status = driver_drive(s->driver, s->session, &callbacks);
}

static struct json_object *parameters(const struct send_args *args, const struct result *result)
{
	struct json_object *object = json_object_new_object();
	json_add_string(object, "uri", args->uri);
	json_add_string(object, "ram", result->claim.ram);
	json_add_u64(object, "pid", (uint64_t)args->pid);
	json_add_u64(object, "downtime-ms", args->downtime_ms);
	json_add_u64(object, "timeout-ms", args->timeout_ms);
	json_add_string(object, "timeout-action", timeout_actions[args->timeout_action]);
	json_add_u64(object, "channels", args->channels);
	json_add_u64(object, "bandwidth", args->bandwidth);
	json_add_string(object, "codec", args->codec);
	json_add_string(object, "zero-pages", args->zero_pages_off ? "off" : "detect");
	json_add_bool(object, "auto-converge", args->auto_converge);
	json_add_bool(object, "verify", args->verify);
	json_add_string(object, "tracker", trackers[args->tracker]);
	json_add_string(object, "state-dir", args->state_dir ? args->state_dir : RDMAMIG_STATE_DIR);
	json_add_u64(object, "handover-timeout-ms", args->handover_timeout_ms);
	return object;
}

static int send_run(int argc, char **argv)
{
	struct send_args args = {
		.downtime_ms = 300, .timeout_ms = 3600 * 1000, .handover_timeout_ms = 30 * 1000, .channels = 1, .codec = "none",
	};
	int exit_code;
	if (!args_parse(&args, argc, argv, &exit_code))
		return exit_code;

	struct sending s = {
		.args = &args, .interrupt = { .fd = -1 },
		.result = { .command = "send", .role = RDMAMIG_SOURCE, .state_dir = args.state_dir,
			    .stats = { .verified = -1 } },
	};
	progress_init(&s.progress, args.json, args.quiet);
	send_guest(&s);
	progress_clear(&s.progress);
	if (s.session)
		result_take_session(&s.result, s.session, s.driver->journal);
	exit_code = result_print(&s.result, args.json, args.quiet, parameters(&args, &s.result));

	rdmamig_session_free(s.session);
	if (s.driver)
		s.driver->ops->free(s.driver);
	interrupt_close(&s.interrupt);
	ram_close(&s.ram);
	return exit_code;
}

const struct command command_send = { "send", send_run, "move a guest from here to a waiting `recv`" };
