/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tcp_frame.h - what stands on the stream: a header, @count pieces, then @payload_bytes bytes. See docs/protocol.md.
 *
 *   header  0  u8 type   1  u8 0   2  u16 count   4  u32 sequence   8  u64 payload_bytes
 *   piece   0  u64 remote   8  u32 key   12  u32 bytes
 */
#ifndef TRANSPORT_TCP_FRAME_H
#define TRANSPORT_TCP_FRAME_H

#include <stdbool.h>
#include <stdint.h>

#include "transport/endpoint.h"

enum tcp_frame_type {
	TCP_HELLO = 1,		/* payload: see hello.h */
	TCP_ADMIT = 2,
	TCP_REJECT = 3,		/* sequence: a status; payload: why */
	TCP_MESSAGE = 4,	/* payload: the message */
	TCP_WRITE = 5,		/* count pieces; payload: their bytes in that order */
	TCP_FENCE = 6,		/* sequence */
	TCP_READ_REQUEST = 7,	/* sequence: names the request; count pieces */
	TCP_READ_DATA = 8,	/* sequence: of the request; payload: the bytes of all its pieces */
};

enum {
	TCP_HEADER_BYTES = 16,
	TCP_PIECE_BYTES = 16,
	TCP_PIECES_MAX = 256,
	TCP_PIECE_BYTES_MAX = 1 << 30,
	TCP_MESSAGE_BYTES_MAX = 8192,
	TCP_REJECT_BYTES_MAX = 80,
};

struct tcp_header {
	enum tcp_frame_type type;
	uint16_t count;
	uint32_t sequence;
	uint64_t payload_bytes;
};

/* Bytes of a frame that lie in somebody's memory: at @local, or, where that is NULL, at @remote of our region @key. */
struct tcp_piece {
	void *local;
	uint64_t remote;
	uint32_t key;
	uint32_t bytes;
};

void tcp_header_encode(const struct tcp_header *header, uint8_t out[TCP_HEADER_BYTES]);

/* tcp_header_decode - false: no frame has such a header. */
bool tcp_header_decode(const uint8_t bytes[TCP_HEADER_BYTES], struct tcp_header *out);

/* tcp_frame_is_for - may an open connection of this kind carry it? Control ones give no access to memory. */
bool tcp_frame_is_for(enum tcp_frame_type type, enum conn_kind kind);

void tcp_piece_encode(const struct tcp_piece *piece, uint8_t out[TCP_PIECE_BYTES]);

/* tcp_piece_decode - local is NULL. false: empty or too long. */
bool tcp_piece_decode(const uint8_t bytes[TCP_PIECE_BYTES], struct tcp_piece *out);

#endif
