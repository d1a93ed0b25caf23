/* SPDX-License-Identifier: BSD-2-Clause */
/* uri.h - where a peer is: tcp://host:port, rdma://[device%]host:port. An IPv6 address stands in brackets. */
#ifndef RDMAMIG_URI_H
#define RDMAMIG_URI_H

#include <stddef.h>
#include <stdint.h>

#include <rdmamig/status.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { RDMAMIG_PORT = 7471 };

struct rdmamig_uri {
	size_t size;		/* in: sizeof(struct rdmamig_uri) */
	char scheme[8];		/* "tcp", "rdma" */
	char device[64];	/* "" if none was named */
	char host[256];		/* without brackets; "" or "*" is any address, for listening */
	uint16_t port;		/* RDMAMIG_PORT if none was given; 0 lets the kernel choose, for listening */
};

/* rdmamig_uri_parse - any thread. E_URI: @why says what is wrong with it and how it should look. */
enum rdmamig_status rdmamig_uri_parse(const char *text, struct rdmamig_uri *out, char *why, size_t why_bytes);

#ifdef __cplusplus
}
#endif
#endif
