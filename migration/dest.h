/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * dest.h - dest's phases, and what they keep.
 *
 *   listen -> hello -> blocks -> (driver adds them) -> clean and keys -> active (joins, batches, acks, verify, state)
 *   -> load -> READY -> hold -> run -> DONE;   a failure before READY -> discard;   after it -> hold and answer
 */
#ifndef MIGRATION_DEST_H
#define MIGRATION_DEST_H

#include <stdbool.h>
#include <stdint.h>

#include "migration/record.h"
#include "migration/session.h"
#include "migration/verify.h"
#include "multifd/receiver.h"

struct dest_channel {
	struct receiver receiver;
	bool expected;			/* its token was announced */
	bool joined;			/* once: its token is used up */
	uint64_t token;
	uint32_t epoch;
	uint32_t told;			/* acknowledged so far */
};

struct dest {
	struct conn *control;		/* until it is opened */
	struct message_hello hello;	/* the source's */
	unsigned channel_count;
	struct dest_channel *channels;	/* RDMAMIG_CHANNELS_MAX */
	struct conn *waiting[RDMAMIG_CHANNELS_MAX];	/* data conns that came before their announcement */
	uint64_t waiting_until_ns[RDMAMIG_CHANNELS_MAX];
	struct region *regions[WIRE_BLOCKS_TOTAL_MAX];
	unsigned clean_block;		/* made zero so far */
	uint64_t clean_page;
	bool verifying;
	struct verify verify;
	struct message_hash *claimed;	/* the source's hashes */
	unsigned claimed_count;
	bool has_last_state;
	bool guest_runs;		/* it ran at the source when found */
	struct message letter;		/* taken from the inbox, to be handled when there is room */
	bool has_letter;

	bool touched;			/* memory was written: a failure discards it */
	enum rdmamig_record record;	/* ours: NONE, READY, OWNED, DISCARDED */
	enum rdmamig_status failed;
	struct record_talk talk;	/* somebody asks for our record */
	bool source_connected;		/* when the last word was said */
	bool has_held;			/* READY was said: the source may have to ask what became of it */
};

enum rdmamig_status dest_new(struct rdmamig_session *session);
void dest_free(struct rdmamig_session *session);
phase_fn dest_listen;			/* the first phase */
void dest_fail(struct rdmamig_session *session, enum rdmamig_status status);
bool dest_can_cancel(const struct rdmamig_session *session);

/* For the other files of dest. */
phase_fn dest_active;			/* receive.c */
phase_fn dest_load;			/* hold.c */
void dest_stop_channels(struct rdmamig_session *session);	/* receive.c: rule R7, nothing lands any more */

#endif
