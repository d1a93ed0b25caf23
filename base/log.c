/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * log.c - hands finished lines to the one sink the embedding program set.
 * Used by every layer. Runs on whichever thread has something to say.
 */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

enum { LOG_LINE_BYTES = 1024 };

static struct {
	rdmamig_log_fn *fn;
	void *opaque;
	enum rdmamig_log_level max_level;
} sink;

void rdmamig_log_set(rdmamig_log_fn *fn, void *opaque, enum rdmamig_log_level max_level)
{
	sink.fn = fn;
	sink.opaque = opaque;
	sink.max_level = max_level;
}

void log_line(enum rdmamig_log_level level, const char *format, ...)
{
	if (!sink.fn || level > sink.max_level)
		return;

	char line[LOG_LINE_BYTES];
	va_list args;
	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	sink.fn(sink.opaque, level, line);
}
