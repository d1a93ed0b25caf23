/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bench.c - `rdmamig bench`: a migration on this machine, judged from outside: are the bytes right, does one guest run?
 * Neighbours: trial.c runs it, compare.c and guestcheck.c judge the files, progress.c shows it. One thread.
 */
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/vfs.h>

#include <linux/magic.h>

#include <rdmamig/session.h>
#include <rdmamig/stats.h>
#include <rdmamig/uri.h>

#include "base/clock.h"
#include "cli/command.h"
#include "cli/compare.h"
#include "cli/guestcheck.h"
#include "cli/json.h"
#include "cli/number.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "cli/trial.h"
#include "cli/why.h"

#define NO_FLIP UINT64_MAX

struct bench_args {
	struct trial_plan plan;
	const char *backing;
	uint64_t flip_byte;
	bool no_check;
	bool keep;
	bool json;
};

/* What is known of it in the end. */
struct bench {
	const struct bench_args *args;
	struct trial trial;
	struct progress progress;
	enum rdmamig_status status;
	char why[MEMORY_WHY_BYTES];
	bool is_compared;
	bool is_verified;
	struct comparison comparison;
	struct guestcheck check;
	bool source_runs;
};

static bool set_backing(const char *value, void *field)
{
	*(const char **)field = value;
	return !strcmp(value, "tmpfs") || !strcmp(value, "hugetlb");
}

#define PLAN(field) offsetof(struct bench_args, plan.field)
#define ARG(field) offsetof(struct bench_args, field)

static const struct option_row bench_rows[] = {
	{ "size", 's', "BYTES", "the guest's memory; suffixes K M G T (1G)", option_set_bytes, PLAN(size_bytes) },
	{ "used", 'u', "BYTES", "how much of it is used (all)", option_set_bytes, PLAN(used_bytes) },
	{ "fill", 0, "random|zero|mixed:PCT|text", "its contents (random)", option_set_string, PLAN(fill) },
	{ "dirty-rate", 'r', "BYTES", "bytes it rewrites a second (100M)", option_set_bytes, PLAN(dirty_rate) },
	{ "pattern", 0, "uniform|hot:PCT|sequential", "which pages it rewrites (uniform)", option_set_string, PLAN(pattern) },
	{ "discard", 0, "PCT", "share of the rewrites that punch the page out (0)", option_set_count, PLAN(discard_pct) },
	{ "seed", 0, "N", "another N, other contents (1)", option_set_count, PLAN(seed) },
	{ "blocks", 0, "N", "memory files (1)", option_set_count, PLAN(blocks) },
	{ "backing", 0, "tmpfs|hugetlb", "what --dir must be (tmpfs)", set_backing, ARG(backing) },
	{ "dir", 0, "DIR", "where the memory files go (/dev/shm)", option_set_string, PLAN(dir) },
	{ "channels", 0, "N", "of send", option_set_count, PLAN(channels) },
	{ "downtime-ms", 0, "MS", "of send", option_set_ms, PLAN(downtime_ms) },
	{ "timeout-s", 0, "S", "of send", option_set_s, PLAN(timeout_ms) },
	{ "timeout-action", 0, "cancel|force", "of send", option_set_string, PLAN(timeout_action) },
	{ "bandwidth", 0, "BYTES", "of send", option_set_bytes, PLAN(bandwidth) },
	{ "zero-pages", 0, "detect|off", "of send", option_set_string, PLAN(zero_pages) },
	{ "tracker", 0, "auto|async|sync", "of send", option_set_string, PLAN(tracker) },
	{ "verify", 0, NULL, "of send: hash at both ends too", option_set_flag, PLAN(verify) },
	{ "no-check", 0, NULL, "compare only; do not check dest against the guest's own record", option_set_flag, ARG(no_check) },
	{ "flip-byte", 0, "OFFSET", "spoil that byte of dest before the compare, which must notice", option_set_bytes,
	  ARG(flip_byte) },
	{ "keep", 0, NULL, "leave the files there", option_set_flag, ARG(keep) },
	{ "json", 'j', NULL, "one JSON object per line", option_set_flag, ARG(json) },
};

static const struct option_table bench_table = {
	.command = "bench",
	.usage = "[URI|auto] [OPTION...]",
	.about = "Starts a synth guest, a recv and a send on this machine, moves the guest while it writes, and compares both\n"
		 "memories byte by byte. Exit code 0: moved and equal; 1: not equal; else that of send.\n",
	.rows = bench_rows,
	.count = sizeof(bench_rows) / sizeof(bench_rows[0]),
};

/* Builds with RDMA will look for a device here. */
static const char *uri_choose(const char *uri)
{
	return !uri || !strcmp(uri, "auto") ? "tcp://127.0.0.1:0" : uri;
}

static enum options_result backing_check(const struct bench_args *args)
{
	struct statfs fs;
	bool wants_hugetlb = !strcmp(args->backing, "hugetlb");
	if (statfs(args->plan.dir, &fs))
		return options_bad(&bench_table, "--dir %s: there is no such directory", args->plan.dir);
	if (wants_hugetlb ? fs.f_type != HUGETLBFS_MAGIC : fs.f_type != TMPFS_MAGIC)
		return options_bad(&bench_table, "--backing %s, but %s is something else; name its mount with --dir", args->backing,
				   args->plan.dir);
	return OPTIONS_PARSED;
}

static enum options_result args_parse(struct bench_args *args, int argc, char **argv)
{
	struct trial_plan *plan = &args->plan;
	int operand;
	char why[MEMORY_WHY_BYTES];
	struct rdmamig_uri uri = { .size = sizeof(uri) };
	enum options_result result = options_parse(&bench_table, argc, argv, args, &operand);
	if (result != OPTIONS_PARSED)
		return result;
	if (argc - operand > 1)
		return options_bad(&bench_table, "more than one URI");
	plan->uri = uri_choose(argv[operand]);
	if (rdmamig_uri_parse(plan->uri, &uri, why, sizeof(why)))
		return options_bad(&bench_table, "%s", why);
	if (plan->blocks < 1 || plan->blocks > MEMORY_FILES_MAX)
		return options_bad(&bench_table, "--blocks is 1 to %d", MEMORY_FILES_MAX);
	if (args->plan.channels > RDMAMIG_CHANNELS_MAX)
		return options_bad(&bench_table, "--channels is 1 to %d", (int)RDMAMIG_CHANNELS_MAX);
	if (args->flip_byte != NO_FLIP && args->flip_byte >= plan->size_bytes)
		return options_bad(&bench_table, "--flip-byte is beyond --size");
	if (!plan->used_bytes)
		plan->used_bytes = plan->size_bytes;
	return backing_check(args);
}

static enum rdmamig_state state_by_name(const char *name)
{
	enum rdmamig_state state = RDMAMIG_STATE_NONE;
	while (name && state < RDMAMIG_STATE_FAILED && strcmp(rdmamig_state_name(state), name))
		state++;
	return state;
}

/* The inverse of progress_add_json(), for what the line and the table show. */
static void stats_read(struct json_object *object, struct rdmamig_stats *out)
{
	*out = (struct rdmamig_stats){
		.size = sizeof(*out),
		.status = state_by_name(json_string(object, "status")),
		.total_time_ms = json_u64(object, "total-time"),
		.setup_time_ms = json_u64(object, "setup-time"),
		.downtime_ms = json_u64(object, "downtime"),
		.expected_downtime_ms = json_u64(object, "expected-downtime"),
		.total_bytes = json_u64(object, "ram.total"),
		.transferred_bytes = json_u64(object, "ram.transferred"),
		.remaining_bytes = json_u64(object, "ram.remaining"),
		.dirty_sync_count = json_u64(object, "ram.dirty-sync-count"),
		.dirty_pages_rate = json_u64(object, "ram.dirty-pages-rate"),
		.page_size = json_u64(object, "ram.page-size"),
		.mbps = json_double(object, "ram.mbps"),
		.data_bytes = json_u64(object, "data-bytes"),
		.data_time_us = json_u64(object, "data-time-us"),
		.channels = (unsigned)json_u64(object, "channels"),
		.cpu_user_s = json_double(object, "cpu.user"),
		.cpu_system_s = json_double(object, "cpu.system"),
		.peer_cpu_user_s = json_double(object, "cpu.peer-user"),
		.peer_cpu_system_s = json_double(object, "cpu.peer-system"),
		.verified = json_find(object, "verified") ? json_object_get_boolean(json_find(object, "verified")) : -1,
	};
}

static void progress_take(void *opaque, const char *line, struct json_object *event)
{
	struct bench *bench = opaque;
	struct rdmamig_stats stats;
	if (bench->args->json) {
		puts(line);
		fflush(stdout);
		return;
	}
	stats_read(event, &stats);
	progress_show(&bench->progress, &stats, clock_now_ns(&clock_real) / NS_PER_MS);
}

static void bad_page_say(const char *line)
{
	fprintf(stderr, "rdmamig bench: %s\n", line);
}

static enum rdmamig_status byte_flip(struct memory *dest, uint64_t offset, char *why)
{
	enum rdmamig_status st = memory_map(dest, why);
	if (!st)
		dest->map[offset] ^= 1;
	return st;
}

/* Both are asked even if one has convicted: together they tell whether source or dest is wrong. */
static enum rdmamig_status memories_judge(struct bench *bench, const struct memory *source, struct memory *dest)
{
	const struct bench_args *args = bench->args;
	char why[MEMORY_WHY_BYTES];
	enum rdmamig_status st = RDMAMIG_OK, check = RDMAMIG_OK;
	if (args->flip_byte != NO_FLIP)
		st = byte_flip(dest, args->flip_byte, bench->why);
	if (st)
		return st;
	st = compare_memories(source, dest, &bench->comparison, bench->why);
	bench->is_compared = true;
	if (!args->no_check)
		check = guestcheck_run(dest, bad_page_say, &bench->check, why);
	if (check && st)
		why_add(bench->why, "; the guest's own record at dest: %s", why);
	else if (check)
		return why_say(bench->why, check, "source and dest are equal, but the guest's own record says: %s", why);
	return st;
}

static enum rdmamig_status success_judge(struct bench *bench)
{
	struct memory source = { 0 }, dest = { 0 };
	if (!trial_guest_is_stopped(&bench->trial)) {
		bench->source_runs = true;
		return why_say(bench->why, RDMAMIG_E_UNKNOWN_OWNER, "dest owns the guest, but the source's was not left stopped");
	}
	enum rdmamig_status st = memory_open(&source, bench->trial.source_paths, bench->why);
	if (!st)
		st = memory_open(&dest, bench->trial.dest_paths, bench->why);
	if (!st)
		st = memories_judge(bench, &source, &dest);
	bench->is_verified = !st;
	memory_close(&source);
	memory_close(&dest);
	return st;
}

/* A failed migration must leave the guest running where it was. */
static enum rdmamig_status failure_judge(struct bench *bench, enum rdmamig_status st)
{
	bench->source_runs = trial_guest_runs(&bench->trial);
	if (bench->source_runs || !bench->trial.has_sent || rdmamig_status_exit_code(st) == 8)
		return st;
	why_add(bench->why, "; and the source guest does not run");
	return RDMAMIG_E_NOT_RUNNING;
}

static void parameters_add(const struct bench_args *args, struct json_object *event)
{
	const struct trial_plan *plan = &args->plan;
	json_add_string(event, "parameters.listen", plan->uri);
	json_add_u64(event, "parameters.size", plan->size_bytes);
	json_add_u64(event, "parameters.used", plan->used_bytes);
	json_add_string(event, "parameters.fill", plan->fill);
	json_add_u64(event, "parameters.dirty-rate", plan->dirty_rate);
	json_add_string(event, "parameters.pattern", plan->pattern);
	json_add_u64(event, "parameters.discard", plan->discard_pct);
	json_add_u64(event, "parameters.seed", plan->seed);
	json_add_u64(event, "parameters.blocks", plan->blocks);
	json_add_string(event, "parameters.backing", args->backing);
	json_add_string(event, "parameters.dir", plan->dir);
	json_add_bool(event, "parameters.check", !args->no_check);
	if (args->flip_byte != NO_FLIP)
		json_add_u64(event, "parameters.flip-byte", args->flip_byte);
}

/* Everything send said, then our own findings over it. */
static void result_print_json(const struct bench *bench, int exit_code)
{
	struct json_object *event = json_event_new("result"), *sent = bench->trial.send_result;
	if (sent) {
		json_object_object_foreach(sent, key, value)
			if (!json_find(event, key))
				json_object_object_add(event, key, json_object_get(value));
		if (json_find(sent, "verified"))
			json_add_bool(event, "hashes-equal", json_object_get_boolean(json_find(sent, "verified")));
	}
	json_add_string(event, "command", "bench");
	json_add_string(event, "status", rdmamig_state_name(exit_code == 0 ? RDMAMIG_STATE_COMPLETED
							     : exit_code == 7 ? RDMAMIG_STATE_CANCELLED : RDMAMIG_STATE_FAILED));
	json_add_u64(event, "exit-code", (uint64_t)exit_code);
	json_add_string(event, "status-code", rdmamig_status_name(bench->status));
	if (bench->status)
		json_add_string(event, "error", bench->why);
	json_add_bool(event, "verified", bench->is_verified);
	json_add_bool(event, "source-runs", bench->source_runs);
	json_add_u64(event, "compared-bytes", bench->comparison.data_bytes);
	json_add_u64(event, "different-pages", bench->comparison.different_pages);
	json_add_u64(event, "checked-pages", bench->check.pages);
	json_add_u64(event, "wrong-pages", bench->check.bad_pages);
	parameters_add(bench->args, event);
	json_event_print(event);
}

static void result_print_table(const struct bench *bench)
{
	struct rdmamig_stats stats;
	char text[NUMBER_TEXT_BYTES];
	if (!bench->is_compared)
		return;
	stats_read(bench->trial.send_result, &stats);
	printf("moved over %s\n", bench->trial.uri);
	progress_print_table(&stats);
	printf("  compared     %s of data: %s", number_format_bytes(bench->comparison.data_bytes, text),
	       bench->comparison.different_pages ? "DIFFERENT" : "every byte equal");
	if (!bench->args->no_check)
		printf("; %llu pages against the guest's own record: %s", (unsigned long long)bench->check.pages,
		       bench->check.bad_pages ? "WRONG" : "right");
	printf("\n");
}

static void failure_print(const struct bench *bench, int exit_code)
{
	const char *where = bench->source_runs ? "; the source guest runs" : "";
	if (bench->trial.has_told && bench->status != RDMAMIG_E_NOT_RUNNING)
		fprintf(stderr, "rdmamig bench: failed as said above%s (exit code %d)\n", where, exit_code);
	else
		fprintf(stderr, "rdmamig bench: %s%s (exit code %d)\n", bench->why, where, exit_code);
}

static int result_say(const struct bench *bench)
{
	int exit_code = rdmamig_status_exit_code(bench->status);
	if (bench->args->json)
		result_print_json(bench, exit_code);
	else
		result_print_table(bench);
	if (bench->status)
		failure_print(bench, exit_code);
	return exit_code;
}

static int bench_run(int argc, char **argv)
{
	struct bench_args args = {
		.plan = { .dir = "/dev/shm", .blocks = 1, .size_bytes = 1ull << 30, .fill = "random", .pattern = "uniform",
			  .dirty_rate = 100ull << 20, .seed = 1 },
		.backing = "tmpfs", .flip_byte = NO_FLIP,
	};
	switch (args_parse(&args, argc, argv)) {
	case OPTIONS_HELPED:
		return 0;
	case OPTIONS_BAD:
		return rdmamig_status_exit_code(RDMAMIG_E_USAGE);
	case OPTIONS_PARSED:
		break;
	}

	struct bench bench = { .args = &args, .trial = { .progress = progress_take, .opaque = &bench } };
	progress_init(&bench.progress, false, args.json);
	enum rdmamig_status st = trial_run(&bench.trial, &args.plan, bench.why);
	progress_clear(&bench.progress);
	bench.status = st ? failure_judge(&bench, st) : success_judge(&bench);
	int exit_code = result_say(&bench);
	trial_end(&bench.trial, args.keep);
	return exit_code;
}

const struct command command_bench = { "bench", bench_run, "move a guest on this machine and compare every byte" };
