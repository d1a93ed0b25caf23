/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * claim.h - which guest a session lays its hands on, and whether another session on this host has it already.
 *
 * A claim is a struct rdmamig_journal_info: the guest's process and its memory files. Two clash if they share either.
 */
#ifndef CLI_CLAIM_H
#define CLI_CLAIM_H

#include <sys/types.h>

#include <rdmamig/journal.h>

#include "cli/ram.h"

/* claim_fill - E_NO_PROCESS: there is no @pid (0: none is meant). E_USAGE: too many files. */
enum rdmamig_status claim_fill(struct rdmamig_journal_info *claim, pid_t pid, const char *peer, const struct ram_set *ram,
			       char *why);

/*
 * claim_recover - undo what dead sessions left at this host's sources, and say so on stderr (R5: before a new one begins).
 *
 * OK                  also when a session of another guest is alive or cannot be undone
 * E_BUSY, E_UNKNOWN_OWNER, E_NOT_RUNNING    a session that clashes with @claim
 * E_IO, ...           the journals cannot be read
 */
enum rdmamig_status claim_recover(const char *command, const char *state_dir, const struct rdmamig_journal_info *claim, char *why);

/*
 * claim_check - does an open journal clash with @claim? Does not wait. A dead dest that promised nothing is closed.
 *
 * E_BUSY            a session is at it
 * E_UNKNOWN_OWNER   a source that committed and was not confirmed
 * E_HELD            a dest that holds, or owns and could not run: writing its memory would destroy a guest
 */
enum rdmamig_status claim_check(const char *state_dir, const struct rdmamig_journal_info *claim, char *why);

#endif
