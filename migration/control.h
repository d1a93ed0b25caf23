/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * control.h - the control connection and its thread: heartbeat, credits, messages to and from the session.
 *
 * The thread does nothing that can block and takes messages off the conn at once. PING and CREDIT end there; ERROR is
 * noted there too, before a breaking connection can hide it. All others wait in the inbox, which credits bound, until
 * the session comes round to them; only then is their receive posted again and the credit given back.
 */
#ifndef MIGRATION_CONTROL_H
#define MIGRATION_CONTROL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <rdmamig/status.h>

#include "base/error.h"
#include "base/stepper.h"
#include "migration/credit.h"
#include "transport/endpoint.h"
#include "wire/message.h"

enum {
	CONTROL_PING_MS = 100,
	CONTROL_DEAD_MS = 2000,
	CONTROL_STALL_MS = 500,
	CONTROL_MESSAGES = 64,		/* ours the peer may leave unread, and the other way round */
};

struct control_letter {
	const uint8_t *bytes;
	size_t size;
	unsigned slot;
};

struct control_draft {
	uint8_t bytes[WIRE_MESSAGE_BYTES];
	size_t size;
	uint16_t type;
};

struct control {
	struct stepper stepper;
	struct conn *conn;
	struct error *error;
	const struct wake *session;

	pthread_mutex_t lock;		/* of all below */
	struct control_draft *drafts;	/* ring of CONTROL_MESSAGES, to be sent in order */
	unsigned draft_head, draft_count;
	struct control_draft failure;	/* ERROR: goes before the others */
	bool has_failure;
	bool peer_failed;		/* its ERROR is here: it waits for nothing but our hanging up */
	struct control_letter inbox[CONTROL_MESSAGES];
	unsigned inbox_head, inbox_count;
	unsigned read[CONTROL_MESSAGES];	/* slots the session has done with */
	unsigned read_count;
	enum rdmamig_status status;	/* not OK: closed or silent; the inbox may still hold messages */
	bool stop;

	/* The thread's own. */
	struct credit credit;
	uint32_t peer_holds;		/* what avail may grow to; under the lock, control_grant() raises both */
	uint32_t sent_sequence;
	uint32_t received_sequence;
	uint64_t heard_ns;
	uint64_t turn_ns;		/* our own last turn: while we did not run, the peer's silence proves nothing */
	uint64_t next_ping_ns;
};

/* control_init - makes the object; nothing runs. @session is woken when a message or the end has come. */
enum rdmamig_status control_init(struct control *control, const struct clock *clock, struct error *error, const struct wake *session);
/* control_start - @conn, opened, is the control's from now on, failure included. */
enum rdmamig_status control_start(struct control *control, struct conn *conn);
void control_fini(struct control *control);	/* stops, joins, frees the conn; a zeroed one is fine */

/* control_send - AGAIN: CONTROL_MESSAGES drafts wait already. Session thread. */
enum rdmamig_status control_send(struct control *control, const struct message *message);
bool control_has_room(struct control *control);	/* for one more control_send(); session thread */
/* control_send_failure - ERROR with @status and @text, before all that waits. Session thread; once. */
void control_send_failure(struct control *control, enum rdmamig_status status, const char *text);
/*
 * control_receive - the next message in order. AGAIN: none. E_PROTOCOL: noted. Once the inbox is empty, the status with
 * which the connection ended. Session thread.
 */
enum rdmamig_status control_receive(struct control *control, struct message *out);
/* control_grant - the peer can hold @credits messages, said its HELLO; until then CREDIT_INITIAL were assumed. */
void control_grant(struct control *control, uint32_t credits);
bool control_is_open(struct control *control);
bool control_peer_has_failed(struct control *control);	/* it said so: nobody needs to hear anything more from us */
/* control_bytes_sent - as conn_bytes_sent(); 0 before control_start(). */
uint64_t control_bytes_sent(struct control *control);

#endif
