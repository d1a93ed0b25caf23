/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * result.c - says who owns the guest now, where, and what to do.
 * Neighbours: send.c and recv.c fill it, progress.c has the figures, claim.c the command that resolves. Main thread.
 */
#include "cli/result.h"

#include <stdio.h>
#include <string.h>

#include "cli/claim.h"
#include "cli/progress.h"
#include "cli/why.h"

void result_take_session(struct result *result, struct rdmamig_session *session, const struct rdmamig_journal *journal)
{
	char why[DRIVER_WHY_BYTES];
	result->is_closed = journal && rdmamig_journal_is_closed(journal);
	result->stats.size = sizeof(result->stats);
	rdmamig_session_stats(session, &result->stats);
	rdmamig_session_error(session, why, sizeof(why));
	if (why[0] && !result->why[0])
		why_say(result->why, result->status, "%s", why);
}

/* Before the session's own figures can tell: it failed before it began. */
static enum rdmamig_state final_state(const struct result *result)
{
	if (!result->status)
		return RDMAMIG_STATE_COMPLETED;
	return rdmamig_status_exit_code(result->status) == 7 ? RDMAMIG_STATE_CANCELLED : RDMAMIG_STATE_FAILED;
}

static const char *owner_text(const struct result *result)
{
	if (result->role == RDMAMIG_DEST)
		return "nothing was taken over";
	return result->claim.pid ? "the guest stays here, as it was" : "the memory stays here, as it was";
}

static void failure_print(const struct result *result, int exit_code)
{
	char line[RDMAMIG_COMMAND_BYTES];
	const char *why = result->why[0] ? result->why : rdmamig_status_text(result->status);
	if (exit_code < 8) {
		fprintf(stderr, "rdmamig %s: %s; %s (exit code %d)\n", result->command, why, owner_text(result), exit_code);
		return;
	}
	if (!result->session[0]) {	/* another session's: the line names it */
		fprintf(stderr, "rdmamig %s: %s (exit code 8)\n", result->command, why);
		return;
	}
	if (result->is_closed) {
		fprintf(stderr, "rdmamig %s: %s; the session is closed, there is nothing to resolve (exit code 8)\n", result->command, why);
		return;
	}
	rdmamig_resolve_command(result->state_dir, result->role, result->session, result->claim.peer, line);
	fprintf(stderr, "rdmamig %s: %s; an operator must decide: %s (exit code 8)\n", result->command, why, line);
}

static void success_print(const struct result *result)
{
	if (result->role == RDMAMIG_DEST) {
		printf("the guest is ours now (session %s)\n", result->session);
		return;		/* the source has the figures */
	}
	printf("%s has the guest now (session %s)\n", result->claim.peer, result->session);
	progress_print_table(&result->stats);
}

static void json_print(const struct result *result, int exit_code, struct json_object *parameters)
{
	struct json_object *event = json_event_new("result");
	progress_add_json(event, &result->stats);
	json_add_string(event, "command", result->command);
	json_add_string(event, "status", rdmamig_state_name(final_state(result)));
	json_add_u64(event, "exit-code", (uint64_t)exit_code);
	json_add_string(event, "status-code", rdmamig_status_name(result->status));
	if (result->status)
		json_add_string(event, "error", result->why[0] ? result->why : rdmamig_status_text(result->status));
	json_add_string(event, "session", result->session[0] ? result->session : NULL);
	json_object_object_add(event, "parameters", parameters);
	json_event_print(event);
}

int result_print(const struct result *result, bool json, bool quiet, struct json_object *parameters)
{
	int exit_code = rdmamig_status_exit_code(result->status);
	if (result->status)
		failure_print(result, exit_code);
	else if (!json && !quiet)
		success_print(result);
	if (json)
		json_print(result, exit_code, parameters);
	else
		json_object_put(parameters);
	return exit_code;
}
