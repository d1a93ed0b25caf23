/* SPDX-License-Identifier: BSD-2-Clause */
/* result.h - how `send` and `recv` end: one line for people, one object for programs, one exit code for both. */
#ifndef CLI_RESULT_H
#define CLI_RESULT_H

#include <stdbool.h>

#include <rdmamig/journal.h>
#include <rdmamig/stats.h>
#include <rdmamig/status.h>

#include "cli/json.h"
#include "vmm/driver.h"

enum { RESULT_SESSION_BYTES = 2 * RDMAMIG_SESSION_ID_BYTES + 1 };

struct result {
	const char *command;		/* "send", "recv" */
	enum rdmamig_role role;
	const char *state_dir;		/* NULL for the default */
	enum rdmamig_status status;
	char why[DRIVER_WHY_BYTES];	/* what and where, when it failed */
	char session[RESULT_SESSION_BYTES];	/* "" if it never had a name */
	bool is_closed;			/* its journal: nobody has anything left to decide */
	struct rdmamig_journal_info claim;
	struct rdmamig_stats stats;
};

/* result_take_session - the session's figures, and its first error unless @result has a line already; @journal may be NULL. */
void result_take_session(struct result *result, struct rdmamig_session *session, const struct rdmamig_journal *journal);

/*
 * result_print - tell it and return the exit code.
 *
 * A failure goes to stderr whatever @quiet is. With @json the last line on stdout is the result with @parameters, which
 * becomes json-c's; else, unless @quiet, success is told on stdout, by the source with a table.
 */
int result_print(const struct result *result, bool json, bool quiet, struct json_object *parameters);

#endif
