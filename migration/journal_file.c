/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * journal_file.c - temp file, fsync, link(2) or rename(2), fsync of the directory.
 * Neighbour: journal.c, whose decisions and info these files are. Any thread.
 */
#include "migration/journal_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TEMP_NAME_BYTES = 32 };

/* Closes @fd whatever happens; -1 with the first errno. */
static int text_write_and_close(int fd, const char *text)
{
	size_t left = strlen(text);
	int err = 0;
	while (left && !err) {
		ssize_t n = write(fd, text, left);
		if (n < 0)
			err = errno == EINTR ? 0 : errno;
		else
			text += n, left -= (size_t)n;
	}
	if (!err && fsync(fd))
		err = errno;
	if (close(fd) && !err)
		err = errno;
	errno = err;
	return err ? -1 : 0;
}

/* Racing writers each have a temp file of their own; one left by a crash means nothing to anybody. */
static int temp_write(int dir_fd, const char *text, char name[TEMP_NAME_BYTES])
{
	uint64_t number;
	if (getrandom(&number, sizeof(number), 0) != sizeof(number))
		return -1;
	snprintf(name, TEMP_NAME_BYTES, ".tmp-%016llx", (unsigned long long)number);

	int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -1;
	if (text_write_and_close(fd, text) == 0)
		return 0;
	int saved = errno;
	unlinkat(dir_fd, name, 0);
	errno = saved;
	return -1;
}

int journal_file_once(int dir_fd, const char *name, const char *text)
{
	char temp[TEMP_NAME_BYTES];
	if (temp_write(dir_fd, text, temp))
		return -1;

	int err = linkat(dir_fd, temp, dir_fd, name, 0) && errno != EEXIST ? errno : 0;
	unlinkat(dir_fd, temp, 0);
	if (!err && fsync(dir_fd))
		err = errno;
	errno = err;
	return err ? -1 : 0;
}

int journal_file_replace(int dir_fd, const char *name, const char *text)
{
	char temp[TEMP_NAME_BYTES];
	if (temp_write(dir_fd, text, temp))
		return -1;
	if (renameat(dir_fd, temp, dir_fd, name) == 0)
		return fsync(dir_fd);
	int saved = errno;
	unlinkat(dir_fd, temp, 0);
	errno = saved;
	return -1;
}

static int text_read(int fd, char *out, size_t out_bytes)
{
	struct stat st;
	if (fstat(fd, &st))
		return -1;
	errno = EBADMSG;
	if (!S_ISREG(st.st_mode))
		return -1;

	size_t used = 0;
	ssize_t n;
	while ((n = read(fd, out + used, out_bytes - used)) != 0) {
		if (n < 0 && errno != EINTR)
			return -1;
		used += n > 0 ? (size_t)n : 0;
		errno = EBADMSG;
		if (used == out_bytes)
			return -1;
	}
	out[used] = '\0';
	return strlen(out) == used ? 0 : -1;
}

int journal_file_read(int dir_fd, const char *name, char *out, size_t out_bytes)
{
	/* O_NONBLOCK: a FIFO in its place must not hang us */
	int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return -1;
	int rc = text_read(fd, out, out_bytes);
	int saved = errno;
	close(fd);
	errno = saved;
	return rc;
}
