/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * describe.c - a field table as text: one message in a line, or what may stand in it as Markdown.
 * Neighbours: field.c, which moves the bytes; message.c, which has the tables. Any thread.
 */
#include "wire/field.h"

#include <inttypes.h>
#include <stdarg.h>

enum { PRINT_ENTRIES_MAX = 8 };

void line_add(struct line *line, const char *format, ...)
{
	if (line->used >= line->bytes)
		return;
	va_list args;
	va_start(args, format);
	int n = vsnprintf(line->out + line->used, line->bytes - line->used, format, args);
	va_end(args);
	if (n > 0)
		line->used += (size_t)n;
}

static size_t entries_to_print(size_t count)
{
	return count < PRINT_ENTRIES_MAX ? count : PRINT_ENTRIES_MAX;
}

static void bytes_print(struct line *line, const struct field *field, const void *base)
{
	const uint8_t *at = (const uint8_t *)base + field->offset;
	size_t count = field->counts ? field_count(field, base) : field->size;
	size_t shown = field->counts ? entries_to_print(count) : count;
	for (size_t i = 0; i < shown; i++)
		line_add(line, "%02x", at[i]);
	if (shown < count)
		line_add(line, "...");
}

static void value_print(struct line *line, const struct field *field, const void *base)
{
	if (field->kind == FIELD_NUMBER)
		line_add(line, "%" PRIu64, field_number(field, base));
	else if (field->kind == FIELD_TEXT)
		line_add(line, "\"%.*s\"", (int)field->size, (const char *)base + field->offset);
	else if (field->kind == FIELD_BYTES)
		bytes_print(line, field, base);
}

static void entry_print(struct line *line, const struct field *list, const void *entry)
{
	bool first = true;
	for (const struct field *field = list->entry; field->name; field++) {
		if (field->secret)
			continue;
		if (!first)
			line_add(line, "%c", list->join);
		value_print(line, field, entry);
		first = false;
	}
}

static void list_print(struct line *line, const struct field *field, const void *base)
{
	size_t count = field_count(field, base), shown = entries_to_print(count);
	line_add(line, "[");
	for (size_t i = 0; i < shown; i++) {
		line_add(line, "%s", i ? "," : "");
		entry_print(line, field, (const uint8_t *)base + field->offset + i * field->size);
	}
	line_add(line, shown < count ? ",...]" : "]");
}

void fields_print(struct line *line, const struct field *fields, const void *base)
{
	for (const struct field *field = fields; field->name; field++) {
		if (field->secret)
			continue;
		line_add(line, " %s=", field->name);
		if (field->kind == FIELD_LIST)
			list_print(line, field, base);
		else
			value_print(line, field, base);
	}
}

/* How many bytes @field always takes; 0 if that depends. */
static size_t field_bytes_fixed(const struct field *field)
{
	return field->kind == FIELD_TEXT || field->counts ? 0 : field->size;
}

static size_t field_bytes_max(const struct field *field)
{
	switch (field->kind) {
	case FIELD_TEXT: return sizeof(uint16_t) + field->max;
	case FIELD_LIST: return field->max * fields_bytes_max(field->entry);
	case FIELD_BYTES: return field->counts ? field->max : field->size;
	default: return field->size;
	}
}

size_t fields_bytes_max(const struct field *fields)
{
	size_t sum = 0;
	for (const struct field *field = fields; field->name; field++)
		sum += field_bytes_max(field);
	return sum;
}

static void type_document(FILE *out, const struct field *field)
{
	if (field->kind == FIELD_NUMBER)
		fprintf(out, "u%zu", field->size * 8);
	else if (field->kind == FIELD_TEXT)
		fprintf(out, "text");
	else if (field->kind == FIELD_LIST)
		fprintf(out, "list");
	else if (field->counts)
		fprintf(out, "bytes");
	else
		fprintf(out, "%zu bytes", field->size);
}

static void bounds_document(FILE *out, const struct field *field)
{
	uint64_t widest = field->size < 8 ? (1ull << field->size * 8) - 1 : UINT64_MAX;
	if (field->kind == FIELD_TEXT)
		fprintf(out, "%" PRIu64 "..%" PRIu64 " bytes, none below 0x20", field->min, field->max);
	else if (field->counts)
		fprintf(out, "at most %" PRIu64, field->max);
	else if (field->kind == FIELD_BYTES || (field->min == 0 && field->max >= widest))
		fprintf(out, "any");
	else if (field->min == field->max)
		fprintf(out, "%" PRIu64, field->min);
	else if (field->max >= widest)
		fprintf(out, "at least %" PRIu64, field->min);
	else
		fprintf(out, "%" PRIu64 "..%" PRIu64, field->min, field->max);
}

/* Rows of a table; those of a LIST's entry follow it, with offsets in the entry. */
static void rows_document(FILE *out, const struct field *fields, const char *list)
{
	size_t offset = 0;
	bool known = true;	/* nothing of varying length came before */
	for (const struct field *field = fields; field->name; field++) {
		if (known)
			fprintf(out, "| %s%zu | ", list ? "+" : "", offset);
		else
			fprintf(out, "| next | ");
		type_document(out, field);
		fprintf(out, " | `%s%s%s` | %s%s | ", list ? list : "", list ? "[]." : "", field->name, field->doc,
			field->secret ? " (never printed)" : "");
		bounds_document(out, field);
		fprintf(out, " |\n");
		if (field->kind == FIELD_LIST)
			rows_document(out, field->entry, field->name);
		known = known && field_bytes_fixed(field);
		offset += field_bytes_fixed(field);
	}
}

void fields_document(FILE *out, const struct field *fields)
{
	if (!fields->name)
		return;
	fprintf(out, "\n| offset | type | name | meaning | bounds |\n|---|---|---|---|---|\n");
	rows_document(out, fields, NULL);
}
