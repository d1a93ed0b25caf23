/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * json.h - what --json prints: one object per line on stdout, each with schema, event and ts (seconds since 1970).
 *
 *	event      from          has
 *	listening  recv          uri, with the port in it
 *	progress   send, recv    the keys of result so far
 *	result     send, recv,   the last line: status, exit-code, error (when it failed), every effective parameter
 *	           bench, synth
 *	ready      synth         filled or, with --resume, checked: pid, size
 *	check      check         result, name, text, cure
 *
 * A '.' in a key makes or enters an object inside: "ram.total" is { "ram": { "total": ... } }, as in QEMU's query-migrate.
 */
#ifndef CLI_JSON_H
#define CLI_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include <json-c/json.h>

enum { JSON_SCHEMA = 1 };

/* json_event_new - the caller adds to it and gives it to json_event_print(). Aborts the program when out of memory. */
struct json_object *json_event_new(const char *event);

/* json_event_print - one line, at once; frees @event. */
void json_event_print(struct json_object *event);

void json_add_string(struct json_object *object, const char *key, const char *value);	/* NULL becomes null */
void json_add_bool(struct json_object *object, const char *key, bool value);
void json_add_u64(struct json_object *object, const char *key, uint64_t value);
void json_add_double(struct json_object *object, const char *key, double value);	/* three decimals */

/* json_find - the value at a dotted key, still @object's; NULL if there is none. */
struct json_object *json_find(struct json_object *object, const char *key);
uint64_t json_u64(struct json_object *object, const char *key);		/* 0 if there is none */
double json_double(struct json_object *object, const char *key);	/* 0 if there is none */
const char *json_string(struct json_object *object, const char *key);	/* NULL if there is none; @object's */

#endif
