/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * session.h - what both ends of a session have: options, blocks, mailbox, control connection, statistics.
 *
 * The session thread steps one machine: a phase is a function that does what it can and says AGAIN, OK (it has set the
 * next phase) or how the session fails. source.h and dest.h are the two sets of phases.
 */
#ifndef MIGRATION_SESSION_H
#define MIGRATION_SESSION_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include <rdmamig/session.h>
#include <rdmamig/uri.h>

#include "base/error.h"
#include "base/stepper.h"
#include "migration/control.h"
#include "migration/mailbox.h"
#include "multifd/codec.h"
#include "ram/block.h"
#include "ram/tracker.h"
#include "transport/endpoint.h"
#include "wire/message.h"

enum {
	SESSION_CONNECT_MS = 10000,	/* to connect, handshake step by step, join a channel */
	SESSION_PROGRESS_MS = 30000,	/* an answering peer that gets nowhere is as good as dead */
	SESSION_GRACE_MS = 200,		/* a broken connection: for the reason to arrive on another one */
	SESSION_LINGER_MS = 1000,	/* the last message: for the peer to take it and hang up */
	SESSION_BEAT_MS = 200,		/* longest wait of the session thread */
};

typedef enum rdmamig_status phase_fn(struct rdmamig_session *session, struct wait *wait);	/* a function's type */

/* What --tracker and the API chose; opened by the session thread when it arms. */
struct tracker_choice {
	enum { TRACKER_NONE, TRACKER_PROCESS, TRACKER_SELF, TRACKER_UFFD, TRACKER_MANUAL, TRACKER_OPS } kind;
	pid_t pid;
	int uffd;		/* the session's until the tracker has it; -1 */
	enum rdmamig_uffd_mode mode;
	struct rdmamig_tracker_ops ops;
	void *opaque;
};

struct rdmamig_session {
	enum rdmamig_role role;
	struct rdmamig_options options;	/* defaults filled in; strings below */
	char uri_text[384];
	struct rdmamig_uri uri;
	const struct endpoint_ops *transport;
	const struct codec *codec;
	const struct clock *clock;
	struct error error;
	struct stepper stepper;
	struct mailbox mailbox;
	_Atomic bool cancel;
	_Atomic bool abandoned;		/* nobody answers any more: just end */
	_Atomic uint64_t beat;
	bool started;

	pthread_mutex_t blocks_lock;	/* block_count, peer_blocks, marks: the program's threads come here too */
	struct block *blocks;		/* WIRE_BLOCKS_TOTAL_MAX of them */
	unsigned block_count;
	struct message_block *peer_blocks;	/* dest: what the source named */
	unsigned peer_block_count;
	struct bitmap *marks;		/* source, one a block: mark_dirty() since the last sync */
	struct tracker_choice tracker_choice;

	pthread_mutex_t state_lock;	/* device state on its way out */
	uint8_t state[64 * 1024];
	size_t state_bytes;

	struct endpoint *endpoint;
	struct control control;
	phase_fn *phase;
	uint64_t phase_deadline_ns;	/* of the current phase, CLOCK_NEVER if it has none of its own */
	char local_uri[384];
	struct source *source;		/* one of the two */
	struct dest *dest;

	pthread_mutex_t stats_lock;
	struct rdmamig_stats stats;
	uint64_t start_ns;
};

/* session_enter - go to @phase; @timeout_ms 0: it has no deadline of its own. */
void session_enter(struct rdmamig_session *session, phase_fn *phase, uint64_t timeout_ms);
bool session_is_late(const struct rdmamig_session *session);
bool session_is_cancelled(struct rdmamig_session *session);

/* session_set_state - for statistics and ROUND lines. */
void session_set_state(struct rdmamig_session *session, enum rdmamig_state state);
enum rdmamig_state session_state(struct rdmamig_session *session);

/* session_ask - EVENT @type with @status; the answer has driver_timeout_ms. */
void session_ask(struct rdmamig_session *session, enum rdmamig_event_type type, enum rdmamig_status status);
/* session_answer - OK: the driver said yes; AGAIN; else its failure, noted. */
enum rdmamig_status session_answer(struct rdmamig_session *session, struct answer *out);
void session_tell(struct rdmamig_session *session, enum rdmamig_event_type type);

/* session_receive - the next control message; the end of the connection is noted as what it is. */
enum rdmamig_status session_receive(struct rdmamig_session *session, struct message *out);
/* session_expect - the next message, which must be a @type. AGAIN until the phase's deadline; then @what is missed. */
enum rdmamig_status session_expect(struct rdmamig_session *session, enum message_type type, const char *what,
				   struct message *out);
/* session_unexpected - note that a message came which this phase does not know; E_PROTOCOL, or the peer's own failure. */
enum rdmamig_status session_unexpected(struct rdmamig_session *session, const struct message *message);

/* session_awaits_reason - a connection broke; the peer's reason may still be on its way on another: true for a while. */
bool session_awaits_reason(struct rdmamig_session *session);
/* session_tell_peer - our last word, if it can still hear it: @status and the first error's text. */
void session_tell_peer(struct rdmamig_session *session, enum rdmamig_status status);

/* session_finish - the last event, the final state; the thread ends after this step. */
void session_finish(struct rdmamig_session *session, enum rdmamig_status status);
phase_fn session_ended;

/* session_step - one turn of the session thread; false once it has ended. */
bool session_step(void *self, struct wait *wait);

/* session_hash_ms - how long --verify may take at one end: all blocks at 100 MiB/s. */
uint64_t session_hash_ms(const struct rdmamig_session *session);

/* session_cpu - CPU time of this process so far, in us. */
void session_cpu(uint64_t *user_us, uint64_t *system_us);

#endif
