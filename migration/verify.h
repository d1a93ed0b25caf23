/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * verify.h - a hash of a block's contents, the same whether its zero pages are holes or not.
 *
 * SHA-256 over (page number, page) of every page that is not zero, a slice a step, so that heartbeats and beats go on.
 */
#ifndef MIGRATION_VERIFY_H
#define MIGRATION_VERIFY_H

#include <stdint.h>

#include <openssl/evp.h>

#include "migration/control.h"
#include "ram/block.h"
#include "ram/zero.h"
#include "wire/message.h"

struct verify {
	EVP_MD_CTX *context;
	zero_scan *scan;
	unsigned block;
	uint64_t next_page;
	struct run extent;	/* what of it is not hashed yet */
	struct message_hash hashes[WIRE_BLOCKS_TOTAL_MAX];
	unsigned done;		/* blocks hashed */
	unsigned compared;
};

enum rdmamig_status verify_begin(struct verify *verify, struct error *error);
/* verify_step - AGAIN: more to do; OK: hashes[0..block_count) are there. E_IO, E_BLOCK_CHANGED. */
enum rdmamig_status verify_step(struct verify *verify, struct block *blocks, unsigned block_count, struct error *error);
/* verify_send - all hashes, as VERIFY messages; the control's queue has room for them once a round is over. */
void verify_send(const struct verify *verify, struct control *control);
/* verify_compare - @count of the peer's hashes with ours, in order; verify->compared counts them. E_NOT_VERIFIED, E_PROTOCOL. */
enum rdmamig_status verify_compare(struct verify *verify, const struct message_hash *theirs, unsigned count,
				   const struct block *blocks, struct error *error);
void verify_end(struct verify *verify);		/* a zeroed one is fine */

#endif
