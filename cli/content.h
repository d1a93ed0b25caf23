/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * content.h - what a synth page holds at each version: a pure function of seed, page and version.
 *
 * So whoever has the version knows every byte, on any host, without a copy.
 */
#ifndef CLI_CONTENT_H
#define CLI_CONTENT_H

#include <stdbool.h>
#include <stdint.h>

enum { CONTENT_PAGE_BYTES = 4096 };

/* The numbers are in the guest's memory, which may travel to another build: never renumber. */
enum content_fill {
	CONTENT_RANDOM = 1,
	CONTENT_ZERO = 2,	/* zero until first rewritten, random from then on */
	CONTENT_MIXED = 3,	/* random_pct of the pages random, the others zero; anew at each version */
	CONTENT_TEXT = 4,	/* words and numbers, for codecs */
};

struct content {
	uint64_t seed;
	enum content_fill fill;
	unsigned random_pct;
	unsigned discard_pct;	/* of the rewrites: the page is punched out instead */
};

uint64_t content_mix(uint64_t a, uint64_t b);	/* one 64-bit hash of two */

bool content_is_discarded(const struct content *content, uint64_t page, uint32_t version);
bool content_is_zero(const struct content *content, uint64_t page, uint32_t version);	/* discarded included */

/* content_write - all CONTENT_PAGE_BYTES of @out. */
void content_write(const struct content *content, uint64_t page, uint32_t version, uint64_t *out);

#endif
