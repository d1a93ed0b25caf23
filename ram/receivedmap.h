/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * receivedmap.h - which pages of a block dest has (rule R3: set => the bytes are in place, or the page is known zero).
 *
 * QEMU's operations. Set and test are atomic and may run on all channels at once: set releases, test acquires, so who
 * sees the bit sees the bytes. The rest is for a quiet session.
 */
#ifndef RAM_RECEIVEDMAP_H
#define RAM_RECEIVEDMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rdmamig/status.h>

#include "ram/bitmap.h"

struct receivedmap {
	struct bitmap bitmap;
};

enum rdmamig_status receivedmap_init(struct receivedmap *map, uint64_t pages);
void receivedmap_fini(struct receivedmap *map);

bool receivedmap_test(const struct receivedmap *map, uint64_t page);
void receivedmap_set(struct receivedmap *map, uint64_t page);
void receivedmap_set_range(struct receivedmap *map, uint64_t first_page, uint64_t pages);
void receivedmap_set_offset(struct receivedmap *map, uint64_t byte_offset);
void receivedmap_clear_range(struct receivedmap *map, uint64_t first_page, uint64_t pages);
uint64_t receivedmap_count(const struct receivedmap *map);

/*
 * The exported form: u64 size in bytes of the bitmap padded to 8, the bitmap little-endian, u64 end mark
 * 0x0123456789abcdef. receivedmap_export() returns the bytes written; *out must have receivedmap_export_bytes().
 */
size_t receivedmap_export_bytes(const struct receivedmap *map);
size_t receivedmap_export(const struct receivedmap *map, void *out, size_t out_bytes);
/* E_PROTOCOL: size, end mark or padding bits are wrong; then the map is unchanged. */
enum rdmamig_status receivedmap_import(struct receivedmap *map, const void *bytes, size_t size);

#endif
