/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tcp_address.c - asks the resolver, and writes addresses down for people.
 * Neighbours: tcp_listen.c, tcp_conn.c. The thread that connects or listens.
 */
#include "transport/tcp_address.h"

#include <stdio.h>
#include <string.h>

bool tcp_address_is_any(const struct rdmamig_uri *uri)
{
	return !uri->host[0] || !strcmp(uri->host, "*");
}

int tcp_address_resolve(const struct rdmamig_uri *uri, int family, int flags, struct addrinfo **out)
{
	struct addrinfo hints = { .ai_family = family, .ai_socktype = SOCK_STREAM, .ai_flags = flags | AI_NUMERICSERV };
	char port[8];
	snprintf(port, sizeof(port), "%u", (unsigned)uri->port);
	return getaddrinfo(tcp_address_is_any(uri) ? NULL : uri->host, port, &hints, out);
}

static void host_port(const char *host, const char *port, char *out, size_t out_bytes)
{
	snprintf(out, out_bytes, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
}

void tcp_address_name(const struct rdmamig_uri *uri, char *out, size_t out_bytes)
{
	char port[8];
	snprintf(port, sizeof(port), "%u", (unsigned)uri->port);
	host_port(tcp_address_is_any(uri) ? "*" : uri->host, port, out, out_bytes);
}

void tcp_address_text(const struct sockaddr *address, socklen_t bytes, char *out, size_t out_bytes)
{
	static const char mapped[] = "::ffff:";	/* how a dual-stack listener shows an IPv4 peer */
	char host[64], port[8];

	if (getnameinfo(address, bytes, host, sizeof(host), port, sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV)) {
		snprintf(out, out_bytes, "an unknown address");
		return;
	}
	bool is_mapped = !strncmp(host, mapped, sizeof(mapped) - 1) && strchr(host, '.');
	host_port(is_mapped ? host + sizeof(mapped) - 1 : host, port, out, out_bytes);
}
