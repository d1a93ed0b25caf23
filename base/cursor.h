/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cursor.h - the only way from bytes to values and back: little-endian, checked, sticky.
 *
 * A cursor that ran over its end stays failed, reads 0 and writes nothing; look once, at the end, with cursor_is_ok().
 */
#ifndef BASE_CURSOR_H
#define BASE_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cursor {
	uint8_t *bytes;		/* written to only through a cursor made by cursor_to_write() */
	size_t size;
	size_t used;
	bool failed;
};

struct cursor cursor_to_read(const void *bytes, size_t size);
struct cursor cursor_to_write(void *bytes, size_t size);

uint8_t cursor_get_u8(struct cursor *cursor);
uint16_t cursor_get_u16(struct cursor *cursor);
uint32_t cursor_get_u32(struct cursor *cursor);
uint64_t cursor_get_u64(struct cursor *cursor);
void cursor_get_bytes(struct cursor *cursor, void *out, size_t size);	/* zeroes *out on failure */

void cursor_put_u8(struct cursor *cursor, uint8_t value);
void cursor_put_u16(struct cursor *cursor, uint16_t value);
void cursor_put_u32(struct cursor *cursor, uint32_t value);
void cursor_put_u64(struct cursor *cursor, uint64_t value);
void cursor_put_bytes(struct cursor *cursor, const void *bytes, size_t size);

/* Pass @size bytes: unread, or written as 0. */
void cursor_skip_read(struct cursor *cursor, size_t size);
void cursor_pad_zero(struct cursor *cursor, size_t size);

static inline bool cursor_is_ok(const struct cursor *cursor)
{
	return !cursor->failed;
}

static inline size_t cursor_left(const struct cursor *cursor)
{
	return cursor->failed ? 0 : cursor->size - cursor->used;
}

#endif
