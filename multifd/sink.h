/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sink.h - what a channel writes to: a peer's memory through a conn (peer_sink.h), or one day a file.
 *
 * keys    where a run of a block's pages goes; AGAIN while the peer has not said yet
 * place   put the batch's normal pages there; AGAIN: no room now. The pages are read until the batch is acked.
 * fence   a mark with the batch's sequence behind all that was placed; AGAIN: no room now
 * acked   all batches up to this sequence are applied
 * move    let bytes flow; any status but OK is the end of the sink
 * wait    add what move is waiting for
 * All but acked run on the channel's thread.
 */
#ifndef MULTIFD_SINK_H
#define MULTIFD_SINK_H

#include <stdint.h>

#include <rdmamig/status.h>

#include "base/clock.h"
#include "multifd/batch.h"

struct sink_key {
	uint64_t remote;	/* of the run's first byte */
	uint32_t key;
};

struct sink {
	const struct sink_ops *ops;
};

struct sink_ops {
	enum rdmamig_status (*keys)(struct sink *sink, uint16_t block, struct run run, struct sink_key *out);
	enum rdmamig_status (*place)(struct sink *sink, const struct batch *batch);
	enum rdmamig_status (*fence)(struct sink *sink, uint32_t sequence);
	uint32_t (*acked)(struct sink *sink);
	enum rdmamig_status (*move)(struct sink *sink);
	void (*wait)(struct sink *sink, struct wait *wait);
};

#endif
