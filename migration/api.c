/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * api.c - the public functions of a session: they check, copy, and leave the work to the session thread.
 * Neighbours: session.c, mailbox.c. Any thread of the embedding program.
 */
#include "migration/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "migration/dest.h"
#include "migration/source.h"

enum {
	DEFAULT_CHANNELS = 1,
	DEFAULT_DOWNTIME_MS = 300,
	DEFAULT_TIMEOUT_MS = 3600000,
	DEFAULT_DRIVER_MS = 30000,
	DEFAULT_HANDOVER_MS = 30000,
	LONGEST_MS = INT32_MAX,		/* 24 days */
};

static const char *options_wrong(enum rdmamig_role role, const struct rdmamig_options *options)
{
	static const uint8_t no_id[RDMAMIG_SESSION_ID_BYTES];
	if (role != RDMAMIG_SOURCE && role != RDMAMIG_DEST)
		return "role is neither source nor dest";
	if (!options || options->size < offsetof(struct rdmamig_options, uri) + sizeof(options->uri) || !options->uri)
		return "no URI";
	if (role == RDMAMIG_SOURCE && !memcmp(options->session_id, no_id, sizeof(no_id)))
		return "a source needs a session id (rdmamig_journal_create() makes one)";
	if (options->channels > RDMAMIG_CHANNELS_MAX)
		return "channels: 1 to 16";
	if (options->downtime_ms > LONGEST_MS || options->timeout_ms > LONGEST_MS || options->wait_ms > LONGEST_MS ||
	    options->driver_timeout_ms > LONGEST_MS || options->handover_timeout_ms > LONGEST_MS)
		return "a time of more than 24 days";
	return NULL;
}

static uint64_t or_default(uint64_t value, uint64_t otherwise)
{
	return value ? value : otherwise;
}

/* The caller's options, as many of them as it knows, with the defaults filled in. */
static void options_take(struct rdmamig_session *session, const struct rdmamig_options *given)
{
	struct rdmamig_options *options = &session->options;
	memcpy(options, given, given->size < sizeof(*options) ? given->size : sizeof(*options));
	options->size = sizeof(*options);
	options->channels = (unsigned)or_default(options->channels, DEFAULT_CHANNELS);
	options->downtime_ms = or_default(options->downtime_ms, DEFAULT_DOWNTIME_MS);
	options->timeout_ms = or_default(options->timeout_ms, DEFAULT_TIMEOUT_MS);
	options->driver_timeout_ms = or_default(options->driver_timeout_ms, DEFAULT_DRIVER_MS);
	options->handover_timeout_ms = or_default(options->handover_timeout_ms, DEFAULT_HANDOVER_MS);
	snprintf(session->uri_text, sizeof(session->uri_text), "%s", options->uri);
	options->uri = session->uri_text;
}

static enum rdmamig_status options_resolve(struct rdmamig_session *session, char *why, size_t why_bytes)
{
	struct rdmamig_options *options = &session->options;
	session->uri.size = sizeof(session->uri);
	enum rdmamig_status st = rdmamig_uri_parse(session->uri_text, &session->uri, why, why_bytes);
	if (st)
		return st;
	session->transport = endpoint_ops_find(session->uri.scheme);
	session->codec = codec_find(options->codec ? options->codec : "none");
	if (!session->transport)
		snprintf(why, why_bytes, "this build has no %s transport; use tcp://", session->uri.scheme);
	else if (!session->codec)
		snprintf(why, why_bytes, "this build has no codec \"%s\"; use none", options->codec);
	options->codec = session->codec ? session->codec->name : NULL;
	return session->transport && session->codec ? RDMAMIG_OK : RDMAMIG_E_UNSUPPORTED;
}

static enum rdmamig_status session_make(struct rdmamig_session *session, enum rdmamig_role role)
{
	session->role = role;
	session->clock = &clock_real;
	session->tracker_choice.uffd = -1;
	session->stats.verified = -1;
	session->stats.page_size = PAGE_BYTES;
	session->stats.channels = session->options.channels;
	session->blocks = calloc(WIRE_BLOCKS_TOTAL_MAX, sizeof(*session->blocks));
	session->marks = calloc(WIRE_BLOCKS_TOTAL_MAX, sizeof(*session->marks));
	enum rdmamig_status st = session->blocks && session->marks ? RDMAMIG_OK : RDMAMIG_E_NO_MEMORY;
	if (!st)
		st = mailbox_init(&session->mailbox, &session->stepper.wake);
	if (!st)
		st = control_init(&session->control, session->clock, &session->error, &session->stepper.wake);
	if (!st)
		st = role == RDMAMIG_SOURCE ? source_new(session) : dest_new(session);
	return st;
}

enum rdmamig_status rdmamig_session_new(enum rdmamig_role role, const struct rdmamig_options *options,
					struct rdmamig_session **out, char *why, size_t why_bytes)
{
	char unread[8];
	if (!why || !why_bytes) {
		why = unread;
		why_bytes = sizeof(unread);
	}
	const char *wrong = options_wrong(role, options);
	if (wrong) {
		snprintf(why, why_bytes, "%s", wrong);
		return RDMAMIG_E_USAGE;
	}
	struct rdmamig_session *session = calloc(1, sizeof(*session));
	if (!session)
		return RDMAMIG_E_NO_MEMORY;
	error_init(&session->error);
	pthread_mutex_init(&session->blocks_lock, NULL);
	pthread_mutex_init(&session->state_lock, NULL);
	pthread_mutex_init(&session->stats_lock, NULL);
	session->mailbox.out.fd = -1;
	session->stepper.wake.fd = -1;

	options_take(session, options);
	enum rdmamig_status st = options_resolve(session, why, why_bytes);
	if (!st) {
		st = stepper_init(&session->stepper, &clock_real, session_step, session);
		if (!st)
			st = session_make(session, role);
		if (st)
			snprintf(why, why_bytes, "out of memory or descriptors");
	}
	if (st) {
		rdmamig_session_free(session);
		return st;
	}
	*out = session;
	return RDMAMIG_OK;
}

void rdmamig_session_free(struct rdmamig_session *session)
{
	if (!session)
		return;
	if (session->started) {
		atomic_store_explicit(&session->abandoned, true, memory_order_release);
		rdmamig_session_cancel(session);
		stepper_join(&session->stepper);
	}
	source_free(session);
	dest_free(session);
	control_fini(&session->control);
	endpoint_close(session->endpoint);
	for (unsigned i = 0; i < session->block_count; i++) {
		block_fini(&session->blocks[i]);
		bitmap_fini(&session->marks[i]);
	}
	if (session->tracker_choice.uffd >= 0)
		close(session->tracker_choice.uffd);
	mailbox_fini(&session->mailbox);
	stepper_fini(&session->stepper);
	error_fini(&session->error);
	pthread_mutex_destroy(&session->blocks_lock);
	pthread_mutex_destroy(&session->state_lock);
	pthread_mutex_destroy(&session->stats_lock);
	free(session->blocks);
	free(session->marks);
	free(session->peer_blocks);
	free(session);
}

static bool block_name_is_good(const struct rdmamig_session *session, const char *name)
{
	if (!name || !name[0] || strlen(name) >= RDMAMIG_BLOCK_NAME_BYTES)
		return false;
	for (const char *c = name; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			return false;
	for (unsigned i = 0; i < session->block_count; i++)
		if (!strcmp(session->blocks[i].name, name))
			return false;
	return true;
}

enum rdmamig_status rdmamig_session_add_block(struct rdmamig_session *session, const struct rdmamig_block *block)
{
	bool may = !session->started || mailbox_is_asking(&session->mailbox, RDMAMIG_EVENT_BLOCKS);
	if (!may || block->size < sizeof(*block) || session->block_count == WIRE_BLOCKS_TOTAL_MAX)
		return RDMAMIG_E_USAGE;
	if (!block_name_is_good(session, block->name))
		return error_note(&session->error, RDMAMIG_E_USAGE, 0, "a block's name must be 1 to 255 printable bytes and unique");

	struct block *slot = &session->blocks[session->block_count];
	enum rdmamig_status st = block_init(slot, block, session->role, &session->error);
	if (st)
		return st;
	if (session->role == RDMAMIG_SOURCE && bitmap_init(&session->marks[session->block_count], slot->pages)) {
		block_fini(slot);
		return error_note(&session->error, RDMAMIG_E_NO_MEMORY, 0, "no memory for a bitmap");
	}
	pthread_mutex_lock(&session->blocks_lock);
	session->block_count++;
	pthread_mutex_unlock(&session->blocks_lock);
	pthread_mutex_lock(&session->stats_lock);
	session->stats.total_bytes += slot->bytes;
	pthread_mutex_unlock(&session->stats_lock);
	return RDMAMIG_OK;
}

static enum rdmamig_status tracker_choose(struct rdmamig_session *session, const struct tracker_choice *choice)
{
	if (session->started || session->role != RDMAMIG_SOURCE || session->tracker_choice.kind != TRACKER_NONE)
		return RDMAMIG_E_USAGE;
	session->tracker_choice = *choice;
	return RDMAMIG_OK;
}

enum rdmamig_status rdmamig_session_track_process(struct rdmamig_session *session, pid_t pid, enum rdmamig_uffd_mode mode)
{
	return tracker_choose(session, &(struct tracker_choice){ .kind = TRACKER_PROCESS, .pid = pid, .uffd = -1, .mode = mode });
}

enum rdmamig_status rdmamig_session_track_self(struct rdmamig_session *session, enum rdmamig_uffd_mode mode)
{
	return tracker_choose(session, &(struct tracker_choice){ .kind = TRACKER_SELF, .uffd = -1, .mode = mode });
}

enum rdmamig_status rdmamig_session_track_uffd(struct rdmamig_session *session, int uffd, pid_t pid, enum rdmamig_uffd_mode mode)
{
	return tracker_choose(session, &(struct tracker_choice){ .kind = TRACKER_UFFD, .pid = pid, .uffd = uffd, .mode = mode });
}

enum rdmamig_status rdmamig_session_track_manual(struct rdmamig_session *session)
{
	return tracker_choose(session, &(struct tracker_choice){ .kind = TRACKER_MANUAL, .uffd = -1 });
}

enum rdmamig_status rdmamig_session_track_ops(struct rdmamig_session *session, const struct rdmamig_tracker_ops *ops, void *opaque)
{
	if (ops->size < sizeof(*ops) || !ops->arm || !ops->sync || !ops->disarm)
		return RDMAMIG_E_USAGE;
	return tracker_choose(session, &(struct tracker_choice){ .kind = TRACKER_OPS, .uffd = -1, .ops = *ops, .opaque = opaque });
}

enum rdmamig_status rdmamig_session_mark_dirty(struct rdmamig_session *session, const char *block, uint64_t offset, uint64_t bytes)
{
	enum rdmamig_status st = RDMAMIG_E_USAGE;
	pthread_mutex_lock(&session->blocks_lock);
	for (unsigned i = 0; i < session->block_count && session->role == RDMAMIG_SOURCE; i++) {
		const struct block *ours = &session->blocks[i];
		if (strcmp(ours->name, block) || offset > ours->bytes || bytes > ours->bytes - offset)
			continue;
		uint64_t first = offset >> PAGE_SHIFT;
		uint64_t end = (offset + bytes + PAGE_BYTES - 1) >> PAGE_SHIFT;
		bitmap_set_range(&session->marks[i], first, end - first);
		st = RDMAMIG_OK;
	}
	pthread_mutex_unlock(&session->blocks_lock);
	return st;
}

/* What was discarded reads as zero, or is a hole by the next look: either way a dirty page is all that it takes. */
enum rdmamig_status rdmamig_session_mark_discarded(struct rdmamig_session *session, const char *block, uint64_t offset, uint64_t bytes)
{
	return rdmamig_session_mark_dirty(session, block, offset, bytes);
}

enum rdmamig_status rdmamig_session_start(struct rdmamig_session *session)
{
	if (session->started || (session->role == RDMAMIG_SOURCE && !session->block_count))
		return RDMAMIG_E_USAGE;
	session->start_ns = clock_now_ns(session->clock);
	session_set_state(session, session->role == RDMAMIG_SOURCE ? RDMAMIG_STATE_SETUP : RDMAMIG_STATE_NONE);
	if (session->role == RDMAMIG_SOURCE)
		session_enter(session, source_connect, SESSION_CONNECT_MS);
	else
		session_enter(session, dest_listen, 0);
	enum rdmamig_status st = stepper_start(&session->stepper, "rmig-session");
	session->started = !st;
	return st;
}

int rdmamig_session_fd(const struct rdmamig_session *session)
{
	return session->mailbox.out.fd;
}

enum rdmamig_status rdmamig_session_next_event(struct rdmamig_session *session, struct rdmamig_event *event)
{
	return mailbox_next(&session->mailbox, event);
}

#define ANSWER(name, asked)                                                                                                  \
	enum rdmamig_status rdmamig_session_##name(struct rdmamig_session *session, enum rdmamig_status status, const char *why) \
	{                                                                                                                    \
		return mailbox_answer(&session->mailbox, asked, status, false, why);                                         \
	}

ANSWER(paused, RDMAMIG_EVENT_NEED_PAUSE)
ANSWER(throttled, RDMAMIG_EVENT_THROTTLE)
ANSWER(state_sent, RDMAMIG_EVENT_STATE)
ANSWER(committed, RDMAMIG_EVENT_COMMIT)
ANSWER(undone, RDMAMIG_EVENT_UNDO)
ANSWER(blocks_ready, RDMAMIG_EVENT_BLOCKS)
ANSWER(loaded, RDMAMIG_EVENT_LOAD)
ANSWER(running, RDMAMIG_EVENT_RUN)
ANSWER(discarded, RDMAMIG_EVENT_DISCARD)

enum rdmamig_status rdmamig_session_stopped(struct rdmamig_session *session, bool guest_runs, enum rdmamig_status status, const char *why)
{
	return mailbox_answer(&session->mailbox, RDMAMIG_EVENT_NEED_STOP, status, guest_runs, why);
}

enum rdmamig_status rdmamig_session_send_state(struct rdmamig_session *session, const void *data, size_t bytes)
{
	if (bytes > sizeof(session->state) || !mailbox_is_asking(&session->mailbox, RDMAMIG_EVENT_STATE))
		return RDMAMIG_E_USAGE;
	enum rdmamig_status st = RDMAMIG_AGAIN;
	pthread_mutex_lock(&session->state_lock);
	if (bytes <= sizeof(session->state) - session->state_bytes) {
		memcpy(session->state + session->state_bytes, data, bytes);
		session->state_bytes += bytes;
		st = RDMAMIG_OK;
	}
	pthread_mutex_unlock(&session->state_lock);
	stepper_wake(&session->stepper);
	return st;
}

enum rdmamig_status rdmamig_session_peer_block(struct rdmamig_session *session, unsigned index, struct rdmamig_peer_block *out)
{
	enum rdmamig_status st = RDMAMIG_E_USAGE;
	struct rdmamig_peer_block full = { .size = out->size };
	pthread_mutex_lock(&session->blocks_lock);
	if (index < session->peer_block_count) {
		const struct message_block *block = &session->peer_blocks[index];
		memcpy(full.name, block->name, sizeof(full.name));
		full.length = block->length;
		full.granule = block->granule;
		memcpy(out, &full, full.size < sizeof(full) ? full.size : sizeof(full));
		st = RDMAMIG_OK;
	}
	pthread_mutex_unlock(&session->blocks_lock);
	return st;
}

void rdmamig_session_cancel(struct rdmamig_session *session)
{
	atomic_store_explicit(&session->cancel, true, memory_order_release);
	stepper_wake(&session->stepper);
}

void rdmamig_session_fail(struct rdmamig_session *session, enum rdmamig_status status, const char *why)
{
	error_note(&session->error, status, 0, "%s", why);	/* first: a cancel keeps the error that is there */
	rdmamig_session_cancel(session);
}

void rdmamig_session_stats(struct rdmamig_session *session, struct rdmamig_stats *out)
{
	uint64_t user_us, system_us;
	session_cpu(&user_us, &system_us);
	size_t size = out->size;
	pthread_mutex_lock(&session->stats_lock);
	struct rdmamig_stats stats = session->stats;
	pthread_mutex_unlock(&session->stats_lock);
	bool over = stats.status >= RDMAMIG_STATE_COMPLETED && stats.status != RDMAMIG_STATE_CANCELLING;
	if (session->started && !over)
		stats.total_time_ms = (clock_now_ns(session->clock) - session->start_ns) / NS_PER_MS;
	stats.cpu_user_s = (double)user_us / 1e6;
	stats.cpu_system_s = (double)system_us / 1e6;
	memcpy(out, &stats, size < sizeof(stats) ? size : sizeof(stats));
	out->size = size;
}

void rdmamig_session_id(struct rdmamig_session *session, uint8_t out[RDMAMIG_SESSION_ID_BYTES])
{
	pthread_mutex_lock(&session->blocks_lock);
	memcpy(out, session->options.session_id, RDMAMIG_SESSION_ID_BYTES);
	pthread_mutex_unlock(&session->blocks_lock);
}

void rdmamig_session_local_uri(struct rdmamig_session *session, char *out, size_t out_bytes)
{
	pthread_mutex_lock(&session->stats_lock);
	snprintf(out, out_bytes, "%s", session->local_uri);
	pthread_mutex_unlock(&session->stats_lock);
}

uint64_t rdmamig_session_beat(struct rdmamig_session *session)
{
	return atomic_load_explicit(&session->beat, memory_order_relaxed);
}

void rdmamig_session_error(struct rdmamig_session *session, char *out, size_t out_bytes)
{
	error_text(&session->error, out, out_bytes);
}
