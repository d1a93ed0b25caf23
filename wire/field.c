/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * field.c - walks a field table: bytes into a struct and back, each value checked against its row.
 * Neighbours: message.c, which has the tables; describe.c, which prints and documents them. Any thread.
 */
#include "wire/field.h"

#include <assert.h>
#include <string.h>

uint64_t field_number(const struct field *field, const void *base)
{
	const uint8_t *at = (const uint8_t *)base + field->offset;
	switch (field->size) {
	case sizeof(uint8_t): return *at;
	case sizeof(uint16_t): return *(const uint16_t *)(const void *)at;
	case sizeof(uint32_t): return *(const uint32_t *)(const void *)at;
	default: return *(const uint64_t *)(const void *)at;
	}
}

size_t field_count(const struct field *field, const void *base)
{
	const uint16_t *counts = (const void *)((const uint8_t *)base + field->count_offset);
	size_t sum = 0;
	for (unsigned i = 0; i < field->counts; i++)
		sum += counts[i];
	return sum;
}

static bool number_is_in_bounds(const struct field *field, const void *base)
{
	uint64_t value = field_number(field, base);
	return value >= field->min && value <= field->max;
}

static bool count_is_in_bounds(const struct field *field, const void *base)
{
	return !field->counts || field_count(field, base) <= field->max;
}

static size_t bytes_used(const struct field *field, const void *base)
{
	return field->counts ? field_count(field, base) : field->size;
}

static bool byte_is_control(uint8_t byte)
{
	return byte < 0x20;
}

static bool number_read(struct cursor *cursor, const struct field *field, void *base)
{
	uint8_t *at = (uint8_t *)base + field->offset;
	switch (field->size) {
	case sizeof(uint8_t): *at = cursor_get_u8(cursor); break;
	case sizeof(uint16_t): *(uint16_t *)(void *)at = cursor_get_u16(cursor); break;
	case sizeof(uint32_t): *(uint32_t *)(void *)at = cursor_get_u32(cursor); break;
	default: *(uint64_t *)(void *)at = cursor_get_u64(cursor); break;
	}
	return number_is_in_bounds(field, base);
}

static bool text_read(struct cursor *cursor, const struct field *field, void *base)
{
	uint8_t *at = (uint8_t *)base + field->offset;
	size_t length = cursor_get_u16(cursor);
	if (length < field->min || length > field->max)
		return false;
	cursor_get_bytes(cursor, at, length);
	at[length] = '\0';
	for (size_t i = 0; i < length; i++)
		if (byte_is_control(at[i]))
			return false;
	return true;
}

static const char *list_read(struct cursor *cursor, const struct field *field, void *base)
{
	if (!count_is_in_bounds(field, base))
		return field->refusal;
	uint8_t *at = (uint8_t *)base + field->offset;
	size_t count = field_count(field, base);
	const char *why = NULL;
	for (size_t i = 0; i < count && !why; i++)
		why = fields_read(cursor, field->entry, at + i * field->size);
	return why;
}

static const char *field_read(struct cursor *cursor, const struct field *field, void *base)
{
	switch (field->kind) {
	case FIELD_NUMBER:
		return number_read(cursor, field, base) ? NULL : field->refusal;
	case FIELD_TEXT:
		return text_read(cursor, field, base) ? NULL : field->refusal;
	case FIELD_LIST:
		return list_read(cursor, field, base);
	case FIELD_BYTES:
		break;
	}
	if (!count_is_in_bounds(field, base))
		return field->refusal;
	cursor_get_bytes(cursor, (uint8_t *)base + field->offset, bytes_used(field, base));
	return NULL;
}

const char *fields_read(struct cursor *cursor, const struct field *fields, void *base)
{
	for (const struct field *field = fields; field->name; field++) {
		const char *why = field_read(cursor, field, base);
		if (!cursor_is_ok(cursor))
			return "message too short";	/* said first: a value read past the end is 0 */
		if (why)
			return why;
	}
	return NULL;
}

static void number_write(struct cursor *cursor, const struct field *field, const void *base)
{
	assert(number_is_in_bounds(field, base));
	uint64_t value = field_number(field, base);
	switch (field->size) {
	case sizeof(uint8_t): cursor_put_u8(cursor, (uint8_t)value); break;
	case sizeof(uint16_t): cursor_put_u16(cursor, (uint16_t)value); break;
	case sizeof(uint32_t): cursor_put_u32(cursor, (uint32_t)value); break;
	default: cursor_put_u64(cursor, value); break;
	}
}

/* The reason we give a peer may quote a kernel or a VMM, line ends and all: no cause to abort. */
static void text_write(struct cursor *cursor, const struct field *field, const void *base)
{
	const uint8_t *at = (const uint8_t *)base + field->offset;
	size_t length = strnlen((const char *)at, field->size);
	assert(length >= field->min && length <= field->max);
	cursor_put_u16(cursor, (uint16_t)length);
	for (size_t i = 0; i < length; i++)
		cursor_put_u8(cursor, byte_is_control(at[i]) ? '?' : at[i]);
}

static void list_write(struct cursor *cursor, const struct field *field, const void *base)
{
	assert(count_is_in_bounds(field, base));
	const uint8_t *at = (const uint8_t *)base + field->offset;
	size_t count = field_count(field, base);
	for (size_t i = 0; i < count; i++)
		fields_write(cursor, field->entry, at + i * field->size);
}

void fields_write(struct cursor *cursor, const struct field *fields, const void *base)
{
	for (const struct field *field = fields; field->name; field++) {
		switch (field->kind) {
		case FIELD_NUMBER:
			number_write(cursor, field, base);
			break;
		case FIELD_TEXT:
			text_write(cursor, field, base);
			break;
		case FIELD_LIST:
			list_write(cursor, field, base);
			break;
		case FIELD_BYTES:
			assert(count_is_in_bounds(field, base));
			cursor_put_bytes(cursor, (const uint8_t *)base + field->offset, bytes_used(field, base));
			break;
		}
	}
}
