/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * number.c - text to number and back.
 * Neighbour: options.c, whose setters call the parsers. Any thread.
 */
#include "cli/number.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct suffix {
	const char *text;
	uint64_t factor;
};

static const struct suffix byte_suffixes[] = {
	{ "", 1 }, { "K", 1ull << 10 }, { "M", 1ull << 20 }, { "G", 1ull << 30 }, { "T", 1ull << 40 },
};

static const struct suffix duration_suffixes[] = {
	{ "ms", 1 }, { "s", 1000 }, { "m", 60 * 1000 }, { "h", 3600 * 1000 },
};

/* Digits only: strtoull() would take blanks, signs and hexadecimal. */
static bool parse_digits(const char **text, uint64_t *out)
{
	const char *at = *text;
	uint64_t value = 0;
	for (; *at >= '0' && *at <= '9'; at++)
		if (__builtin_mul_overflow(value, 10u, &value) || __builtin_add_overflow(value, (unsigned)(*at - '0'), &value))
			return false;
	if (at == *text)
		return false;
	*text = at;
	*out = value;
	return true;
}

static bool parse_suffixed(const char *text, const struct suffix *suffixes, size_t count, uint64_t *out)
{
	uint64_t value;
	if (!parse_digits(&text, &value))
		return false;
	for (size_t i = 0; i < count; i++)
		if (strcmp(text, suffixes[i].text) == 0 && !__builtin_mul_overflow(value, suffixes[i].factor, &value)) {
			*out = value;
			return true;
		}
	return false;
}

bool number_parse_count(const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
	uint64_t value;
	if (!parse_digits(&text, &value) || *text || value < min || value > max)
		return false;
	*out = value;
	return true;
}

bool number_parse_bytes(const char *text, uint64_t *out)
{
	return parse_suffixed(text, byte_suffixes, sizeof(byte_suffixes) / sizeof(byte_suffixes[0]), out);
}

bool number_parse_duration(const char *text, uint64_t unit_ms, uint64_t *out_ms)
{
	uint64_t ms;
	if (number_parse_count(text, 0, NUMBER_DURATION_MAX_MS / unit_ms, &ms))
		ms *= unit_ms;
	else if (!parse_suffixed(text, duration_suffixes, sizeof(duration_suffixes) / sizeof(duration_suffixes[0]), &ms) ||
		 ms > NUMBER_DURATION_MAX_MS)
		return false;
	*out_ms = ms;
	return true;
}

const char *number_format_bytes(uint64_t bytes, char out[NUMBER_TEXT_BYTES])
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	unsigned unit = 0;
	double value = (double)bytes;
	for (; value >= 1024; unit++)
		value /= 1024;
	snprintf(out, NUMBER_TEXT_BYTES, "%.*f %s", unit && value < 100 ? 2 : 0, value, units[unit]);
	return out;
}

const char *number_format_duration(uint64_t ms, char out[NUMBER_TEXT_BYTES])
{
	uint64_t s = ms / 1000;
	if (s == 0)
		snprintf(out, NUMBER_TEXT_BYTES, "%" PRIu64 " ms", ms);
	else if (s < 60)
		snprintf(out, NUMBER_TEXT_BYTES, "%.1f s", (double)ms / 1000);
	else
		snprintf(out, NUMBER_TEXT_BYTES, "%" PRIu64 ":%02" PRIu64 ":%02" PRIu64, s / 3600, s / 60 % 60, s % 60);
	return out;
}
