/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * journal_info.c - what a journal remembers of its guest, to text and strictly back, from one table of keys.
 * Neighbour: journal.c, which keeps the text in the file `session`. Any thread.
 */
#include "migration/journal_info.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum info_kind { INFO_PID, INFO_U64, INFO_BOOL, INFO_TEXT };

#define KEY(field, kind) { #field, kind, offsetof(struct rdmamig_journal_info, field), \
			   sizeof(((struct rdmamig_journal_info *)0)->field) }

static const struct info_key {
	const char *name;
	enum info_kind kind;
	size_t offset;
	size_t bytes;
} info_keys[] = {
	KEY(pid, INFO_PID),
	KEY(pid_start, INFO_U64),
	KEY(guest_runs, INFO_BOOL),
	KEY(driver, INFO_TEXT),
	KEY(peer, INFO_TEXT),
	KEY(ram, INFO_TEXT),
};

enum { INFO_KEYS = sizeof(info_keys) / sizeof(info_keys[0]) };

/* The first line: another version or role must not pass for ours. */
static void info_head(enum rdmamig_role role, char *out, size_t out_bytes)
{
	snprintf(out, out_bytes, "rdmamig-journal 1 %s\n", role == RDMAMIG_SOURCE ? "source" : "dest");
}

static bool text_is_plain(const char *text, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++) {
		if (text[i] == '\0')
			return true;
		if (iscntrl((unsigned char)text[i]))
			return false;
	}
	return false;
}

static bool key_encode(const struct info_key *key, const struct rdmamig_journal_info *info, char *out, size_t out_bytes)
{
	const char *field = (const char *)info + key->offset;
	unsigned long long number = 0;
	switch (key->kind) {
	case INFO_TEXT:
		snprintf(out, out_bytes, "%s=%.*s\n", key->name, (int)key->bytes, field);
		return text_is_plain(field, key->bytes);
	case INFO_PID:
		if (*(const pid_t *)field < 0)
			return false;
		number = (unsigned long long)*(const pid_t *)field;
		break;
	case INFO_U64:
		number = *(const uint64_t *)field;
		break;
	case INFO_BOOL:
		number = *(const bool *)field;
		break;
	}
	snprintf(out, out_bytes, "%s=%llu\n", key->name, number);
	return true;
}

bool journal_info_encode(const struct rdmamig_journal_info *info, enum rdmamig_role role, char out[JOURNAL_INFO_TEXT_BYTES])
{
	if (info->size != sizeof(*info))
		return false;
	info_head(role, out, JOURNAL_INFO_TEXT_BYTES);
	for (size_t i = 0; i < INFO_KEYS; i++) {
		size_t used = strlen(out);
		if (!key_encode(&info_keys[i], info, out + used, JOURNAL_INFO_TEXT_BYTES - used))
			return false;
	}
	return true;
}

static bool number_decode(const char *text, uint64_t max, uint64_t *out)
{
	char *end;
	errno = 0;
	unsigned long long value = strtoull(text, &end, 10);
	if (!isdigit((unsigned char)text[0]) || *end != '\0' || errno || value > max)
		return false;
	*out = value;
	return true;
}

static bool key_decode(const struct info_key *key, const char *value, struct rdmamig_journal_info *info)
{
	char *field = (char *)info + key->offset;
	uint64_t number = 0;
	switch (key->kind) {
	case INFO_TEXT:
		if (strlen(value) >= key->bytes || !text_is_plain(value, key->bytes))
			return false;
		memcpy(field, value, strlen(value) + 1);
		return true;
	case INFO_PID:
		if (!number_decode(value, INT_MAX, &number))
			return false;
		*(pid_t *)field = (pid_t)number;
		return true;
	case INFO_U64:
		return number_decode(value, UINT64_MAX, (uint64_t *)field);
	case INFO_BOOL:
		if (!number_decode(value, 1, &number))
			return false;
		*(bool *)field = number;
		return true;
	}
	return false;
}

bool journal_info_decode(const char *text, enum rdmamig_role role, struct rdmamig_journal_info *out)
{
	char head[64], line[JOURNAL_INFO_TEXT_BYTES];
	info_head(role, head, sizeof(head));
	if (strncmp(text, head, strlen(head)) != 0)
		return false;
	text += strlen(head);

	*out = (struct rdmamig_journal_info){ .size = sizeof(*out) };
	for (size_t i = 0; i < INFO_KEYS; i++) {
		const char *end = strchr(text, '\n');
		size_t name_len = strlen(info_keys[i].name);
		if (!end || (size_t)(end - text) >= sizeof(line))
			return false;
		memcpy(line, text, (size_t)(end - text));
		line[end - text] = '\0';
		if (strncmp(line, info_keys[i].name, name_len) != 0 || line[name_len] != '=' ||
		    !key_decode(&info_keys[i], line + name_len + 1, out))
			return false;
		text = end + 1;
	}
	return *text == '\0';
}
