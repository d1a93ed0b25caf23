/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tcp_frame.c - frame headers and pieces to bytes and back, each within what its type allows.
 * Neighbours: tcp_send.c, tcp_receive.c. No thread of its own.
 */
#include "transport/tcp_frame.h"

#include "base/cursor.h"
#include "transport/hello.h"

/* What a header of each type may say. */
static const struct {
	uint16_t count_min, count_max;
	bool has_sequence;
	bool is_message;
	bool is_data;
	uint64_t payload_min, payload_max;
} rules[] = {
	[TCP_HELLO] = { .payload_min = HELLO_BYTES, .payload_max = HELLO_BYTES },
	[TCP_ADMIT] = { 0 },
	[TCP_REJECT] = { .has_sequence = true, .payload_max = TCP_REJECT_BYTES_MAX },
	[TCP_MESSAGE] = { .is_message = true, .payload_min = 1, .payload_max = TCP_MESSAGE_BYTES_MAX },
	[TCP_WRITE] = { .is_data = true, .count_min = 1, .count_max = TCP_PIECES_MAX, .payload_min = 1,
			.payload_max = (uint64_t)TCP_PIECES_MAX * TCP_PIECE_BYTES_MAX },
	[TCP_FENCE] = { .is_data = true, .has_sequence = true },
	[TCP_READ_REQUEST] = { .is_data = true, .has_sequence = true, .count_min = 1, .count_max = TCP_PIECES_MAX },
	[TCP_READ_DATA] = { .is_data = true, .has_sequence = true, .payload_min = 1,
			    .payload_max = (uint64_t)TCP_PIECES_MAX * TCP_PIECE_BYTES_MAX },
};

void tcp_header_encode(const struct tcp_header *header, uint8_t out[TCP_HEADER_BYTES])
{
	struct cursor c = cursor_to_write(out, TCP_HEADER_BYTES);
	cursor_put_u8(&c, (uint8_t)header->type);
	cursor_put_u8(&c, 0);
	cursor_put_u16(&c, header->count);
	cursor_put_u32(&c, header->sequence);
	cursor_put_u64(&c, header->payload_bytes);
}

bool tcp_header_decode(const uint8_t bytes[TCP_HEADER_BYTES], struct tcp_header *out)
{
	struct cursor c = cursor_to_read(bytes, TCP_HEADER_BYTES);
	unsigned type = cursor_get_u8(&c);
	uint8_t zero = cursor_get_u8(&c);
	struct tcp_header h = { .type = (enum tcp_frame_type)type };
	h.count = cursor_get_u16(&c);
	h.sequence = cursor_get_u32(&c);
	h.payload_bytes = cursor_get_u64(&c);

	if (type < TCP_HELLO || type > TCP_READ_DATA || zero)
		return false;
	if (h.count < rules[type].count_min || h.count > rules[type].count_max)
		return false;
	if (h.payload_bytes < rules[type].payload_min || h.payload_bytes > rules[type].payload_max)
		return false;
	if (h.sequence && !rules[type].has_sequence)
		return false;
	*out = h;
	return true;
}

bool tcp_frame_is_for(enum tcp_frame_type type, enum conn_kind kind)
{
	return kind == CONN_DATA ? rules[type].is_data : rules[type].is_message;
}

void tcp_piece_encode(const struct tcp_piece *piece, uint8_t out[TCP_PIECE_BYTES])
{
	struct cursor c = cursor_to_write(out, TCP_PIECE_BYTES);
	cursor_put_u64(&c, piece->remote);
	cursor_put_u32(&c, piece->key);
	cursor_put_u32(&c, piece->bytes);
}

bool tcp_piece_decode(const uint8_t bytes[TCP_PIECE_BYTES], struct tcp_piece *out)
{
	struct cursor c = cursor_to_read(bytes, TCP_PIECE_BYTES);
	struct tcp_piece piece = { .local = NULL };
	piece.remote = cursor_get_u64(&c);
	piece.key = cursor_get_u32(&c);
	piece.bytes = cursor_get_u32(&c);

	if (!piece.bytes || piece.bytes > TCP_PIECE_BYTES_MAX)
		return false;
	*out = piece;
	return true;
}
