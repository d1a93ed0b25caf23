/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * json.c - lines of JSON through json-c.
 * Neighbours: every subcommand with --json; bench.c also reads what send and recv print. One thread a process.
 */
#include "cli/json.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { KEY_PART_BYTES = 64 };

/* The object that holds the last part of a dotted key, made on the way if @make; *leaf is that part. */
static struct json_object *key_enter(struct json_object *object, const char *key, bool make, const char **leaf)
{
	for (const char *dot; object && (dot = strchr(key, '.')); key = dot + 1) {
		char part[KEY_PART_BYTES];
		snprintf(part, sizeof(part), "%.*s", (int)(dot - key), key);
		struct json_object *inner = NULL;
		if (!json_object_object_get_ex(object, part, &inner) && make) {
			inner = json_object_new_object();
			json_object_object_add(object, part, inner);
		}
		object = inner;
	}
	*leaf = key;
	return object;
}

static void add_value(struct json_object *object, const char *key, struct json_object *value)
{
	const char *leaf;
	struct json_object *holder = key_enter(object, key, true, &leaf);
	json_object_object_add(holder, leaf, value);
}

struct json_object *json_event_new(const char *event)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	struct json_object *object = json_object_new_object();
	json_add_u64(object, "schema", JSON_SCHEMA);
	json_add_string(object, "event", event);
	json_add_double(object, "ts", (double)now.tv_sec + (double)now.tv_nsec / 1e9);
	return object;
}

void json_event_print(struct json_object *event)
{
	puts(json_object_to_json_string_ext(event, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
	fflush(stdout);		/* who reads us waits for this line */
	json_object_put(event);
}

void json_add_string(struct json_object *object, const char *key, const char *value)
{
	add_value(object, key, value ? json_object_new_string(value) : NULL);
}

void json_add_bool(struct json_object *object, const char *key, bool value)
{
	add_value(object, key, json_object_new_boolean(value));
}

void json_add_u64(struct json_object *object, const char *key, uint64_t value)
{
	add_value(object, key, json_object_new_uint64(value));
}

void json_add_double(struct json_object *object, const char *key, double value)
{
	char text[64] = "0";	/* neither NaN nor infinity is JSON */
	if (isfinite(value))
		snprintf(text, sizeof(text), "%.3f", value);
	add_value(object, key, json_object_new_double_s(isfinite(value) ? value : 0, text));
}

struct json_object *json_find(struct json_object *object, const char *key)
{
	const char *leaf;
	struct json_object *value = NULL;
	struct json_object *holder = key_enter(object, key, false, &leaf);
	if (holder && json_object_is_type(holder, json_type_object))
		json_object_object_get_ex(holder, leaf, &value);
	return value;
}

uint64_t json_u64(struct json_object *object, const char *key)
{
	return json_object_get_uint64(json_find(object, key));
}

double json_double(struct json_object *object, const char *key)
{
	return json_object_get_double(json_find(object, key));
}

const char *json_string(struct json_object *object, const char *key)
{
	struct json_object *value = json_find(object, key);
	return value ? json_object_get_string(value) : NULL;
}
