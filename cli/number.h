/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * number.h - numbers a user types and reads: counts, sizes and rates in bytes, durations.
 *
 * Parsing is strict: decimal digits and at most one suffix, nothing before, between or after. On false *out is untouched.
 */
#ifndef CLI_NUMBER_H
#define CLI_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool number_parse_count(const char *text, uint64_t min, uint64_t max, uint64_t *out);

/* number_parse_bytes - a size, or a rate in bytes a second; K M G T are powers of 1024. */
bool number_parse_bytes(const char *text, uint64_t *out);

/* A year; in nanoseconds, and added to a clock, it still fits 64 bits. */
#define NUMBER_DURATION_MAX_MS (365ull * 24 * 3600 * 1000)

/* number_parse_duration - with a suffix ms, s, m or h, or without one in units of @unit_ms; at most a year. */
bool number_parse_duration(const char *text, uint64_t unit_ms, uint64_t *out_ms);

enum { NUMBER_TEXT_BYTES = 32 };

/* number_format_bytes - "1.50 GiB", for people; returns @out. */
const char *number_format_bytes(uint64_t bytes, char out[NUMBER_TEXT_BYTES]);

/* number_format_duration - "340 ms", "3.2 s", "1:02:03"; returns @out. */
const char *number_format_duration(uint64_t ms, char out[NUMBER_TEXT_BYTES]);

#endif
