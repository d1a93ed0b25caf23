/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * resolve.c - `rdmamig resolve`: ends a session that died undecided, as far as the records of both ends allow (R5).
 * Neighbours: rdmamig/journal.h has the records, vmm/driver.h undoes, runs and discards. Main thread.
 */
#include <rdmamig/rdmamig.h>

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "cli/command.h"
#include "cli/json.h"
#include "cli/options.h"
#include "cli/result.h"
#include "cli/why.h"
#include "vmm/driver.h"
#include "vmm/process.h"

enum { RUN_TIMEOUT_MS = 10 * 1000, ASK_AGAIN_MS = 200 };

struct resolve_args {
	const char *session;	/* NULL: list them */
	const char *peer;
	const char *listen;
	bool peer_fenced;
	const char *state_dir;
	uint64_t timeout_ms;
	bool json;
};

#define FIELD(name) offsetof(struct resolve_args, name)

static const struct option_row rows[] = {
	{ "peer", 0, "URI", "ask the other end, where `rdmamig resolve SESSION --listen URI` waits", option_set_string, FIELD(peer) },
	{ "listen", 0, "URI", "wait for the other end's `rdmamig resolve SESSION --peer URI`", option_set_string, FIELD(listen) },
	{ "peer-fenced", 0, NULL, "at a dest: I swear that the source host is off and stays off; run the guest here",
	  option_set_flag, FIELD(peer_fenced) },
	{ "state-dir", 0, "DIR", "where the journals are (" RDMAMIG_STATE_DIR ")", option_set_string, FIELD(state_dir) },
	{ "timeout-s", 0, "S", "how long to wait for the session's lock and for the other end (30)", option_set_s,
	  FIELD(timeout_ms) },
	{ "json", 'j', NULL, "one JSON object per line on stdout", option_set_flag, FIELD(json) },
};

static const struct option_table table = {
	"resolve", "[SESSION] [OPTION...]",
	"Ends a session whose owner is unknown: shows what both ends have on record and does what that allows.\n"
	"Without SESSION it lists the open ones. Exit code 0: resolved. 8: still undecided, the last line says what lacks.\n",
	rows, sizeof(rows) / sizeof(rows[0]),
};

/* One end of the session: its journal if it is here, and its record if anybody knows it. */
struct end {
	enum rdmamig_role role;
	struct rdmamig_journal *journal;	/* NULL: not on this host, or a driver's by now */
	struct rdmamig_journal_info info;
	bool is_here;
	bool is_known;
	bool is_open;
	enum rdmamig_record record;
};

struct resolving {
	const struct resolve_args *args;
	struct end source;
	struct end dest;
	uint8_t id[RDMAMIG_SESSION_ID_BYTES];
	char why[DRIVER_WHY_BYTES];
};

static void say(struct resolving *r, const char *line)
{
	fprintf(r->args->json ? stderr : stdout, "%s\n", line);
}

static void say_driver(void *opaque, const char *line)
{
	say(opaque, line);
}

static enum rdmamig_status end_look(struct end *end)
{
	end->is_open = !rdmamig_journal_is_closed(end->journal);
	enum rdmamig_status status = rdmamig_journal_record(end->journal, &end->record);
	end->is_known = !status;
	return status;
}

/* Not being here is no failure. */
static enum rdmamig_status end_open(struct resolving *r, struct end *end, enum rdmamig_role role)
{
	*end = (struct end){ .role = role, .info = { .size = sizeof(end->info) } };
	enum rdmamig_status status = rdmamig_journal_open(r->args->state_dir, role, r->args->session, &end->journal, r->why,
							  sizeof(r->why));
	if (status == RDMAMIG_E_NO_FILE)
		return RDMAMIG_OK;
	if (status)
		return status;
	rdmamig_journal_info(end->journal, &end->info);
	rdmamig_journal_id(end->journal, r->id);
	end->is_here = true;
	status = end_look(end);
	return status ? why_say(r->why, status, "the journal of session %s cannot be read", r->args->session) : RDMAMIG_OK;
}

static void end_print(struct resolving *r, const struct end *end)
{
	char line[DRIVER_WHY_BYTES];
	const char *role = end->role == RDMAMIG_SOURCE ? "source" : "dest";
	if (!end->is_known)
		snprintf(line, sizeof(line), "%-6s  unknown", role);
	else if (!end->is_here)
		snprintf(line, sizeof(line), "%-6s  %s (told by the peer)", role, rdmamig_record_name(end->record));
	else
		why_say(line, RDMAMIG_OK, "%-6s  %s%s  pid %d  %s", role, rdmamig_record_name(end->record),
			end->is_open ? "" : ", closed", (int)end->info.pid, end->info.ram);
	say(r, line);
}

static enum rdmamig_status end_lock(struct resolving *r, const struct end *end)
{
	enum rdmamig_status status = rdmamig_journal_lock(end->journal, r->args->timeout_ms);
	if (!status)
		return RDMAMIG_OK;
	return why_say(r->why, status, "session %s is held by a living rdmamig, which ends it as soon as it hears from its peer",
		       r->args->session);
}

static enum rdmamig_status end_close(struct resolving *r, struct end *end, const char *line)
{
	enum rdmamig_status status = rdmamig_journal_close(end->journal);
	if (status)
		return why_say(r->why, status, "the journal of session %s cannot be closed", r->args->session);
	end->is_open = false;
	say(r, line);
	return RDMAMIG_OK;
}

static enum rdmamig_status exchange_once(struct resolving *r, const struct end *ours, struct end *theirs)
{
	const struct resolve_args *args = r->args;
	if (args->listen)
		return rdmamig_record_serve(args->listen, r->id, ours->role, ours->record, args->timeout_ms, &theirs->record,
					    r->why, sizeof(r->why));
	return rdmamig_record_ask(args->peer, r->id, ours->role, ours->record, args->timeout_ms, &theirs->record, r->why,
				  sizeof(r->why));
}

/*
 * Tell the other end our record and learn its own. Who asks may be early: the operator is still typing at the other end,
 * or that end acts on our last exchange and does not listen at this moment.
 */
static enum rdmamig_status exchange(struct resolving *r)
{
	struct end *ours = r->source.is_here ? &r->source : &r->dest;
	struct end *theirs = r->source.is_here ? &r->dest : &r->source;
	uint64_t deadline_ns = clock_after_ms(&clock_real, r->args->timeout_ms);

	enum rdmamig_status status;
	while ((status = exchange_once(r, ours, theirs)) == RDMAMIG_E_CONNECT && clock_now_ns(&clock_real) < deadline_ns) {
		struct wait wait = { .deadline_ns = clock_after_ms(&clock_real, ASK_AGAIN_MS) };
		wait_sleep(&wait, &clock_real);
	}
	theirs->is_known |= !status;
	return status;
}

static bool has_peer(const struct resolving *r)
{
	return r->args->peer || r->args->listen;
}

/* Whatever the source had in mind, it had not committed: nothing has to be asked. */
static enum rdmamig_status source_undo(struct resolving *r)
{
	enum rdmamig_status status = driver_recover(r->args->state_dir, r->args->session, r->args->timeout_ms, say_driver, r,
						    r->why);
	enum rdmamig_status looked = end_look(&r->source);
	if (status == RDMAMIG_E_UNKNOWN_OWNER && !looked)
		return RDMAMIG_OK;	/* it committed since we looked */
	return status ? status : looked;
}

static enum rdmamig_status source_run(struct resolving *r)
{
	struct process process;
	if (!r->source.info.pid || !r->source.info.guest_runs)
		return end_close(r, &r->source, "source: dest discarded the guest; it is ours, paused as it was found");

	enum rdmamig_status status = process_open(&process, r->source.info.pid, r->source.info.pid_start, r->why);
	if (status)
		return RDMAMIG_E_NOT_RUNNING;
	status = process_run(&process, RUN_TIMEOUT_MS, r->why);
	process_close(&process);
	return status ? status : end_close(r, &r->source, "source: dest discarded the guest; it runs here again");
}

static enum rdmamig_status source_after_commit(struct resolving *r)
{
	enum rdmamig_status status = end_lock(r, &r->source);
	if (status)
		return status;
	if (!r->dest.is_here && r->dest.is_known && r->dest.record == RDMAMIG_RECORD_READY) {
		say(r, "source: dest is ready and now knows of COMMIT; waiting until it has taken the guest");
		exchange(r);	/* if it fails, dest stays at READY, and so do we */
	}
	if (r->dest.is_known && r->dest.record == RDMAMIG_RECORD_OWNED)
		return end_close(r, &r->source, "source: dest owns the guest; what stands still here may be ended");
	if (r->dest.is_known && r->dest.record == RDMAMIG_RECORD_DISCARDED)
		return source_run(r);
	return why_say(r->why, RDMAMIG_E_UNKNOWN_OWNER, "the source committed and dest has not said that it owns the guest: "
		       "resolve session %s at dest, then here again with --peer or --listen", r->args->session);
}

/* The journal is the driver's from here on. */
static enum rdmamig_status dest_own(struct resolving *r)
{
	struct driver *driver;
	if (driver_open_dest(r->dest.info.pid, &driver, r->why))
		return RDMAMIG_E_HELD;
	driver_begin(driver, r->dest.journal);
	enum rdmamig_status status = driver->ops->run(driver, r->dest.info.guest_runs, r->why);
	end_look(&r->dest);
	if (!status)
		status = end_close(r, &r->dest, r->dest.info.pid && r->dest.info.guest_runs
				   ? "dest: the guest is ours and runs" : "dest: the guest is ours");
	r->dest.journal = NULL;
	driver->ops->free(driver);
	return status;
}

/* Whether the process is still there makes no difference to this: it stays stopped. */
static enum rdmamig_status dest_discard(struct resolving *r)
{
	struct driver *driver;
	enum rdmamig_status status = driver_open_dest(0, &driver, r->why);
	if (status)
		return status;
	driver_begin(driver, r->dest.journal);
	status = driver->ops->discard(driver, r->why);
	end_look(&r->dest);
	if (!status)
		status = end_close(r, &r->dest, "dest: the source keeps the guest; discarded here");
	r->dest.journal = NULL;
	driver->ops->free(driver);
	return status;
}

static enum rdmamig_status dest_after_ready(struct resolving *r)
{
	if (r->args->peer_fenced)
		return dest_own(r);
	if (r->source.is_known && r->source.record == RDMAMIG_RECORD_COMMIT)
		return dest_own(r);
	if (r->source.is_known && r->source.record == RDMAMIG_RECORD_ABORT)
		return dest_discard(r);
	return why_say(r->why, RDMAMIG_E_HELD, "dest holds a complete guest and the source has %s: resolve session %s at the "
		       "source, then here again with --peer or --listen",
		       r->source.is_known ? "decided nothing" : "not been asked", r->args->session);
}

static enum rdmamig_status dest_resolve(struct resolving *r)
{
	enum rdmamig_status status = end_lock(r, &r->dest);
	if (!status)
		status = end_look(&r->dest);	/* whoever held the lock may have ended it */
	if (status || !r->dest.is_open)
		return status;

	switch (r->dest.record) {
	case RDMAMIG_RECORD_READY:
		return dest_after_ready(r);
	case RDMAMIG_RECORD_OWNED:
		return dest_own(r);
	case RDMAMIG_RECORD_DISCARDED:
		return end_close(r, &r->dest, "dest: it was discarded");
	default:
		return end_close(r, &r->dest, "dest: it was never complete and promised nothing; the source has the guest");
	}
}

static bool needs_peer(const struct resolving *r)
{
	if (r->source.is_here && !r->dest.is_here)
		return r->source.is_open && r->source.record == RDMAMIG_RECORD_COMMIT;
	if (r->dest.is_here && !r->source.is_here)
		return r->dest.is_open && r->dest.record == RDMAMIG_RECORD_READY && !r->args->peer_fenced;
	return false;
}

/* A peer that does not answer is a failure only where its record decides. */
static enum rdmamig_status learn(struct resolving *r)
{
	if (!has_peer(r) || (r->source.is_here && r->dest.is_here))
		return RDMAMIG_OK;
	enum rdmamig_status status = exchange(r);
	if (!status || needs_peer(r))
		return status;
	char line[DRIVER_WHY_BYTES + 32];
	snprintf(line, sizeof(line), "the peer was not told: %s", r->why);
	say(r, line);
	return RDMAMIG_OK;
}

static enum rdmamig_status resolve_session(struct resolving *r)
{
	enum rdmamig_status status = end_open(r, &r->source, RDMAMIG_SOURCE);
	if (!status)
		status = end_open(r, &r->dest, RDMAMIG_DEST);
	if (status)
		return status;
	if (!r->source.is_here && !r->dest.is_here)
		return why_say(r->why, RDMAMIG_E_NO_FILE, "no journal of session %s in %s: `rdmamig resolve` lists what is open",
			       r->args->session, r->args->state_dir ? r->args->state_dir : RDMAMIG_STATE_DIR);
	if (r->args->peer_fenced && (r->source.is_here || r->dest.record != RDMAMIG_RECORD_READY))
		return why_say(r->why, RDMAMIG_E_USAGE, "--peer-fenced is for a dest at READY whose source is another host");

	if (r->source.is_here && r->source.is_open && r->source.record != RDMAMIG_RECORD_COMMIT)
		status = source_undo(r);
	if (!status)
		status = learn(r);
	end_print(r, &r->source);
	end_print(r, &r->dest);
	if (status)
		return status;

	bool source_waits = !r->source.is_here && r->source.is_known && r->source.record == RDMAMIG_RECORD_COMMIT &&
			    r->dest.record == RDMAMIG_RECORD_READY;
	if (r->dest.is_here && r->dest.is_open)
		status = dest_resolve(r);
	if (!status && source_waits && exchange(r))
		say(r, "dest: the source has not heard of it yet; resolve it there too");
	if (!status && r->source.is_here && r->source.is_open)
		status = source_after_commit(r);
	return status;
}

static int resolve_print(const struct resolving *r, enum rdmamig_status status)
{
	int exit_code = rdmamig_status_exit_code(status);
	if (status)
		fprintf(stderr, "rdmamig resolve: %s (exit code %d)\n", r->why[0] ? r->why : rdmamig_status_text(status), exit_code);
	if (!r->args->json)
		return exit_code;
	struct json_object *event = json_event_new("result");
	json_add_string(event, "command", "resolve");
	json_add_string(event, "session", r->args->session);
	json_add_string(event, "source", r->source.is_known ? rdmamig_record_name(r->source.record) : NULL);
	json_add_string(event, "dest", r->dest.is_known ? rdmamig_record_name(r->dest.record) : NULL);
	json_add_u64(event, "exit-code", (uint64_t)exit_code);
	json_add_string(event, "status-code", rdmamig_status_name(status));
	if (status)
		json_add_string(event, "error", r->why[0] ? r->why : rdmamig_status_text(status));
	json_event_print(event);
	return exit_code;
}

struct listing {
	const struct resolve_args *args;
	enum rdmamig_role role;
	unsigned count;
};

static enum rdmamig_status list_visit(void *opaque, const char *session)
{
	struct listing *listing = opaque;
	struct resolve_args args = *listing->args;
	args.session = session;
	struct resolving r = { .args = &args };
	struct end end;
	enum rdmamig_status status = end_open(&r, &end, listing->role);
	if (status || !end.journal) {
		if (status)
			fprintf(stderr, "rdmamig resolve: %s\n", r.why);
		return RDMAMIG_OK;
	}
	listing->count++;
	const char *role = end.role == RDMAMIG_SOURCE ? "source" : "dest";
	if (args.json) {
		struct json_object *event = json_event_new("journal");
		json_add_string(event, "session", session);
		json_add_string(event, "role", role);
		json_add_string(event, "record", rdmamig_record_name(end.record));
		json_add_u64(event, "pid", (uint64_t)end.info.pid);
		json_add_string(event, "peer", end.info.peer);
		json_add_string(event, "ram", end.info.ram);
		json_event_print(event);
	} else {
		printf("%s  %-6s  %-9s  pid %d  %s  %s\n", session, role, rdmamig_record_name(end.record), (int)end.info.pid,
		       end.info.peer, end.info.ram);
	}
	rdmamig_journal_free(end.journal);
	return RDMAMIG_OK;
}

static int list_sessions(const struct resolve_args *args)
{
	struct listing listing = { .args = args, .role = RDMAMIG_SOURCE };
	char why[DRIVER_WHY_BYTES];
	enum rdmamig_status status = rdmamig_journal_each(args->state_dir, listing.role, list_visit, &listing, why, sizeof(why));
	listing.role = RDMAMIG_DEST;
	if (!status)
		status = rdmamig_journal_each(args->state_dir, listing.role, list_visit, &listing, why, sizeof(why));
	if (status)
		fprintf(stderr, "rdmamig resolve: %s (exit code %d)\n", why[0] ? why : rdmamig_status_text(status),
			rdmamig_status_exit_code(status));
	else if (!listing.count && !args->json)
		printf("no open session in %s\n", args->state_dir ? args->state_dir : RDMAMIG_STATE_DIR);
	return rdmamig_status_exit_code(status);
}

static bool args_parse(struct resolve_args *args, int argc, char **argv, int *exit_code)
{
	int first_operand;
	char why[DRIVER_WHY_BYTES];
	struct rdmamig_uri uri = { .size = sizeof(uri) };
	enum options_result parsed = options_parse(&table, argc, argv, args, &first_operand);
	if (parsed == OPTIONS_PARSED) {
		const char *text = args->peer ? args->peer : args->listen;
		if (first_operand < argc - 1)
			parsed = options_bad(&table, "it takes one SESSION");
		else if (args->peer && args->listen)
			parsed = options_bad(&table, "--peer at one end, --listen at the other");
		else if (text && args->peer_fenced)
			parsed = options_bad(&table, "a peer that answers is not fenced");
		else if (text && rdmamig_uri_parse(text, &uri, why, sizeof(why)))
			parsed = options_bad(&table, "%s", why);
		else if (first_operand == argc && (text || args->peer_fenced))
			parsed = options_bad(&table, "which SESSION?");
		args->session = argv[first_operand];
	}
	*exit_code = parsed == OPTIONS_HELPED ? 0 : 2;
	return parsed == OPTIONS_PARSED;
}

static int resolve_run(int argc, char **argv)
{
	struct resolve_args args = { .timeout_ms = 30 * 1000 };
	int exit_code;
	if (!args_parse(&args, argc, argv, &exit_code))
		return exit_code;
	if (!args.session)
		return list_sessions(&args);

	struct resolving r = { .args = &args };
	exit_code = resolve_print(&r, resolve_session(&r));
	rdmamig_journal_free(r.source.journal);
	rdmamig_journal_free(r.dest.journal);
	return exit_code;
}

const struct command command_resolve = { "resolve", resolve_run, "end a session whose owner is unknown" };
