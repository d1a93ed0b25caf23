/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * credit.h - who may send what on the control conn (the rules of credit.pml, as plain arithmetic).
 *
 * avail: what the peer can still receive of us. owed: receives we posted again and have not told it about. Three slots
 * of avail are kept back: the last is ERROR's; CREDIT may use one while 2 are left; PING while 3 are, or 2 if it carries
 * credit. Everything else needs more than CREDIT_RESERVED.
 */
#ifndef MIGRATION_CREDIT_H
#define MIGRATION_CREDIT_H

#include <stdbool.h>
#include <stdint.h>

#include "wire/message.h"

enum {
	CREDIT_INITIAL = 8,	/* what every version of the protocol can hold before HELLO says more */
	CREDIT_RESERVED = 3,
	CREDIT_TELL_AT = 4,	/* owed so much, CREDIT goes by itself: 2 <= T <= N - 3 */
};

struct credit {
	uint32_t avail;
	uint32_t owed;
};

static inline bool credit_allows(const struct credit *credit, uint16_t type)
{
	switch (type) {
	case MESSAGE_ERROR:
		return credit->avail > 0;
	case MESSAGE_CREDIT:
		return credit->avail > 1 && credit->owed >= CREDIT_TELL_AT;
	case MESSAGE_PING:
		return credit->avail > 2 || (credit->avail > 1 && credit->owed > 0);
	default:
		return credit->avail > CREDIT_RESERVED;
	}
}

#endif
