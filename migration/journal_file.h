/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * journal_file.h - small text files that survive a crash, in a directory given by descriptor.
 *
 * All return 0, or -1 with errno. What they report as written is on disk, name included.
 */
#ifndef MIGRATION_JOURNAL_FILE_H
#define MIGRATION_JOURNAL_FILE_H

#include <stddef.h>

/* journal_file_once - give @name these contents unless it exists; which of the two happened is for the reader to see. */
int journal_file_once(int dir_fd, const char *name, const char *text);

/* journal_file_replace - readers see the old text or the new one, never a mixture. */
int journal_file_replace(int dir_fd, const char *name, const char *text);

/* journal_file_read - all of it, as a string. EBADMSG: not a regular file, too long for @out, or with a NUL in it. */
int journal_file_read(int dir_fd, const char *name, char *out, size_t out_bytes);

#endif
