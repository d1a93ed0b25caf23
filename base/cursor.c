/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cursor.c - checked little-endian access to bytes.
 * Used by wire (messages), transport (frames, private data) and ram (exported receivedmap). No thread of its own.
 */
#include "base/cursor.h"

#include <string.h>

struct cursor cursor_to_read(const void *bytes, size_t size)
{
	return (struct cursor){ .bytes = (uint8_t *)bytes, .size = size };
}

struct cursor cursor_to_write(void *bytes, size_t size)
{
	return (struct cursor){ .bytes = bytes, .size = size };
}

/* The next @size bytes, or NULL and failed for good. */
static uint8_t *cursor_take(struct cursor *cursor, size_t size)
{
	if (cursor->failed || size > cursor->size - cursor->used) {
		cursor->failed = true;
		return NULL;
	}
	uint8_t *at = cursor->bytes + cursor->used;
	cursor->used += size;
	return at;
}

static uint64_t cursor_get(struct cursor *cursor, size_t size)
{
	const uint8_t *at = cursor_take(cursor, size);
	uint64_t value = 0;
	for (size_t i = size; at && i > 0; i--)
		value = value << 8 | at[i - 1];
	return value;
}

static void cursor_put(struct cursor *cursor, uint64_t value, size_t size)
{
	uint8_t *at = cursor_take(cursor, size);
	for (size_t i = 0; at && i < size; i++)
		at[i] = (uint8_t)(value >> 8 * i);
}

uint8_t cursor_get_u8(struct cursor *cursor)
{
	return (uint8_t)cursor_get(cursor, 1);
}

uint16_t cursor_get_u16(struct cursor *cursor)
{
	return (uint16_t)cursor_get(cursor, 2);
}

uint32_t cursor_get_u32(struct cursor *cursor)
{
	return (uint32_t)cursor_get(cursor, 4);
}

uint64_t cursor_get_u64(struct cursor *cursor)
{
	return cursor_get(cursor, 8);
}

void cursor_get_bytes(struct cursor *cursor, void *out, size_t size)
{
	const uint8_t *at = cursor_take(cursor, size);
	if (at)
		memcpy(out, at, size);
	else
		memset(out, 0, size);
}

void cursor_put_u8(struct cursor *cursor, uint8_t value)
{
	cursor_put(cursor, value, 1);
}

void cursor_put_u16(struct cursor *cursor, uint16_t value)
{
	cursor_put(cursor, value, 2);
}

void cursor_put_u32(struct cursor *cursor, uint32_t value)
{
	cursor_put(cursor, value, 4);
}

void cursor_put_u64(struct cursor *cursor, uint64_t value)
{
	cursor_put(cursor, value, 8);
}

void cursor_put_bytes(struct cursor *cursor, const void *bytes, size_t size)
{
	uint8_t *at = cursor_take(cursor, size);
	if (at)
		memcpy(at, bytes, size);
}

void cursor_skip_read(struct cursor *cursor, size_t size)
{
	cursor_take(cursor, size);
}

void cursor_pad_zero(struct cursor *cursor, size_t size)
{
	uint8_t *at = cursor_take(cursor, size);
	if (at)
		memset(at, 0, size);
}
