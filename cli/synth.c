/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * synth.c - `rdmamig synth`: a guest without a VM, which rewrites its memory at a rate and can tell whether it is intact.
 * Neighbours: guest.c is the guest, guestcheck.c the judge; send and recv move it, bench starts it. One thread.
 */
#include <inttypes.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <rdmamig/status.h>

#include "base/clock.h"
#include "cli/command.h"
#include "cli/guest.h"
#include "cli/guestcheck.h"
#include "cli/json.h"
#include "cli/number.h"
#include "cli/options.h"
#include "cli/why.h"

#define NO_LIMIT UINT64_MAX

enum {
	SLICE_MS = 2,
	LATE_MS = 50,			/* longer than that it was stopped: what it missed is not made up for */
	SLICE_PAGES_MAX = 4096,		/* so that a rate beyond this CPU still hears signals */
};

struct synth_args {
	const char *files;
	struct guest_plan plan;
	const char *resume;
	bool now;
	bool check_only;
	uint64_t ticks;			/* NO_LIMIT: for ever */
	uint64_t duration_ms;
	bool json;
};

struct word {
	const char *text;		/* a ':' at its end: a percentage follows */
	uint32_t value;
};

/* "mixed:30" with "mixed:" among @words, which end in a NULL. */
static bool word_parse(const char *text, const struct word *words, uint32_t *value, uint32_t *pct)
{
	for (; words->text; words++) {
		size_t length = strlen(words->text);
		bool has_pct = words->text[length - 1] == ':';
		uint64_t number = 0;
		if (has_pct ? strncmp(text, words->text, length) != 0 || !number_parse_count(text + length, 0, 100, &number)
			    : strcmp(text, words->text) != 0)
			continue;
		*value = words->value;
		*pct = (uint32_t)number;
		return true;
	}
	return false;
}

static bool set_fill(const char *value, void *field)
{
	static const struct word words[] = {
		{ "random", CONTENT_RANDOM }, { "zero", CONTENT_ZERO }, { "mixed:", CONTENT_MIXED }, { "text", CONTENT_TEXT },
		{ NULL, 0 },
	};
	struct guest_plan *plan = field;
	return word_parse(value, words, &plan->fill, &plan->random_pct);
}

static bool set_pattern(const char *value, void *field)
{
	static const struct word words[] = {
		{ "uniform", GUEST_UNIFORM }, { "hot:", GUEST_HOT }, { "sequential", GUEST_SEQUENTIAL }, { NULL, 0 },
	};
	struct guest_plan *plan = field;
	return word_parse(value, words, &plan->pattern, &plan->hot_pct);
}

static bool set_discard(const char *value, void *field)
{
	uint64_t pct;
	if (!number_parse_count(value, 0, 100, &pct))
		return false;
	((struct guest_plan *)field)->discard_pct = (uint32_t)pct;
	return true;
}

static bool set_holes(const char *value, void *field)
{
	(void)value;
	((struct guest_plan *)field)->holes = 1;
	return true;
}

#define PLAN(field) offsetof(struct synth_args, plan.field)
#define ARG(field) offsetof(struct synth_args, field)

static const struct option_row synth_rows[] = {
	{ "size", 's', "BYTES", "size of the memory (suffixes K M G T)", option_set_bytes, PLAN(size_bytes) },
	{ "used", 'u', "BYTES", "how much of it is ever used (default: all)", option_set_bytes, PLAN(used_bytes) },
	{ "fill", 0, "random|zero|mixed:PCT|text", "first contents; PCT of the pages random (default random)", set_fill,
	  ARG(plan) },
	{ "holes", 0, NULL, "leave zero pages of the first fill unwritten", set_holes, ARG(plan) },
	{ "dirty-rate", 'r', "BYTES", "bytes rewritten a second (default 0)", option_set_bytes, PLAN(dirty_rate) },
	{ "pattern", 0, "uniform|hot:PCT|sequential", "which pages; 9 of 10 rewrites go to PCT of them (default uniform)",
	  set_pattern, ARG(plan) },
	{ "discard", 0, "PCT", "share of the rewrites that punch the page out instead (default 0)", set_discard, ARG(plan) },
	{ "seed", 0, "N", "another N, other contents (default 1)", option_set_count, PLAN(seed) },
	{ "ticks", 0, "N", "end after N rewrites (default: never)", option_set_count, ARG(ticks) },
	{ "seconds", 0, "N", "end after that time; suffixes ms s m h (default: never)", option_set_s, ARG(duration_ms) },
	{ "resume", 0, "FILE[,FILE...]", "be the guest found there: wait, stopped, for SIGCONT, check all, go on",
	  option_set_string, ARG(resume) },
	{ "now", 0, NULL, "with --resume: do not wait", option_set_flag, ARG(now) },
	{ "check-only", 0, NULL, "with --resume: end after the check", option_set_flag, ARG(check_only) },
	{ "json", 'j', NULL, "one JSON object per line", option_set_flag, ARG(json) },
};

static const struct option_table synth_table = {
	.command = "synth",
	.usage = "FILE[,FILE...] --size BYTES [OPTION...]\n       rdmamig synth --resume FILE[,FILE...] [OPTION...]",
	.about = "A guest without a VM: fills memory files and rewrites their pages until SIGTERM or Ctrl-C. The files must be on\n"
		 "tmpfs or hugetlbfs and new. All it knows is in that memory, so --resume on a copy can check every byte.\n",
	.rows = synth_rows,
	.count = sizeof(synth_rows) / sizeof(synth_rows[0]),
};

static enum options_result args_parse(struct synth_args *args, int argc, char **argv)
{
	int operand;
	enum options_result result = options_parse(&synth_table, argc, argv, args, &operand);
	if (result != OPTIONS_PARSED)
		return result;
	if (args->resume)
		return operand == argc && !args->plan.size_bytes ? OPTIONS_PARSED
		       : options_bad(&synth_table, "--resume finds everything in the memory; no FILE or --size goes with it");
	if (operand + 1 != argc)
		return options_bad(&synth_table, "want one FILE[,FILE...]");
	args->files = argv[operand];
	if (!args->plan.size_bytes)
		return options_bad(&synth_table, "--size is missing");
	if (!args->plan.used_bytes)
		args->plan.used_bytes = args->plan.size_bytes;
	if (args->plan.used_bytes > args->plan.size_bytes)
		return options_bad(&synth_table, "--used is more than --size");
	if (args->now || args->check_only)
		return options_bad(&synth_table, "--now and --check-only go with --resume");
	if (args->ticks != NO_LIMIT && !args->plan.dirty_rate)
		return options_bad(&synth_table, "--ticks needs a --dirty-rate");
	return OPTIONS_PARSED;
}

static void bad_page_say(const char *line)
{
	fprintf(stderr, "rdmamig synth: %s\n", line);
}

static enum rdmamig_status guest_make(struct guest *guest, struct memory *memory, struct synth_args *args, char *why)
{
	struct guest_plan *plan = &args->plan;
	enum rdmamig_status st = memory_create(memory, args->files, plan->size_bytes, why);
	if (st)
		return st;
	plan->used_bytes = (plan->used_bytes + memory->granule - 1) / memory->granule * memory->granule;
	if (!guest_plan_is_possible(plan))
		return why_say(why, RDMAMIG_E_USAGE, "the used part must be at least %d bytes and at most 16T", 3 * MEMORY_PAGE_BYTES);
	if (plan->discard_pct && memory_is_hugetlb(memory))
		return why_say(why, RDMAMIG_E_USAGE, "--discard punches out 4 KiB pages, and hugetlbfs has none");
	st = memory_reserve(memory, plan->used_bytes, why);
	if (!st)
		st = memory_map(memory, why);
	if (!st)
		guest_fill(guest, memory, plan);
	return st;
}

/* recv makes the file, so nothing is opened before the SIGCONT that says the guest is ours. */
static enum rdmamig_status guest_find(struct guest *guest, struct memory *memory, const struct synth_args *args,
				      struct guestcheck *check, char *why)
{
	if (!args->now)
		raise(SIGSTOP);
	enum rdmamig_status st = memory_open(memory, args->resume, why);
	if (!st)
		st = guestcheck_run(memory, bad_page_say, check, why);
	if (!st)
		st = memory_map(memory, why);
	if (!st)
		st = guest_wake(guest, memory, why);
	if (!st && args->ticks != NO_LIMIT && !guest->header->plan.dirty_rate)
		st = why_say(why, RDMAMIG_E_USAGE, "this guest rewrites nothing: --ticks would never end");
	return st;
}

static void ready_say(const struct synth_args *args, const struct guest *guest, const struct guestcheck *check)
{
	const struct guest_plan *plan = &guest->header->plan;
	if (args->json) {
		struct json_object *event = json_event_new("ready");
		json_add_u64(event, "pid", (uint64_t)getpid());
		json_add_u64(event, "size", plan->size_bytes);
		json_add_u64(event, "used", plan->used_bytes);
		json_add_u64(event, "tick", guest->header->tick);
		json_add_u64(event, "checked-pages", check->pages);
		json_event_print(event);
		return;
	}
	char size[NUMBER_TEXT_BYTES], used[NUMBER_TEXT_BYTES];
	printf("ready: pid %d, %s of %s used", (int)getpid(), number_format_bytes(plan->used_bytes, used),
	       number_format_bytes(plan->size_bytes, size));
	if (args->resume)
		printf(", %" PRIu64 " pages checked: all right at tick %" PRIu64, check->pages, guest->header->tick);
	printf("\n");
	fflush(stdout);
}

static void signals_block(sigset_t *out)
{
	sigemptyset(out);
	sigaddset(out, SIGINT);
	sigaddset(out, SIGTERM);
	sigprocmask(SIG_BLOCK, out, NULL);
}

static bool is_told_to_end(const sigset_t *signals)
{
	return sigtimedwait(signals, NULL, &(struct timespec){ 0 }) > 0;
}

static void sleep_until(uint64_t deadline_ns)
{
	struct timespec at = { .tv_sec = (time_t)(deadline_ns / NS_PER_S), .tv_nsec = (long)(deadline_ns % NS_PER_S) };
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
}

/* One slice's rewrites; *credit_bytes carries the fraction of a page over to the next one. */
static enum rdmamig_status slice_run(struct guest *guest, double *credit_bytes, uint64_t end_tick, char *why)
{
	*credit_bytes += (double)guest->header->plan.dirty_rate * SLICE_MS / 1000;
	for (unsigned pages = 0; *credit_bytes >= MEMORY_PAGE_BYTES && guest->header->tick < end_tick; pages++) {
		if (pages == SLICE_PAGES_MAX) {
			*credit_bytes = 0;
			break;
		}
		enum rdmamig_status st = guest_rewrite(guest, why);
		if (st)
			return st;
		*credit_bytes -= MEMORY_PAGE_BYTES;
	}
	guest_beat(guest);
	return RDMAMIG_OK;
}

static enum rdmamig_status guest_live(struct guest *guest, const struct synth_args *args, const sigset_t *signals, char *why)
{
	uint64_t slice_ns = clock_now_ns(&clock_real);
	uint64_t end_ns = args->duration_ms == NO_LIMIT ? CLOCK_NEVER : slice_ns + args->duration_ms * NS_PER_MS;
	uint64_t end_tick = args->ticks == NO_LIMIT ? UINT64_MAX : guest->header->tick + args->ticks;
	double credit_bytes = 0;
	while (guest->header->tick < end_tick && slice_ns < end_ns && !is_told_to_end(signals)) {
		enum rdmamig_status st = slice_run(guest, &credit_bytes, end_tick, why);
		if (st)
			return st;
		slice_ns += SLICE_MS * NS_PER_MS;
		sleep_until(slice_ns);
		uint64_t now_ns = clock_now_ns(&clock_real);
		if (now_ns > slice_ns + LATE_MS * NS_PER_MS)
			slice_ns = now_ns;
	}
	return RDMAMIG_OK;
}

static void result_say(const struct synth_args *args, const struct guest *guest, uint64_t ticks, uint64_t ms)
{
	double rate = ms ? (double)ticks * MEMORY_PAGE_BYTES * 1000 / (double)ms : 0;
	if (args->json) {
		struct json_object *event = json_event_new("result");
		json_add_string(event, "status", "completed");
		json_add_u64(event, "exit-code", 0);
		json_add_u64(event, "tick", guest->header->tick);
		json_add_u64(event, "rewrites", ticks);
		json_add_u64(event, "total-time", ms);
		json_add_u64(event, "dirty-rate", (uint64_t)rate);
		json_add_u64(event, "dirty-rate-asked", guest->header->plan.dirty_rate);
		json_event_print(event);
		return;
	}
	if (args->check_only)
		return;		/* ready said it all */
	char time[NUMBER_TEXT_BYTES], rate_text[NUMBER_TEXT_BYTES];
	printf("%" PRIu64 " rewrites in %s: %s/s; tick %" PRIu64 "\n", ticks, number_format_duration(ms, time),
	       number_format_bytes((uint64_t)rate, rate_text), guest->header->tick);
}

static int fail_say(const struct synth_args *args, enum rdmamig_status st, const char *why)
{
	int exit_code = rdmamig_status_exit_code(st);
	fprintf(stderr, "rdmamig synth: %s\n", why);
	if (args->json) {
		struct json_object *event = json_event_new("result");
		json_add_string(event, "status", "failed");
		json_add_u64(event, "exit-code", (uint64_t)exit_code);
		json_add_string(event, "error", why);
		json_event_print(event);
	}
	return exit_code;
}

static int synth_run(int argc, char **argv)
{
	struct synth_args args = {
		.plan = { .seed = 1, .fill = CONTENT_RANDOM, .pattern = GUEST_UNIFORM }, .ticks = NO_LIMIT, .duration_ms = NO_LIMIT,
	};
	switch (args_parse(&args, argc, argv)) {
	case OPTIONS_HELPED:
		return 0;
	case OPTIONS_BAD:
		return rdmamig_status_exit_code(RDMAMIG_E_USAGE);
	case OPTIONS_PARSED:
		break;
	}

	struct memory memory = { 0 };
	struct guest guest;
	struct guestcheck check = { 0 };
	char why[MEMORY_WHY_BYTES];
	enum rdmamig_status st = args.resume ? guest_find(&guest, &memory, &args, &check, why)
					     : guest_make(&guest, &memory, &args, why);
	if (!st) {
		sigset_t signals;
		signals_block(&signals);
		ready_say(&args, &guest, &check);
		uint64_t start_ns = clock_now_ns(&clock_real), start_tick = guest.header->tick;
		if (!args.check_only)
			st = guest_live(&guest, &args, &signals, why);
		if (!st)
			result_say(&args, &guest, guest.header->tick - start_tick,
				   (clock_now_ns(&clock_real) - start_ns) / NS_PER_MS);
	}
	else if (!args.resume)
		memory_unlink(&memory);
	memory_close(&memory);
	return st ? fail_say(&args, st, why) : 0;
}

const struct command command_synth = { "synth", synth_run, "a guest without a VM: memory that rewrites and checks itself" };
