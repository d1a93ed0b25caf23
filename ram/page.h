/* SPDX-License-Identifier: BSD-2-Clause */
/* page.h - the unit of bitmaps, zero detection, batches and receivedmap: 4 KiB, whatever the backing's granule is. */
#ifndef RAM_PAGE_H
#define RAM_PAGE_H

#include <stdint.h>

enum { PAGE_SHIFT = 12, PAGE_BYTES = 1 << PAGE_SHIFT };

/* A run of pages of one block. */
struct run {
	uint64_t first_page;
	uint64_t pages;
};

static inline uint64_t pages_of_bytes(uint64_t bytes)	/* bytes is a multiple of a page */
{
	return bytes >> PAGE_SHIFT;
}

static inline uint64_t bytes_of_pages(uint64_t pages)
{
	return pages << PAGE_SHIFT;
}

#endif
