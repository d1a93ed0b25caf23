/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * verify.c - hashes a stopped guest's memory, a slice a step.
 * Neighbours: handover.c at the source and dest.c compare the hashes. Session thread.
 */
#include "migration/verify.h"

#include <string.h>

#include "base/cursor.h"
#include "ram/extent.h"
#include "ram/guard.h"

enum { VERIFY_SLICE_PAGES = 4096 };	/* 16 MiB a step: some 10 ms */

enum rdmamig_status verify_begin(struct verify *verify, struct error *error)
{
	*verify = (struct verify){ .context = EVP_MD_CTX_new(), .scan = zero_scan_best() };
	if (!verify->context || EVP_DigestInit_ex(verify->context, EVP_sha256(), NULL) != 1)
		return error_note(error, RDMAMIG_E_NO_MEMORY, 0, "SHA-256 is not to be had from OpenSSL");
	return RDMAMIG_OK;
}

void verify_end(struct verify *verify)
{
	EVP_MD_CTX_free(verify->context);
	verify->context = NULL;
}

struct verify_slice {
	struct verify *verify;
	const struct block *block;
	struct run run;
};

static void verify_pages(void *arg)
{
	const struct verify_slice *slice = arg;
	for (uint64_t page = slice->run.first_page; page < slice->run.first_page + slice->run.pages; page++) {
		const uint8_t *memory = slice->block->memory + bytes_of_pages(page);
		if (slice->verify->scan(memory, PAGE_BYTES))
			continue;
		uint8_t number[8];
		struct cursor cursor = cursor_to_write(number, sizeof(number));
		cursor_put_u64(&cursor, page);
		EVP_DigestUpdate(slice->verify->context, number, sizeof(number));
		EVP_DigestUpdate(slice->verify->context, memory, PAGE_BYTES);
	}
}

static void verify_block_done(struct verify *verify)
{
	struct message_hash *hash = &verify->hashes[verify->done++];
	hash->block = (uint16_t)verify->block;
	EVP_DigestFinal_ex(verify->context, hash->hash, NULL);
	EVP_DigestInit_ex(verify->context, EVP_sha256(), NULL);
	verify->block++;
	verify->next_page = 0;
}

enum rdmamig_status verify_step(struct verify *verify, struct block *blocks, unsigned block_count, struct error *error)
{
	if (verify->block == block_count)
		return RDMAMIG_OK;
	const struct block *block = &blocks[verify->block];
	struct verify_slice slice = { .verify = verify, .block = block };
	bool found = verify->extent.pages > 0;	/* to ask anew each slice would walk to the extent's end each time */
	enum rdmamig_status st = found ? RDMAMIG_OK : extent_next(block, verify->next_page, &verify->extent, &found, error);
	if (st)
		return st;
	if (!found) {
		verify_block_done(verify);
		return verify->block == block_count ? RDMAMIG_OK : RDMAMIG_AGAIN;
	}
	slice.run = verify->extent;
	if (slice.run.pages > VERIFY_SLICE_PAGES)
		slice.run.pages = VERIFY_SLICE_PAGES;
	if (!guard_call(verify_pages, &slice))
		return error_note(error, RDMAMIG_E_BLOCK_CHANGED, 0, "block %s: its memory went away while it was read", block->name);
	verify->next_page = slice.run.first_page + slice.run.pages;
	verify->extent.first_page += slice.run.pages;
	verify->extent.pages -= slice.run.pages;
	return RDMAMIG_AGAIN;
}

void verify_send(const struct verify *verify, struct control *control)
{
	for (unsigned first = 0; first < verify->done; first += WIRE_HASHES_MAX) {
		struct message message = { .header.type = MESSAGE_VERIFY };
		unsigned left = verify->done - first;
		message.verify.count = (uint16_t)(left < WIRE_HASHES_MAX ? left : WIRE_HASHES_MAX);
		memcpy(message.verify.hashes, &verify->hashes[first], message.verify.count * sizeof(verify->hashes[0]));
		control_send(control, &message);
	}
}

enum rdmamig_status verify_compare(struct verify *verify, const struct message_hash *theirs, unsigned count,
				   const struct block *blocks, struct error *error)
{
	for (unsigned i = 0; i < count; i++) {
		const struct message_hash *ours = &verify->hashes[verify->compared];
		if (verify->compared == verify->done || theirs[i].block != ours->block)
			return error_note(error, RDMAMIG_E_PROTOCOL, 0, "the peer sent a hash out of order");
		if (memcmp(theirs[i].hash, ours->hash, sizeof(ours->hash)))
			return error_note(error, RDMAMIG_E_NOT_VERIFIED, 0, "block %s differs between source and dest; the guest stays "
					  "at the source. Please report this: it must not happen", blocks[ours->block].name);
		verify->compared++;
	}
	return RDMAMIG_OK;
}
