/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * claim.c - compares a new session's guest with the open journals of this host.
 * Neighbours: send.c and recv.c, which ask before they begin; vmm/driver.h, which undoes. Main thread, before any other.
 */
#include "cli/claim.h"

#include <stdio.h>

#include "cli/why.h"
#include "vmm/driver.h"
#include "vmm/process.h"

enum { RECOVER_LOCK_MS = 5000 };	/* a guardian at work needs less; a live session holds it for long */

struct look {
	const char *command;
	const char *state_dir;
	const struct rdmamig_journal_info *claim;
	enum rdmamig_role role;
	char *why;
};

enum rdmamig_status claim_fill(struct rdmamig_journal_info *claim, pid_t pid, const char *peer, const struct ram_set *ram,
			       char *why)
{
	*claim = (struct rdmamig_journal_info){ .size = sizeof(*claim), .pid = pid };
	struct process process;
	enum rdmamig_status status = pid ? process_open(&process, pid, 0, why) : RDMAMIG_OK;
	if (status)
		return status;
	if (pid) {
		claim->pid_start = process.start;
		process_close(&process);
	}
	snprintf(claim->driver, sizeof(claim->driver), "%s", pid ? "process" : "none");
	snprintf(claim->peer, sizeof(claim->peer), "%s", peer);
	return ram_describe(ram, claim->ram, sizeof(claim->ram), why);
}

static bool claims_clash(const struct rdmamig_journal_info *a, const struct rdmamig_journal_info *b)
{
	return (a->pid && a->pid == b->pid && a->pid_start == b->pid_start) || ram_have_path_in_common(a->ram, b->ram);
}

static void say_line(void *opaque, const char *line)
{
	fprintf(stderr, "rdmamig %s: %s\n", (const char *)opaque, line);
}

static enum rdmamig_status busy(const struct look *look, const char *session)
{
	return why_say(look->why, RDMAMIG_E_BUSY, "session %s is migrating this guest: wait for it, or cancel it", session);
}

static enum rdmamig_status undecided(const struct look *look, const char *session, const struct rdmamig_journal_info *theirs,
				     enum rdmamig_status status)
{
	char line[RDMAMIG_COMMAND_BYTES];
	rdmamig_resolve_command(look->state_dir, look->role, session, theirs->peer, line);
	return why_say(look->why, status, "session %s %s: %s", session, look->role == RDMAMIG_SOURCE
		       ? "handed this guest over and dest has not confirmed it" : "has a guest in this memory", line);
}

/* OK and NULL: it has gone since it was listed. */
static enum rdmamig_status look_open(const struct look *look, const char *session, struct rdmamig_journal **journal,
				     struct rdmamig_journal_info *theirs)
{
	*journal = NULL;
	enum rdmamig_status status = rdmamig_journal_open(look->state_dir, look->role, session, journal, look->why,
							  DRIVER_WHY_BYTES);
	if (!status)
		rdmamig_journal_info(*journal, theirs);
	return status == RDMAMIG_E_NO_FILE ? RDMAMIG_OK : status;
}

static bool session_is_closed(const struct look *look, const char *session)
{
	struct rdmamig_journal *journal;
	struct rdmamig_journal_info theirs = { .size = sizeof(theirs) };
	if (look_open(look, session, &journal, &theirs) || !journal)
		return false;
	bool is_closed = rdmamig_journal_is_closed(journal);
	rdmamig_journal_free(journal);
	return is_closed;
}

static enum rdmamig_status recover_visit(void *opaque, const char *session)
{
	const struct look *look = opaque;
	struct rdmamig_journal *journal;
	struct rdmamig_journal_info theirs = { .size = sizeof(theirs) };
	enum rdmamig_status status = look_open(look, session, &journal, &theirs);
	if (status || !journal)
		return status;

	bool is_ours = claims_clash(look->claim, &theirs);
	bool is_alive = rdmamig_journal_lock(journal, 0) != RDMAMIG_OK;
	rdmamig_journal_free(journal);		/* driver_recover() wants the lock itself */
	if (is_alive && !is_ours)
		return RDMAMIG_OK;

	status = driver_recover(look->state_dir, session, RECOVER_LOCK_MS, say_line, (void *)look->command, look->why);
	if (status == RDMAMIG_E_NOT_RUNNING && session_is_closed(look, session))
		return RDMAMIG_OK;	/* that guest has ended; whoever has its memory now is another */
	if (!is_ours)
		return RDMAMIG_OK;
	return status == RDMAMIG_E_UNKNOWN_OWNER ? undecided(look, session, &theirs, status)
	     : status == RDMAMIG_E_BUSY ? busy(look, session) : status;
}

static enum rdmamig_status look_each(struct look *look, enum rdmamig_role role,
				     enum rdmamig_status (*visit)(void *opaque, const char *session))
{
	look->role = role;
	return rdmamig_journal_each(look->state_dir, role, visit, look, look->why, DRIVER_WHY_BYTES);
}

enum rdmamig_status claim_recover(const char *command, const char *state_dir, const struct rdmamig_journal_info *claim, char *why)
{
	struct look look = { .command = command, .state_dir = state_dir, .claim = claim, .why = why };
	return look_each(&look, RDMAMIG_SOURCE, recover_visit);
}

static enum rdmamig_status journal_clash(const struct look *look, struct rdmamig_journal *journal, const char *session,
					 const struct rdmamig_journal_info *theirs)
{
	enum rdmamig_record record;
	enum rdmamig_status status = rdmamig_journal_record(journal, &record);
	if (status)
		return why_say(look->why, status, "the journal of session %s cannot be read", session);

	switch (record) {
	case RDMAMIG_RECORD_COMMIT:
		return undecided(look, session, theirs, RDMAMIG_E_UNKNOWN_OWNER);
	case RDMAMIG_RECORD_READY:
	case RDMAMIG_RECORD_OWNED:
		return undecided(look, session, theirs, RDMAMIG_E_HELD);
	default:
		break;
	}
	if (look->role == RDMAMIG_SOURCE || rdmamig_journal_lock(journal, 0) != RDMAMIG_OK)
		return busy(look, session);
	return rdmamig_journal_close(journal);
}

static enum rdmamig_status check_visit(void *opaque, const char *session)
{
	const struct look *look = opaque;
	struct rdmamig_journal *journal;
	struct rdmamig_journal_info theirs = { .size = sizeof(theirs) };
	enum rdmamig_status status = look_open(look, session, &journal, &theirs);
	if (!status && journal && claims_clash(look->claim, &theirs))
		status = journal_clash(look, journal, session, &theirs);
	rdmamig_journal_free(journal);
	return status;
}

enum rdmamig_status claim_check(const char *state_dir, const struct rdmamig_journal_info *claim, char *why)
{
	struct look look = { .state_dir = state_dir, .claim = claim, .why = why };
	enum rdmamig_status status = look_each(&look, RDMAMIG_SOURCE, check_visit);
	return status ? status : look_each(&look, RDMAMIG_DEST, check_visit);
}
