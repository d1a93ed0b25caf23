/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * endpoint.c - the table of transports this build has.
 * Neighbours: tcp_endpoint.c. Any thread.
 */
#include "transport/endpoint.h"

#include <string.h>

#include "transport/tcp.h"

static const struct endpoint_ops *const transports[] = { &tcp_ops };

const struct endpoint_ops *endpoint_ops_find(const char *scheme)
{
	for (size_t i = 0; i < sizeof(transports) / sizeof(transports[0]); i++)
		if (!strcmp(transports[i]->scheme, scheme))
			return transports[i];
	return NULL;
}
