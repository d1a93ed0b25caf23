/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tcp_send.c - frames waiting to go out, sent many at a time and straight from the memory they speak of.
 * Neighbours: tcp_conn.c, tcp_receive.c (which asks for answers to reads), tcp_region.c. The connection's thread.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "transport/tcp.h"

void tcp_out_init(struct tcp_out *out)
{
	for (unsigned i = 0; i < TCP_FRAMES_MAX; i++)
		out->free[i] = (uint8_t)(TCP_FRAMES_MAX - 1 - i);
	out->free_count = TCP_FRAMES_MAX;
}

static struct tcp_frame *out_head(struct tcp_out *out, unsigned behind)
{
	return &out->frames[out->queue[(out->head + behind) % TCP_FRAMES_MAX]];
}

/* The counters of posts, messages and answers keep the queue below TCP_FRAMES_MAX, so there is always one. */
static struct tcp_frame *out_append(struct tcp_out *out, const struct tcp_header *header)
{
	assert(out->free_count);
	uint8_t index = out->free[--out->free_count];
	struct tcp_frame *f = &out->frames[index];

	out->queue[(out->head + out->count++) % TCP_FRAMES_MAX] = index;
	f->type = header->type;
	f->count = 0;
	f->head_bytes = TCP_HEADER_BYTES;
	f->bytes = TCP_HEADER_BYTES;
	tcp_header_encode(header, f->head);
	return f;
}

/* Made by us, so sent from @head; what is the peer's or the guest's goes by piece. */
static void frame_add_bytes(struct tcp_frame *f, const void *bytes, size_t size)
{
	memcpy(f->head + f->head_bytes, bytes, size);
	f->head_bytes += (unsigned)size;
	f->bytes += size;
}

static void frame_add_list(struct tcp_frame *f, const struct write *writes, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		struct tcp_piece piece = { .remote = writes[i].remote, .key = writes[i].key, .bytes = writes[i].bytes };
		tcp_piece_encode(&piece, f->head + f->head_bytes);
		f->head_bytes += TCP_PIECE_BYTES;
	}
	f->bytes += (uint64_t)count * TCP_PIECE_BYTES;
}

static uint64_t writes_bytes(const struct write *writes, unsigned count)
{
	uint64_t bytes = 0;
	assert(count > 0 && count <= TCP_PIECES_MAX);
	for (unsigned i = 0; i < count; i++) {
		assert(writes[i].bytes > 0 && writes[i].bytes <= TCP_PIECE_BYTES_MAX);
		bytes += writes[i].bytes;
	}
	return bytes;
}

/* OK, or why nothing can be posted now. */
static enum rdmamig_status post_room(const struct tcp_conn *t)
{
	assert(t->conn.hello.kind == CONN_DATA);
	if (t->state == TCP_CLOSED)
		return RDMAMIG_E_DISCONNECTED;
	return t->state == TCP_OPEN && t->out.posts < TCP_POSTS_MAX ? RDMAMIG_OK : RDMAMIG_AGAIN;
}

void tcp_out_greet(struct tcp_conn *t, enum tcp_frame_type type)
{
	uint8_t hello[HELLO_BYTES];
	size_t bytes = type == TCP_HELLO ? sizeof(hello) : 0;
	struct tcp_header header = { .type = type, .payload_bytes = bytes };

	hello_encode(&t->conn.hello, hello);
	frame_add_bytes(out_append(&t->out, &header), hello, bytes);
}

enum rdmamig_status tcp_send(struct conn *conn, const void *message, size_t bytes)
{
	struct tcp_conn *t = tcp_conn_of(conn);
	struct tcp_header header = { .type = TCP_MESSAGE, .payload_bytes = bytes };

	assert(conn->hello.kind != CONN_DATA && bytes > 0 && bytes <= TCP_MESSAGE_BYTES_MAX);
	if (t->state == TCP_CLOSED)
		return RDMAMIG_E_DISCONNECTED;
	if (t->state != TCP_OPEN || t->out.messages == TCP_MESSAGES_MAX)
		return RDMAMIG_AGAIN;

	frame_add_bytes(out_append(&t->out, &header), message, bytes);
	t->out.messages++;
	return RDMAMIG_OK;
}

enum rdmamig_status tcp_write(struct conn *conn, const struct write *writes, unsigned count, uint64_t id)
{
	struct tcp_conn *t = tcp_conn_of(conn);
	struct tcp_header header = { .type = TCP_WRITE, .count = (uint16_t)count, .payload_bytes = writes_bytes(writes, count) };
	enum rdmamig_status st = post_room(t);
	if (st)
		return st;

	struct tcp_frame *f = out_append(&t->out, &header);
	frame_add_list(f, writes, count);
	for (unsigned i = 0; i < count; i++)
		f->pieces[i] = (struct tcp_piece){ .local = writes[i].local, .bytes = writes[i].bytes };
	f->count = count;
	f->bytes += header.payload_bytes;
	f->id = id;
	t->out.posts++;
	return RDMAMIG_OK;
}

enum rdmamig_status tcp_read(struct conn *conn, const struct write *reads, unsigned count, uint64_t id)
{
	struct tcp_conn *t = tcp_conn_of(conn);
	struct tcp_header header = { .type = TCP_READ_REQUEST, .count = (uint16_t)count, .sequence = t->reads.asked };
	uint64_t bytes = writes_bytes(reads, count);
	enum rdmamig_status st = post_room(t);
	if (st)
		return st;
	if (t->reads.asked - t->reads.answered == TCP_READS_MAX)
		return RDMAMIG_AGAIN;

	struct tcp_read *read = &t->reads.ring[t->reads.asked++ % TCP_READS_MAX];
	read->id = id;
	read->count = count;
	read->bytes = bytes;
	for (unsigned i = 0; i < count; i++)
		read->pieces[i] = (struct tcp_piece){ .local = reads[i].local, .bytes = reads[i].bytes };

	frame_add_list(out_append(&t->out, &header), reads, count);
	t->out.posts++;
	return RDMAMIG_OK;
}

enum rdmamig_status tcp_fence(struct conn *conn, uint32_t sequence)
{
	struct tcp_conn *t = tcp_conn_of(conn);
	struct tcp_header header = { .type = TCP_FENCE, .sequence = sequence };
	enum rdmamig_status st = post_room(t);
	if (st)
		return st;

	out_append(&t->out, &header);
	t->out.posts++;
	return RDMAMIG_OK;
}

bool tcp_out_answer(struct tcp_conn *t, uint32_t sequence, const struct tcp_piece *pieces, unsigned count)
{
	struct tcp_header header = { .type = TCP_READ_DATA, .sequence = sequence };

	if (t->out.answers == TCP_READS_MAX)
		return false;
	for (unsigned i = 0; i < count; i++)
		header.payload_bytes += pieces[i].bytes;

	struct tcp_frame *f = out_append(&t->out, &header);
	memcpy(f->pieces, pieces, count * sizeof(*pieces));
	f->count = count;
	f->bytes += header.payload_bytes;
	t->out.answers++;
	return true;
}

/* One system call's worth, put together from the frames in the queue. */
struct gather {
	struct iovec iov[TCP_IOVS_MAX];
	unsigned count;
	size_t bytes;
	size_t limit;
	uint64_t skip;		/* sent already */
};

/* false: full. */
static bool gather_add(struct gather *g, uint8_t *at, size_t bytes)
{
	if (g->skip >= bytes) {
		g->skip -= bytes;
		return true;
	}
	at += g->skip;
	bytes -= g->skip;
	g->skip = 0;
	if (bytes > g->limit - g->bytes)
		bytes = g->limit - g->bytes;
	if (!bytes || g->count == TCP_IOVS_MAX)
		return false;
	g->iov[g->count++] = (struct iovec){ .iov_base = at, .iov_len = bytes };
	g->bytes += bytes;
	return true;
}

static bool gather_frame(struct gather *g, struct tcp_frame *f, const struct tcp_regions *regions, bool *is_gone)
{
	if (!gather_add(g, f->head, f->head_bytes))
		return false;
	for (unsigned i = 0; i < f->count; i++) {
		struct tcp_piece *piece = &f->pieces[i];
		uint8_t *at = piece->local ? piece->local : tcp_regions_at(regions, piece, REGION_REMOTE_READ);
		if (!at) {
			*is_gone = true;
			return false;
		}
		if (!gather_add(g, at, piece->bytes))
			return false;
	}
	return true;
}

static void frame_sent(struct tcp_out *out)
{
	struct tcp_frame *f = out_head(out, 0);

	if (f->type == TCP_WRITE)	/* its post ends when CONN_WRITTEN is told, that of a read with its answer */
		out->written[(out->written_head + out->written_count++) % TCP_POSTS_MAX] = f->id;
	if (f->type == TCP_FENCE)
		out->posts--;
	if (f->type == TCP_MESSAGE)
		out->messages--;
	if (f->type == TCP_READ_DATA)
		out->answers--;

	out->free[out->free_count++] = out->queue[out->head];
	out->head = (out->head + 1) % TCP_FRAMES_MAX;
	out->count--;
}

static void out_advance(struct tcp_out *out, uint64_t bytes)
{
	out->sent += bytes;
	while (out->count && out->sent >= out_head(out, 0)->bytes) {
		out->sent -= out_head(out, 0)->bytes;
		frame_sent(out);
	}
}

/* What the peer said before it went is read first; tcp_receive.c then closes. */
static void send_failed(struct tcp_conn *t, int why)
{
	if (why == EFAULT)
		tcp_close(t, error_note(t->conn.endpoint->error, RDMAMIG_E_BLOCK_CHANGED, why,
					"memory being sent to %s went away: was its file truncated?", t->conn.peer));
	else
		t->out.broken_errno = why;
}

/* The bytes sent; 0 when the socket takes no more or there is nothing left to do. */
static size_t out_send_some(struct tcp_conn *t, size_t limit)
{
	struct tcp_regions *regions = tcp_conn_regions(t);
	struct tcp_out *out = &t->out;
	struct gather g = { .limit = limit, .skip = out->sent };
	bool is_gone = false;
	bool must_share = out->answers > 0;
	ssize_t n = 0;

	if (must_share)
		tcp_regions_share(regions);
	for (unsigned i = 0; i < out->count; i++)
		if (!gather_frame(&g, out_head(out, i), regions, &is_gone))
			break;
	if (g.count) {
		struct msghdr message = { .msg_iov = g.iov, .msg_iovlen = g.count };
		n = sendmsg(t->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	}
	int why = errno;
	if (must_share)
		tcp_regions_unshare(regions);

	if (is_gone && !g.count) {
		tcp_violation(t, "it reads from a region that is no longer registered");
		return 0;
	}
	if (n < 0) {
		if (why != EAGAIN && why != EINTR)
			send_failed(t, why);
		return 0;
	}
	atomic_fetch_add_explicit(&t->bytes_sent, (uint64_t)n, memory_order_relaxed);
	out_advance(out, (uint64_t)n);
	return (size_t)n == g.bytes ? (size_t)n : 0;
}

void tcp_out_move(struct tcp_conn *t)
{
	size_t left = TCP_POLL_BYTES;

	while (left && t->out.count && !t->out.broken_errno) {
		size_t n = out_send_some(t, left);
		if (!n)
			break;
		left -= n;
	}
}
