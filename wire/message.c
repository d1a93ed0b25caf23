/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * message.c - the table of messages, the tables of their fields, and the checks that span several fields.
 * Neighbours: field.c and describe.c, which walk the tables; multifd and migration send and receive. Any thread.
 */
#include "wire/message.h"

#include <assert.h>
#include <string.h>

#include <rdmamig/journal.h>

#include "wire/field.h"

/* The rows. @M is the message's name, for the refusal; @body the struct without its "message_". */
#define MEMBER(M, body, member) \
	.name = #member, .offset = offsetof(struct message_##body, member), \
	.size = sizeof(((struct message_##body *)0)->member), .refusal = #M ": " #member " out of bounds"
#define NUMBER(M, body, member, low, high, what) \
	{ MEMBER(M, body, member), .kind = FIELD_NUMBER, .min = (low), .max = (high), .doc = what }
#define ANY(M, body, member, what) NUMBER(M, body, member, 0, UINT64_MAX, what)
#define SECRET(M, body, member, what) \
	{ MEMBER(M, body, member), .kind = FIELD_NUMBER, .max = UINT64_MAX, .secret = true, .doc = what }
#define BYTES(M, body, member, what) { MEMBER(M, body, member), .kind = FIELD_BYTES, .doc = what }
#define TEXT(M, body, member, shortest, what) \
	{ MEMBER(M, body, member), .kind = FIELD_TEXT, .min = (shortest), \
	  .max = sizeof(((struct message_##body *)0)->member) - 1, .doc = what }
#define COUNTED(body, first_count, how_many, most) \
	.count_offset = offsetof(struct message_##body, first_count), .counts = (how_many), .max = (most)
#define LIST(M, body, member, first_count, how_many, most, fields, between, what) \
	{ .name = #member, .kind = FIELD_LIST, .offset = offsetof(struct message_##body, member), \
	  .size = sizeof(((struct message_##body *)0)->member[0]), COUNTED(body, first_count, how_many, most), \
	  .entry = fields, .join = (between), .refusal = #M ": too many " #member, .doc = what }
#define END { .name = NULL }

static const struct field no_fields[] = { END };

static const struct field hello_fields[] = {
	NUMBER(HELLO, hello, version_min, 1, UINT16_MAX, "lowest protocol version spoken; in the reply the one chosen"),
	NUMBER(HELLO, hello, version_max, 1, UINT16_MAX, "highest; in the reply the one chosen"),
	ANY(HELLO, hello, features, "feature bits; the reply has those both know"),
	NUMBER(HELLO, hello, page_bytes, 4096, 4096, "the unit of every page number"),
	NUMBER(HELLO, hello, channels, 1, RDMAMIG_CHANNELS_MAX, "data channels"),
	NUMBER(HELLO, hello, credits, 8, 64, "messages the sender can hold"),
	NUMBER(HELLO, hello, batch_pages_max, 1, UINT32_MAX, "pages one BATCH may name"),
	ANY(HELLO, hello, codec, "0: none"),
	NUMBER(HELLO, hello, verify, 0, 1, "1: both ends hash all data while the guest is stopped"),
	NUMBER(HELLO, hello, blocks, 0, WIRE_BLOCKS_TOTAL_MAX, "how many BLOCKS will name"),
	BYTES(HELLO, hello, session_id, "of the source's journal"),
	ANY(HELLO, hello, handover_timeout_ms, "the source's; dest holds at least that long"),
	END
};

static const struct field block_fields[] = {
	TEXT(BLOCKS, block, name, 1, "the same at both ends"),
	NUMBER(BLOCKS, block, length, 1, UINT64_MAX, "bytes"),
	NUMBER(BLOCKS, block, granule, 4096, UINT64_MAX, "page size of the backing, bytes"),
	END
};

static const struct field blocks_fields[] = {
	NUMBER(BLOCKS, blocks, first, 0, WIRE_BLOCKS_TOTAL_MAX, "index of the first entry; other messages name a block by index"),
	NUMBER(BLOCKS, blocks, count, 0, WIRE_BLOCKS_MAX, "entries"),
	LIST(BLOCKS, blocks, blocks, count, 1, WIRE_BLOCKS_MAX, block_fields, ':', "`count` of them"),
	END
};

static const struct field key_fields[] = {
	NUMBER(KEYS, key, block, 0, WIRE_BLOCKS_TOTAL_MAX - 1, "index of the block"),
	ANY(KEYS, key, offset, "where in the block the region begins, bytes"),
	NUMBER(KEYS, key, length, 1, UINT64_MAX, "of the region, bytes"),
	SECRET(KEYS, key, base, "remote address of the region's first byte"),
	SECRET(KEYS, key, key, "remote key of the region"),
	END
};

static const struct field keys_fields[] = {
	NUMBER(KEYS, keys, count, 0, WIRE_KEYS_MAX, "entries"),
	LIST(KEYS, keys, keys, count, 1, WIRE_KEYS_MAX, key_fields, ':', "`count` of them"),
	END
};

static const struct field run_fields[] = {
	ANY(BATCH, run, first_page, "page number in the block"),
	NUMBER(BATCH, run, pages, 1, UINT32_MAX, "how many"),
	END
};

static const struct field batch_fields[] = {
	NUMBER(BATCH, batch, channel, 0, RDMAMIG_CHANNELS_MAX - 1, "whose fence is the other half"),
	ANY(BATCH, batch, epoch, "of that channel; an old one is ignored"),
	NUMBER(BATCH, batch, batch_sequence, 1, UINT32_MAX, "per channel and epoch, from 1; the fence carries the same"),
	NUMBER(BATCH, batch, block, 0, WIRE_BLOCKS_TOTAL_MAX - 1, "index of the block all pages are in"),
	NUMBER(BATCH, batch, normal_count, 0, WIRE_RUNS_MAX, "the first runs: placed on the channel"),
	NUMBER(BATCH, batch, zero_count, 0, WIRE_RUNS_MAX, "the next: zero pages that were never posted"),
	NUMBER(BATCH, batch, forced_count, 0, WIRE_RUNS_MAX, "the last: zero pages that were posted, or have become holes"),
	LIST(BATCH, batch, runs, normal_count, 3, WIRE_RUNS_MAX, run_fields, '+',
	     "as many as the three counts add up to, which is bounded too"),
	END
};

static const struct field ack_entry_fields[] = {
	NUMBER(ACK, ack_entry, channel, 0, RDMAMIG_CHANNELS_MAX - 1, "which"),
	ANY(ACK, ack_entry, epoch, "of that channel"),
	ANY(ACK, ack_entry, applied, "every batch up to this `batch_sequence` is applied"),
	END
};

static const struct field ack_fields[] = {
	NUMBER(ACK, ack, count, 0, WIRE_ACKS_MAX, "entries"),
	LIST(ACK, ack, acks, count, 1, WIRE_ACKS_MAX, ack_entry_fields, ':', "`count` of them"),
	END
};

static const struct field round_fields[] = {
	ANY(ROUND, round, round, "number of the round, from 1"),
	ANY(ROUND, round, dirty_pages, "found dirty at its start"),
	ANY(ROUND, round, normal_pages, "pages sent with their bytes"),
	ANY(ROUND, round, zero_pages, "pages sent as zero"),
	ANY(ROUND, round, cpu_user_us, "CPU time of the sender's process, microseconds"),
	ANY(ROUND, round, cpu_system_us, "the same in the kernel"),
	END
};

static const struct field state_fields[] = {
	NUMBER(STATE, state, last, 0, 1, "1: no STATE follows"),
	NUMBER(STATE, state, guest_runs, 0, 1, "in the last one: the guest ran when the migration found it"),
	NUMBER(STATE, state, count, 0, WIRE_STATE_MAX, "bytes"),
	{ MEMBER(STATE, state, bytes), .kind = FIELD_BYTES, COUNTED(state, count, 1, WIRE_STATE_MAX),
	  .doc = "`count` of them, the next of the driver's device state" },
	END
};

static const struct field text_fields[] = {
	ANY(ABORT/ERROR/CANCEL, text, status, "enum rdmamig_status of the sender"),
	TEXT(ABORT/ERROR/CANCEL, text, text, 0, "why, for the user"),
	END
};

static const struct field done_fields[] = {
	ANY(DONE, done, cpu_user_us, "CPU time of dest's process, microseconds"),
	ANY(DONE, done, cpu_system_us, "the same in the kernel"),
	END
};

static const struct field channel_up_fields[] = {
	NUMBER(CHANNEL_UP, channel_up, channel, 0, RDMAMIG_CHANNELS_MAX - 1, "which"),
	ANY(CHANNEL_UP, channel_up, epoch, "of that channel from now on"),
	SECRET(CHANNEL_UP, channel_up, token, "the connection shows it in its private data; good once"),
	END
};

static const struct field hash_fields[] = {
	NUMBER(VERIFY, hash, block, 0, WIRE_BLOCKS_TOTAL_MAX - 1, "index of the block"),
	BYTES(VERIFY, hash, hash, "of all its data"),
	END
};

static const struct field verify_fields[] = {
	NUMBER(VERIFY, verify, count, 0, WIRE_HASHES_MAX, "entries"),
	LIST(VERIFY, verify, hashes, count, 1, WIRE_HASHES_MAX, hash_fields, ':', "`count` of them"),
	END
};

static const struct field record_fields[] = {
	NUMBER(RECORD, record, role, RDMAMIG_SOURCE, RDMAMIG_DEST, "of the sender: 1 source, 2 dest"),
	NUMBER(RECORD, record, record, RDMAMIG_RECORD_NONE, RDMAMIG_RECORD_DISCARDED,
	       "on its disk: 0 none, 1 COMMIT, 2 ABORT, 3 READY, 4 OWNED, 5 DISCARDED"),
	BYTES(RECORD, record, session_id, "of the held session"),
	END
};

static const char *hello_check(const struct message *message)
{
	if (message->hello.version_min > message->hello.version_max)
		return "HELLO: version_min above version_max";
	return NULL;
}

static const char *blocks_check(const struct message *message)
{
	if (message->blocks.first + message->blocks.count > WIRE_BLOCKS_TOTAL_MAX)
		return "BLOCKS: too many blocks in all";
	return NULL;
}

static const char *keys_check(const struct message *message)
{
	for (unsigned i = 0; i < message->keys.count; i++) {
		const struct message_key *key = &message->keys.keys[i];
		if (key->length > UINT64_MAX - key->offset || key->length > UINT64_MAX - key->base)
			return "KEYS: region past the end of all addresses";
	}
	return NULL;
}

static uint64_t run_end(const struct message_run *run)
{
	return run->first_page + run->pages;
}

static const char *runs_check(const struct message_run *runs, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		if (runs[i].first_page > UINT64_MAX - runs[i].pages)
			return "BATCH: run past the end of all pages";
		if (i && runs[i].first_page < run_end(&runs[i - 1]))
			return "BATCH: runs not ascending or not disjoint";
	}
	return NULL;
}

/* Whether two lists that passed runs_check() have a page in common. */
static bool runs_overlap(const struct message_run *a, unsigned a_count, const struct message_run *b, unsigned b_count)
{
	for (unsigned i = 0, j = 0; i < a_count && j < b_count;) {
		if (run_end(&a[i]) <= b[j].first_page)
			i++;
		else if (run_end(&b[j]) <= a[i].first_page)
			j++;
		else
			return true;
	}
	return false;
}

/* A page both written and zeroed would end as whichever dest happens to do last: no page is in two lists. */
static const char *batch_check(const struct message *message)
{
	const struct message_batch *batch = &message->batch;
	unsigned normals = batch->normal_count, zeros = batch->zero_count, forceds = batch->forced_count;
	const struct message_run *normal = batch->runs, *zero = normal + normals, *forced = zero + zeros;

	const char *why = runs_check(normal, normals);
	if (!why)
		why = runs_check(zero, zeros);
	if (!why)
		why = runs_check(forced, forceds);
	if (why)
		return why;
	if (runs_overlap(normal, normals, zero, zeros) || runs_overlap(normal, normals, forced, forceds) ||
	    runs_overlap(zero, zeros, forced, forceds))
		return "BATCH: a page in two lists";
	return NULL;
}

/* A row without fields is a reserved number: kept for what @purpose says, refused until then. */
static const struct message_row {
	const char *name;
	const struct field *fields;
	const char *(*check)(const struct message *message);	/* what spans several fields; NULL, or why not */
	const char *purpose;
} message_rows[] = {
	[MESSAGE_HELLO] = { "HELLO", hello_fields, hello_check,
		"Source -> dest: what it speaks and wants; dest -> source: what it is going to be." },
	[MESSAGE_BLOCKS] = { "BLOCKS", blocks_fields, blocks_check,
		"Source -> dest: the guest's memory; as many messages as it takes, in order of index." },
	[MESSAGE_WANT] = { .name = "WANT", .purpose = "registration on demand" },
	[MESSAGE_KEYS] = { "KEYS", keys_fields, keys_check,
		"Dest -> source: where the source may write; as many messages as it takes." },
	[MESSAGE_BATCH] = { "BATCH", batch_fields, batch_check,
		"Source -> dest: describes a batch, whose other half is the fence on its channel." },
	[MESSAGE_ACK] = { "ACK", ack_fields, NULL,
		"Dest -> source: what is applied; cumulative, so a later one replaces an earlier one." },
	[MESSAGE_ROUND] = { "ROUND", round_fields, NULL,
		"Both ways, at each end of a round: statistics." },
	[MESSAGE_STATE] = { "STATE", state_fields, NULL,
		"Source -> dest: device state, a stream of bytes." },
	[MESSAGE_READY] = { "READY", no_fields, NULL,
		"Dest -> source: all is loaded, READY is journaled; dest holds, paused." },
	[MESSAGE_COMMIT] = { "COMMIT", no_fields, NULL,
		"Source -> dest: COMMIT is journaled; dest owns the guest." },
	[MESSAGE_ABORT] = { "ABORT", text_fields, NULL,
		"Source -> dest: ABORT is journaled; dest discards the guest." },
	[MESSAGE_DONE] = { "DONE", done_fields, NULL,
		"Dest -> source: OWNED is journaled and the guest is in its run state." },
	[MESSAGE_CHANNEL_DOWN] = { .name = "CHANNEL_DOWN", .purpose = "lost channels" },
	[MESSAGE_CHANNEL_UP] = { "CHANNEL_UP", channel_up_fields, NULL,
		"Source -> dest: a connection with this token will be the channel; dest -> source, the same again: it is expected." },
	[MESSAGE_RECEIVED_MAP] = { .name = "RECEIVED_MAP", .purpose = "recovery" },
	[MESSAGE_RESUME] = { .name = "RESUME", .purpose = "recovery" },
	[MESSAGE_PULL] = { .name = "PULL", .purpose = "post-copy" },
	[MESSAGE_ERROR] = { "ERROR", text_fields, NULL,
		"Both ways, at any time: the sender has failed and goes; has a credit of its own." },
	[MESSAGE_CANCEL] = { "CANCEL", text_fields, NULL,
		"Both ways, at any time before COMMIT: the sender's user wants it to end." },
	[MESSAGE_PING] = { "PING", no_fields, NULL,
		"Both ways: a sign of life." },
	[MESSAGE_CREDIT] = { "CREDIT", no_fields, NULL,
		"Both ways: carries credit when nothing else does." },
	[MESSAGE_VERIFY] = { "VERIFY", verify_fields, NULL,
		"Source -> dest, if HELLO agreed on it: the hashes dest must find, too." },
	[MESSAGE_RECORD] = { "RECORD", record_fields, NULL,
		"Both ways, on a record connection only: what the sender's journal says." },
};

enum { MESSAGE_ROWS = sizeof(message_rows) / sizeof(message_rows[0]) };

static const struct message_row *row_find(uint16_t type)
{
	return type < MESSAGE_ROWS && message_rows[type].name ? &message_rows[type] : NULL;
}

/* The row of a message that can be sent. */
static const struct message_row *row_find_sendable(uint16_t type)
{
	const struct message_row *row = row_find(type);
	return row && row->fields ? row : NULL;
}

/* All bodies share one union, so any member's address is the body's. */
static const void *message_body(const struct message *message)
{
	return &message->hello;
}

static void header_write(struct cursor *cursor, const struct message_header *header)
{
	cursor_put_u16(cursor, header->type);
	cursor_put_u16(cursor, header->flags);
	cursor_put_u32(cursor, header->length);
	cursor_put_u32(cursor, header->sequence);
	cursor_put_u32(cursor, header->credit);
}

static struct message_header header_read(struct cursor *cursor)
{
	struct message_header header;
	header.type = cursor_get_u16(cursor);
	header.flags = cursor_get_u16(cursor);
	header.length = cursor_get_u32(cursor);
	header.sequence = cursor_get_u32(cursor);
	header.credit = cursor_get_u32(cursor);
	return header;
}

size_t message_encode(const struct message *message, void *out, size_t out_bytes)
{
	const struct message_row *row = row_find_sendable(message->header.type);
	assert(row);

	struct cursor cursor = cursor_to_write(out, out_bytes);
	cursor_pad_zero(&cursor, WIRE_HEADER_BYTES);
	fields_write(&cursor, row->fields, message_body(message));
	assert(!row->check || !row->check(message));
	assert(cursor_is_ok(&cursor) && cursor.used <= WIRE_MESSAGE_BYTES);

	struct message_header header = message->header;
	header.flags = 0;
	header.length = (uint32_t)(cursor.used - WIRE_HEADER_BYTES);
	struct cursor front = cursor_to_write(out, WIRE_HEADER_BYTES);
	header_write(&front, &header);
	return cursor.used;
}

enum rdmamig_status message_peek(const void *bytes, size_t size, struct message_header *header, const char **why)
{
	struct cursor cursor = cursor_to_read(bytes, size);
	struct message_header h = header_read(&cursor);
	if (!cursor_is_ok(&cursor))
		*why = "message too short";
	else if (!row_find_sendable(h.type))
		*why = "unknown message";
	else if (h.flags != 0)
		*why = "unknown flags";
	else if (h.length != size - WIRE_HEADER_BYTES)
		*why = "length differs from what came";
	else {
		*header = h;
		return RDMAMIG_OK;
	}
	return RDMAMIG_E_PROTOCOL;
}

static const char *body_read(struct cursor *cursor, struct message *message)
{
	const struct message_row *row = row_find_sendable(message->header.type);
	const char *why = fields_read(cursor, row->fields, &message->hello);
	if (why)
		return why;
	if (cursor_left(cursor))
		return "message too long";
	return row->check ? row->check(message) : NULL;
}

enum rdmamig_status message_decode(const void *bytes, size_t size, struct message *message, const char **why)
{
	memset(message, 0, sizeof(*message));
	enum rdmamig_status status = message_peek(bytes, size, &message->header, why);
	if (status)
		return status;

	struct cursor cursor = cursor_to_read(bytes, size);
	cursor_skip_read(&cursor, WIRE_HEADER_BYTES);
	const char *refusal = body_read(&cursor, message);
	if (refusal) {
		memset(message, 0, sizeof(*message));	/* nobody trusts the half that was read */
		*why = refusal;
		return RDMAMIG_E_PROTOCOL;
	}
	return RDMAMIG_OK;
}

void message_stamp(void *bytes, uint32_t sequence, uint32_t credit)
{
	struct cursor cursor = cursor_to_read(bytes, WIRE_HEADER_BYTES);
	struct message_header header = header_read(&cursor);
	header.sequence = sequence;
	header.credit = credit;
	cursor = cursor_to_write(bytes, WIRE_HEADER_BYTES);
	header_write(&cursor, &header);
}

const char *message_name(uint16_t type)
{
	const struct message_row *row = row_find(type);
	return row ? row->name : "?";
}

void message_print(const struct message *message, char *out, size_t out_bytes)
{
	const struct message_row *row = row_find_sendable(message->header.type);
	struct line line = { .out = out, .bytes = out_bytes };
	line_add(&line, "%s seq=%u credit=%u", message_name(message->header.type), message->header.sequence,
		 message->header.credit);
	if (row)
		fields_print(&line, row->fields, message_body(message));
}

void message_document(FILE *out)
{
	for (uint16_t type = 1; type < MESSAGE_ROWS; type++) {
		const struct message_row *row = row_find_sendable(type);
		if (!row)
			continue;
		fprintf(out, "### %u %s\n\n%s", type, row->name, row->purpose);
		size_t most = fields_bytes_max(row->fields);
		if (most)
			fprintf(out, " Body: at most %zu bytes.\n", most);
		else
			fprintf(out, " No body.\n");
		fields_document(out, row->fields);
		fprintf(out, "\n");
	}
	fprintf(out, "### Reserved numbers\n\n"
		"Refused like unknown ones until a version gives them a body.\n\n| number | name | kept for |\n|---|---|---|\n");
	for (uint16_t type = 1; type < MESSAGE_ROWS; type++) {
		const struct message_row *row = row_find(type);
		if (row && !row->fields)
			fprintf(out, "| %u | %s | %s |\n", type, row->name, row->purpose);
	}
}
