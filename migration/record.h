/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * record.h - two ends of a held session tell each other what their journals say, on a conn of its own.
 *
 * One RECORD each way: the caller speaks first, the other answers. Nothing else happens on such a conn.
 */
#ifndef MIGRATION_RECORD_H
#define MIGRATION_RECORD_H

#include <stdbool.h>
#include <stdint.h>

#include <rdmamig/journal.h>
#include <rdmamig/status.h>

#include "transport/endpoint.h"

struct record_talk {
	struct conn *conn;
	const struct clock *clock;
	struct error *error;
	uint8_t session_id[RDMAMIG_SESSION_ID_BYTES];
	enum rdmamig_role role;		/* ours */
	enum rdmamig_record ours;
	enum rdmamig_record theirs;
	bool is_caller;
	bool opened, sent, received, closed;
	uint64_t deadline_ns;
};

enum { RECORD_TALK_MS = 2000 };	/* for one exchange */

/* record_call - connect and ask. The talk's conn is freed by record_hang_up(), whatever came of it. */
enum rdmamig_status record_call(struct record_talk *talk, struct endpoint *endpoint, enum rdmamig_role role,
				const uint8_t id[RDMAMIG_SESSION_ID_BYTES], enum rdmamig_record ours);
/* record_answer - @conn was accepted, is of kind CONN_RECORD and names this session; it is admitted and the talk's now. */
enum rdmamig_status record_answer(struct record_talk *talk, struct conn *conn, enum rdmamig_role role,
				  enum rdmamig_record ours);
/*
 * record_step - OK once talk->theirs is known (and, answering, the caller has our answer); AGAIN; E_PEER_SILENT past the
 * deadline; E_CONNECT, E_PEER, E_DISCONNECTED, E_PROTOCOL.
 */
enum rdmamig_status record_step(struct record_talk *talk);
void record_wait(struct record_talk *talk, struct wait *wait);
void record_hang_up(struct record_talk *talk);	/* a zeroed one is fine */

#endif
