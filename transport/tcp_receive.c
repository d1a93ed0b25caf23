/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tcp_receive.c - takes frames off the stream, checks them, and has the kernel put payload where it belongs.
 * Neighbours: tcp_conn.c, tcp_send.c (answers to reads), tcp_region.c. The connection's thread.
 *
 * Memory of the guest is never written by our own stores: in a full tmpfs or a full cgroup those would be a SIGBUS or an
 * OOM kill of ours, while the kernel's are an EFAULT. So also what was read ahead goes there by process_vm_writev(2).
 */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "transport/tcp.h"

enum step {
	STEP_ON,	/* something was done, look again */
	STEP_EVENT,	/* the same, and an event was made */
	STEP_HUNGRY,	/* more bytes are needed */
	STEP_STALLED,	/* a message slot is needed */
	STEP_CLOSED,
};

void tcp_in_init(struct tcp_in *in)
{
	in->slots_free = UINT64_MAX;
}

void tcp_message_release(struct conn *conn, unsigned slot)
{
	struct tcp_in *in = &tcp_conn_of(conn)->in;
	assert(slot < TCP_MESSAGES_MAX && !(in->slots_free >> slot & 1));
	in->slots_free |= (uint64_t)1 << slot;
	if (in->is_stalled)
		in->has_more = true;
	in->is_stalled = false;
}

static unsigned ahead_bytes(const struct tcp_in *in)
{
	return in->to - in->from;
}

static const uint8_t *ahead_take(struct tcp_in *in, unsigned bytes)
{
	const uint8_t *at = in->ahead + in->from;
	in->from += bytes;
	return at;
}

/* Payload of a message goes to memory of ours. */
static bool is_message(const struct tcp_in *in)
{
	return in->header.type == TCP_MESSAGE;
}

static void payload_begin(struct tcp_in *in, unsigned count, uint64_t bytes)
{
	in->state = TCP_IN_PAYLOAD;
	in->count = count;
	in->next = 0;
	in->next_done = 0;
	in->left = bytes;
}

static void payload_advance(struct tcp_in *in, uint64_t bytes)
{
	in->left -= bytes;
	while (bytes) {
		uint32_t rest = in->pieces[in->next].bytes - in->next_done;
		if (bytes < rest) {
			in->next_done += (uint32_t)bytes;
			return;
		}
		bytes -= rest;
		in->next++;
		in->next_done = 0;
	}
}

/*
 * Where the next bytes of payload belong, @limit of them at most; *bytes is how many that is. A region may have been
 * removed since its pieces were checked, so this looks again, with the table shared until the bytes are there.
 */
static bool payload_places(struct tcp_conn *t, struct iovec *iov, unsigned *count, size_t limit, size_t *bytes)
{
	const struct tcp_in *in = &t->in;
	uint32_t done = in->next_done;
	*count = 0;
	*bytes = 0;

	for (unsigned i = in->next; i < in->count && *bytes < limit; i++, done = 0) {
		const struct tcp_piece *piece = &in->pieces[i];
		uint8_t *at = piece->local ? piece->local : tcp_regions_at(tcp_conn_regions(t), piece, REGION_REMOTE_WRITE);
		if (!at)
			return false;
		size_t n = piece->bytes - done;
		if (n > limit - *bytes)
			n = limit - *bytes;
		iov[(*count)++] = (struct iovec){ .iov_base = at + done, .iov_len = n };
		*bytes += n;
	}
	return true;
}

static void region_gone(struct tcp_conn *t)
{
	tcp_violation(t, "it writes to a region that is no longer registered");
}

static void memory_refused(struct tcp_conn *t, int why)
{
	if (why == EFAULT)
		tcp_close(t, error_note(t->conn.endpoint->error, RDMAMIG_E_NO_SPACE, 0,
					"no room for the memory received from %s: its tmpfs, hugetlb pool or memory cgroup is full, or "
					"its file was truncated", t->conn.peer));
	else
		tcp_close(t, error_note(t->conn.endpoint->error, RDMAMIG_E_IO, why, "placing memory received from %s", t->conn.peer));
}

static enum step bytes_ended(struct tcp_conn *t, int why)
{
	bool is_orderly = !why && !t->out.broken_errno && t->in.state == TCP_IN_HEADER && !ahead_bytes(&t->in);

	if (is_orderly)
		tcp_close(t, RDMAMIG_OK);
	else
		tcp_close(t, error_note(t->conn.endpoint->error, RDMAMIG_E_DISCONNECTED, why ? why : t->out.broken_errno,
					"the connection to %s broke", t->conn.peer));
	return STEP_CLOSED;
}

/* Payload that was read ahead, @bytes of it. */
static bool payload_place_ahead(struct tcp_conn *t, unsigned bytes)
{
	struct tcp_in *in = &t->in;
	struct iovec from = { .iov_base = in->ahead + in->from, .iov_len = bytes };

	if (is_message(in)) {
		memcpy((uint8_t *)in->pieces[0].local + in->next_done, from.iov_base, bytes);
	} else {
		struct iovec to[TCP_PIECES_MAX];
		unsigned count;
		size_t found;
		ssize_t n = -1;
		int why = 0;

		tcp_regions_share(tcp_conn_regions(t));
		bool is_there = payload_places(t, to, &count, bytes, &found);
		if (is_there) {
			n = process_vm_writev(getpid(), &from, 1, to, count, 0);
			why = n < 0 ? errno : EFAULT;	/* less than asked for: the next page could not be had */
		}
		tcp_regions_unshare(tcp_conn_regions(t));

		if (!is_there) {
			region_gone(t);
			return false;
		}
		if (n != (ssize_t)bytes) {
			memory_refused(t, why);
			return false;
		}
	}
	in->from += bytes;
	payload_advance(in, bytes);
	return true;
}

static enum step message_end(struct tcp_in *in, struct conn_event *event)
{
	*event = (struct conn_event){ .type = CONN_MESSAGE, .message = in->messages[in->slot],
				      .bytes = (size_t)in->header.payload_bytes, .slot = in->slot };
	return STEP_EVENT;
}

static enum step read_end(struct tcp_conn *t, struct conn_event *event)
{
	*event = (struct conn_event){ .type = CONN_READ, .id = t->reads.ring[t->reads.answered++ % TCP_READS_MAX].id };
	t->out.posts--;
	return STEP_EVENT;
}

static enum step payload_step(struct tcp_conn *t, struct conn_event *event)
{
	struct tcp_in *in = &t->in;
	unsigned at_hand = ahead_bytes(in) < in->left ? ahead_bytes(in) : (unsigned)in->left;

	if (at_hand && !payload_place_ahead(t, at_hand))
		return STEP_CLOSED;
	if (in->left)
		return STEP_HUNGRY;

	in->state = TCP_IN_HEADER;
	if (in->header.type == TCP_MESSAGE)
		return message_end(in, event);
	if (in->header.type == TCP_READ_DATA)
		return read_end(t, event);
	return STEP_ON;
}

static enum step message_begin(struct tcp_in *in)
{
	in->slot = (unsigned)__builtin_ctzll(in->slots_free);
	in->slots_free &= in->slots_free - 1;
	in->pieces[0] = (struct tcp_piece){ .local = in->messages[in->slot], .bytes = (uint32_t)in->header.payload_bytes };
	payload_begin(in, 1, in->header.payload_bytes);
	return STEP_ON;
}

static enum step read_data_begin(struct tcp_conn *t)
{
	const struct tcp_read *read = &t->reads.ring[t->reads.answered % TCP_READS_MAX];

	if (t->reads.asked == t->reads.answered || t->in.header.sequence != t->reads.answered ||
	    t->in.header.payload_bytes != read->bytes) {
		tcp_violation(t, "it answers a read that was not asked for");
		return STEP_CLOSED;
	}
	memcpy(t->in.pieces, read->pieces, read->count * sizeof(read->pieces[0]));
	payload_begin(&t->in, read->count, read->bytes);
	return STEP_ON;
}

static enum step header_step(struct tcp_conn *t, struct conn_event *event)
{
	struct tcp_in *in = &t->in;

	if (ahead_bytes(in) < TCP_HEADER_BYTES)
		return STEP_HUNGRY;
	if (!tcp_header_decode(in->ahead + in->from, &in->header) || !tcp_frame_is_for(in->header.type, t->conn.hello.kind)) {
		tcp_violation(t, "there is no such frame (type %u)", (unsigned)in->ahead[in->from]);
		return STEP_CLOSED;
	}
	if (is_message(in) && !in->slots_free)
		return STEP_STALLED;

	in->from += TCP_HEADER_BYTES;
	if (is_message(in))
		return message_begin(in);
	if (in->header.type == TCP_READ_DATA)
		return read_data_begin(t);
	if (in->header.type == TCP_FENCE) {
		*event = (struct conn_event){ .type = CONN_FENCE, .sequence = in->header.sequence };
		return STEP_EVENT;
	}
	in->state = TCP_IN_PIECES;
	return STEP_ON;
}

/* All pieces are looked up before the first byte is placed; the sum of their bytes, or 0 if one is not permitted. */
static uint64_t pieces_check(struct tcp_conn *t, enum region_access access)
{
	struct tcp_in *in = &t->in;
	uint64_t total = 0;
	bool is_fine = true;

	tcp_regions_share(tcp_conn_regions(t));
	for (unsigned i = 0; i < in->header.count && is_fine; i++) {
		is_fine = tcp_piece_decode(ahead_take(in, TCP_PIECE_BYTES), &in->pieces[i]) &&
			  tcp_regions_at(tcp_conn_regions(t), &in->pieces[i], access);
		total += in->pieces[i].bytes;
	}
	tcp_regions_unshare(tcp_conn_regions(t));
	return is_fine ? total : 0;
}

static enum step pieces_step(struct tcp_conn *t)
{
	struct tcp_in *in = &t->in;
	bool is_write = in->header.type == TCP_WRITE;

	if (ahead_bytes(in) < in->header.count * (unsigned)TCP_PIECE_BYTES)
		return STEP_HUNGRY;

	uint64_t total = pieces_check(t, is_write ? REGION_REMOTE_WRITE : REGION_REMOTE_READ);
	if (!total)
		tcp_violation(t, "it %s memory it was not given", is_write ? "writes to" : "reads from");
	else if (is_write && total != in->header.payload_bytes)
		tcp_violation(t, "a write's pieces and payload differ in length");
	else if (!is_write && !tcp_out_answer(t, in->header.sequence, in->pieces, in->header.count))
		tcp_violation(t, "it asks for more than %u reads at a time", (unsigned)TCP_READS_MAX);
	if (t->state == TCP_CLOSED)
		return STEP_CLOSED;

	in->state = TCP_IN_HEADER;
	if (is_write)
		payload_begin(in, in->header.count, total);
	return STEP_ON;
}

/* What a stranger or a peer wrote, fit for one line of a log. */
static void printable(const uint8_t *bytes, size_t size, char *out, size_t out_bytes)
{
	size_t n = 0;
	for (; n < size && n + 1 < out_bytes; n++)
		out[n] = bytes[n] >= ' ' && bytes[n] < 0x7f ? (char)bytes[n] : '.';
	out[n] = '\0';
}

/* A status the source still owns its guest with: a peer that has not even let us in can say no other. */
static enum rdmamig_status rejected_status(uint32_t sequence)
{
	bool is_known = sequence >= RDMAMIG_E_FAILED && sequence < RDMAMIG_E_UNKNOWN_OWNER &&
			strcmp(rdmamig_status_name((enum rdmamig_status)sequence), "RDMAMIG_?");
	return is_known ? (enum rdmamig_status)sequence : RDMAMIG_E_PEER;
}

static enum step not_rdmamig(struct tcp_conn *t)
{
	char answer[40];
	printable(t->in.ahead + t->in.from, ahead_bytes(&t->in), answer, sizeof(answer));
	tcp_close(t, error_note(t->conn.endpoint->error, RDMAMIG_E_PROTOCOL, 0,
				"%s is not an rdmamig dest (it answered '%s')", t->conn.peer, answer));
	return STEP_CLOSED;
}

/* Our hello is out: what comes now is TCP_ADMIT or TCP_REJECT, or not from one of us. */
static enum step greeting_step(struct tcp_conn *t, struct conn_event *event)
{
	struct tcp_in *in = &t->in;
	struct tcp_header header;

	if (ahead_bytes(in) && in->ahead[in->from] != TCP_ADMIT && in->ahead[in->from] != TCP_REJECT)
		return not_rdmamig(t);
	if (ahead_bytes(in) < TCP_HEADER_BYTES)
		return STEP_HUNGRY;
	if (!tcp_header_decode(in->ahead + in->from, &header))
		return not_rdmamig(t);
	if (header.type == TCP_ADMIT) {
		in->from += TCP_HEADER_BYTES;
		t->state = TCP_OPEN;
		*event = (struct conn_event){ .type = CONN_OPENED };
		return STEP_EVENT;
	}
	if (ahead_bytes(in) < TCP_HEADER_BYTES + header.payload_bytes)
		return STEP_HUNGRY;

	char text[TCP_REJECT_BYTES_MAX + 1];
	printable(in->ahead + in->from + TCP_HEADER_BYTES, (size_t)header.payload_bytes, text, sizeof(text));
	tcp_close(t, error_note(t->conn.endpoint->error, rejected_status(header.sequence), 0, "%s refused: %s", t->conn.peer,
				text));
	return STEP_CLOSED;
}

static enum step greeting_ended(struct tcp_conn *t)
{
	if (ahead_bytes(&t->in))
		return not_rdmamig(t);
	tcp_close(t, error_note(t->conn.endpoint->error, RDMAMIG_E_CONNECT, 0,
				"%s closed the connection without a word; is it an rdmamig dest?", t->conn.peer));
	return STEP_CLOSED;
}

static enum step in_step(struct tcp_conn *t, struct conn_event *event)
{
	if (t->state == TCP_GREETING)
		return greeting_step(t, event);
	switch (t->in.state) {
	case TCP_IN_PIECES:
		return pieces_step(t);
	case TCP_IN_PAYLOAD:
		return payload_step(t, event);
	default:
		return header_step(t, event);
	}
}

/* One system call: the rest of the payload to its places, and behind it, if it all fits, the headers of what follows. */
static ssize_t in_receive(struct tcp_conn *t, size_t limit, size_t *payload)
{
	struct tcp_in *in = &t->in;
	struct iovec iov[TCP_PIECES_MAX + 1];
	struct msghdr message = { .msg_iov = iov };
	unsigned count = 0;

	*payload = 0;
	if (in->state == TCP_IN_PAYLOAD && !payload_places(t, iov, &count, limit, payload)) {
		errno = ENOENT;	/* recvmsg(2) never says that */
		return -1;
	}
	if (in->state != TCP_IN_PAYLOAD || *payload == in->left)
		iov[count++] = (struct iovec){ .iov_base = in->ahead + in->to, .iov_len = TCP_AHEAD_BYTES - in->to };
	message.msg_iovlen = count;
	return recvmsg(t->fd, &message, MSG_DONTWAIT);
}

static enum step in_failed(struct tcp_conn *t, int why)
{
	if (why == EINTR)
		return STEP_ON;
	if (why == EAGAIN && !t->out.broken_errno)
		return STEP_HUNGRY;
	if (why == ENOENT)
		region_gone(t);
	else if (why == EFAULT)
		memory_refused(t, why);
	else if (t->state == TCP_GREETING)
		return greeting_ended(t);
	else
		return bytes_ended(t, why == EAGAIN ? t->out.broken_errno : why);
	return STEP_CLOSED;
}

/* STEP_ON: *got bytes came; STEP_HUNGRY: none are there. */
static enum step in_fill(struct tcp_conn *t, size_t limit, size_t *got)
{
	struct tcp_in *in = &t->in;
	size_t payload;

	memmove(in->ahead, in->ahead + in->from, ahead_bytes(in));
	in->to -= in->from;
	in->from = 0;

	tcp_regions_share(tcp_conn_regions(t));
	ssize_t n = in_receive(t, limit, &payload);
	int why = errno;
	tcp_regions_unshare(tcp_conn_regions(t));

	*got = 0;
	if (n < 0)
		return in_failed(t, why);
	if (n == 0)
		return t->state == TCP_GREETING ? greeting_ended(t) : bytes_ended(t, 0);

	*got = (size_t)n;
	if (payload > *got)
		payload = *got;
	payload_advance(in, payload);
	in->to += (unsigned)(*got - payload);
	return STEP_ON;
}

unsigned tcp_in_move(struct tcp_conn *t, struct conn_event *events, unsigned max)
{
	size_t left = TCP_POLL_BYTES;
	unsigned n = 0;

	t->in.has_more = true;
	while (n < max && left) {
		size_t got = 0;
		enum step step = in_step(t, &events[n]);
		if (step == STEP_HUNGRY) {
			step = in_fill(t, left, &got);
			left -= got < left ? got : left;
		}
		n += step == STEP_EVENT;
		if (step == STEP_ON || step == STEP_EVENT)
			continue;
		t->in.is_stalled = step == STEP_STALLED;
		t->in.has_more = false;
		break;
	}
	return n;
}
