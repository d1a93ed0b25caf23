/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * hello.c - struct conn_hello to private data and back.
 * Neighbours: tcp_conn.c sends one, tcp_endpoint.c checks those that arrive. No thread of its own.
 */
#include "transport/hello.h"

#include <string.h>

#include "base/cursor.h"

enum { HELLO_LAYOUT = 1 };

static const uint8_t hello_magic[4] = { 'R', 'D', 'M', 'G' };

_Static_assert(HELLO_BYTES <= HELLO_BYTES_MAX, "rdma_cm carries 56 bytes");

void hello_encode(const struct conn_hello *hello, uint8_t out[HELLO_BYTES])
{
	struct cursor c = cursor_to_write(out, HELLO_BYTES);

	cursor_put_bytes(&c, hello_magic, sizeof(hello_magic));
	cursor_put_u16(&c, HELLO_BYTES);
	cursor_put_u16(&c, HELLO_LAYOUT);
	cursor_put_u8(&c, (uint8_t)hello->kind);
	cursor_put_u8(&c, 0);
	cursor_put_u16(&c, hello->version_min);
	cursor_put_u16(&c, hello->version_max);
	cursor_put_u16(&c, hello->channel);
	cursor_put_u32(&c, hello->epoch);
	cursor_put_u64(&c, hello->token);
	cursor_put_bytes(&c, hello->session_id, sizeof(hello->session_id));
}

/* Channel, epoch and token belong to data connections; elsewhere they are 0, so that they may mean something one day. */
static bool hello_is_sane(const struct conn_hello *h)
{
	if (h->version_min == 0 || h->version_min > h->version_max)
		return false;
	if (h->kind == CONN_DATA)
		return h->channel < RDMAMIG_CHANNELS_MAX;
	return (h->kind == CONN_CONTROL || h->kind == CONN_RECORD) && !h->channel && !h->epoch && !h->token;
}

enum rdmamig_status hello_decode(const void *bytes, size_t size, struct conn_hello *out)
{
	struct cursor c = cursor_to_read(bytes, size);
	struct conn_hello h = { 0 };
	uint8_t magic[sizeof(hello_magic)];

	cursor_get_bytes(&c, magic, sizeof(magic));
	uint16_t length = cursor_get_u16(&c);
	uint16_t layout = cursor_get_u16(&c);
	h.kind = (enum conn_kind)cursor_get_u8(&c);
	uint8_t zero = cursor_get_u8(&c);
	h.version_min = cursor_get_u16(&c);
	h.version_max = cursor_get_u16(&c);
	h.channel = cursor_get_u16(&c);
	h.epoch = cursor_get_u32(&c);
	h.token = cursor_get_u64(&c);
	cursor_get_bytes(&c, h.session_id, sizeof(h.session_id));

	if (!cursor_is_ok(&c) || memcmp(magic, hello_magic, sizeof(magic)) || length != HELLO_BYTES ||
	    layout != HELLO_LAYOUT || zero || !hello_is_sane(&h))
		return RDMAMIG_E_PROTOCOL;

	*out = h;
	return RDMAMIG_OK;
}
