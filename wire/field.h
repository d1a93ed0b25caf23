/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * field.h - one row for each field of a message: the bytes, the text and the documentation all come from it.
 *
 * On the wire a NUMBER is as wide as its struct member, little-endian; BYTES are copied; a TEXT is a u16 length and that
 * many bytes without a NUL; a LIST is its entries one after another. How much of a counted field is used stands in
 * NUMBERs before it: a row for each of them comes earlier in the table.
 */
#ifndef WIRE_FIELD_H
#define WIRE_FIELD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/cursor.h"

enum field_kind {
	FIELD_NUMBER = 1,
	FIELD_BYTES = 2,
	FIELD_TEXT = 3,
	FIELD_LIST = 4,
};

/* A table of these ends with a row without a name. */
struct field {
	const char *name;
	enum field_kind kind;
	size_t offset;			/* in the struct that holds the member */
	size_t size;			/* of the member; of one entry in a LIST */
	uint64_t min;			/* of a NUMBER, of a TEXT's length */
	uint64_t max;			/* of a NUMBER, of a TEXT's length, of a counted field's count */
	size_t count_offset;		/* of the first u16 that counts it */
	unsigned counts;		/* u16s side by side whose sum is the count; 0: not counted */
	const struct field *entry;	/* of a LIST */
	char join;			/* stands between the values of an entry in print */
	bool secret;			/* never printed */
	const char *refusal;		/* what message_decode() says of a value out of bounds */
	const char *doc;
};

/* fields_read - from the wire into the struct at @base. NULL, or why not; then the struct is half filled. */
const char *fields_read(struct cursor *cursor, const struct field *fields, void *base);

/* fields_write - the other way. A value out of bounds is an assert, except that control bytes of a TEXT go as '?'. */
void fields_write(struct cursor *cursor, const struct field *fields, const void *base);

/* For describe.c; of valid structs only. */
uint64_t field_number(const struct field *field, const void *base);
size_t field_count(const struct field *field, const void *base);

/* A line of text that is cut at its end and always ends in NUL. */
struct line {
	char *out;
	size_t bytes;
	size_t used;
};

void line_add(struct line *line, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* fields_print - " name=value" for each field that is no secret; lists are cut after 8 entries. */
void fields_print(struct line *line, const struct field *fields, const void *base);

/* fields_document - a Markdown table: where, what, bounds; nothing for an empty one. */
void fields_document(FILE *out, const struct field *fields);

/* fields_bytes_max - the most these take on the wire. */
size_t fields_bytes_max(const struct field *fields);

#endif
