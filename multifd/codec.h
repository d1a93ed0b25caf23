/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * codec.h - how pages look on the wire.
 *
 * A codec without encode() has pages placed as they are, straight into guest memory. One with it is given a private copy
 * of a page (rule R9) and its output goes staged, into a slot of dest's ring, to be decoded into place there.
 */
#ifndef MULTIFD_CODEC_H
#define MULTIFD_CODEC_H

#include <stddef.h>
#include <stdint.h>

#include <rdmamig/status.h>

struct codec {
	const char *name;	/* of --codec */
	uint8_t number;		/* in HELLO */
	/* Bytes used in @out, 0 if the page does not get smaller. */
	size_t (*encode)(void *state, const void *page_copy, void *out, size_t out_bytes);
	enum rdmamig_status (*decode)(void *state, const void *bytes, size_t size, void *page);
};

const struct codec *codec_find(const char *name);	/* NULL: this build has none of that name */
const struct codec *codec_at(uint8_t number);

#endif
