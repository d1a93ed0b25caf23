/* SPDX-License-Identifier: BSD-2-Clause */
/* tcp_address.h - names to socket addresses, and addresses to text for messages. */
#ifndef TRANSPORT_TCP_ADDRESS_H
#define TRANSPORT_TCP_ADDRESS_H

#include <netdb.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#include <rdmamig/uri.h>

/* tcp_address_is_any - no host was named. */
bool tcp_address_is_any(const struct rdmamig_uri *uri);

/*
 * tcp_address_resolve - all addresses of the host, in the resolver's order; freeaddrinfo() them. May block in the
 * resolver, for a name. Returns 0 or one of getaddrinfo(3)'s EAI_.
 */
int tcp_address_resolve(const struct rdmamig_uri *uri, int family, int flags, struct addrinfo **out);

/* tcp_address_name - "HOST:PORT" as the user named it; tcp_address_text - as it is, numbers only. */
void tcp_address_name(const struct rdmamig_uri *uri, char *out, size_t out_bytes);
void tcp_address_text(const struct sockaddr *address, socklen_t bytes, char *out, size_t out_bytes);

#endif
