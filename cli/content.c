/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * content.c - the bytes of synth pages.
 * Neighbours: guest.c writes them, guestcheck.c compares. Pure functions, any thread.
 */
#include "cli/content.h"

#include <string.h>

enum { PAGE_WORDS = CONTENT_PAGE_BYTES / 8, LINE_WORDS = 8, PURPOSE_DISCARD = 1, PURPOSE_KIND = 2, PURPOSE_BYTES = 3 };

#define GAMMA 0x9e3779b97f4a7c15ull

/* The finalizer of SplitMix64 (Steele, Lea, Flood 2014): counter in, random out, so words need no order. */
static inline uint64_t mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

uint64_t content_mix(uint64_t a, uint64_t b)
{
	return mix(mix(a + GAMMA) + b * GAMMA);
}

static uint64_t page_key(const struct content *content, uint64_t page, uint32_t version, unsigned purpose)
{
	return content_mix(content_mix(content->seed + purpose, page), version);
}

bool content_is_discarded(const struct content *content, uint64_t page, uint32_t version)
{
	return version > 0 && page_key(content, page, version, PURPOSE_DISCARD) % 100 < content->discard_pct;
}

bool content_is_zero(const struct content *content, uint64_t page, uint32_t version)
{
	if (content_is_discarded(content, page, version))
		return true;
	switch (content->fill) {
	case CONTENT_ZERO:
		return version == 0;
	case CONTENT_MIXED:
		return page_key(content, page, version, PURPOSE_KIND) % 100 >= content->random_pct;
	case CONTENT_RANDOM:
	case CONTENT_TEXT:
		break;
	}
	return false;
}

static uint64_t hex_digits(uint32_t value)
{
	char digits[8];
	for (int i = 7; i >= 0; i--, value >>= 4)
		digits[i] = "0123456789abcdef"[value & 15];
	uint64_t word;
	memcpy(&word, digits, sizeof(word));
	return word;
}

/* Lines of 64 bytes: a number, then words. */
static void text_write(uint64_t key, uint64_t *out)
{
	static const char words[16][9] = {
		"guest   ", "memory  ", "migrate ", "page    ", "running ", "dirty   ", "channel ", "kernel  ",
		"source  ", "network ", "process ", "block   ", "request ", "service ", "thread  ", "handover",
	};
	for (unsigned line = 0; line < PAGE_WORDS / LINE_WORDS; line++, out += LINE_WORDS) {
		uint64_t bits = mix(key + line * GAMMA);
		out[0] = hex_digits((uint32_t)bits);
		for (unsigned i = 1; i < LINE_WORDS; i++)
			memcpy(&out[i], words[bits >> (32 + 4 * i) & 15], 8);
	}
}

void content_write(const struct content *content, uint64_t page, uint32_t version, uint64_t *out)
{
	if (content_is_zero(content, page, version)) {
		memset(out, 0, CONTENT_PAGE_BYTES);
		return;
	}
	uint64_t key = page_key(content, page, version, PURPOSE_BYTES);
	if (content->fill == CONTENT_TEXT) {
		text_write(key, out);
		return;
	}
	for (uint64_t i = 0; i < PAGE_WORDS; i++)
		out[i] = mix(key + i * GAMMA);
}
