/* SPDX-License-Identifier: BSD-2-Clause */
/* apply.h - make a batch's pages so at dest, once its fence has been seen. */
#ifndef MULTIFD_APPLY_H
#define MULTIFD_APPLY_H

#include <stdbool.h>

#include "ram/block.h"
#include "wire/message.h"

/*
 * batch_apply - @batch's runs lie within @block: its receiver has checked.
 * normal: the bytes are in place, set the bits. zero: zero only what was received before (R4), set the bits.
 * forced: zero it, set the bits. false: memory to zero a page was not to be had. The channel's thread.
 */
bool batch_apply(struct block *block, const struct message_batch *batch);

#endif
