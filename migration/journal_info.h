/* SPDX-License-Identifier: BSD-2-Clause */
/* journal_info.h - struct rdmamig_journal_info as text, one key=value a line, all keys, in one order. */
#ifndef MIGRATION_JOURNAL_INFO_H
#define MIGRATION_JOURNAL_INFO_H

#include <stdbool.h>
#include <stddef.h>

#include <rdmamig/journal.h>

enum { JOURNAL_INFO_TEXT_BYTES = 2048 };

/* journal_info_encode - false: @info's size is not ours, or a string of it has no end or a control character in it. */
bool journal_info_encode(const struct rdmamig_journal_info *info, enum rdmamig_role role, char out[JOURNAL_INFO_TEXT_BYTES]);

/* journal_info_decode - false: @text is not what journal_info_encode() writes for @role; *out is then undefined. */
bool journal_info_decode(const char *text, enum rdmamig_role role, struct rdmamig_journal_info *out);

#endif
