/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * hello.h - the first thing a connecting end says, the same on every transport.
 *
 *   0  magic "RDMG"     4  u16 length 44     6  u16 layout 1     8  u8 kind     9  u8 0
 *  10  u16 version_min 12  u16 version_max  14  u16 channel     16  u32 epoch  20  u64 token  28  session id
 *
 * Little-endian. It is rdma_cm's private data, so it fits HELLO_BYTES_MAX; anyone may send one: it proves nothing.
 */
#ifndef TRANSPORT_HELLO_H
#define TRANSPORT_HELLO_H

#include <stddef.h>
#include <stdint.h>

#include "transport/endpoint.h"

enum { HELLO_BYTES = 44, HELLO_BYTES_MAX = 56 };

void hello_encode(const struct conn_hello *hello, uint8_t out[HELLO_BYTES]);

/*
 * hello_decode - @size may exceed HELLO_BYTES: rdma_cm pads private data, what follows is not looked at.
 * E_PROTOCOL: too short, not one of ours, or a field out of its range; nothing was written, nothing is noted.
 */
enum rdmamig_status hello_decode(const void *bytes, size_t size, struct conn_hello *out);

#endif
