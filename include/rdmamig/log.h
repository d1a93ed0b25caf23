/* SPDX-License-Identifier: BSD-2-Clause */
/* log.h - where the library's log lines go. Nothing is logged per page; keys are never logged. */
#ifndef RDMAMIG_LOG_H
#define RDMAMIG_LOG_H

#ifdef __cplusplus
extern "C" {
#endif

/* The numbers are syslog's priorities. */
enum rdmamig_log_level {
	RDMAMIG_LOG_ERROR = 3,
	RDMAMIG_LOG_WARNING = 4,
	RDMAMIG_LOG_INFO = 6,
	RDMAMIG_LOG_DEBUG = 7,
};

/* Called with one line without a newline, from any thread of the library, several at once. @line is the library's. */
typedef void rdmamig_log_fn(void *opaque, enum rdmamig_log_level level, const char *line);

/*
 * rdmamig_log_set - send lines up to @max_level to @fn.
 *
 * NULL silences the library, which is how it starts. Set it before the first session: it is the one thing all sessions
 * of a process share, and it is not locked.
 */
void rdmamig_log_set(rdmamig_log_fn *fn, void *opaque, enum rdmamig_log_level max_level);

#ifdef __cplusplus
}
#endif
#endif
