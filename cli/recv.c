/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * recv.c - `rdmamig recv`: the dest of a migration, into memory files that are there or are made.
 * Neighbours: send.c is the other end; vmm/driver.h keeps the journal and runs the guest. Main thread.
 */
#include <rdmamig/rdmamig.h>

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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
#include "vmm/process.h"

enum { GUEST_STOPS_MS = 1000 };

struct recv_args {
	const char *uri;
	struct option_list ram;
	pid_t pid;
	uint64_t wait_ms;
	uint64_t handover_timeout_ms;
	const char *state_dir;
	bool json;
	bool quiet;
};

#define FIELD(name) offsetof(struct recv_args, name)

static const struct option_row rows[] = {
	{ "ram", 0, "NAME=PATH", "where that memory of the source goes; a missing file is made, 0600", option_set_list, FIELD(ram) },
	{ "pid", 0, "PID", "the stopped process that goes on with the guest; without it nobody does", option_set_pid, FIELD(pid) },
	{ "wait-s", 0, "S", "how long to wait for a source, 0 for ever (0)", option_set_s, FIELD(wait_ms) },
	{ "state-dir", 0, "DIR", "where the journal is (" RDMAMIG_STATE_DIR ")", option_set_string, FIELD(state_dir) },
	{ "handover-timeout-s", 0, "S", "how long to wait for the source's decision (30)", option_set_s,
	  FIELD(handover_timeout_ms) },
	{ "json", 'j', NULL, "one JSON object per line on stdout", option_set_flag, FIELD(json) },
	{ "quiet", 'q', NULL, "nothing but failures", option_set_flag, FIELD(quiet) },
};

static const struct option_table table = {
	"recv", "URI --ram NAME=PATH [OPTION...]",
	"Waits at URI (tcp://ADDRESS:PORT or rdma://ADDRESS:PORT; port 0 takes a free one) for one `rdmamig send` and takes\n"
	"its guest over. Exit code 0: the guest is ours. 1 to 7: nothing was taken over. 8: held, see `rdmamig resolve`.\n",
	rows, sizeof(rows) / sizeof(rows[0]),
};

static bool args_parse(struct recv_args *args, int argc, char **argv, int *exit_code)
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
		else if (!args->handover_timeout_ms)
			parsed = options_bad(&table, "--handover-timeout-s is more than 0");
		args->uri = argv[first_operand];
	}
	*exit_code = parsed == OPTIONS_HELPED ? 0 : 2;
	return parsed == OPTIONS_PARSED;
}

struct receiving {
	const struct recv_args *args;
	struct ram_set ram;
	struct driver *driver;
	struct rdmamig_session *session;
	struct interrupt interrupt;
	struct progress progress;
	struct result result;
};

/* The journal is written when a source is here already: too late to find that it cannot be. */
static enum rdmamig_status state_dir_check(const char *path, char *why)
{
	if ((mkdir(path, 0700) && errno != EEXIST) || access(path, W_OK | X_OK))
		return why_say(why, RDMAMIG_E_PERMISSION, "state directory %s cannot be written: %s; use another one", path,
			       strerror(errno));
	return RDMAMIG_OK;
}

static enum rdmamig_status check_local(struct receiving *r)
{
	const struct recv_args *args = r->args;
	enum rdmamig_status status = ram_open(&r->ram, &args->ram, true, r->result.why);
	if (!status)
		status = state_dir_check(args->state_dir ? args->state_dir : RDMAMIG_STATE_DIR, r->result.why);
	if (!status)
		status = claim_fill(&r->result.claim, args->pid, args->uri, &r->ram, r->result.why);
	if (!status)
		status = claim_recover("recv", args->state_dir, &r->result.claim, r->result.why);
	if (!status)
		status = claim_check(args->state_dir, &r->result.claim, r->result.why);
	if (!status)
		r->result.why[0] = '\0';	/* what was said of other guests' sessions */
	return status;
}

static enum rdmamig_status open_session(struct receiving *r)
{
	struct rdmamig_options options = {
		.size = sizeof(options), .uri = r->args->uri, .wait_ms = r->args->wait_ms,
		.handover_timeout_ms = r->args->handover_timeout_ms,
	};
	enum rdmamig_status status = driver_open_dest(r->args->pid, &r->driver, r->result.why);
	if (!status)
		status = rdmamig_session_new(RDMAMIG_DEST, &options, &r->session, r->result.why, sizeof(r->result.why));
	if (!status)
		status = rdmamig_session_start(r->session);
	return status;
}

static enum rdmamig_status match_blocks(struct receiving *r, char *why)
{
	struct rdmamig_peer_block peers[OPTION_LIST_MAX + 1];	/* one more is too many */
	unsigned count = 0;
	for (; count <= OPTION_LIST_MAX; count++) {
		peers[count].size = sizeof(peers[count]);
		if (rdmamig_session_peer_block(r->session, count, &peers[count]))
			break;
	}
	return ram_match(&r->ram, peers, count, why);
}

/* It maps nothing yet, perhaps: that it waits is all there is to tell it from a wrong number. */
static enum rdmamig_status guest_check(const struct rdmamig_journal_info *claim, char *why)
{
	struct process process;
	enum rdmamig_status status = claim->pid ? process_open(&process, claim->pid, claim->pid_start, why) : RDMAMIG_OK;
	if (status || !claim->pid)
		return status;
	uint64_t until = clock_after_ms(&clock_real, GUEST_STOPS_MS);	/* it may be about to stop itself */
	while (process_look(&process) == PROCESS_RUNS && clock_now_ns(&clock_real) < until)
		usleep(10 * 1000);
	if (process_look(&process) != PROCESS_STOPPED)
		status = why_say(why, RDMAMIG_E_NO_PROCESS, "process %d runs: --pid names the stopped one that is to go on with "
				 "the guest", claim->pid);
	process_close(&process);
	return status;
}

/*
 * The source has said what it has. It may have waited long for us, or we for it: look again whether the memory is free,
 * and only then make files. The journal comes before the first byte.
 */
static enum rdmamig_status blocks_come(void *opaque, char *why)
{
	struct receiving *r = opaque;
	uint8_t id[RDMAMIG_SESSION_ID_BYTES];
	struct rdmamig_journal *journal;

	enum rdmamig_status status = claim_check(r->args->state_dir, &r->result.claim, why);
	if (!status)
		status = guest_check(&r->result.claim, why);
	if (!status)
		status = match_blocks(r, why);
	if (!status)
		status = ram_add_blocks(&r->ram, r->session, why);
	if (status)
		return status;

	rdmamig_session_id(r->session, id);
	status = rdmamig_journal_create(r->args->state_dir, RDMAMIG_DEST, id, &r->result.claim, &journal, why, DRIVER_WHY_BYTES);
	if (status)
		return status;
	snprintf(r->result.session, sizeof(r->result.session), "%s", rdmamig_journal_name(journal));
	driver_begin(r->driver, journal);
	return RDMAMIG_OK;
}

/* From here on the URI has the port that `resolve` and the source need. */
static void listening_tell(struct receiving *r)
{
	char *uri = r->result.claim.peer;
	rdmamig_session_local_uri(r->session, uri, sizeof(r->result.claim.peer));
	if (r->args->json) {
		struct json_object *event = json_event_new("listening");
		json_add_string(event, "uri", uri);
		json_event_print(event);
	} else if (!r->args->quiet) {
		printf("listening on %s: waits for its source\n", uri);
		fflush(stdout);
	}
}

static void observe(void *opaque, const struct rdmamig_event *event)
{
	struct receiving *r = opaque;
	struct rdmamig_stats stats = { .size = sizeof(stats) };
	if (interrupt_take(&r->interrupt)) {
		progress_clear(&r->progress);
		fprintf(stderr, "rdmamig recv: cancelling\n");
		rdmamig_session_cancel(r->session);
	}
	if (event && event->type == RDMAMIG_EVENT_LISTENING)
		listening_tell(r);
	if (event || !r->result.session[0])
		return;
	rdmamig_session_stats(r->session, &stats);
	progress_show(&r->progress, &stats, clock_now_ns(&clock_real) / NS_PER_MS);
}

/* Nothing promised, or the promise given back: what we made goes, and nobody has to ask about this session again. */
static void clean_up_failed(struct receiving *r)
{
	enum rdmamig_record record = RDMAMIG_RECORD_NONE;
	struct rdmamig_journal *journal = r->driver ? r->driver->journal : NULL;
	if (rdmamig_status_exit_code(r->result.status) == 8 || (journal && rdmamig_journal_record(journal, &record)))
		return;
	if (record != RDMAMIG_RECORD_NONE && record != RDMAMIG_RECORD_DISCARDED)
		return;
	ram_unlink_created(&r->ram);
	if (journal)
		rdmamig_journal_close(journal);
}

/* Who placed the bytes knew addresses only. */
static void add_files(struct receiving *r)
{
	rdmamig_session_error(r->session, r->result.why, sizeof(r->result.why));
	why_add(r->result.why, " (%s)", r->result.claim.ram);
}

static void receive_guest(struct receiving *r)
{
	const struct driver_callbacks callbacks = { .observe = observe, .blocks = blocks_come, .opaque = r };
	r->result.status = check_local(r);
	if (r->result.status)
		return;
	interrupt_open(&r->interrupt);
	r->result.status = open_session(r);
	if (!r->result.status)
		r->result.status = driver_drive(r->driver, r->session, &callbacks);
	if (r->result.status == RDMAMIG_E_NO_SPACE && r->result.session[0])
		add_files(r);
	if (r->result.status)
		clean_up_failed(r);
}

static struct json_object *parameters(const struct recv_args *args, const struct result *result)
{
	struct json_object *object = json_object_new_object();
	json_add_string(object, "uri", result->claim.peer);
	json_add_string(object, "ram", result->claim.ram);
	json_add_u64(object, "pid", (uint64_t)args->pid);
	json_add_u64(object, "wait-ms", args->wait_ms);
	json_add_string(object, "state-dir", args->state_dir ? args->state_dir : RDMAMIG_STATE_DIR);
	json_add_u64(object, "handover-timeout-ms", args->handover_timeout_ms);
	return object;
}

static int recv_run(int argc, char **argv)
{
	struct recv_args args = { .handover_timeout_ms = 30 * 1000 };
	int exit_code;
	if (!args_parse(&args, argc, argv, &exit_code))
		return exit_code;

	struct receiving r = {
		.args = &args, .interrupt = { .fd = -1 },
		.result = { .command = "recv", .role = RDMAMIG_DEST, .state_dir = args.state_dir,
			    .stats = { .verified = -1 } },
	};
	progress_init(&r.progress, args.json, args.quiet);
	receive_guest(&r);
	progress_clear(&r.progress);
	if (r.session)
		result_take_session(&r.result, r.session, r.driver->journal);
	exit_code = result_print(&r.result, args.json, args.quiet, parameters(&args, &r.result));

	rdmamig_session_free(r.session);
	if (r.driver)
		r.driver->ops->free(r.driver);
	interrupt_close(&r.interrupt);
	ram_close(&r.ram);
	return exit_code;
}

const struct command command_recv = { "recv", recv_run, "wait for a guest and take it over" };
