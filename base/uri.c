/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * uri.c - takes scheme://[device%]host[:port] apart and says what is wrong with one that does not fit.
 * Used by cli, migration and transport. Any thread; resolves no names.
 */
#include <rdmamig/uri.h>

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define URI_LOOKS "it should look like tcp://HOST:PORT or rdma://HOST:PORT"

struct span {
	const char *at;
	size_t bytes;
};

struct why {
	char *text;
	size_t bytes;
};

static const char *const schemes[] = { "tcp", "rdma" };

static bool __attribute__((format(printf, 2, 3))) fail(struct why *why, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(why->text, why->bytes, format, args);
	va_end(args);
	return false;
}

static bool span_is(struct span span, const char *word)
{
	return span.bytes == strlen(word) && !memcmp(span.at, word, span.bytes);
}

/* ASCII by hand: isalnum() asks the locale. */
static bool is_name_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_';
}

static bool span_is_name(struct span span)
{
	for (size_t i = 0; i < span.bytes; i++)
		if (!is_name_char(span.at[i]))
			return false;
	return true;
}

/* Copies what is known to be free of NULs. */
static bool span_copy(struct span span, char *out, size_t out_bytes)
{
	if (span.bytes >= out_bytes)
		return false;
	memcpy(out, span.at, span.bytes);
	out[span.bytes] = '\0';
	return true;
}

static bool parse_scheme(const char *text, const char **rest, struct rdmamig_uri *uri, struct why *why)
{
	for (const char *c = text; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			return fail(why, "the URI has a control character in it; " URI_LOOKS);
	if (!strncmp(text, "file:", 5))
		return fail(why, "%s: files are not supported yet; " URI_LOOKS, text);

	const char *colon = strstr(text, "://");
	if (!colon)
		return fail(why, "'%s' is not a URI: " URI_LOOKS, text);

	struct span scheme = { text, (size_t)(colon - text) };
	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
		if (span_is(scheme, schemes[i])) {
			*rest = colon + 3;
			return span_copy(scheme, uri->scheme, sizeof(uri->scheme));
		}
	}
	return fail(why, "%s: unknown scheme '%.*s'; " URI_LOOKS, text, (int)scheme.bytes, scheme.at);
}

/* A '%' in brackets is an IPv6 zone, not the end of a device name. */
static bool parse_device(const char *text, const char **rest, struct rdmamig_uri *uri, struct why *why)
{
	size_t bytes = strcspn(*rest, "%[");
	if ((*rest)[bytes] != '%')
		return true;

	struct span device = { *rest, bytes };
	if (strcmp(uri->scheme, "rdma"))
		return fail(why, "%s: only rdma:// takes a device before the host", text);
	if (!bytes || !span_is_name(device) || !span_copy(device, uri->device, sizeof(uri->device)))
		return fail(why, "%s: '%.*s' is not the name of an RDMA device; `rdma link` lists them", text, (int)bytes, device.at);
	*rest += bytes + 1;
	return true;
}

static bool is_ipv6(const char *host)
{
	char address[INET6_ADDRSTRLEN];
	size_t bytes = strcspn(host, "%");
	struct span zone = { host + bytes + 1, host[bytes] ? strlen(host + bytes + 1) : 0 };
	struct in6_addr parsed;

	if (host[bytes] && (!zone.bytes || !span_is_name(zone)))
		return false;
	return span_copy((struct span){ host, bytes }, address, sizeof(address)) && inet_pton(AF_INET6, address, &parsed) == 1;
}

static bool parse_bracketed(const char *text, const char **rest, struct rdmamig_uri *uri, struct why *why)
{
	const char *end = strchr(*rest, ']');
	if (!end)
		return fail(why, "%s: the ']' after the IPv6 address is missing", text);

	struct span host = { *rest + 1, (size_t)(end - *rest - 1) };
	if (!span_copy(host, uri->host, sizeof(uri->host)) || !is_ipv6(uri->host))
		return fail(why, "%s: '%.*s' is not an IPv6 address", text, (int)host.bytes, host.at);
	*rest = end + 1;
	return true;
}

static bool parse_host(const char *text, const char **rest, struct rdmamig_uri *uri, struct why *why)
{
	if (**rest == '[')
		return parse_bracketed(text, rest, uri, why);

	struct span host = { *rest, strcspn(*rest, ":") };
	if (host.at[host.bytes] && strchr(host.at + host.bytes + 1, ':'))
		return fail(why, "%s: write an IPv6 address in brackets, as in %s://[2001:db8::1]:%u", text, uri->scheme,
			    (unsigned)RDMAMIG_PORT);
	if (!span_is(host, "*") && !span_is_name(host))
		return fail(why, "%s: '%.*s' is not a host name or address; " URI_LOOKS, text, (int)host.bytes, host.at);
	if (!span_copy(host, uri->host, sizeof(uri->host)))
		return fail(why, "%s: the host name is longer than %zu bytes", text, sizeof(uri->host) - 1);
	*rest += host.bytes;
	return true;
}

static bool parse_port(const char *text, const char *rest, struct rdmamig_uri *uri, struct why *why)
{
	uri->port = RDMAMIG_PORT;
	if (!*rest)
		return true;
	if (*rest != ':')
		return fail(why, "%s: '%s' after the host; " URI_LOOKS, text, rest);

	unsigned port = 0;
	const char *c = rest + 1;
	for (; *c >= '0' && *c <= '9' && port <= UINT16_MAX; c++)
		port = port * 10 + (unsigned)(*c - '0');
	if (c == rest + 1 || *c || port > UINT16_MAX)
		return fail(why, "%s: '%s' is not a port; 0 to 65535, %u if none is given", text, rest + 1, (unsigned)RDMAMIG_PORT);
	uri->port = (uint16_t)port;
	return true;
}

enum rdmamig_status rdmamig_uri_parse(const char *text, struct rdmamig_uri *out, char *why_text, size_t why_bytes)
{
	struct why why = { why_text, why_bytes };
	struct rdmamig_uri uri = { .size = sizeof(uri) };
	const char *rest = text;

	if (out->size != sizeof(uri)) {
		fail(&why, "struct rdmamig_uri: size is %zu, this library has %zu", out->size, sizeof(uri));
		return RDMAMIG_E_URI;
	}
	if (!parse_scheme(text, &rest, &uri, &why) || !parse_device(text, &rest, &uri, &why) ||
	    !parse_host(text, &rest, &uri, &why) || !parse_port(text, rest, &uri, &why))
		return RDMAMIG_E_URI;

	*out = uri;
	return RDMAMIG_OK;
}
