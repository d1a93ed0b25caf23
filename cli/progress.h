/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * progress.h - a session's figures while it runs and at its end.
 *
 * On a terminal one line on stderr, redrawn; on a pipe nothing; with --json one object a second. Main thread only.
 */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#include <rdmamig/stats.h>

#include "cli/json.h"

struct progress {
	bool json;
	bool has_line;		/* stderr is a terminal and nobody asked for quiet */
	bool is_line_shown;
	uint64_t next_json_ms;
};

void progress_init(struct progress *progress, bool json, bool quiet);

/* progress_show - as often as there may be something new; @now_ms is of any clock that only grows. */
void progress_show(struct progress *progress, const struct rdmamig_stats *stats, uint64_t now_ms);

/* progress_clear - take the line away, before anything else is written to stderr. */
void progress_clear(struct progress *progress);

/* progress_add_json - the figures under the names of QEMU's query-migrate, and ours beside them. */
void progress_add_json(struct json_object *object, const struct rdmamig_stats *stats);

/* progress_print_table - the short table at the end, on stdout. */
void progress_print_table(const struct rdmamig_stats *stats);

#endif
