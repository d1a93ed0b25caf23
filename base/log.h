/* SPDX-License-Identifier: BSD-2-Clause */
/* log.h - the library's one log sink; see rdmamig/log.h. Any thread. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <rdmamig/log.h>

void log_line(enum rdmamig_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
