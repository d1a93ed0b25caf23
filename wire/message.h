/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * message.h - every control message as a struct; docs/protocol.md is generated from the same field tables.
 *
 * Numbers are given by hand and never used again; 0 is invalid. Numbers without a struct are kept for what comes:
 * registration on demand (3), lost channels (13), recovery (15, 16), post-copy (17).
 */
#ifndef WIRE_MESSAGE_H
#define WIRE_MESSAGE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <rdmamig/session.h>
#include <rdmamig/status.h>

enum { WIRE_VERSION_MIN = 1, WIRE_VERSION_MAX = 1 };

enum message_type {
	MESSAGE_HELLO = 1,
	MESSAGE_BLOCKS = 2,
	MESSAGE_WANT = 3,		/* reserved */
	MESSAGE_KEYS = 4,
	MESSAGE_BATCH = 5,
	MESSAGE_ACK = 6,
	MESSAGE_ROUND = 7,
	MESSAGE_STATE = 8,
	MESSAGE_READY = 9,
	MESSAGE_COMMIT = 10,
	MESSAGE_ABORT = 11,
	MESSAGE_DONE = 12,
	MESSAGE_CHANNEL_DOWN = 13,	/* reserved */
	MESSAGE_CHANNEL_UP = 14,
	MESSAGE_RECEIVED_MAP = 15,	/* reserved */
	MESSAGE_RESUME = 16,		/* reserved */
	MESSAGE_PULL = 17,		/* reserved */
	MESSAGE_ERROR = 18,
	MESSAGE_CANCEL = 19,
	MESSAGE_PING = 20,
	MESSAGE_CREDIT = 21,
	MESSAGE_VERIFY = 22,
	MESSAGE_RECORD = 23,
};

/* Bounds of every list and text; a message with more does not decode. */
enum {
	WIRE_HEADER_BYTES = 16,
	WIRE_MESSAGE_BYTES = 8192,	/* header included */
	WIRE_BLOCKS_MAX = 16,		/* in one BLOCKS */
	WIRE_BLOCKS_TOTAL_MAX = 256,
	WIRE_KEYS_MAX = 64,
	WIRE_RUNS_MAX = 256,		/* of all three lists of one BATCH together */
	WIRE_ACKS_MAX = RDMAMIG_CHANNELS_MAX,
	WIRE_STATE_MAX = 4096,
	WIRE_TEXT_MAX = 480,
	WIRE_HASH_BYTES = 32,
	WIRE_HASHES_MAX = 64,
};

/* {u16 type, u16 flags, u32 length, u32 sequence, u32 credit}, little-endian; flags must be 0, length counts the body. */
struct message_header {
	uint16_t type;
	uint16_t flags;
	uint32_t length;
	uint32_t sequence;	/* of this direction's messages, from 0 */
	uint32_t credit;	/* messages of the other direction whose buffer is free again, since the last header */
};

struct message_hello {
	uint16_t version_min;		/* dest's reply: both are the version chosen */
	uint16_t version_max;
	uint64_t features;		/* bits of enum wire_feature; the reply has those both know */
	uint32_t page_bytes;		/* 4096 */
	uint16_t channels;
	uint16_t credits;		/* messages this end can hold: 8..64 */
	uint32_t batch_pages_max;	/* pages one BATCH may name */
	uint8_t codec;			/* 0 none */
	uint8_t verify;			/* 0 or 1 */
	uint16_t blocks;		/* how many BLOCKS will name */
	uint8_t session_id[RDMAMIG_SESSION_ID_BYTES];
	uint64_t handover_timeout_ms;	/* the source's; dest holds at least that long */
};

enum wire_feature {
	WIRE_FEATURE_NONE = 0,
};

struct message_block {
	char name[RDMAMIG_BLOCK_NAME_BYTES];
	uint64_t length;		/* bytes */
	uint64_t granule;		/* page size of the backing */
};

struct message_blocks {
	uint16_t first;			/* index of blocks[0] */
	uint16_t count;
	struct message_block blocks[WIRE_BLOCKS_MAX];
};

struct message_key {
	uint16_t block;
	uint64_t offset;		/* in the block, bytes */
	uint64_t length;
	uint64_t base;			/* where WRITEs go: base + (offset in block - this offset) */
	uint32_t key;
};

struct message_keys {
	uint16_t count;
	struct message_key keys[WIRE_KEYS_MAX];
};

struct message_run {
	uint64_t first_page;
	uint32_t pages;			/* > 0 */
};

/* The description half of a batch; the other half is the fence with the same sequence on the channel. */
struct message_batch {
	uint16_t channel;
	uint32_t epoch;
	uint32_t batch_sequence;	/* per channel and epoch, from 1 */
	uint16_t block;
	uint16_t normal_count;		/* runs[0..) placed by WRITE */
	uint16_t zero_count;		/* then these: zero, never posted */
	uint16_t forced_count;		/* then these: zero, posted before or become a hole */
	struct message_run runs[WIRE_RUNS_MAX];	/* normal, zero, forced; each list ascending and disjoint */
};

struct message_ack_entry {
	uint16_t channel;
	uint32_t epoch;
	uint32_t applied;		/* all batches of the channel up to this sequence are applied */
};

struct message_ack {
	uint16_t count;
	struct message_ack_entry acks[WIRE_ACKS_MAX];
};

/* Statistics, both ways, at each end of a round. */
struct message_round {
	uint32_t round;
	uint64_t dirty_pages;
	uint64_t normal_pages;
	uint64_t zero_pages;
	uint64_t cpu_user_us;
	uint64_t cpu_system_us;
};

struct message_state {
	uint8_t last;			/* 1: nothing follows */
	uint8_t guest_runs;		/* with last: it ran when the migration found it */
	uint16_t count;
	uint8_t bytes[WIRE_STATE_MAX];
};

struct message_text {			/* ABORT, ERROR, CANCEL: why */
	uint32_t status;		/* enum rdmamig_status of the sender */
	char text[WIRE_TEXT_MAX];
};

struct message_done {
	uint64_t cpu_user_us;
	uint64_t cpu_system_us;
};

struct message_channel_up {		/* source: "a connection with this token is channel's"; dest: "it is joined" */
	uint16_t channel;
	uint32_t epoch;
	uint64_t token;
};

struct message_hash {
	uint16_t block;
	uint8_t hash[WIRE_HASH_BYTES];
};

struct message_verify {
	uint16_t count;
	struct message_hash hashes[WIRE_HASHES_MAX];
};

struct message_record {
	uint8_t role;			/* enum rdmamig_role of the sender */
	uint8_t record;			/* enum rdmamig_record it has on disk */
	uint8_t session_id[RDMAMIG_SESSION_ID_BYTES];
};

struct message {
	struct message_header header;
	union {
		struct message_hello hello;
		struct message_blocks blocks;
		struct message_keys keys;
		struct message_batch batch;
		struct message_ack ack;
		struct message_round round;
		struct message_state state;
		struct message_text text;
		struct message_done done;
		struct message_channel_up channel_up;
		struct message_verify verify;
		struct message_record record;
	};
};

/*
 * message_encode - @message with header.type set; length and flags are filled in, sequence and credit taken from it.
 * Returns the bytes used, at most WIRE_MESSAGE_BYTES. What we send is ours: a struct out of bounds is an assert.
 */
size_t message_encode(const struct message *message, void *out, size_t out_bytes);

/*
 * message_decode - check and unpack what a peer sent.
 *
 * OK            *message is filled in; every count, length, text and reserved byte is within its bounds
 * E_PROTOCOL    it is not; *why is a constant text ("BATCH: too many runs")
 * What a number means (is there such a block, such a page) is for the receiver of the message to check.
 */
enum rdmamig_status message_decode(const void *bytes, size_t size, struct message *message, const char **why);

/* message_peek - the header alone, for the poller. E_PROTOCOL as above. */
enum rdmamig_status message_peek(const void *bytes, size_t size, struct message_header *header, const char **why);

/* message_stamp - put sequence and credit into an encoded message: they are known only when it is sent. */
void message_stamp(void *bytes, uint32_t sequence, uint32_t credit);

/* message_name - "BATCH"; "?" for an unknown number. */
const char *message_name(uint16_t type);

/* message_print - one line of text, keys left out, for debugging and tests. */
void message_print(const struct message *message, char *out, size_t out_bytes);

/* message_document - the tables of docs/protocol.md, as Markdown. */
void message_document(FILE *out);

#endif
