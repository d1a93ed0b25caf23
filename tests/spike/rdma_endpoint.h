/* SPDX-License-Identifier: BSD-2-Clause */
/* rdma_endpoint.h - the spike: struct endpoint_ops over librdmacm and libibverbs. */
#ifndef SPIKE_RDMA_ENDPOINT_H
#define SPIKE_RDMA_ENDPOINT_H

#include "transport/endpoint.h"

/* Fences the peer may not have polled yet: both ends post that many receives on a data conn. */
enum { RDMA_FENCES_MAX = 64 };

extern const struct endpoint_ops rdma_endpoint_ops;

/*
 * rdma_conn_finish - the operation the interface lacks: nothing more will be sent; end once all that was is delivered.
 * CONN_CLOSED follows from conn_poll(), status OK if the peer's end came orderly too.
 */
void rdma_conn_finish(struct conn *conn);

#endif
