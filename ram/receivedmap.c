/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * receivedmap.c - the pages dest has, and how that is told to a peer.
 * Neighbours: bitmap.c does the work; base/cursor.c turns words into bytes.
 * Set and test run on all channels at once, the rest on the session thread.
 */
#include "ram/receivedmap.h"

#include <assert.h>

#include "base/cursor.h"

static const uint64_t RECEIVEDMAP_END = 0x0123456789abcdef;

enum rdmamig_status receivedmap_init(struct receivedmap *map, uint64_t pages)
{
	return bitmap_init(&map->bitmap, pages);
}

void receivedmap_fini(struct receivedmap *map)
{
	bitmap_fini(&map->bitmap);
}

bool receivedmap_test(const struct receivedmap *map, uint64_t page)
{
	return bitmap_test_atomic(&map->bitmap, page);
}

void receivedmap_set(struct receivedmap *map, uint64_t page)
{
	bitmap_set_range_atomic(&map->bitmap, page, 1);
}

void receivedmap_set_range(struct receivedmap *map, uint64_t first_page, uint64_t pages)
{
	bitmap_set_range_atomic(&map->bitmap, first_page, pages);
}

void receivedmap_set_offset(struct receivedmap *map, uint64_t byte_offset)
{
	receivedmap_set(map, byte_offset >> PAGE_SHIFT);
}

void receivedmap_clear_range(struct receivedmap *map, uint64_t first_page, uint64_t pages)
{
	bitmap_clear_range(&map->bitmap, first_page, pages);
}

uint64_t receivedmap_count(const struct receivedmap *map)
{
	return bitmap_count(&map->bitmap);
}

static uint64_t map_words(const struct receivedmap *map)
{
	return (map->bitmap.bits + 63) / 64;
}

size_t receivedmap_export_bytes(const struct receivedmap *map)
{
	return sizeof(uint64_t) * (1 + map_words(map) + 1);
}

size_t receivedmap_export(const struct receivedmap *map, void *out, size_t out_bytes)
{
	struct cursor cursor = cursor_to_write(out, out_bytes);
	cursor_put_u64(&cursor, map_words(map) * sizeof(uint64_t));
	for (uint64_t i = 0; i < map_words(map); i++)
		cursor_put_u64(&cursor, map->bitmap.words[i]);
	cursor_put_u64(&cursor, RECEIVEDMAP_END);
	assert(cursor_is_ok(&cursor));
	return cursor.used;
}

/* The size, the padding bits and the end mark are right, and nothing follows. */
static bool import_is_sound(const struct receivedmap *map, struct cursor cursor)
{
	uint64_t words = map_words(map);
	unsigned tail_bits = map->bitmap.bits % 64;

	if (cursor_get_u64(&cursor) != words * sizeof(uint64_t))
		return false;
	if (tail_bits) {
		cursor_skip_read(&cursor, (words - 1) * sizeof(uint64_t));
		if (cursor_get_u64(&cursor) >> tail_bits)
			return false;
	} else {
		cursor_skip_read(&cursor, words * sizeof(uint64_t));
	}
	return cursor_get_u64(&cursor) == RECEIVEDMAP_END && cursor_left(&cursor) == 0;
}

enum rdmamig_status receivedmap_import(struct receivedmap *map, const void *bytes, size_t size)
{
	struct cursor cursor = cursor_to_read(bytes, size);
	if (!import_is_sound(map, cursor))
		return RDMAMIG_E_PROTOCOL;

	cursor_skip_read(&cursor, sizeof(uint64_t));
	for (uint64_t i = 0; i < map_words(map); i++) {
		uint64_t word = cursor_get_u64(&cursor);
		if (map->bitmap.words[i] != word)	/* a word never written to stays unmapped */
			map->bitmap.words[i] = word;
	}
	return RDMAMIG_OK;
}
