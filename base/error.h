/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * error.h - the first failure of a session, with its errno and the line for the user.
 *
 * Whoever turns a raw failure into a status notes it here, once; everyone above passes the status on in silence. The
 * first note wins, as what follows from it is not what the user must mend. Two exceptions: a connection that broke gives
 * way to a later note, for a peer that ends a session says why on one connection while the others already break; and
 * whatever needs an operator (8xx) displaces what does not.
 */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include <pthread.h>
#include <stddef.h>

#include <rdmamig/status.h>

enum { ERROR_TEXT_BYTES = 512 };

struct error {
	pthread_mutex_t lock;
	enum rdmamig_status status;	/* RDMAMIG_OK: none yet */
	int saved_errno;
	char text[ERROR_TEXT_BYTES];
};

void error_init(struct error *error);
void error_fini(struct error *error);

/*
 * error_note - log a failure, remember it if it is the first; returns @status, so that it can be returned.
 * @saved_errno is appended as text unless it is 0. @error may be NULL: then it is only logged. Any thread.
 */
enum rdmamig_status error_note(struct error *error, enum rdmamig_status status, int saved_errno, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* error_status - the first one noted, RDMAMIG_OK if none. Any thread. */
enum rdmamig_status error_status(struct error *error);

/* error_text - copies the line; "" if none. Any thread. */
void error_text(struct error *error, char *out, size_t out_bytes);

#endif
