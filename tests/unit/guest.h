/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * guest.h - a child process that stands in for a guest: it maps a memory file and does what it is told through a socket.
 */
#ifndef TESTS_UNIT_GUEST_H
#define TESTS_UNIT_GUEST_H

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ram/block.h"
#include "ram/uffd.h"

enum guest_op { GUEST_WRITE, GUEST_READ, GUEST_PUNCH, GUEST_DONTNEED, GUEST_REMAP, GUEST_UNMAP, GUEST_WRITER_START,
		GUEST_WRITER_STOP, GUEST_GIVE_UFFD, GUEST_PREAD, GUEST_MADVISE };

struct guest_order {
	enum guest_op op;
	uint64_t first_page;
	uint64_t pages;
	uint64_t value;
};

struct guest {
	pid_t pid;
	int socket;
	int file;
	uint64_t pages;
};

struct guest_writer {
	volatile uint8_t *memory;
	uint64_t pages;
	_Atomic bool is_ending;
	pthread_t thread;
};

/* Pages at random, one byte or all of it, as fast as it can. */
static void *guest_writer_run(void *arg)
{
	struct guest_writer *writer = arg;
	uint64_t random = 88172645463325252ull;
	while (!atomic_load_explicit(&writer->is_ending, memory_order_relaxed)) {
		random ^= random << 13, random ^= random >> 7, random ^= random << 17;
		uint64_t *page = (uint64_t *)(uintptr_t)(writer->memory + random / 8 % writer->pages * PAGE_BYTES);
		for (unsigned i = 0; i < (random & 7 ? 1 : PAGE_BYTES / sizeof(*page)); i++)
			*(volatile uint64_t *)(page + i) = random + i;
	}
	return NULL;
}

static inline void guest_send_fd(int to, int fd)
{
	char control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct msghdr msg = { .msg_iov = &(struct iovec){ .iov_base = "u", .iov_len = 1 }, .msg_iovlen = 1,
			      .msg_control = control, .msg_controllen = sizeof(control) };
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
	if (sendmsg(to, &msg, 0) != 1)
		abort();
}

static inline int guest_recv_fd(int from)
{
	char control[CMSG_SPACE(sizeof(int))], byte;
	struct msghdr msg = { .msg_iov = &(struct iovec){ .iov_base = &byte, .iov_len = 1 }, .msg_iovlen = 1,
			      .msg_control = control, .msg_controllen = sizeof(control) };
	int fd;
	if (recvmsg(from, &msg, 0) != 1)
		abort();
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
	return fd;
}

static inline void guest_obey(const struct guest *guest, uint8_t *memory, struct guest_writer *writer, const struct guest_order *order)
{
	uint8_t *at = memory + order->first_page * PAGE_BYTES;
	size_t bytes = order->pages * PAGE_BYTES;
	bool is_user_only;
	int fd;
	switch (order->op) {
	case GUEST_WRITE:
		for (uint64_t i = 0; i < order->pages; i++)
			*(volatile uint64_t *)(at + i * PAGE_BYTES) = order->value + i;
		break;
	case GUEST_READ:
		for (uint64_t i = 0; i < order->pages; i++)
			(void)*(volatile uint64_t *)(at + i * PAGE_BYTES);
		break;
	case GUEST_PREAD:
		fd = open("/dev/urandom", O_RDONLY);
		if (read(fd, at, bytes) != (ssize_t)bytes)
			abort();
		close(fd);
		break;
	case GUEST_PUNCH:
		if (fallocate(guest->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(order->first_page * PAGE_BYTES), (off_t)bytes))
			abort();
		break;
	case GUEST_DONTNEED:
		madvise(at, bytes, MADV_DONTNEED);
		break;
	case GUEST_MADVISE:
		madvise(at, bytes, (int)order->value);
		break;
	case GUEST_REMAP:
		if (mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, guest->file,
			 (off_t)(order->first_page * PAGE_BYTES)) == MAP_FAILED)
			abort();
		break;
	case GUEST_UNMAP:
		munmap(at, bytes);
		break;
	case GUEST_WRITER_START:
		*writer = (struct guest_writer){ .memory = memory, .pages = guest->pages };
		pthread_create(&writer->thread, NULL, guest_writer_run, writer);
		break;
	case GUEST_WRITER_STOP:
		atomic_store_explicit(&writer->is_ending, true, memory_order_relaxed);
		pthread_join(writer->thread, NULL);
		break;
	case GUEST_GIVE_UFFD:	/* value: 0 no handshake, 1 async, 2 sync */
		fd = uffd_open(&is_user_only);
		if (fd < 0 || (order->value && uffd_handshake(fd, order->value == 1)))
			abort();
		guest_send_fd(guest->socket, fd);
		close(fd);
		break;
	}
}

static inline _Noreturn void guest_run(struct guest *guest)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	uint8_t *memory = mmap(NULL, guest->pages * PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, guest->file, 0);
	struct guest_writer writer;
	struct guest_order order;
	if (send(guest->socket, "d", 1, 0) != 1)	/* it is mapped */
		abort();
	while (recv(guest->socket, &order, sizeof(order), 0) == sizeof(order)) {
		guest_obey(guest, memory, &writer, &order);
		if (send(guest->socket, "d", 1, 0) != 1)
			break;
	}
	_exit(0);
}

/* false: the guest is gone. */
static inline bool guest_done(struct guest *guest)
{
	char done;
	return recv(guest->socket, &done, 1, 0) == 1;
}

/* @file stays the caller's. */
static inline void guest_start(struct guest *guest, int file, uint64_t pages)
{
	int sockets[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets))
		abort();
	*guest = (struct guest){ .socket = sockets[1], .file = file, .pages = pages };
	guest->pid = fork();
	if (guest->pid == 0) {
		close(sockets[0]);
		guest_run(guest);
	}
	close(sockets[1]);
	guest->socket = sockets[0];
	if (!guest_done(guest))
		abort();
}

static inline void guest_stop(struct guest *guest)
{
	close(guest->socket);
	kill(guest->pid, SIGKILL);
	waitpid(guest->pid, NULL, 0);
}

static inline void guest_order(struct guest *guest, enum guest_op op, uint64_t first_page, uint64_t pages, uint64_t value)
{
	struct guest_order order = { .op = op, .first_page = first_page, .pages = pages, .value = value };
	if (send(guest->socket, &order, sizeof(order), 0) != sizeof(order))
		abort();
}

static inline void guest_do(struct guest *guest, enum guest_op op, uint64_t first_page, uint64_t pages, uint64_t value)
{
	guest_order(guest, op, first_page, pages, value);
	if (!guest_done(guest))
		abort();
}

#endif
