/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * rdma_endpoint.c - the spike: struct endpoint_ops over librdmacm and libibverbs, to learn whether they fit.
 * Neighbour: spike_rdma.c, which drives both ends. One thread per conn; regions any thread.
 */
#include "rdma_endpoint.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>

#include "base/log.h"
#include "transport/hello.h"

enum {
	REJECT_TEXT_BYTES = 80,
	REJECT_BYTES = 12 + REJECT_TEXT_BYTES,
	WRITES_MAX = 64,
	POSTS_MAX = 64,
	SQ_SLOTS = 1024,		/* every struct write is one; fewer than WRITES_MAX * POSTS_MAX: AGAIN comes earlier */
	MESSAGE_BYTES = 8192,
	MESSAGES_MAX = 32,
	READS_MAX = 16,			/* outstanding on the wire; clamped to the device */
	RESOLVE_MS = 2000,
	KILL_MS = 1000,
	ACK_TIMEOUT = 14,		/* 4.096 us << 14 = 67 ms */
	RETRIES = 6,			/* 7 never ends on rxe */
	RNR_FOREVER = 7,
	RNR_TIMER_640_US = 12,		/* rdma_cm leaves 0, which is 655 ms */
};

#define WR_RECEIVE	(1ull << 63)	/* wr_id: a receive; the rest is its slot */
#define WR_NOT_LAST	(1ull << 62)	/* wr_id: of a list, completes only in error */

struct region {
	struct ibv_mr *mr;
};

struct rdma_endpoint {
	struct endpoint base;
	struct rdmamig_uri uri;
	struct rdma_event_channel *channel;	/* of the listener; conns have their own */
	struct rdma_cm_id *listener;
	pthread_mutex_t lock;			/* of the three below: the first id that knows its device sets them */
	struct ibv_context *context;		/* librdmacm's, one per device and process: never close it */
	struct ibv_pd *control_pd;		/* no region of it is open to the peer (R7) */
	struct ibv_pd *data_pd;
};

/* One conn_send/write/read/fence: the work requests it took, and what to report. Completions come in this order. */
struct post {
	enum conn_event_type event;	/* 0: nothing to report */
	uint64_t id;
	unsigned slots;
};

enum rdma_state { OFFERED, RESOLVING, OPENING, OPEN, BROKEN, CLOSED };

struct rdma_conn {
	struct conn base;
	enum rdma_state state;
	enum rdmamig_status status;	/* once BROKEN */
	bool opened_due;
	bool finishing;
	bool disconnected;		/* our DREQ or DREP is out */
	bool armed;
	struct rdma_event_channel *channel;
	struct rdma_cm_id *id;
	struct ibv_comp_channel *completions;
	struct ibv_cq *cq;
	struct ibv_qp *qp;
	unsigned receives;		/* posted and not seen again */
	uint8_t *ring;			/* control: MESSAGES_MAX to receive into, then as many to send from */
	struct ibv_mr *ring_mr;
	uint64_t first_post, next_post;
	struct post posts[POSTS_MAX];
	unsigned slots_free;
	unsigned slots_wanted;		/* by the last call that was told AGAIN */
	unsigned first_wc, wcs;		/* polled and not handled yet */
	struct ibv_wc wc[SQ_SLOTS + RDMA_FENCES_MAX];	/* as many as the CQ: kill can hold all of them */
	_Atomic uint64_t bytes_sent;
};

static struct rdma_endpoint *rdma_endpoint(struct endpoint *endpoint) { return (struct rdma_endpoint *)endpoint; }
static struct rdma_conn *rdma_conn(struct conn *conn) { return (struct rdma_conn *)conn; }

static void put32(uint8_t *out, uint32_t value)
{
	value = htole32(value);
	memcpy(out, &value, sizeof(value));
}

static uint32_t get32(const uint8_t *in)
{
	uint32_t value;
	memcpy(&value, in, sizeof(value));
	return le32toh(value);
}

/* ---- the endpoint ---- */

static struct rdma_event_channel *channel_open(void)
{
	struct rdma_event_channel *channel = rdma_create_event_channel();
	if (channel && fcntl(channel->fd, F_SETFL, fcntl(channel->fd, F_GETFL) | O_NONBLOCK)) {
		rdma_destroy_event_channel(channel);
		channel = NULL;
	}
	return channel;
}

static enum rdmamig_status endpoint_rdma_open(const struct rdmamig_uri *uri, const struct clock *clock, struct error *error,
					      struct endpoint **out)
{
	struct rdma_endpoint *e = calloc(1, sizeof(*e));
	if (!e)
		return error_note(error, RDMAMIG_E_NO_MEMORY, errno, "endpoint");
	e->base = (struct endpoint){ .ops = &rdma_endpoint_ops, .clock = clock, .error = error, .limits = {
		.writes_max = WRITES_MAX, .posts_max = POSTS_MAX, .write_bytes_max = 1 << 30,
		.message_bytes_max = MESSAGE_BYTES, .messages_max = MESSAGES_MAX, .needs_local_region = true } };
	e->uri = *uri;
	pthread_mutex_init(&e->lock, NULL);
	e->channel = channel_open();
	if (!e->channel) {
		enum rdmamig_status status = error_note(error, RDMAMIG_E_DEVICE, errno, "no RDMA device found");
		free(e);
		return status;
	}
	*out = &e->base;
	return RDMAMIG_OK;
}

static void endpoint_rdma_close(struct endpoint *endpoint)
{
	struct rdma_endpoint *e = rdma_endpoint(endpoint);
	if (e->listener)
		rdma_destroy_id(e->listener);
	rdma_destroy_event_channel(e->channel);
	if (e->data_pd)
		ibv_dealloc_pd(e->data_pd);
	if (e->control_pd)
		ibv_dealloc_pd(e->control_pd);
	pthread_mutex_destroy(&e->lock);
	free(e);
}

/* The device is known only when an address is resolved or a request has come: then, not at open, are there PDs. */
static enum rdmamig_status endpoint_adopt(struct rdma_endpoint *e, struct ibv_context *context)
{
	enum rdmamig_status status = RDMAMIG_OK;
	pthread_mutex_lock(&e->lock);
	if (!e->context) {
		e->control_pd = ibv_alloc_pd(context);
		e->data_pd = ibv_alloc_pd(context);
		if (e->control_pd && e->data_pd)
			e->context = context;
		else
			status = error_note(e->base.error, RDMAMIG_E_DEVICE, errno, "%s: ibv_alloc_pd", context->device->name);
	} else if (e->context != context) {
		status = error_note(e->base.error, RDMAMIG_E_DEVICE, 0, "a connection over %s, the session is on %s",
				    context->device->name, e->context->device->name);
	}
	pthread_mutex_unlock(&e->lock);
	return status;
}

/* A name would block here: the spike takes numbers only. */
static enum rdmamig_status address_of(struct rdma_endpoint *e, enum rdmamig_status otherwise, bool passive,
				      struct sockaddr_storage *out)
{
	char port[8];
	snprintf(port, sizeof(port), "%u", e->uri.port);
	struct addrinfo hints = { .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | (passive ? AI_PASSIVE : 0),
		.ai_socktype = SOCK_STREAM };
	struct addrinfo *found;
	int failed = getaddrinfo(e->uri.host[0] ? e->uri.host : NULL, port, &hints, &found);
	if (failed)
		return error_note(e->base.error, otherwise, 0, "%s: %s", e->uri.host, gai_strerror(failed));
	memset(out, 0, sizeof(*out));
	memcpy(out, found->ai_addr, found->ai_addrlen);
	freeaddrinfo(found);
	return RDMAMIG_OK;
}

static enum rdmamig_status endpoint_rdma_listen(struct endpoint *endpoint, uint16_t *port)
{
	struct rdma_endpoint *e = rdma_endpoint(endpoint);
	struct sockaddr_storage address;
	enum rdmamig_status status = address_of(e, RDMAMIG_E_LISTEN, true, &address);
	if (status)
		return status;
	if (rdma_create_id(e->channel, &e->listener, NULL, RDMA_PS_TCP))
		return error_note(endpoint->error, RDMAMIG_E_DEVICE, errno, "rdma_create_id");
	if (rdma_bind_addr(e->listener, (struct sockaddr *)&address) || rdma_listen(e->listener, 16)) {
		status = error_note(endpoint->error, RDMAMIG_E_LISTEN, errno, "%s:%u", e->uri.host, e->uri.port);
		rdma_destroy_id(e->listener);
		e->listener = NULL;
		return status;
	}
	*port = ntohs(rdma_get_src_port(e->listener));
	return e->listener->verbs ? endpoint_adopt(e, e->listener->verbs) : RDMAMIG_OK;
}

static void endpoint_rdma_wait(struct endpoint *endpoint, struct wait *wait)
{
	wait_add_fd(wait, rdma_endpoint(endpoint)->channel->fd, POLLIN);
}

static enum rdmamig_status region_rdma_add(struct endpoint *endpoint, void *base, size_t bytes, enum region_access access,
					   struct region **out, struct region_key *key)
{
	struct rdma_endpoint *e = rdma_endpoint(endpoint);
	if (!e->data_pd)
		return error_note(endpoint->error, RDMAMIG_E_DEVICE, 0, "region before the first connection");
	int flags = IBV_ACCESS_LOCAL_WRITE | (access & REGION_REMOTE_WRITE ? IBV_ACCESS_REMOTE_WRITE : 0) |
		    (access & REGION_REMOTE_READ ? IBV_ACCESS_REMOTE_READ : 0);
	struct region *region = calloc(1, sizeof(*region));
	if (!region)
		return error_note(endpoint->error, RDMAMIG_E_NO_MEMORY, errno, "region");
	region->mr = ibv_reg_mr(e->data_pd, base, bytes, flags);
	if (!region->mr) {
		int saved = errno;
		free(region);
		return error_note(endpoint->error, saved == ENOMEM ? RDMAMIG_E_NO_MEMORY : RDMAMIG_E_DEVICE, saved,
				  "ibv_reg_mr of %zu bytes", bytes);
	}
	*out = region;
	if (key && access != REGION_LOCAL)	/* rxe gives local MRs an rkey that works */
		*key = (struct region_key){ .base = (uintptr_t)base, .key = region->mr->rkey };
	return RDMAMIG_OK;
}

static void region_rdma_remove(struct endpoint *endpoint, struct region *region)
{
	(void)endpoint;
	if (ibv_dereg_mr(region->mr))
		log_line(RDMAMIG_LOG_ERROR, "ibv_dereg_mr: %m");
	free(region);
}

/* ---- a connection's QP ---- */

static struct rdma_conn *conn_new(struct endpoint *endpoint, const struct conn_hello *hello)
{
	struct rdma_conn *c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	c->base = (struct conn){ .ops = &rdma_endpoint_ops, .endpoint = endpoint, .hello = *hello };
	c->channel = channel_open();
	if (!c->channel) {
		free(c);
		return NULL;
	}
	return c;
}

static void conn_name_peer(struct rdma_conn *c)
{
	char host[64] = "?";
	struct sockaddr *peer = rdma_get_peer_addr(c->id);
	getnameinfo(peer, sizeof(struct sockaddr_storage), host, sizeof(host), NULL, 0, NI_NUMERICHOST);
	snprintf(c->base.peer, sizeof(c->base.peer), "%s:%u", host, ntohs(rdma_get_dst_port(c->id)));
}

static bool conn_is_data(const struct rdma_conn *c)
{
	return c->base.hello.kind == CONN_DATA;
}

/* A data conn's receives take no bytes: only the immediate of a fence. */
static bool receive_post(struct rdma_conn *c, unsigned slot)
{
	struct ibv_sge sge = { .addr = (uintptr_t)(c->ring + (size_t)slot * MESSAGE_BYTES), .length = MESSAGE_BYTES };
	struct ibv_recv_wr wr = { .wr_id = WR_RECEIVE | slot }, *bad;
	if (c->ring) {
		sge.lkey = c->ring_mr->lkey;
		wr.sg_list = &sge;
		wr.num_sge = 1;
	}
	if (ibv_post_recv(c->qp, &wr, &bad))
		return false;
	c->receives++;
	return true;
}

/* All receives are posted before connect or accept: the peer's first message may overtake our own ESTABLISHED. */
static enum rdmamig_status conn_make_qp(struct rdma_conn *c)
{
	struct rdma_endpoint *e = rdma_endpoint(c->base.endpoint);
	enum rdmamig_status status = endpoint_adopt(e, c->id->verbs);
	if (status)
		return status;
	bool data = conn_is_data(c);
	unsigned receives = data ? RDMA_FENCES_MAX : MESSAGES_MAX;
	c->slots_free = data ? SQ_SLOTS : MESSAGES_MAX;

	c->completions = ibv_create_comp_channel(e->context);
	if (!c->completions || fcntl(c->completions->fd, F_SETFL, fcntl(c->completions->fd, F_GETFL) | O_NONBLOCK))
		return error_note(e->base.error, RDMAMIG_E_DEVICE, errno, "completion channel");
	c->cq = ibv_create_cq(e->context, (int)(c->slots_free + receives), c, c->completions, 0);
	if (!c->cq)
		return error_note(e->base.error, RDMAMIG_E_DEVICE, errno, "ibv_create_cq");
	if (!data) {
		c->ring = calloc(2 * MESSAGES_MAX, MESSAGE_BYTES);
		if (!c->ring)
			return error_note(e->base.error, RDMAMIG_E_NO_MEMORY, errno, "message ring");
		c->ring_mr = ibv_reg_mr(e->control_pd, c->ring, 2 * MESSAGES_MAX * MESSAGE_BYTES, IBV_ACCESS_LOCAL_WRITE);
		if (!c->ring_mr)
			return error_note(e->base.error, RDMAMIG_E_NO_MEMORY, errno, "ibv_reg_mr of the message ring");
	}
	struct ibv_qp_init_attr init = { .send_cq = c->cq, .recv_cq = c->cq, .qp_type = IBV_QPT_RC, .cap = {
		.max_send_wr = c->slots_free, .max_recv_wr = receives, .max_send_sge = 1, .max_recv_sge = 1 } };
	if (rdma_create_qp(c->id, data ? e->data_pd : e->control_pd, &init))
		return error_note(e->base.error, RDMAMIG_E_DEVICE, errno, "rdma_create_qp");
	c->qp = c->id->qp;
	for (unsigned slot = 0; slot < receives; slot++)
		if (!receive_post(c, slot))
			return error_note(e->base.error, RDMAMIG_E_DEVICE, errno, "ibv_post_recv");
	uint8_t timeout = ACK_TIMEOUT;
	if (rdma_set_option(c->id, RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT, &timeout, sizeof(timeout)))
		log_line(RDMAMIG_LOG_WARNING, "ACK_TIMEOUT: %m");
	return RDMAMIG_OK;
}

/* rdma_cm grants remote writes on every QP and leaves the RNR timer at 655 ms. */
static void qp_tune(struct rdma_conn *c)
{
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_RTS, .min_rnr_timer = RNR_TIMER_640_US, .qp_access_flags =
		conn_is_data(c) ? IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ : 0 };
	int failed = ibv_modify_qp(c->qp, &attr, IBV_QP_STATE | IBV_QP_MIN_RNR_TIMER | IBV_QP_ACCESS_FLAGS);
	if (failed)
		log_line(RDMAMIG_LOG_WARNING, "%s: QP not tuned: %s", c->base.peer, strerror(failed));
}

static void qp_to_error(struct rdma_conn *c)
{
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_ERR };
	int failed = c->qp ? ibv_modify_qp(c->qp, &attr, IBV_QP_STATE) : 0;
	if (failed)
		log_line(RDMAMIG_LOG_ERROR, "%s: QP to ERR: %s", c->base.peer, strerror(failed));
}

/* The first cause stays. CONN_CLOSED comes when the QP is drained, so that no local memory is in use any more. */
static void conn_break(struct rdma_conn *c, enum rdmamig_status status)
{
	if (c->state >= BROKEN)
		return;
	c->state = BROKEN;
	c->status = status;
	qp_to_error(c);
}

static struct rdma_conn_param conn_param(struct rdma_conn *c)
{
	struct ibv_device_attr device;
	unsigned reads = 1;
	if (!ibv_query_device(c->id->verbs, &device))
		reads = device.max_qp_rd_atom < READS_MAX ? (unsigned)device.max_qp_rd_atom : READS_MAX;
	return (struct rdma_conn_param){ .responder_resources = (uint8_t)reads, .initiator_depth = (uint8_t)reads,
		.retry_count = RETRIES, .rnr_retry_count = RNR_FOREVER };
}

/* ---- connecting, from either side ---- */

static enum rdmamig_status conn_rdma_connect(struct endpoint *endpoint, const struct conn_hello *hello, struct conn **out)
{
	struct sockaddr_storage address;
	enum rdmamig_status status = address_of(rdma_endpoint(endpoint), RDMAMIG_E_CONNECT, false, &address);
	if (status)
		return status;
	struct rdma_conn *c = conn_new(endpoint, hello);
	if (!c)
		return error_note(endpoint->error, RDMAMIG_E_NO_MEMORY, errno, "connection");
	c->state = RESOLVING;
	if (rdma_create_id(c->channel, &c->id, c, RDMA_PS_TCP) ||
	    rdma_resolve_addr(c->id, NULL, (struct sockaddr *)&address, RESOLVE_MS)) {
		status = error_note(endpoint->error, RDMAMIG_E_CONNECT, errno, "%s", rdma_endpoint(endpoint)->uri.host);
		conn_free(&c->base);
		return status;
	}
	*out = &c->base;
	return RDMAMIG_OK;
}

static void conn_begin(struct rdma_conn *c)
{
	uint8_t hello[HELLO_BYTES];
	enum rdmamig_status status = conn_make_qp(c);
	if (status) {
		conn_break(c, status);
		return;
	}
	hello_encode(&c->base.hello, hello);
	struct rdma_conn_param param = conn_param(c);
	param.private_data = hello;
	param.private_data_len = sizeof(hello);
	c->state = OPENING;
	if (rdma_connect(c->id, &param))
		conn_break(c, error_note(c->base.endpoint->error, RDMAMIG_E_CONNECT, errno, "rdma_connect"));
}

/* The request's id starts on the listener's event channel; its conn may live on another thread, so it gets its own. */
static enum rdmamig_status endpoint_rdma_accept(struct endpoint *endpoint, struct conn **out)
{
	struct rdma_endpoint *e = rdma_endpoint(endpoint);
	struct rdma_cm_event *event;
	while (rdma_get_cm_event(e->channel, &event) == 0) {
		bool asked = event->event == RDMA_CM_EVENT_CONNECT_REQUEST;
		struct rdma_cm_id *id = event->id;
		struct conn_hello hello;
		bool good = asked && event->param.conn.private_data &&
			    !hello_decode(event->param.conn.private_data, event->param.conn.private_data_len, &hello);
		rdma_ack_cm_event(event);	/* before migrate, which waits for it */
		if (!asked)
			continue;
		struct rdma_conn *c = good ? conn_new(endpoint, &hello) : NULL;
		if (!c || rdma_migrate_id(id, c->channel)) {
			log_line(RDMAMIG_LOG_WARNING, "a connection that is none of ours was refused");
			rdma_reject(id, NULL, 0);
			rdma_destroy_id(id);
			if (c)
				conn_free(&c->base);
			continue;
		}
		c->id = id;
		c->state = OFFERED;
		conn_name_peer(c);
		*out = &c->base;
		return RDMAMIG_OK;
	}
	if (errno != EAGAIN)
		return error_note(endpoint->error, RDMAMIG_E_DEVICE, errno, "rdma_get_cm_event");
	return RDMAMIG_AGAIN;
}

static enum rdmamig_status conn_rdma_admit(struct conn *conn)
{
	struct rdma_conn *c = rdma_conn(conn);
	assert(c->state == OFFERED);
	enum rdmamig_status status = conn_make_qp(c);
	if (status)
		return status;
	struct rdma_conn_param param = conn_param(c);
	c->state = OPENING;
	if (rdma_accept(c->id, &param))
		return error_note(conn->endpoint->error, RDMAMIG_E_DISCONNECTED, errno, "%s: rdma_accept", conn->peer);
	return RDMAMIG_OK;
}

static void conn_rdma_reject(struct conn *conn, enum rdmamig_status why, const char *text)
{
	struct rdma_conn *c = rdma_conn(conn);
	uint8_t data[REJECT_BYTES] = "RDMG";
	put32(data + 4, sizeof(data));
	put32(data + 8, why);
	memcpy(data + 12, text, strnlen(text, REJECT_TEXT_BYTES));
	rdma_reject(c->id, data, sizeof(data));
	conn_free(conn);
}

static void conn_rejected(struct rdma_conn *c, const struct rdma_cm_event *event)
{
	const uint8_t *data = event->param.conn.private_data;
	struct error *error = c->base.endpoint->error;
	if (data && event->param.conn.private_data_len >= REJECT_BYTES && !memcmp(data, "RDMG", 4)) {
		uint32_t why = get32(data + 8);
		if (why < 100 || why > 899)
			why = RDMAMIG_E_PEER;
		conn_break(c, error_note(error, why, 0, "%s refused: %.*s", c->base.peer, REJECT_TEXT_BYTES,
					 (const char *)data + 12));
		return;
	}
	conn_break(c, error_note(error, RDMAMIG_E_CONNECT, 0, "%s: nobody listens (reject %d)", c->base.peer, event->status));
}

static void conn_disconnect(struct rdma_conn *c)
{
	if (!c->disconnected && c->qp)
		rdma_disconnect(c->id);	/* also the answer (DREP) to the peer's own, else it waits for its time-outs */
	c->disconnected = true;
}

static void cm_event_handle(struct rdma_conn *c, const struct rdma_cm_event *event)
{
	struct error *error = c->base.endpoint->error;
	switch (event->event) {
	case RDMA_CM_EVENT_ADDR_RESOLVED:
		conn_name_peer(c);
		if (rdma_resolve_route(c->id, RESOLVE_MS))
			conn_break(c, error_note(error, RDMAMIG_E_CONNECT, errno, "rdma_resolve_route"));
		break;
	case RDMA_CM_EVENT_ROUTE_RESOLVED:
		conn_begin(c);
		break;
	case RDMA_CM_EVENT_ESTABLISHED:
		qp_tune(c);
		if (c->state == OPENING) {
			c->state = OPEN;
			c->opened_due = true;
		}
		break;
	case RDMA_CM_EVENT_REJECTED:
		conn_rejected(c, event);
		break;
	case RDMA_CM_EVENT_DISCONNECTED:
		/* A peer that was killed says the same as one that is done: only work it left undone tells. */
		conn_break(c, c->next_post == c->first_post ? RDMAMIG_OK :
			   error_note(error, RDMAMIG_E_DISCONNECTED, 0, "%s: disconnected in the middle", c->base.peer));
		conn_disconnect(c);
		break;
	case RDMA_CM_EVENT_DEVICE_REMOVAL:
		conn_break(c, error_note(error, RDMAMIG_E_DEVICE, 0, "the RDMA device was removed"));
		break;
	case RDMA_CM_EVENT_TIMEWAIT_EXIT:
	case RDMA_CM_EVENT_ADDR_CHANGE:
		break;
	default:
		conn_break(c, error_note(error, c->state <= OPENING ? RDMAMIG_E_CONNECT : RDMAMIG_E_DISCONNECTED, 0,
					 "%s: %s (%d)", c->base.peer, rdma_event_str(event->event), event->status));
	}
}

/* ---- completions ---- */

static void completions_fetch(struct rdma_conn *c)
{
	if (!c->cq)
		return;
	memmove(c->wc, c->wc + c->first_wc, c->wcs * sizeof(*c->wc));
	c->first_wc = 0;
	int got = ibv_poll_cq(c->cq, (int)(SQ_SLOTS + RDMA_FENCES_MAX - c->wcs), c->wc + c->wcs);
	if (got > 0)
		c->wcs += (unsigned)got;
}

static void completion_broken(struct rdma_conn *c, const struct ibv_wc *wc)
{
	if (c->state >= BROKEN || c->disconnected)	/* our own end flushes too: DISCONNECTED follows */
		return;
	conn_break(c, error_note(c->base.endpoint->error, RDMAMIG_E_DISCONNECTED, 0, "%s: %s", c->base.peer,
				 ibv_wc_status_str(wc->status)));
}

static bool receive_handle(struct rdma_conn *c, const struct ibv_wc *wc, struct conn_event *event)
{
	unsigned slot = (unsigned)(wc->wr_id & 0xffff);
	c->receives--;
	if (wc->status)
		return false;
	if (wc->opcode == IBV_WC_RECV_RDMA_WITH_IMM) {
		*event = (struct conn_event){ .type = CONN_FENCE, .sequence = ntohl(wc->imm_data) };
		if (c->state == OPEN && !receive_post(c, slot))
			conn_break(c, error_note(c->base.endpoint->error, RDMAMIG_E_DEVICE, errno, "ibv_post_recv"));
		return true;
	}
	*event = (struct conn_event){ .type = CONN_MESSAGE, .message = c->ring + (size_t)slot * MESSAGE_BYTES,
		.bytes = wc->byte_len, .slot = slot };
	return true;
}

/* True if it makes an event. */
static bool completion_handle(struct rdma_conn *c, const struct ibv_wc *wc, struct conn_event *event)
{
	if (wc->status)
		completion_broken(c, wc);
	if (wc->wr_id & WR_RECEIVE)
		return receive_handle(c, wc, event);
	if (wc->wr_id & WR_NOT_LAST)
		return false;
	assert(wc->wr_id == c->first_post);
	struct post post = c->posts[c->first_post++ % POSTS_MAX];
	c->slots_free += post.slots;
	if (wc->status || !post.event)
		return false;
	*event = (struct conn_event){ .type = post.event, .id = post.id };
	return true;
}

static void cm_events_take(struct rdma_conn *c)
{
	struct rdma_cm_event *event;
	while (rdma_get_cm_event(c->channel, &event) == 0) {
		cm_event_handle(c, event);
		rdma_ack_cm_event(event);
	}
}

static void cq_event_take(struct rdma_conn *c)
{
	struct ibv_cq *cq;
	void *context;
	if (c->armed && ibv_get_cq_event(c->completions, &cq, &context) == 0) {
		ibv_ack_cq_events(cq, 1);
		c->armed = false;
	}
}

/* Drained: all that was received has been reported, and no local memory is in use. */
static bool conn_is_drained(const struct rdma_conn *c)
{
	return !c->wcs && c->first_post == c->next_post && !c->receives;
}

static unsigned conn_rdma_poll(struct conn *conn, struct conn_event *events, unsigned max)
{
	struct rdma_conn *c = rdma_conn(conn);
	unsigned count = 0;
	if (c->state == CLOSED)
		return 0;
	cm_events_take(c);
	cq_event_take(c);
	while (count < max) {
		if (!c->wcs)
			completions_fetch(c);
		struct ibv_wc *wc = &c->wc[c->first_wc];
		if (c->wcs && c->state == OPENING && !wc->status) {	/* the peer's first bytes overtook its RTU */
			c->state = OPEN;
			c->opened_due = true;
		}
		if (c->opened_due) {
			c->opened_due = false;
			events[count++] = (struct conn_event){ .type = CONN_OPENED };
			continue;
		}
		if (!c->wcs)
			break;
		c->first_wc++;
		c->wcs--;
		if (completion_handle(c, wc, &events[count]))
			count++;
	}
	if (c->finishing && c->state == OPEN && c->first_post == c->next_post)
		conn_disconnect(c);
	if (c->state == BROKEN && count < max && conn_is_drained(c)) {
		c->state = CLOSED;
		events[count++] = (struct conn_event){ .type = CONN_CLOSED, .status = c->status };
	}
	return count;
}

static bool conn_has_room(const struct rdma_conn *c, unsigned slots)
{
	return c->next_post - c->first_post < POSTS_MAX && c->slots_free >= slots;
}

/* Room can come back without an event (a fence, a message is through): who was told AGAIN must not sleep over it. */
static bool conn_asks_room(struct rdma_conn *c, unsigned slots)
{
	bool room = conn_has_room(c, slots);
	c->slots_wanted = room ? 0 : slots;
	return room;
}

/* Arm, then look again: a completion between the last poll and the arming raises no event. */
static void conn_rdma_wait(struct conn *conn, struct wait *wait)
{
	struct rdma_conn *c = rdma_conn(conn);
	if (c->state == CLOSED)
		return;
	wait_add_fd(wait, c->channel->fd, POLLIN);
	if (!c->cq)
		return;
	wait_add_fd(wait, c->completions->fd, POLLIN);
	if (!c->armed && ibv_req_notify_cq(c->cq, 0) == 0)
		c->armed = true;
	completions_fetch(c);
	if (c->wcs || c->opened_due || (c->state == BROKEN && conn_is_drained(c)) ||
	    (c->slots_wanted && conn_has_room(c, c->slots_wanted))) {
		c->slots_wanted = 0;	/* once: who does not try again does not want it */
		wait_now(wait);
	}
}

/* ---- work ---- */

/* @last is the end of the list at @first and has room been asked for. */
static enum rdmamig_status conn_post(struct rdma_conn *c, struct ibv_send_wr *first, struct ibv_send_wr *last,
				     const struct post *post)
{
	struct ibv_send_wr *bad;
	last->wr_id = c->next_post;
	last->send_flags = IBV_SEND_SIGNALED;
	c->posts[c->next_post++ % POSTS_MAX] = *post;
	c->slots_free -= post->slots;
	int failed = ibv_post_send(c->qp, first, &bad);
	if (!failed)
		return RDMAMIG_OK;
	if (bad == first) {	/* nothing of it was taken */
		c->next_post--;
		c->slots_free += post->slots;
	}
	enum rdmamig_status status = error_note(c->base.endpoint->error, RDMAMIG_E_DEVICE, failed, "ibv_post_send");
	conn_break(c, status);
	return status;
}

static void count_sent(struct rdma_conn *c, uint64_t bytes)
{
	atomic_fetch_add_explicit(&c->bytes_sent, bytes, memory_order_relaxed);
}

static enum rdmamig_status conn_rdma_send(struct conn *conn, const void *message, size_t bytes)
{
	struct rdma_conn *c = rdma_conn(conn);
	assert(!conn_is_data(c) && bytes <= MESSAGE_BYTES);
	if (c->state != OPEN)
		return RDMAMIG_E_DISCONNECTED;
	if (!conn_asks_room(c, 1))
		return RDMAMIG_AGAIN;
	uint8_t *slot = c->ring + (MESSAGES_MAX + c->next_post % MESSAGES_MAX) * MESSAGE_BYTES;
	memcpy(slot, message, bytes);
	struct ibv_sge sge = { .addr = (uintptr_t)slot, .length = (uint32_t)bytes, .lkey = c->ring_mr->lkey };
	struct ibv_send_wr wr = { .opcode = IBV_WR_SEND, .sg_list = &sge, .num_sge = 1 };
	count_sent(c, bytes);
	return conn_post(c, &wr, &wr, &(struct post){ .slots = 1 });
}

static void conn_rdma_message_release(struct conn *conn, unsigned slot)
{
	struct rdma_conn *c = rdma_conn(conn);
	if (c->state == OPEN && !receive_post(c, slot))
		conn_break(c, error_note(conn->endpoint->error, RDMAMIG_E_DEVICE, errno, "ibv_post_recv"));
}

static enum rdmamig_status conn_place(struct rdma_conn *c, enum ibv_wr_opcode opcode, const struct write *writes,
				      unsigned count, const struct post *post)
{
	struct ibv_send_wr wrs[WRITES_MAX];
	struct ibv_sge sges[WRITES_MAX];
	assert(conn_is_data(c) && count && count <= WRITES_MAX);
	if (c->state != OPEN)
		return RDMAMIG_E_DISCONNECTED;
	if (!conn_asks_room(c, count))
		return RDMAMIG_AGAIN;
	for (unsigned i = 0; i < count; i++) {
		const struct write *w = &writes[i];
		sges[i] = (struct ibv_sge){ .addr = (uintptr_t)w->local, .length = w->bytes, .lkey = w->region->mr->lkey };
		wrs[i] = (struct ibv_send_wr){ .wr_id = WR_NOT_LAST, .opcode = opcode, .sg_list = &sges[i], .num_sge = 1,
			.next = i + 1 < count ? &wrs[i + 1] : NULL, .wr.rdma = { .remote_addr = w->remote, .rkey = w->key } };
		if (opcode == IBV_WR_RDMA_WRITE)
			count_sent(c, w->bytes);
	}
	return conn_post(c, wrs, &wrs[count - 1], post);
}

static enum rdmamig_status conn_rdma_write(struct conn *conn, const struct write *writes, unsigned count, uint64_t id)
{
	return conn_place(rdma_conn(conn), IBV_WR_RDMA_WRITE, writes, count,
			  &(struct post){ .event = CONN_WRITTEN, .id = id, .slots = count });
}

static enum rdmamig_status conn_rdma_read(struct conn *conn, const struct write *reads, unsigned count, uint64_t id)
{
	return conn_place(rdma_conn(conn), IBV_WR_RDMA_READ, reads, count,
			  &(struct post){ .event = CONN_READ, .id = id, .slots = count });
}

static enum rdmamig_status conn_rdma_fence(struct conn *conn, uint32_t sequence)
{
	struct rdma_conn *c = rdma_conn(conn);
	if (c->state != OPEN)
		return RDMAMIG_E_DISCONNECTED;
	if (!conn_asks_room(c, 1))
		return RDMAMIG_AGAIN;
	struct ibv_send_wr wr = { .opcode = IBV_WR_RDMA_WRITE_WITH_IMM, .imm_data = htonl(sequence) };
	return conn_post(c, &wr, &wr, &(struct post){ .slots = 1 });
}

static uint64_t conn_rdma_bytes_sent(const struct conn *conn)
{
	return atomic_load_explicit(&((const struct rdma_conn *)conn)->bytes_sent, memory_order_relaxed);
}

/* ---- the end ---- */

void rdma_conn_finish(struct conn *conn)
{
	rdma_conn(conn)->finishing = true;
}

static unsigned receives_flushed(const struct rdma_conn *c)
{
	unsigned flushed = 0;
	for (unsigned i = c->first_wc; i < c->first_wc + c->wcs; i++)
		flushed += (c->wc[i].wr_id & WR_RECEIVE) != 0;
	return flushed;
}

/*
 * rxe's modify to ERR does not wait for its responder, which may be copying a packet on another CPU; the receives are
 * flushed by that same responder afterwards, so once they are back nothing lands any more. If they do not come, destroy
 * the QP.
 */
static void conn_rdma_kill(struct conn *conn)
{
	struct rdma_conn *c = rdma_conn(conn);
	if (!c->qp)
		return;
	if (c->state < BROKEN) {
		c->state = BROKEN;
		c->status = RDMAMIG_E_DISCONNECTED;
	}
	qp_to_error(c);		/* also when it is there already */
	uint64_t deadline = clock_after_ms(conn->endpoint->clock, KILL_MS);
	for (;;) {
		completions_fetch(c);
		if (receives_flushed(c) >= c->receives)
			return;
		if (clock_now_ns(conn->endpoint->clock) > deadline)
			break;
		sched_yield();
	}
	log_line(RDMAMIG_LOG_WARNING, "%s: the device does not flush: QP destroyed", conn->peer);
	rdma_destroy_qp(c->id);
	c->qp = NULL;
	c->receives = c->wcs = 0;
	c->first_post = c->next_post;
}

static void conn_rdma_free(struct conn *conn)
{
	struct rdma_conn *c = rdma_conn(conn);
	conn_disconnect(c);
	conn_rdma_kill(conn);
	if (c->qp)
		rdma_destroy_qp(c->id);
	cq_event_take(c);	/* destroy would wait for one not acknowledged */
	if (c->cq)
		ibv_destroy_cq(c->cq);
	if (c->completions)
		ibv_destroy_comp_channel(c->completions);
	if (c->ring_mr)
		ibv_dereg_mr(c->ring_mr);
	free(c->ring);
	if (c->id)
		rdma_destroy_id(c->id);
	rdma_destroy_event_channel(c->channel);
	free(c);
}

const struct endpoint_ops rdma_endpoint_ops = {
	.scheme = "rdma",
	.open = endpoint_rdma_open,
	.close = endpoint_rdma_close,
	.listen = endpoint_rdma_listen,
	.accept = endpoint_rdma_accept,
	.wait = endpoint_rdma_wait,
	.region_add = region_rdma_add,
	.region_remove = region_rdma_remove,
	.connect = conn_rdma_connect,
	.admit = conn_rdma_admit,
	.reject = conn_rdma_reject,
	.send = conn_rdma_send,
	.message_release = conn_rdma_message_release,
	.write = conn_rdma_write,
	.read = conn_rdma_read,
	.fence = conn_rdma_fence,
	.poll = conn_rdma_poll,
	.conn_wait = conn_rdma_wait,
	.bytes_sent = conn_rdma_bytes_sent,
	.kill = conn_rdma_kill,
	.conn_free = conn_rdma_free,
};
