/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bitmap.c - sets, clears and finds runs of bits, a 64-bit word a step.
 * Neighbours: receivedmap.c is one with an exported form; block.c holds the rest.
 * Functions named _atomic run on all channels at once, the others on the session thread.
 */
#include "ram/bitmap.h"

#include <assert.h>
#include <stddef.h>
#include <sys/mman.h>

enum { WORD_BITS = 64 };

static size_t bitmap_bytes(const struct bitmap *bitmap)
{
	return (bitmap->bits + WORD_BITS - 1) / WORD_BITS * sizeof(uint64_t);
}

enum rdmamig_status bitmap_init(struct bitmap *bitmap, uint64_t bits)
{
	*bitmap = (struct bitmap){ .bits = bits };
	if (!bits)
		return RDMAMIG_OK;

	void *words = mmap(NULL, bitmap_bytes(bitmap), PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (words == MAP_FAILED) {
		bitmap->bits = 0;
		return RDMAMIG_E_NO_MEMORY;
	}
	/* With a huge page, one bit would cost 2 MiB. A kernel without them refuses, which is as good. */
	madvise(words, bitmap_bytes(bitmap), MADV_NOHUGEPAGE);
	bitmap->words = words;
	return RDMAMIG_OK;
}

void bitmap_fini(struct bitmap *bitmap)
{
	if (bitmap->words)
		munmap(bitmap->words, bitmap_bytes(bitmap));
	*bitmap = (struct bitmap){ 0 };
}

/* The bits of [first, end) that lie in word @index; at least one does. */
static uint64_t word_mask(uint64_t index, uint64_t first, uint64_t end)
{
	uint64_t start = index * WORD_BITS;
	uint64_t mask = ~0ull;
	if (first > start)
		mask &= ~0ull << (first - start);
	if (end - start < WORD_BITS)
		mask &= ~0ull >> (start + WORD_BITS - end);
	return mask;
}

static uint64_t range_end(const struct bitmap *bitmap, uint64_t first, uint64_t count)
{
	assert(first <= bitmap->bits && count <= bitmap->bits - first);
	return first + count;
}

bool bitmap_test(const struct bitmap *bitmap, uint64_t bit)
{
	assert(bit < bitmap->bits);
	return bitmap->words[bit / WORD_BITS] >> bit % WORD_BITS & 1;
}

void bitmap_set_range(struct bitmap *bitmap, uint64_t first, uint64_t count)
{
	uint64_t end = range_end(bitmap, first, count);
	for (uint64_t i = first / WORD_BITS; i * WORD_BITS < end; i++)
		bitmap->words[i] |= word_mask(i, first, end);
}

void bitmap_clear_range(struct bitmap *bitmap, uint64_t first, uint64_t count)
{
	uint64_t end = range_end(bitmap, first, count);
	for (uint64_t i = first / WORD_BITS; i * WORD_BITS < end; i++)
		if (bitmap->words[i])	/* a word never written to stays unmapped */
			bitmap->words[i] &= ~word_mask(i, first, end);
}

uint64_t bitmap_count(const struct bitmap *bitmap)
{
	return bitmap_count_range(bitmap, 0, bitmap->bits);
}

uint64_t bitmap_count_range(const struct bitmap *bitmap, uint64_t first, uint64_t count)
{
	uint64_t end = range_end(bitmap, first, count);
	uint64_t sum = 0;
	for (uint64_t i = first / WORD_BITS; i * WORD_BITS < end; i++)
		if (bitmap->words[i])
			sum += (uint64_t)__builtin_popcountll(bitmap->words[i] & word_mask(i, first, end));
	return sum;
}

/* The first bit of [from, end) that is set once its word is XORed with @flip; @end if there is none. */
static uint64_t first_bit(const struct bitmap *bitmap, uint64_t from, uint64_t end, uint64_t flip)
{
	if (from >= end)
		return end;

	uint64_t i = from / WORD_BITS;
	uint64_t last = (end - 1) / WORD_BITS;
	uint64_t word = (bitmap->words[i] ^ flip) & ~0ull << from % WORD_BITS;
	while (!word && i < last)
		word = bitmap->words[++i] ^ flip;
	if (!word)
		return end;

	uint64_t bit = i * WORD_BITS + (uint64_t)__builtin_ctzll(word);
	return bit < end ? bit : end;
}

static bool next_run(const struct bitmap *bitmap, uint64_t from, uint64_t end, uint64_t max, uint64_t flip, struct run *out)
{
	assert(end <= bitmap->bits && max > 0);
	uint64_t first = first_bit(bitmap, from, end, flip);
	if (first == end || from >= end)
		return false;
	if (max < end - first)
		end = first + max;
	*out = (struct run){ .first_page = first, .pages = first_bit(bitmap, first, end, ~flip) - first };
	return true;
}

bool bitmap_next_run(const struct bitmap *bitmap, uint64_t from, uint64_t end, uint64_t max, struct run *out)
{
	return next_run(bitmap, from, end, max, 0, out);
}

bool bitmap_next_gap(const struct bitmap *bitmap, uint64_t from, uint64_t end, uint64_t max, struct run *out)
{
	return next_run(bitmap, from, end, max, ~0ull, out);
}

bool bitmap_take_run(struct bitmap *bitmap, uint64_t from, uint64_t end, uint64_t max, struct run *out)
{
	if (!bitmap_next_run(bitmap, from, end, max, out))
		return false;
	bitmap_clear_range(bitmap, out->first_page, out->pages);
	return true;
}

void bitmap_or(struct bitmap *into, const struct bitmap *from)
{
	assert(into->bits == from->bits);
	for (uint64_t i = 0; i * WORD_BITS < from->bits; i++)
		if (from->words[i])
			into->words[i] |= from->words[i];
}

void bitmap_and(struct bitmap *into, const struct bitmap *with)
{
	assert(into->bits == with->bits);
	for (uint64_t i = 0; i * WORD_BITS < into->bits; i++)
		if (into->words[i] & ~with->words[i])
			into->words[i] &= with->words[i];
}

bool bitmap_test_atomic(const struct bitmap *bitmap, uint64_t bit)
{
	assert(bit < bitmap->bits);
	/* Acquire: pairs with the release in bitmap_set_range_atomic(). */
	uint64_t word = __atomic_load_n(&bitmap->words[bit / WORD_BITS], __ATOMIC_ACQUIRE);
	return word >> bit % WORD_BITS & 1;
}

void bitmap_set_range_atomic(struct bitmap *bitmap, uint64_t first, uint64_t count)
{
	uint64_t end = range_end(bitmap, first, count);
	/* Release: pairs with the acquire in bitmap_test_atomic(). */
	for (uint64_t i = first / WORD_BITS; i * WORD_BITS < end; i++)
		__atomic_fetch_or(&bitmap->words[i], word_mask(i, first, end), __ATOMIC_RELEASE);
}
