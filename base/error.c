/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * error.c - keeps the first failure of a session.
 * Neighbour: log.c, which prints it. Any thread may note one.
 */
#include "base/error.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"

void error_init(struct error *error)
{
	pthread_mutex_init(&error->lock, NULL);
	error->status = RDMAMIG_OK;
	error->saved_errno = 0;
	error->text[0] = '\0';
}

void error_fini(struct error *error)
{
	pthread_mutex_destroy(&error->lock);
}

static void error_keep(struct error *error, enum rdmamig_status status, int saved_errno, const char *text)
{
	pthread_mutex_lock(&error->lock);
	bool weak = error->status == RDMAMIG_OK || error->status == RDMAMIG_E_DISCONNECTED;
	bool needs_operator = status >= RDMAMIG_E_UNKNOWN_OWNER && error->status < RDMAMIG_E_UNKNOWN_OWNER;
	if ((weak && error->status != status) || needs_operator) {
		error->status = status;
		error->saved_errno = saved_errno;
		memcpy(error->text, text, sizeof(error->text));
	}
	pthread_mutex_unlock(&error->lock);
}

enum rdmamig_status error_note(struct error *error, enum rdmamig_status status, int saved_errno, const char *format, ...)
{
	char text[ERROR_TEXT_BYTES];
	va_list args;
	va_start(args, format);
	int n = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (saved_errno && n >= 0 && (size_t)n < sizeof(text)) {
		char reason[128];
		snprintf(text + n, sizeof(text) - (size_t)n, ": %s", strerror_r(saved_errno, reason, sizeof(reason)));
	}

	log_line(RDMAMIG_LOG_INFO, "%s: %s", rdmamig_status_name(status), text);
	if (error)
		error_keep(error, status, saved_errno, text);
	return status;
}

enum rdmamig_status error_status(struct error *error)
{
	pthread_mutex_lock(&error->lock);
	enum rdmamig_status status = error->status;
	pthread_mutex_unlock(&error->lock);
	return status;
}

void error_text(struct error *error, char *out, size_t out_bytes)
{
	pthread_mutex_lock(&error->lock);
	snprintf(out, out_bytes, "%s", error->text);
	pthread_mutex_unlock(&error->lock);
}
