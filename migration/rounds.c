/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * rounds.c - the source's rounds: sync, walk the bitmaps, hand out batches, wait until every one of them is applied.
 * Neighbours: source.c armed, multifd sends, converge.c decides, handover.c goes on when the last round is over.
 * Session thread.
 *
 * The barrier is the ack of every batch (facts of round.pml: any weaker rule loses a page or brings an old one back), so
 * in a round a page is in one batch at most (R1), and its bit was taken and the page re-protected before that (R2).
 */
#include "migration/source.h"

#include "ram/extent.h"

static phase_fn source_round, source_round_end, source_sync, source_pausing, source_throttling, source_stopping;

/* --- looking: what the guest wrote, what came into being, what became a hole --- */

static unsigned block_index(const struct rdmamig_session *session, const struct block *block)
{
	return (unsigned)(block - session->blocks);
}

static enum rdmamig_status run_born(void *opaque, struct block *block, struct run run)
{
	struct rdmamig_session *session = opaque;
	struct source *src = session->source;
	if (src->tracker_open) {
		enum rdmamig_status st = src->tracker.ops.arm(src->tracker.opaque, block_index(session, block), run.first_page,
							      run.pages);
		if (st)
			return error_note(&session->error, st, 0, "block %s: tracking its writes failed", block->name);
	}
	bitmap_clear_range(&block->gone, run.first_page, run.pages);
	bitmap_set_range(&block->dirty, run.first_page, run.pages);
	atomic_fetch_add_explicit(&session->beat, 1, memory_order_relaxed);
	return RDMAMIG_OK;
}

static void run_died(void *opaque, struct block *block, struct run run)
{
	(void)opaque;
	bitmap_set_range(&block->gone, run.first_page, run.pages);
}

enum rdmamig_status source_look(struct rdmamig_session *session)
{
	struct extent_changes changes = { .born = run_born, .died = run_died, .opaque = session };
	for (unsigned i = 0; i < session->block_count; i++) {
		struct block *block = &session->blocks[i];
		if (block_has_changed(block))
			return error_note(&session->error, RDMAMIG_E_BLOCK_CHANGED, 0,
					  "block %s: its file changed its size; migrate again once it stays as it is", block->name);
		enum rdmamig_status st = extent_refresh(block, &changes, &session->error);
		if (!st)
			st = refills_take(&session->source->refills, i, &block->dirty);
		if (st)
			return st;
		bitmap_and(&block->dirty, &block->exists);	/* a hole is never read: touching it would fill it */
	}
	return RDMAMIG_OK;
}

static void mark_dirty(void *opaque, unsigned block, uint64_t first_page, uint64_t pages)
{
	struct rdmamig_session *session = opaque;
	if (block < session->block_count && first_page < session->blocks[block].pages &&
	    pages <= session->blocks[block].pages - first_page)
		bitmap_set_range(&session->blocks[block].dirty, first_page, pages);
	atomic_fetch_add_explicit(&session->beat, 1, memory_order_relaxed);
}

static void marks_take(struct rdmamig_session *session)
{
	pthread_mutex_lock(&session->blocks_lock);
	for (unsigned i = 0; i < session->block_count; i++) {
		bitmap_or(&session->blocks[i].dirty, &session->marks[i]);
		bitmap_clear_range(&session->marks[i], 0, session->marks[i].bits);
	}
	pthread_mutex_unlock(&session->blocks_lock);
}

static uint64_t dirty_bytes(const struct rdmamig_session *session)
{
	uint64_t pages = 0;
	for (unsigned i = 0; i < session->block_count; i++)
		pages += bitmap_count(&session->blocks[i].dirty);
	return bytes_of_pages(pages);
}

/* Everything written until now becomes dirty and is protected again. */
static enum rdmamig_status sync_now(struct rdmamig_session *session, uint64_t *took_us)
{
	struct source *src = session->source;
	uint64_t begin_ns = clock_now_ns(session->clock);
	enum rdmamig_status st = RDMAMIG_OK;
	if (src->tracker_open) {
		struct rdmamig_dirty_sink sink = { .mark = mark_dirty, .opaque = session };
		st = src->tracker.ops.sync(src->tracker.opaque, &sink);
		if (st)
			return error_note(&session->error, st, 0, "finding out what the guest wrote failed");
	}
	marks_take(session);
	st = source_look(session);
	uint64_t now = clock_now_ns(session->clock);
	*took_us = (now - begin_ns) / 1000;

	uint64_t pages = pages_of_bytes(dirty_bytes(session));
	uint64_t span_us = src->last_sync_ns ? (now - src->last_sync_ns) / 1000 : 0;
	src->last_sync_ns = now;
	pthread_mutex_lock(&session->stats_lock);
	session->stats.dirty_pages_rate = span_us ? pages * 1000000 / span_us : 0;
	pthread_mutex_unlock(&session->stats_lock);
	return st;
}

/* --- sending --- */

void source_round_begin(struct rdmamig_session *session)
{
	struct source *src = session->source;
	src->walk_block = 0;
	src->walk_page = 0;
	src->walk_holes = true;
	src->round_normal_pages = src->round_zero_pages = 0;
	src->round_dirty_pages = pages_of_bytes(dirty_bytes(session));
	src->round_start_ns = src->progress_ns = clock_now_ns(session->clock);
	if (!src->last_sync_ns)
		src->last_sync_ns = src->round_start_ns;
	pthread_mutex_lock(&session->stats_lock);
	session->stats.dirty_sync_count++;
	session->stats.remaining_bytes = bytes_of_pages(src->round_dirty_pages);
	pthread_mutex_unlock(&session->stats_lock);
	session_enter(session, source_round, 0);
}

static bool walk_is_over(const struct rdmamig_session *session)
{
	const struct source *src = session->source;
	return !src->walk_holes && src->walk_block == session->block_count;
}

static bool all_is_acked(const struct source *src)
{
	return src->pool.count == src->batch_count - (src->filling ? 1 : 0);
}

/* Holes go first, and dirty pages only when they are over: batch_add_hole() reads posted bits no channel may set then. */
static void walk_next_block(struct rdmamig_session *session)
{
	struct source *src = session->source;
	src->walk_page = 0;
	if (++src->walk_block == session->block_count && src->walk_holes) {
		src->walk_holes = false;
		src->walk_block = 0;
	}
}

static bool walk_take_run(struct source *src, struct block *block, struct batch *batch, struct run *run)
{
	if (!src->walk_holes)
		return bitmap_take_run(&block->dirty, src->walk_page, block->pages, src->batch_pages_max - batch->pages, run);
	if (!bitmap_next_run(&block->gone, src->walk_page, block->pages, BATCH_HOLE_PAGES_MAX, run))
		return false;
	run->pages = batch_add_hole(batch, *run);
	bitmap_clear_range(&block->gone, run->first_page, run->pages);
	return true;
}

/* Fill a batch from where the walk stands; false: nothing is left. */
static bool batch_fill(struct rdmamig_session *session, struct batch *batch)
{
	struct source *src = session->source;
	while (!walk_is_over(session)) {
		struct block *block = &session->blocks[src->walk_block];
		uint64_t pages_max = src->walk_holes ? BATCH_HOLE_PAGES_MAX : src->batch_pages_max;
		batch_begin(batch, block, (uint16_t)src->walk_block, src->walk_holes);
		struct run run;
		while (!batch_is_full(batch, pages_max) && walk_take_run(src, block, batch, &run)) {
			if (!src->walk_holes)
				batch_add(batch, run);
			src->walk_page = run.first_page + run.pages;
		}
		if (!batch_is_full(batch, pages_max))
			walk_next_block(session);
		if (batch->run_count)
			return true;
	}
	return false;
}

static struct sender *sender_with_room(struct source *src)
{
	for (unsigned i = 0; i < src->channels; i++) {
		struct sender *sender = &src->senders[(src->next_channel + i) % src->channels];
		if (sender_has_room(sender)) {
			src->next_channel = (src->next_channel + i + 1) % src->channels;
			return sender;
		}
	}
	return NULL;
}

static void batches_give(struct rdmamig_session *session, struct wait *wait)
{
	struct source *src = session->source;
	for (;;) {
		uint64_t now = clock_now_ns(session->clock);
		if (!src->is_last_round && pacer_ready_ns(&src->pacer) > now) {
			wait_until(wait, pacer_ready_ns(&src->pacer));
			return;
		}
		if (!src->filling)
			src->filling = queue_take(&src->pool);
		struct sender *sender = src->filling ? sender_with_room(src) : NULL;
		if (!sender)
			return;
		if (!batch_fill(session, src->filling)) {
			queue_put(&src->pool, src->filling);
			src->filling = NULL;
			return;
		}
		if (!src->filling->is_hole)
			pacer_spend(&src->pacer, now, bytes_of_pages(src->filling->pages));
		if (!src->first_post_ns)
			src->first_post_ns = now;
		sender_give(sender, src->filling);
		src->filling = NULL;
	}
}

/* Tell dest of every batch whose fence is posted. */
static void batches_describe(struct source *src, struct control *control)
{
	for (;;) {
		if (!src->sending)
			src->sending = queue_take(&src->described);
		if (!src->sending || control_send(control, &src->sending->description))
			return;
		struct batch *batch = src->sending;
		const struct message_batch *lists = &batch->description.batch;
		src->unacked[lists->channel][lists->batch_sequence % SENDER_WINDOW] = batch;
		src->told_sequence[lists->channel] = lists->batch_sequence;
		if (!batch->is_hole)
			pacer_refund(&src->pacer, bytes_of_pages(batch->zero_pages));
		src->sending = NULL;
	}
}

static void batch_acked(struct rdmamig_session *session, struct batch *batch)
{
	struct source *src = session->source;
	src->round_normal_pages += batch->normal_pages;
	src->round_zero_pages += batch->zero_pages;
	pthread_mutex_lock(&session->stats_lock);
	session->stats.normal_pages += batch->normal_pages;
	session->stats.duplicate_pages += batch->zero_pages;
	session->stats.data_bytes += bytes_of_pages(batch->normal_pages);
	uint64_t done = batch->is_hole ? 0 : bytes_of_pages(batch->pages);
	session->stats.remaining_bytes -= done < session->stats.remaining_bytes ? done : session->stats.remaining_bytes;
	pthread_mutex_unlock(&session->stats_lock);
	queue_put(&src->pool, batch);
}

static enum rdmamig_status acks_take(struct rdmamig_session *session, const struct message_ack *message)
{
	struct source *src = session->source;
	for (unsigned i = 0; i < message->count; i++) {
		const struct message_ack_entry *ack = &message->acks[i];
		if (ack->channel >= src->channels || ack->epoch != 1)
			return error_note(&session->error, RDMAMIG_E_PROTOCOL, 0, "%s acknowledged a channel we do not have",
					  session->control.conn->peer);
		uint32_t before = src->acked_sequence[ack->channel];
		if (ack->applied - before > src->told_sequence[ack->channel] - before)
			return error_note(&session->error, RDMAMIG_E_PROTOCOL, 0, "%s acknowledged a batch we did not send",
					  session->control.conn->peer);
		for (uint32_t sequence = before + 1; sequence != ack->applied + 1; sequence++)
			batch_acked(session, src->unacked[ack->channel][sequence % SENDER_WINDOW]);
		src->acked_sequence[ack->channel] = ack->applied;
		peer_sink_ack(&src->sinks[ack->channel], ack->applied);
	}
	src->progress_ns = src->last_ack_ns = clock_now_ns(session->clock);
	return RDMAMIG_OK;
}

enum rdmamig_status source_take_common(struct rdmamig_session *session, const struct message *message)
{
	switch (message->header.type) {
	case MESSAGE_ACK:
		return acks_take(session, &message->ack);
	case MESSAGE_ROUND:
		pthread_mutex_lock(&session->stats_lock);
		session->stats.peer_cpu_user_s = (double)message->round.cpu_user_us / 1e6;
		session->stats.peer_cpu_system_s = (double)message->round.cpu_system_us / 1e6;
		pthread_mutex_unlock(&session->stats_lock);
		return RDMAMIG_OK;
	default:
		return session_unexpected(session, message);
	}
}

static enum rdmamig_status channels_check(struct rdmamig_session *session)
{
	struct source *src = session->source;
	for (unsigned i = 0; i < src->senders_ready; i++) {
		enum rdmamig_status st = sender_status(&src->senders[i]);
		if (st == RDMAMIG_E_DISCONNECTED)
			error_note(&session->error, st, 0, "%s closed data channel %u", session->control.conn->peer, i);
		if (st)
			return st;
	}
	return RDMAMIG_OK;
}

enum rdmamig_status source_listen(struct rdmamig_session *session)
{
	struct message message;
	enum rdmamig_status st = RDMAMIG_OK;
	while (!st) {
		st = session_receive(session, &message);
		if (!st)
			st = source_take_common(session, &message);
	}
	return st == RDMAMIG_AGAIN ? channels_check(session) : st;
}

static enum rdmamig_status round_overtime(struct rdmamig_session *session)
{
	struct source *src = session->source;
	if (src->guest_stopped || src->overtime || clock_now_ns(session->clock) < src->converge_deadline_ns)
		return RDMAMIG_OK;
	if (session->options.timeout_action == RDMAMIG_TIMEOUT_CANCEL)
		return error_note(&session->error, RDMAMIG_E_NOT_CONVERGED, 0, "not converged within %llu s (expected downtime "
				  "%llu ms): raise --downtime-ms, --timeout-s or the bandwidth, or use --timeout-action force",
				  (unsigned long long)session->options.timeout_ms / 1000,
				  (unsigned long long)src->converge.expected_downtime_ms);
	src->overtime = true;	/* what is in flight is awaited; what is dirty still stays so for the last round */
	return RDMAMIG_OK;
}

void source_count_traffic(struct rdmamig_session *session)
{
	struct source *src = session->source;
	uint64_t bytes = control_bytes_sent(&session->control);
	for (unsigned i = 0; i < src->senders_ready; i++)
		bytes += conn_bytes_sent(src->sinks[i].conn);
	pthread_mutex_lock(&session->stats_lock);
	session->stats.transferred_bytes = bytes;
	pthread_mutex_unlock(&session->stats_lock);
}

static enum rdmamig_status source_round(struct rdmamig_session *session, struct wait *wait)
{
	struct source *src = session->source;
	enum rdmamig_status st = source_listen(session);
	if (!st)
		st = round_overtime(session);
	if (st)
		return st;
	source_count_traffic(session);
	batches_describe(src, &session->control);
	if (!src->overtime || src->is_last_round)
		batches_give(session, wait);

	bool given = walk_is_over(session) || (src->overtime && !src->is_last_round);
	if (given && all_is_acked(src)) {
		session_enter(session, source_round_end, 0);
		return RDMAMIG_OK;
	}
	uint64_t now = clock_now_ns(session->clock);
	if (all_is_acked(src))
		src->progress_ns = now;		/* paced: nothing is owed to us */
	if (now >= src->progress_ns + SESSION_PROGRESS_MS * NS_PER_MS)
		return error_note(&session->error, RDMAMIG_E_PEER_SILENT, 0, "%s answers, but applied nothing for %d s",
				  session->control.conn->peer, SESSION_PROGRESS_MS / 1000);
	if (!src->guest_stopped && !src->overtime)
		wait_until(wait, src->converge_deadline_ns);
	return RDMAMIG_AGAIN;
}

/* --- between rounds --- */

static void round_tell(struct rdmamig_session *session)
{
	struct source *src = session->source;
	struct message message = { .header.type = MESSAGE_ROUND };
	message.round.dirty_pages = src->round_dirty_pages;
	message.round.normal_pages = src->round_normal_pages;
	message.round.zero_pages = src->round_zero_pages;
	session_cpu(&message.round.cpu_user_us, &message.round.cpu_system_us);
	pthread_mutex_lock(&session->stats_lock);
	message.round.round = (uint32_t)session->stats.dirty_sync_count;
	pthread_mutex_unlock(&session->stats_lock);
	control_send(&session->control, &message);
	session_tell(session, RDMAMIG_EVENT_ROUND);
}

static enum rdmamig_status source_round_end(struct rdmamig_session *session, struct wait *wait)
{
	(void)wait;
	struct source *src = session->source;
	uint64_t end_ns = src->last_ack_ns > src->round_start_ns ? src->last_ack_ns : src->round_start_ns;
	uint64_t us = (end_ns - src->round_start_ns) / 1000;
	uint64_t bytes = bytes_of_pages(src->round_normal_pages);
	converge_round(&src->converge, bytes, us);
	pthread_mutex_lock(&session->stats_lock);
	session->stats.mbps = us ? (double)bytes * 8 / (double)us : 0;
	session->stats.data_time_us = (src->last_ack_ns - src->first_post_ns) / 1000;
	pthread_mutex_unlock(&session->stats_lock);
	round_tell(session);

	if (src->is_last_round)
		session_enter(session, source_ending, 0);
	else if (src->overtime || !src->tracker_open)
		source_stop(session);		/* nobody writes, or time is up: the last round takes what is left */
	else
		session_enter(session, source_sync, 0);
	return RDMAMIG_OK;
}

static enum rdmamig_status source_decide(struct rdmamig_session *session, uint64_t sync_us)
{
	struct source *src = session->source;
	uint64_t bytes = dirty_bytes(session);
	bool converged = converge_sync(&src->converge, bytes, sync_us);
	pthread_mutex_lock(&session->stats_lock);
	session->stats.expected_downtime_ms = src->converge.expected_downtime_ms;
	pthread_mutex_unlock(&session->stats_lock);
	if (converged) {
		session_tell(session, RDMAMIG_EVENT_CONVERGED);
		source_stop(session);
		return RDMAMIG_OK;
	}
	if (session->options.auto_converge && converge_throttle(&src->converge, bytes, bytes_of_pages(src->round_normal_pages))) {
		struct rdmamig_event event = { .type = RDMAMIG_EVENT_THROTTLE, .throttle_pct = src->converge.throttle_pct };
		mailbox_ask(&session->mailbox, &event, clock_after_ms(session->clock, session->options.driver_timeout_ms));
		session_enter(session, source_throttling, 0);
		return RDMAMIG_OK;
	}
	source_round_begin(session);
	return RDMAMIG_OK;
}

static enum rdmamig_status source_throttling(struct rdmamig_session *session, struct wait *wait)
{
	struct answer answer;
	enum rdmamig_status st = source_listen(session);
	if (!st)
		st = session_answer(session, &answer);
	if (st) {
		mailbox_wait(&session->mailbox, wait);
		return st;
	}
	pthread_mutex_lock(&session->stats_lock);
	session->stats.throttle_pct = session->source->converge.throttle_pct;
	pthread_mutex_unlock(&session->stats_lock);
	source_round_begin(session);
	return RDMAMIG_OK;
}

static enum rdmamig_status source_sync(struct rdmamig_session *session, struct wait *wait)
{
	(void)wait;
	if (session->options.pause_to_arm) {
		session_ask(session, RDMAMIG_EVENT_NEED_PAUSE, RDMAMIG_OK);
		session_enter(session, source_pausing, 0);
		return RDMAMIG_OK;
	}
	uint64_t us;
	enum rdmamig_status st = sync_now(session, &us);
	return st ? st : source_decide(session, us);
}

/* R12: the guest stands still and its I/O is drained while the pages are protected again. */
static enum rdmamig_status source_pausing(struct rdmamig_session *session, struct wait *wait)
{
	struct answer answer;
	enum rdmamig_status st = source_listen(session);
	if (!st)
		st = session_answer(session, &answer);
	if (st) {
		mailbox_wait(&session->mailbox, wait);
		return st;
	}
	uint64_t us;
	st = sync_now(session, &us);
	session_tell(session, RDMAMIG_EVENT_RESUME);
	return st ? st : source_decide(session, us);
}

/* --- the last round --- */

void source_stop(struct rdmamig_session *session)
{
	struct source *src = session->source;
	src->guest_stopped = true;
	src->stop_ns = clock_now_ns(session->clock);
	session_set_state(session, RDMAMIG_STATE_PRE_SWITCHOVER);
	session_ask(session, RDMAMIG_EVENT_NEED_STOP, RDMAMIG_OK);
	session_enter(session, source_stopping, 0);
}

static enum rdmamig_status source_stopping(struct rdmamig_session *session, struct wait *wait)
{
	struct source *src = session->source;
	struct answer answer;
	enum rdmamig_status st = source_listen(session);
	if (!st)
		st = session_answer(session, &answer);
	if (st) {
		mailbox_wait(&session->mailbox, wait);
		return st;
	}
	src->guest_runs = answer.guest_runs;
	src->is_last_round = true;
	uint64_t us;
	st = sync_now(session, &us);
	if (!st)
		source_round_begin(session);
	return st;
}
