/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_message.c - the control protocol: golden bytes, bounds, truncation, corruption, garbage, and its documentation.
 * Neighbour: test_cursor.c. One thread; run from the top of the tree, where docs/ is.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "wire/message.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
#define SESSION_ID { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 }
#define SESSION_ID_HEX "000102030405060708090a0b0c0d0e0f"

/*
 * Written by hand from docs/protocol.md, never by the encoder: a change here is a change of the protocol.
 * Header: type, flags, length, sequence, credit; then the body, field by field.
 */
static const struct golden {
	struct message message;
	const char *hex;
	const char *print;
} goldens[] = {
	{
		{ .header = { .type = MESSAGE_HELLO, .sequence = 7, .credit = 2 },
		  .hello = { .version_min = 1, .version_max = 3, .features = 0x8000000000000001ull, .page_bytes = 4096,
			     .channels = 4, .credits = 32, .batch_pages_max = 2048, .codec = 0, .verify = 1, .blocks = 256,
			     .session_id = SESSION_ID, .handover_timeout_ms = 30000 } },
		"0100 0000 34000000 07000000 02000000"
		"0100 0300 0100000000000080 00100000 0400 2000 00080000 00 01 0001 " SESSION_ID_HEX " 3075000000000000",
		"HELLO seq=7 credit=2 version_min=1 version_max=3 features=9223372036854775809 page_bytes=4096 channels=4 "
		"credits=32 batch_pages_max=2048 codec=0 verify=1 blocks=256 session_id=" SESSION_ID_HEX
		" handover_timeout_ms=30000",
	}, {
		{ .header = { .type = MESSAGE_BLOCKS },
		  .blocks = { .first = 16, .count = 2, .blocks = { { "ram0", 0x40000000, 0x200000 }, { "b", 4096, 4096 } } } },
		"0200 0000 2d000000 00000000 00000000"
		"1000 0200"
		"0400 72616d30 0000004000000000 0000200000000000"
		"0100 62 0010000000000000 0010000000000000",
		"BLOCKS seq=0 credit=0 first=16 count=2 blocks=[\"ram0\":1073741824:2097152,\"b\":4096:4096]",
	}, {
		{ .header = { .type = MESSAGE_KEYS, .sequence = 0x01020304, .credit = 0x0a0b0c0d },
		  .keys = { .count = 1, .keys = { { 2, 0x400000, 0x800000, 0x7f1234567000ull, 0xdeadbeef } } } },
		"0400 0000 20000000 04030201 0d0c0b0a"
		"0100"
		"0200 0000400000000000 0000800000000000 00705634127f0000 efbeadde",
		"KEYS seq=16909060 credit=168496141 count=1 keys=[2:4194304:8388608]",
	}, {
		{ .header = { .type = MESSAGE_BATCH, .sequence = 1 },
		  .batch = { .channel = 1, .epoch = 2, .batch_sequence = 0x01020304, .block = 5,
			     .normal_count = 2, .zero_count = 1, .forced_count = 1,
			     .runs = { { 0, 16 }, { 32, 1 }, { 16, 16 }, { 0x123456789aull, 0xffffffff } } } },
		"0500 0000 42000000 01000000 00000000"
		"0100 02000000 04030201 0500 0200 0100 0100"
		"0000000000000000 10000000"
		"2000000000000000 01000000"
		"1000000000000000 10000000"
		"9a78563412000000 ffffffff",
		"BATCH seq=1 credit=0 channel=1 epoch=2 batch_sequence=16909060 block=5 normal_count=2 zero_count=1 "
		"forced_count=1 runs=[0+16,32+1,16+16,78187493530+4294967295]",
	}, {
		{ .header = { .type = MESSAGE_ACK },
		  .ack = { .count = 2, .acks = { { 0, 1, 7 }, { 15, 2, 0xfffffffe } } } },
		"0600 0000 16000000 00000000 00000000"
		"0200"
		"0000 01000000 07000000"
		"0f00 02000000 feffffff",
		"ACK seq=0 credit=0 count=2 acks=[0:1:7,15:2:4294967294]",
	}, {
		{ .header = { .type = MESSAGE_ROUND },
		  .round = { 3, 1000, 0x0102030405060708ull, 5, 1000000, 1 } },
		"0700 0000 2c000000 00000000 00000000"
		"03000000 e803000000000000 0807060504030201 0500000000000000 40420f0000000000 0100000000000000",
		"ROUND seq=0 credit=0 round=3 dirty_pages=1000 normal_pages=72623859790382856 zero_pages=5 "
		"cpu_user_us=1000000 cpu_system_us=1",
	}, {
		{ .header = { .type = MESSAGE_STATE },
		  .state = { .last = 1, .guest_runs = 0, .count = 10, .bytes = { 0, 0xff, 0x51, 3, 4, 5, 6, 7, 8, 9 } } },
		"0800 0000 0e000000 00000000 00000000"
		"01 00 0a00 00ff5103040506070809",
		"STATE seq=0 credit=0 last=1 guest_runs=0 count=10 bytes=00ff510304050607...",
	}, {
		{ .header = { .type = MESSAGE_READY } },
		"0900 0000 00000000 00000000 00000000",
		"READY seq=0 credit=0",
	}, {
		{ .header = { .type = MESSAGE_COMMIT } },
		"0a00 0000 00000000 00000000 00000000",
		"COMMIT seq=0 credit=0",
	}, {
		{ .header = { .type = MESSAGE_ABORT }, .text = { 700, "no" } },
		"0b00 0000 08000000 00000000 00000000"
		"bc020000 0200 6e6f",
		"ABORT seq=0 credit=0 status=700 text=\"no\"",
	}, {
		{ .header = { .type = MESSAGE_DONE }, .done = { 2, 3 } },
		"0c00 0000 10000000 00000000 00000000"
		"0200000000000000 0300000000000000",
		"DONE seq=0 credit=0 cpu_user_us=2 cpu_system_us=3",
	}, {
		{ .header = { .type = MESSAGE_CHANNEL_UP }, .channel_up = { 3, 1, 0x1122334455667788ull } },
		"0e00 0000 0e000000 00000000 00000000"
		"0300 01000000 8877665544332211",
		"CHANNEL_UP seq=0 credit=0 channel=3 epoch=1",
	}, {
		{ .header = { .type = MESSAGE_ERROR }, .text = { 405, "" } },
		"1200 0000 06000000 00000000 00000000"
		"95010000 0000",
		"ERROR seq=0 credit=0 status=405 text=\"\"",
	}, {
		{ .header = { .type = MESSAGE_CANCEL }, .text = { 0xffffffff, "Ctrl-C" } },
		"1300 0000 0c000000 00000000 00000000"
		"ffffffff 0600 4374726c2d43",
		"CANCEL seq=0 credit=0 status=4294967295 text=\"Ctrl-C\"",
	}, {
		{ .header = { .type = MESSAGE_PING, .sequence = 0xffffffff } },
		"1400 0000 00000000 ffffffff 00000000",
		"PING seq=4294967295 credit=0",
	}, {
		{ .header = { .type = MESSAGE_CREDIT, .credit = 2 } },
		"1500 0000 00000000 00000000 02000000",
		"CREDIT seq=0 credit=2",
	}, {
		{ .header = { .type = MESSAGE_VERIFY },
		  .verify = { .count = 1, .hashes = { { 255, { 0xaa, [31] = 0xbb } } } } },
		"1600 0000 24000000 00000000 00000000"
		"0100"
		"ff00 aa000000000000000000000000000000 000000000000000000000000000000bb",
		"VERIFY seq=0 credit=0 count=1 "
		"hashes=[255:aa000000000000000000000000000000000000000000000000000000000000bb]",
	}, {
		{ .header = { .type = MESSAGE_RECORD }, .record = { 2, 3, SESSION_ID } },
		"1700 0000 12000000 00000000 00000000"
		"02 03 " SESSION_ID_HEX,
		"RECORD seq=0 credit=0 role=2 record=3 session_id=" SESSION_ID_HEX,
	},
};

static const uint16_t reserved[] = {
	MESSAGE_WANT, MESSAGE_CHANNEL_DOWN, MESSAGE_RECEIVED_MAP, MESSAGE_RESUME, MESSAGE_PULL,
};

static size_t hex_parse(const char *hex, uint8_t *out)
{
	size_t used = 0;
	for (const char *at = hex; *at;) {
		unsigned byte;
		if (*at == ' ') {
			at++;
			continue;
		}
		assert_int_equal(sscanf(at, "%2x", &byte), 1);
		out[used++] = (uint8_t)byte;
		at += 2;
	}
	return used;
}

static const struct golden *golden_find(uint16_t type)
{
	for (size_t i = 0; i < COUNT_OF(goldens); i++)
		if (goldens[i].message.header.type == type)
			return &goldens[i];
	fail();
	return NULL;
}

static void length_patch(uint8_t *bytes, size_t size)
{
	uint32_t length = (uint32_t)(size - WIRE_HEADER_BYTES);
	for (int i = 0; i < 4; i++)
		bytes[4 + i] = (uint8_t)(length >> 8 * i);
}

/* The bytes end where their heap block does: ASan sees a read of one more. */
struct edge {
	uint8_t *block;
};

static const uint8_t *edge_put(const struct edge *edge, const uint8_t *bytes, size_t size)
{
	uint8_t *at = edge->block + WIRE_MESSAGE_BYTES - size;
	memmove(at, bytes, size);
	return at;
}

static struct edge edge_new(void)
{
	struct edge edge = { malloc(WIRE_MESSAGE_BYTES) };
	assert_non_null(edge.block);
	return edge;
}

/* Whatever came: it is refused and nothing of it is left, or it is what these bytes and no others mean. */
static bool decodes_or_is_refused(const uint8_t *bytes, size_t size)
{
	static const struct message nothing;
	static struct message message;
	const char *why = NULL;
	memset(&message, 0x5a, sizeof(message));
	enum rdmamig_status status = message_decode(bytes, size, &message, &why);
	if (status) {
		assert_int_equal(status, RDMAMIG_E_PROTOCOL);
		assert_non_null(why);
		assert_memory_equal(&message, &nothing, sizeof(message));
		return false;
	}
	assert_null(why);
	uint8_t again[WIRE_MESSAGE_BYTES];
	assert_int_equal(message_encode(&message, again, sizeof(again)), size);
	assert_memory_equal(again, bytes, size);
	return true;
}

static uint64_t random_next(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

static uint64_t random_below(uint64_t *seed, uint64_t bound)
{
	return random_next(seed) % bound;
}

static void random_bytes(uint64_t *seed, void *out, size_t size)
{
	for (size_t i = 0; i < size; i++)
		((uint8_t *)out)[i] = (uint8_t)(random_next(seed) >> 24);
}

static void random_text(uint64_t *seed, char *out, size_t length)
{
	for (size_t i = 0; i < length; i++)
		out[i] = (char)(0x20 + random_below(seed, 0xe0));
	out[length] = '\0';
}

/* @largest: as many entries and as long texts as there may be; else something up to that. */
static uint16_t some(uint64_t *seed, bool largest, unsigned max)
{
	return (uint16_t)(largest ? max : random_below(seed, max + 1));
}

static void random_batch(uint64_t *seed, bool largest, struct message_batch *batch)
{
	unsigned total = some(seed, largest, WIRE_RUNS_MAX);
	batch->channel = some(seed, false, RDMAMIG_CHANNELS_MAX - 1);
	batch->epoch = (uint32_t)random_next(seed);
	batch->batch_sequence = (uint32_t)random_next(seed) | 1;
	batch->block = some(seed, false, WIRE_BLOCKS_TOTAL_MAX - 1);
	batch->normal_count = some(seed, false, total);
	batch->zero_count = some(seed, false, total - batch->normal_count);
	batch->forced_count = (uint16_t)(total - batch->normal_count - batch->zero_count);
	uint64_t page = random_below(seed, 1ull << 40);
	for (unsigned i = 0; i < total; i++) {
		batch->runs[i].first_page = page;
		batch->runs[i].pages = (uint32_t)(1 + random_below(seed, 100));
		page += batch->runs[i].pages + random_below(seed, 3);
	}
}

static void random_hello(uint64_t *seed, struct message_hello *hello)
{
	hello->version_min = (uint16_t)(1 + random_below(seed, 9));
	hello->version_max = (uint16_t)(hello->version_min + random_below(seed, 9));
	hello->features = random_next(seed);
	hello->page_bytes = 4096;
	hello->channels = (uint16_t)(1 + random_below(seed, RDMAMIG_CHANNELS_MAX));
	hello->credits = (uint16_t)(8 + random_below(seed, 57));
	hello->batch_pages_max = (uint32_t)random_next(seed) | 1;
	hello->codec = (uint8_t)random_next(seed);
	hello->verify = (uint8_t)random_below(seed, 2);
	hello->blocks = (uint16_t)random_below(seed, WIRE_BLOCKS_TOTAL_MAX + 1);
	random_bytes(seed, hello->session_id, sizeof(hello->session_id));
	hello->handover_timeout_ms = random_next(seed);
}

static void random_blocks(uint64_t *seed, bool largest, struct message_blocks *blocks)
{
	blocks->count = some(seed, largest, WIRE_BLOCKS_MAX);
	blocks->first = (uint16_t)random_below(seed, WIRE_BLOCKS_TOTAL_MAX - blocks->count + 1u);
	for (unsigned i = 0; i < blocks->count; i++) {
		struct message_block *block = &blocks->blocks[i];
		random_text(seed, block->name, 1u + some(seed, largest, sizeof(block->name) - 2));
		block->length = random_next(seed) | 1;
		block->granule = random_next(seed) | 4096;
	}
}

static void random_keys(uint64_t *seed, bool largest, struct message_keys *keys)
{
	keys->count = some(seed, largest, WIRE_KEYS_MAX);
	for (unsigned i = 0; i < keys->count; i++) {
		struct message_key *key = &keys->keys[i];
		key->block = some(seed, false, WIRE_BLOCKS_TOTAL_MAX - 1);
		key->offset = random_next(seed) >> 1;
		key->length = random_next(seed) >> 1 | 1;
		key->base = random_next(seed) >> 1;
		key->key = (uint32_t)random_next(seed);
	}
}

static void random_body(uint64_t *seed, bool largest, struct message *message)
{
	switch (message->header.type) {
	case MESSAGE_HELLO: random_hello(seed, &message->hello); break;
	case MESSAGE_BLOCKS: random_blocks(seed, largest, &message->blocks); break;
	case MESSAGE_KEYS: random_keys(seed, largest, &message->keys); break;
	case MESSAGE_BATCH: random_batch(seed, largest, &message->batch); break;
	case MESSAGE_ACK:
		message->ack.count = some(seed, largest, WIRE_ACKS_MAX);
		for (unsigned i = 0; i < message->ack.count; i++) {
			message->ack.acks[i].channel = some(seed, false, RDMAMIG_CHANNELS_MAX - 1);
			message->ack.acks[i].epoch = (uint32_t)random_next(seed);
			message->ack.acks[i].applied = (uint32_t)random_next(seed);
		}
		break;
	case MESSAGE_ROUND:
		message->round.round = (uint32_t)random_next(seed);
		message->round.dirty_pages = random_next(seed);
		message->round.normal_pages = random_next(seed);
		message->round.zero_pages = random_next(seed);
		message->round.cpu_user_us = random_next(seed);
		message->round.cpu_system_us = random_next(seed);
		break;
	case MESSAGE_STATE:
		message->state.last = (uint8_t)random_below(seed, 2);
		message->state.guest_runs = (uint8_t)random_below(seed, 2);
		message->state.count = some(seed, largest, WIRE_STATE_MAX);
		random_bytes(seed, message->state.bytes, message->state.count);
		break;
	case MESSAGE_ABORT:
	case MESSAGE_ERROR:
	case MESSAGE_CANCEL:
		message->text.status = (uint32_t)random_next(seed);
		random_text(seed, message->text.text, some(seed, largest, WIRE_TEXT_MAX - 1));
		break;
	case MESSAGE_DONE:
		message->done.cpu_user_us = random_next(seed);
		message->done.cpu_system_us = random_next(seed);
		break;
	case MESSAGE_CHANNEL_UP:
		message->channel_up.channel = some(seed, false, RDMAMIG_CHANNELS_MAX - 1);
		message->channel_up.epoch = (uint32_t)random_next(seed);
		message->channel_up.token = random_next(seed);
		break;
	case MESSAGE_VERIFY:
		message->verify.count = some(seed, largest, WIRE_HASHES_MAX);
		for (unsigned i = 0; i < message->verify.count; i++) {
			message->verify.hashes[i].block = some(seed, false, WIRE_BLOCKS_TOTAL_MAX - 1);
			random_bytes(seed, message->verify.hashes[i].hash, WIRE_HASH_BYTES);
		}
		break;
	case MESSAGE_RECORD:
		message->record.role = (uint8_t)(1 + random_below(seed, 2));
		message->record.record = (uint8_t)random_below(seed, 6);
		random_bytes(seed, message->record.session_id, RDMAMIG_SESSION_ID_BYTES);
		break;
	}
}

static void random_message(uint64_t *seed, uint16_t type, bool largest, struct message *message)
{
	memset(message, 0, sizeof(*message));
	message->header.type = type;
	message->header.sequence = (uint32_t)random_next(seed);
	message->header.credit = (uint32_t)random_next(seed);
	random_body(seed, largest, message);
}

static uint16_t random_type(uint64_t *seed)
{
	return goldens[random_below(seed, COUNT_OF(goldens))].message.header.type;
}

static void golden_bytes(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT_OF(goldens); i++) {
		uint8_t want[256], got[WIRE_MESSAGE_BYTES];
		size_t size = hex_parse(goldens[i].hex, want);
		assert_int_equal(message_encode(&goldens[i].message, got, sizeof(got)), size);
		assert_memory_equal(got, want, size);
		assert_true(decodes_or_is_refused(want, size));
	}
}

static void golden_print(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT_OF(goldens); i++) {
		uint8_t bytes[256];
		struct message message;
		const char *why;
		size_t size = hex_parse(goldens[i].hex, bytes);
		assert_int_equal(message_decode(bytes, size, &message, &why), RDMAMIG_OK);
		char line[1024];
		message_print(&message, line, sizeof(line));
		assert_string_equal(line, goldens[i].print);
	}
}

static void every_number_is_golden_or_reserved(void **state)
{
	(void)state;
	assert_int_equal(COUNT_OF(goldens) + COUNT_OF(reserved), MESSAGE_RECORD);
	for (size_t i = 0; i < COUNT_OF(reserved); i++) {
		uint8_t bytes[WIRE_HEADER_BYTES] = { (uint8_t)reserved[i] };
		struct message_header header;
		const char *why = NULL;
		assert_int_equal(message_peek(bytes, sizeof(bytes), &header, &why), RDMAMIG_E_PROTOCOL);
		assert_string_equal(why, "unknown message");
		assert_false(decodes_or_is_refused(bytes, sizeof(bytes)));
	}
	for (unsigned type = 0; type <= UINT16_MAX; type = type ? type + 1 : MESSAGE_RECORD + 1) {
		uint8_t bytes[WIRE_HEADER_BYTES] = { (uint8_t)type, (uint8_t)(type >> 8) };
		struct message_header header;
		const char *why = NULL;
		assert_int_equal(message_peek(bytes, sizeof(bytes), &header, &why), RDMAMIG_E_PROTOCOL);
		assert_string_equal(why, "unknown message");
		assert_string_equal(message_name((uint16_t)type), "?");
	}
}

/* One change to a golden vector (bytes put at an offset), and what must be said of it; NULL: it is still good. */
static const struct bound {
	uint16_t type;
	unsigned offset;
	const char *hex;
	const char *why;
} bounds[] = {
	{ MESSAGE_PING, 2, "0100", "unknown flags" },
	{ MESSAGE_PING, 2, "0080", "unknown flags" },
	{ MESSAGE_PING, 4, "01000000", "length differs from what came" },
	{ MESSAGE_HELLO, 4, "33000000", "length differs from what came" },
	{ MESSAGE_HELLO, 4, "f0ffffff", "length differs from what came" },
	{ MESSAGE_HELLO, 16, "0300", NULL },
	{ MESSAGE_HELLO, 16, "0000", "HELLO: version_min out of bounds" },
	{ MESSAGE_HELLO, 16, "0400", "HELLO: version_min above version_max" },
	{ MESSAGE_HELLO, 28, "00200000", "HELLO: page_bytes out of bounds" },
	{ MESSAGE_HELLO, 28, "ff0f0000", "HELLO: page_bytes out of bounds" },
	{ MESSAGE_HELLO, 32, "0000", "HELLO: channels out of bounds" },
	{ MESSAGE_HELLO, 32, "1000", NULL },
	{ MESSAGE_HELLO, 32, "1100", "HELLO: channels out of bounds" },
	{ MESSAGE_HELLO, 34, "0700", "HELLO: credits out of bounds" },
	{ MESSAGE_HELLO, 34, "0800", NULL },
	{ MESSAGE_HELLO, 34, "4000", NULL },
	{ MESSAGE_HELLO, 34, "4100", "HELLO: credits out of bounds" },
	{ MESSAGE_HELLO, 36, "00000000", "HELLO: batch_pages_max out of bounds" },
	{ MESSAGE_HELLO, 41, "02", "HELLO: verify out of bounds" },
	{ MESSAGE_HELLO, 42, "0101", "HELLO: blocks out of bounds" },
	{ MESSAGE_BLOCKS, 16, "fe00", NULL },
	{ MESSAGE_BLOCKS, 16, "ff00", "BLOCKS: too many blocks in all" },
	{ MESSAGE_BLOCKS, 16, "ffff", "BLOCKS: first out of bounds" },
	{ MESSAGE_BLOCKS, 18, "0100", "message too long" },
	{ MESSAGE_BLOCKS, 18, "0300", "message too short" },
	{ MESSAGE_BLOCKS, 18, "1100", "BLOCKS: count out of bounds" },
	{ MESSAGE_BLOCKS, 20, "0000", "BLOCKS: name out of bounds" },
	{ MESSAGE_BLOCKS, 20, "ff00", "message too short" },
	{ MESSAGE_BLOCKS, 20, "0001", "BLOCKS: name out of bounds" },
	{ MESSAGE_BLOCKS, 23, "00", "BLOCKS: name out of bounds" },
	{ MESSAGE_BLOCKS, 25, "00", "BLOCKS: name out of bounds" },
	{ MESSAGE_BLOCKS, 25, "1f", "BLOCKS: name out of bounds" },
	{ MESSAGE_BLOCKS, 25, "20", NULL },
	{ MESSAGE_BLOCKS, 26, "0000000000000000", "BLOCKS: length out of bounds" },
	{ MESSAGE_BLOCKS, 34, "ff0f000000000000", "BLOCKS: granule out of bounds" },
	{ MESSAGE_KEYS, 16, "4100", "KEYS: count out of bounds" },
	{ MESSAGE_KEYS, 18, "0001", "KEYS: block out of bounds" },
	{ MESSAGE_KEYS, 20, "ffff7fffffffffff", NULL },
	{ MESSAGE_KEYS, 20, "000080ffffffffff", "KEYS: region past the end of all addresses" },
	{ MESSAGE_KEYS, 28, "0000000000000000", "KEYS: length out of bounds" },
	{ MESSAGE_KEYS, 36, "000080ffffffffff", "KEYS: region past the end of all addresses" },
	{ MESSAGE_BATCH, 16, "1000", "BATCH: channel out of bounds" },
	{ MESSAGE_BATCH, 22, "00000000", "BATCH: batch_sequence out of bounds" },
	{ MESSAGE_BATCH, 26, "0001", "BATCH: block out of bounds" },
	{ MESSAGE_BATCH, 28, "0101", "BATCH: normal_count out of bounds" },
	{ MESSAGE_BATCH, 28, "ff00", "BATCH: too many runs" },
	{ MESSAGE_BATCH, 28, "fe00", "message too short" },
	{ MESSAGE_BATCH, 28, "0001 0001 0001", "BATCH: too many runs" },
	{ MESSAGE_BATCH, 28, "0100", "message too long" },
	{ MESSAGE_BATCH, 28, "0100 0200", "BATCH: runs not ascending or not disjoint" },	/* zero: 32, 16 */
	{ MESSAGE_BATCH, 28, "0100 0100 0200", NULL },
	{ MESSAGE_BATCH, 42, "00000000", "BATCH: pages out of bounds" },
	{ MESSAGE_BATCH, 46, "0f00000000000000", "BATCH: runs not ascending or not disjoint" },
	{ MESSAGE_BATCH, 46, "1000000000000000", "BATCH: a page in two lists" },		/* normal 16, zero 16 */
	{ MESSAGE_BATCH, 70, "1f00000000000000 01000000", "BATCH: a page in two lists" },	/* zero, forced 31 */
	{ MESSAGE_BATCH, 70, "2000000000000000 01000000", "BATCH: a page in two lists" },	/* normal, forced 32 */
	{ MESSAGE_BATCH, 70, "2100000000000000 01000000", NULL },
	{ MESSAGE_BATCH, 70, "00000000ffffffff ffffffff", NULL },
	{ MESSAGE_BATCH, 70, "01000000ffffffff ffffffff", "BATCH: run past the end of all pages" },
	{ MESSAGE_ACK, 16, "1100", "ACK: count out of bounds" },
	{ MESSAGE_ACK, 18, "1000", "ACK: channel out of bounds" },
	{ MESSAGE_STATE, 16, "02", "STATE: last out of bounds" },
	{ MESSAGE_STATE, 17, "02", "STATE: guest_runs out of bounds" },
	{ MESSAGE_STATE, 18, "0900", "message too long" },
	{ MESSAGE_STATE, 18, "0010", "message too short" },
	{ MESSAGE_STATE, 18, "0110", "STATE: count out of bounds" },
	{ MESSAGE_ABORT, 20, "0100", "message too long" },
	{ MESSAGE_ABORT, 20, "0300", "message too short" },
	{ MESSAGE_ABORT, 20, "df01", "message too short" },
	{ MESSAGE_ABORT, 20, "e001", "ABORT/ERROR/CANCEL: text out of bounds" },
	{ MESSAGE_ABORT, 22, "0a", "ABORT/ERROR/CANCEL: text out of bounds" },
	{ MESSAGE_CANCEL, 27, "00", "ABORT/ERROR/CANCEL: text out of bounds" },
	{ MESSAGE_CHANNEL_UP, 16, "1000", "CHANNEL_UP: channel out of bounds" },
	{ MESSAGE_VERIFY, 16, "4100", "VERIFY: count out of bounds" },
	{ MESSAGE_VERIFY, 18, "0001", "VERIFY: block out of bounds" },
	{ MESSAGE_RECORD, 16, "00", "RECORD: role out of bounds" },
	{ MESSAGE_RECORD, 16, "03", "RECORD: role out of bounds" },
	{ MESSAGE_RECORD, 17, "06", "RECORD: record out of bounds" },
	{ MESSAGE_RECORD, 17, "05", NULL },
};

static void bounds_hold(void **state)
{
	(void)state;
	struct edge edge = edge_new();
	for (size_t i = 0; i < COUNT_OF(bounds); i++) {
		uint8_t bytes[256], change[32];
		size_t size = hex_parse(golden_find(bounds[i].type)->hex, bytes);
		memcpy(bytes + bounds[i].offset, change, hex_parse(bounds[i].hex, change));
		const uint8_t *at = edge_put(&edge, bytes, size);

		struct message message;
		const char *why = "";
		message_decode(at, size, &message, &why);
		if (strcmp(why, bounds[i].why ? bounds[i].why : "") != 0)
			fail_msg("%s at %u, %s: \"%s\"", message_name(bounds[i].type), bounds[i].offset, bounds[i].hex, why);
		assert_true(decodes_or_is_refused(at, size) == !bounds[i].why);
	}
	free(edge.block);
}

static void truncated_is_refused(void **state)
{
	(void)state;
	struct edge edge = edge_new();
	for (size_t i = 0; i < COUNT_OF(goldens); i++) {
		uint8_t bytes[257];
		size_t size = hex_parse(goldens[i].hex, bytes);
		for (size_t cut = 0; cut < size; cut++)
			assert_false(decodes_or_is_refused(edge_put(&edge, bytes, cut), cut));
		for (size_t cut = WIRE_HEADER_BYTES; cut < size; cut++) {
			length_patch(bytes, cut);
			assert_false(decodes_or_is_refused(edge_put(&edge, bytes, cut), cut));
		}
		bytes[size] = 0;
		length_patch(bytes, size + 1);
		assert_false(decodes_or_is_refused(edge_put(&edge, bytes, size + 1), size + 1));
	}
	free(edge.block);
}

static void corrupted_is_refused_or_means_something_else(void **state)
{
	(void)state;
	struct edge edge = edge_new();
	for (size_t i = 0; i < COUNT_OF(goldens); i++) {
		uint8_t bytes[256];
		size_t size = hex_parse(goldens[i].hex, bytes);
		for (size_t at = 0; at < size; at++) {
			uint8_t good = bytes[at];
			for (unsigned change = 1; change < 256; change++) {
				bytes[at] = (uint8_t)(good ^ change);
				decodes_or_is_refused(edge_put(&edge, bytes, size), size);
			}
			bytes[at] = good;
		}
	}
	free(edge.block);
}

static void random_messages_survive_the_trip(void **state)
{
	(void)state;
	static struct message sent, received;
	struct edge edge = edge_new();
	uint64_t seed = 0x5eed0001;
	for (unsigned i = 0; i < 20000; i++) {
		random_message(&seed, random_type(&seed), i % 16 == 0, &sent);
		uint8_t bytes[WIRE_MESSAGE_BYTES];
		size_t size = message_encode(&sent, bytes, sizeof(bytes));
		const char *why = "";
		if (message_decode(edge_put(&edge, bytes, size), size, &received, &why))
			fail_msg("%s, message %u: %s", message_name(sent.header.type), i, why);
		sent.header.length = (uint32_t)(size - WIRE_HEADER_BYTES);
		assert_memory_equal(&received, &sent, sizeof(sent));
	}
	free(edge.block);
}

static void garbage_is_harmless(void **state)
{
	(void)state;
	static struct message message;
	struct edge edge = edge_new();
	uint64_t seed = 0x5eed0002;
	unsigned decoded = 0;
	for (unsigned i = 0; i < 1000000; i++) {
		uint8_t bytes[WIRE_MESSAGE_BYTES];
		size_t size;
		if (i % 64 == 0) {			/* a good message with some bytes changed and perhaps a tail cut off */
			random_message(&seed, random_type(&seed), false, &message);
			size = message_encode(&message, bytes, sizeof(bytes));
			for (uint64_t changes = random_below(&seed, 4); changes; changes--)
				bytes[random_below(&seed, size)] = (uint8_t)random_next(&seed);
			if (size > WIRE_HEADER_BYTES && random_below(&seed, 2))
				size -= random_below(&seed, size - WIRE_HEADER_BYTES);
		} else {
			size = random_below(&seed, 96);
			random_bytes(&seed, bytes, size);
		}
		if (i % 4 && size >= WIRE_HEADER_BYTES) {	/* past the header's checks */
			bytes[0] = (uint8_t)random_type(&seed);
			bytes[1] = bytes[2] = bytes[3] = 0;
			length_patch(bytes, size);
		}
		decoded += decodes_or_is_refused(edge_put(&edge, bytes, size), size);
	}
	assert_true(decoded > 1000);		/* else this tests no more than the header */
	free(edge.block);
}

static void the_largest_fit(void **state)
{
	(void)state;
	static struct message message;
	size_t largest = 0;
	uint64_t seed = 0x5eed0003;
	for (size_t i = 0; i < COUNT_OF(goldens); i++) {
		uint8_t bytes[WIRE_MESSAGE_BYTES];
		random_message(&seed, goldens[i].message.header.type, true, &message);
		size_t size = message_encode(&message, bytes, sizeof(bytes));
		largest = size > largest ? size : largest;
	}
	assert_int_equal(largest, WIRE_HEADER_BYTES + 4 + WIRE_BLOCKS_MAX * (2 + 255 + 8 + 8));
	assert_true(largest <= WIRE_MESSAGE_BYTES);
}

static void peek_reads_the_header_alone(void **state)
{
	(void)state;
	uint8_t bytes[256];
	size_t size = hex_parse(golden_find(MESSAGE_KEYS)->hex, bytes);
	struct message_header header;
	const char *why = NULL;
	memset(bytes + WIRE_HEADER_BYTES, 0xff, size - WIRE_HEADER_BYTES);
	assert_int_equal(message_peek(bytes, size, &header, &why), RDMAMIG_OK);
	assert_int_equal(header.type, MESSAGE_KEYS);
	assert_int_equal(header.flags, 0);
	assert_int_equal(header.length, 32);
	assert_int_equal(header.sequence, 0x01020304);
	assert_int_equal(header.credit, 0x0a0b0c0d);
	assert_int_equal(message_peek(bytes, 15, &header, &why), RDMAMIG_E_PROTOCOL);
	assert_string_equal(why, "message too short");
}

static void stamp_changes_sequence_and_credit_alone(void **state)
{
	(void)state;
	uint8_t bytes[256], want[256];
	size_t size = hex_parse("1300 0000 0c000000 44332211 88776655 ffffffff 0600 4374726c2d43", want);
	assert_int_equal(hex_parse(golden_find(MESSAGE_CANCEL)->hex, bytes), size);
	message_stamp(bytes, 0x11223344, 0x55667788);
	assert_memory_equal(bytes, want, size);
}

static void names(void **state)
{
	(void)state;
	assert_string_equal(message_name(MESSAGE_BATCH), "BATCH");
	assert_string_equal(message_name(MESSAGE_RECORD), "RECORD");
	assert_string_equal(message_name(MESSAGE_PULL), "PULL");
	assert_string_equal(message_name(0), "?");
	assert_string_equal(message_name(24), "?");
}

static void print_cuts_lists_and_lines(void **state)
{
	(void)state;
	static struct message message;
	message.header.type = MESSAGE_ACK;
	message.ack.count = 9;
	char line[512];
	message_print(&message, line, sizeof(line));
	assert_string_equal(line, "ACK seq=0 credit=0 count=9 acks=[0:0:0,0:0:0,0:0:0,0:0:0,0:0:0,0:0:0,0:0:0,0:0:0,...]");
	message.ack.count = 8;
	message_print(&message, line, sizeof(line));
	assert_string_equal(line, "ACK seq=0 credit=0 count=8 acks=[0:0:0,0:0:0,0:0:0,0:0:0,0:0:0,0:0:0,0:0:0,0:0:0]");

	memset(line, 'x', sizeof(line));
	message_print(&message, line, 8);
	assert_string_equal(line, "ACK seq");
	assert_int_equal(line[8], 'x');
	message_print(&message, line, 0);
	assert_string_equal(line, "ACK seq");

	message.header.type = 99;
	message_print(&message, line, sizeof(line));
	assert_string_equal(line, "? seq=0 credit=0");
}

/* What a kernel or a VMM said may have line ends; telling the peer of it must not abort. */
static void control_bytes_of_our_text_go_as_question_marks(void **state)
{
	(void)state;
	static struct message message = { .header = { .type = MESSAGE_ERROR }, .text = { 500, "a\nb\tc\x1b" } };
	uint8_t bytes[WIRE_MESSAGE_BYTES];
	size_t size = message_encode(&message, bytes, sizeof(bytes));
	const char *why = "";
	assert_int_equal(message_decode(bytes, size, &message, &why), RDMAMIG_OK);
	assert_string_equal(message.text.text, "a?b?c?");
}

static bool encoding_aborts(const struct message *message, size_t out_bytes)
{
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		uint8_t bytes[WIRE_MESSAGE_BYTES];
		if (!freopen("/dev/null", "w", stderr))
			_exit(2);
		signal(SIGABRT, SIG_DFL);
		message_encode(message, bytes, out_bytes);
		_exit(0);
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void what_we_send_is_asserted(void **state)
{
	(void)state;
	static struct message message;
	message = golden_find(MESSAGE_HELLO)->message;
	assert_false(encoding_aborts(&message, 68));
	assert_true(encoding_aborts(&message, 67));
	message.hello.channels = 17;
	assert_true(encoding_aborts(&message, WIRE_MESSAGE_BYTES));
	message = golden_find(MESSAGE_BATCH)->message;
	message.batch.runs[1].first_page = 0;
	assert_true(encoding_aborts(&message, WIRE_MESSAGE_BYTES));
	message = golden_find(MESSAGE_BATCH)->message;
	message.batch.zero_count = 256;
	assert_true(encoding_aborts(&message, WIRE_MESSAGE_BYTES));
	message = golden_find(MESSAGE_ABORT)->message;
	memset(message.text.text, 'x', sizeof(message.text.text));
	assert_true(encoding_aborts(&message, WIRE_MESSAGE_BYTES));
	message.header.type = MESSAGE_WANT;
	assert_true(encoding_aborts(&message, WIRE_MESSAGE_BYTES));
}

/* @text holds the file from then on; free() it. */
static void file_read(const char *path, char **text)
{
	size_t bytes = 0;
	*text = NULL;
	FILE *file = fopen(path, "r");
	if (!file)
		fail_msg("%s: run from the top of the tree", path);
	assert_true(getdelim(text, &bytes, '\0', file) > 0);
	fclose(file);
}

static void protocol_md_is_up_to_date(void **state)
{
	(void)state;
	static const char begin[] = "<!-- generated: messages -->\n", end[] = "<!-- end -->\n";
	char *page, *tables = NULL;
	size_t bytes = 0;
	file_read("docs/protocol.md", &page);
	FILE *out = open_memstream(&tables, &bytes);
	message_document(out);
	fclose(out);

	char *from = strstr(page, begin), *to = strstr(page, end);
	assert_non_null(from);
	assert_non_null(to);
	from += strlen(begin);
	*to = '\0';
	if (strcmp(from, tables) != 0)
		fail_msg("docs/protocol.md differs from wire/message.c: make docs");
	free(page);
	free(tables);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(golden_bytes),
		cmocka_unit_test(golden_print),
		cmocka_unit_test(every_number_is_golden_or_reserved),
		cmocka_unit_test(bounds_hold),
		cmocka_unit_test(truncated_is_refused),
		cmocka_unit_test(corrupted_is_refused_or_means_something_else),
		cmocka_unit_test(random_messages_survive_the_trip),
		cmocka_unit_test(garbage_is_harmless),
		cmocka_unit_test(the_largest_fit),
		cmocka_unit_test(peek_reads_the_header_alone),
		cmocka_unit_test(stamp_changes_sequence_and_credit_alone),
		cmocka_unit_test(names),
		cmocka_unit_test(print_cuts_lists_and_lines),
		cmocka_unit_test(control_bytes_of_our_text_go_as_question_marks),
		cmocka_unit_test(what_we_send_is_asserted),
		cmocka_unit_test(protocol_md_is_up_to_date),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
