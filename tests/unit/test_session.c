/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_session.c - source and dest in one process, through the public API alone; the test is both drivers.
 *
 * A guest thread writes pages of a shared block while it is being moved. Whatever a test refuses, cancels, delays or
 * breaks, one thing holds at the end: dest owns the guest and has its memory, or the source's guest runs.
 * Neighbours: the sessions have threads of their own; the guest has one; all driving is done by the main thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <rdmamig/rdmamig.h>

enum { PAGE = 4096, RAM_PAGES = 2048, ROM_PAGES = 64, HANG_MS = 20000, EVENTS = RDMAMIG_EVENT_LISTENING + 1 };
enum side { SOURCE, DEST, SIDES };
enum tracking { TRACK_NONE, TRACK_MANUAL, TRACK_OPS };

/* The guest: while it is let run it writes pages of its RAM at random; its writes are known by mark or by log. */
struct guest {
	pthread_t thread;
	pthread_mutex_t lock;
	uint8_t *ram;
	unsigned pages;			/* of them it writes */
	unsigned pause_us;
	bool runs, ends;
	bool log[RAM_PAGES];
	struct rdmamig_session *marks;	/* TRACK_MANUAL: whom to tell */
	uint64_t writes;
};

struct end {
	struct rdmamig_session *session;
	struct rdmamig_options options;
	int ram_file;
	uint8_t *ram, *rom;
	unsigned seen[EVENTS];
	bool ended;
	enum rdmamig_status status;
	struct rdmamig_stats stats;
	char text[600];

	/* What its driver does, by the event it does it at. */
	enum rdmamig_event_type refuses, ignores, cancels_at, frees_at;
	unsigned undo_delay_ms;
	bool takes_no_state;
	uint64_t takes_state_after_ms;	/* the time when it begins to */
};

struct world {
	struct end ends[SIDES];
	struct guest guest;
	enum tracking tracking;
	bool found_running;		/* the guest, by the migration */
	bool decided_commit, decided_abort;
	bool dest_owned, dest_runs, dest_was_told_runs;
	size_t state_bytes, state_given, state_taken;
	unsigned arms, syncs, disarms;
	pthread_t ops_thread;
	bool ops_on_two_threads;
	unsigned throttle_pct;
	void (*at_round)(struct world *world);
};

/* The one that is open, for a test that failed; what guard_install() had set: cmocka sets its own before each test. */
static struct world *open_world;
static struct sigaction guard_action;

static uint64_t now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* --- the guest --- */

static void guest_write(struct guest *g, unsigned page, uint64_t value)
{
	uint64_t *words = (uint64_t *)(uintptr_t)(g->ram + (size_t)page * PAGE);
	for (unsigned i = 0; i < PAGE / sizeof(*words); i++)
		words[i] = value;
	g->log[page] = true;
	g->writes++;
	if (g->marks)
		rdmamig_session_mark_dirty(g->marks, "ram", (uint64_t)page * PAGE + 8, 8);
}

static void *guest_main(void *arg)
{
	struct guest *g = arg;
	uint64_t random = 88172645463325252ull;
	for (bool ends = false; !ends;) {
		random ^= random << 13, random ^= random >> 7, random ^= random << 17;
		pthread_mutex_lock(&g->lock);
		if (g->runs)	/* one in eight is made zero */
			guest_write(g, (unsigned)(random >> 8) % g->pages, random & 7 ? random : 0);
		ends = g->ends;
		unsigned pause_us = g->pause_us;
		pthread_mutex_unlock(&g->lock);
		usleep(pause_us);
	}
	return NULL;
}

static void guest_let(struct world *w, bool runs)
{
	pthread_mutex_lock(&w->guest.lock);
	w->guest.runs = runs;
	pthread_mutex_unlock(&w->guest.lock);
}

static bool guest_runs(struct world *w)
{
	pthread_mutex_lock(&w->guest.lock);
	bool runs = w->guest.runs;
	pthread_mutex_unlock(&w->guest.lock);
	return runs;
}

static void on_ops_thread(struct world *w)
{
	if (w->arms + w->syncs + w->disarms == 0)
		w->ops_thread = pthread_self();
	else if (!pthread_equal(w->ops_thread, pthread_self()))
		w->ops_on_two_threads = true;
}

static enum rdmamig_status ops_arm(void *opaque, unsigned block, uint64_t first_page, uint64_t pages)
{
	struct world *w = opaque;
	(void)block, (void)first_page, (void)pages;
	on_ops_thread(w);
	w->arms++;
	return RDMAMIG_OK;
}

static enum rdmamig_status ops_sync(void *opaque, const struct rdmamig_dirty_sink *dirty)
{
	struct world *w = opaque;
	on_ops_thread(w);
	w->syncs++;
	pthread_mutex_lock(&w->guest.lock);
	for (unsigned page = 0; page < RAM_PAGES; page++)
		if (w->guest.log[page]) {
			w->guest.log[page] = false;
			dirty->mark(dirty->opaque, 0, page, 1);
		}
	pthread_mutex_unlock(&w->guest.lock);
	return RDMAMIG_OK;
}

static void ops_disarm(void *opaque)
{
	struct world *w = opaque;
	on_ops_thread(w);
	w->disarms++;
}

static const struct rdmamig_tracker_ops ops = { .size = sizeof(ops), .arm = ops_arm, .sync = ops_sync, .disarm = ops_disarm };

/* --- the world --- */

/* A page nobody may touch follows: no sanitizer watches what is mapped. */
static uint8_t *memory_of(int fd, size_t pages)
{
	uint8_t *at = mmap(NULL, (pages + 1) * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(at != MAP_FAILED);
	assert_true(mmap(at, pages * PAGE, PROT_READ | PROT_WRITE,
			 MAP_FIXED | (fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED), fd, 0) == at);
	return at;
}

static void world_open(struct world *w)
{
	memset(w, 0, sizeof(*w));
	open_world = w;
	assert_int_equal(sigaction(SIGBUS, &guard_action, NULL), 0);
	for (unsigned i = 0; i < SIDES; i++) {
		struct end *e = &w->ends[i];
		e->ram_file = memfd_create("ram", MFD_CLOEXEC);
		assert_int_equal(ftruncate(e->ram_file, RAM_PAGES * PAGE), 0);
		e->ram = memory_of(e->ram_file, RAM_PAGES);
		e->rom = memory_of(-1, ROM_PAGES);
		e->options = (struct rdmamig_options){ .size = sizeof(e->options), .uri = "tcp://127.0.0.1:0",
						       .driver_timeout_ms = 10000, .handover_timeout_ms = 3000 };
		e->stats.size = sizeof(e->stats);
	}
	struct end *src = &w->ends[SOURCE], *dst = &w->ends[DEST];
	memcpy(src->options.session_id, "a test's session", RDMAMIG_SESSION_ID_BYTES);
	for (unsigned page = 0; page < RAM_PAGES / 2; page++)	/* every fourth is zero, the second half are holes */
		if (page % 4)
			memset(src->ram + (size_t)page * PAGE, (int)(page % 255 + 1), PAGE);
	for (unsigned page = 0; page < ROM_PAGES; page += 2)
		memset(src->rom + (size_t)page * PAGE, (int)page + 1, PAGE);
	memset(dst->ram + 100 * PAGE, 0xee, (RAM_PAGES - 100) * PAGE);	/* what somebody left there */
	memset(dst->rom, 0xee, ROM_PAGES * PAGE);
	w->guest.ram = src->ram;
	w->guest.pages = RAM_PAGES;
	w->guest.pause_us = 200;
	w->guest.runs = w->found_running = true;
	w->tracking = TRACK_OPS;
	w->state_bytes = 300;
	pthread_mutex_init(&w->guest.lock, NULL);
}

static void end_free(struct world *w, struct end *e)
{
	pthread_mutex_lock(&w->guest.lock);
	if (w->guest.marks == e->session)
		w->guest.marks = NULL;
	pthread_mutex_unlock(&w->guest.lock);
	rdmamig_session_free(e->session);
	e->session = NULL;
	e->ended = true;
}

static void world_close(struct world *w)
{
	open_world = NULL;
	if (w->guest.thread) {
		pthread_mutex_lock(&w->guest.lock);
		w->guest.ends = true;
		pthread_mutex_unlock(&w->guest.lock);
		pthread_join(w->guest.thread, NULL);
	}
	for (unsigned i = 0; i < SIDES; i++) {
		struct end *e = &w->ends[i];
		end_free(w, e);
		munmap(e->ram, (RAM_PAGES + 1) * PAGE);
		munmap(e->rom, (ROM_PAGES + 1) * PAGE);
		close(e->ram_file);
	}
	pthread_mutex_destroy(&w->guest.lock);
}

static void blocks_add(struct end *e)
{
	struct rdmamig_block ram = { .size = sizeof(ram), .name = "ram", .fd = e->ram_file, .length = RAM_PAGES * PAGE };
	struct rdmamig_block rom = { .size = sizeof(rom), .name = "rom", .fd = -1, .addr = e->rom, .length = ROM_PAGES * PAGE };
	bool is_source = e->options.session_id[0];
	enum rdmamig_status st = rdmamig_session_add_block(e->session, is_source ? &ram : &rom);
	if (!st)
		st = rdmamig_session_add_block(e->session, is_source ? &rom : &ram);	/* any order will do */
	assert_int_equal(st, st && e->cancels_at ? RDMAMIG_E_USAGE : RDMAMIG_OK);
}

static void source_start(struct world *w, const char *uri)
{
	struct end *src = &w->ends[SOURCE];
	char why[200];
	src->options.uri = uri;
	assert_int_equal(rdmamig_session_new(RDMAMIG_SOURCE, &src->options, &src->session, why, sizeof(why)), RDMAMIG_OK);
	blocks_add(src);
	if (w->tracking == TRACK_OPS)
		assert_int_equal(rdmamig_session_track_ops(src->session, &ops, w), RDMAMIG_OK);
	if (w->tracking == TRACK_MANUAL)
		assert_int_equal(rdmamig_session_track_manual(src->session), RDMAMIG_OK);
	if (w->tracking == TRACK_NONE)
		guest_let(w, false);
	assert_int_equal(pthread_create(&w->guest.thread, NULL, guest_main, &w->guest), 0);
	pthread_mutex_lock(&w->guest.lock);
	if (w->tracking == TRACK_MANUAL)
		w->guest.marks = src->session;
	pthread_mutex_unlock(&w->guest.lock);
	assert_int_equal(rdmamig_session_start(src->session), RDMAMIG_OK);
}

static void dest_start(struct world *w)
{
	struct end *dst = &w->ends[DEST];
	assert_int_equal(rdmamig_session_new(RDMAMIG_DEST, &dst->options, &dst->session, NULL, 0), RDMAMIG_OK);
	assert_int_equal(rdmamig_session_start(dst->session), RDMAMIG_OK);
}

/* --- the drivers --- */

static uint8_t state_byte(size_t at)
{
	return (uint8_t)(at * 31 + at / 4096);
}

static void state_give(struct world *w)
{
	struct rdmamig_session *s = w->ends[SOURCE].session;
	uint8_t bytes[10000];
	while (w->state_given < w->state_bytes) {
		size_t n = w->state_bytes - w->state_given < sizeof(bytes) ? w->state_bytes - w->state_given : sizeof(bytes);
		for (size_t i = 0; i < n; i++)
			bytes[i] = state_byte(w->state_given + i);
		if (rdmamig_session_send_state(s, bytes, n))
			return;		/* full: again at the next turn */
		w->state_given += n;
	}
	rdmamig_session_state_sent(s, RDMAMIG_OK, NULL);
	w->state_given = SIZE_MAX;
}

static void state_take(struct world *w, const struct rdmamig_event *event)
{
	for (size_t i = 0; i < event->state_bytes; i++)
		if (((const uint8_t *)event->state_data)[i] != state_byte(w->state_taken++))
			fail_msg("device state differs at %zu", w->state_taken - 1);
}

static enum rdmamig_status undo(struct world *w, struct end *e)
{
	if (e->undo_delay_ms)
		poll(NULL, 0, (int)e->undo_delay_ms);	/* a VMM takes its time */
	if (w->decided_commit)
		return RDMAMIG_E_UNKNOWN_OWNER;
	w->decided_abort = true;
	assert_false(w->dest_owned);
	guest_let(w, w->found_running && w->tracking != TRACK_NONE);
	return RDMAMIG_OK;
}

/* An answer may come too late, but only where something ends the session meanwhile. */
static void taken(const struct world *w, enum rdmamig_status st)
{
	const struct end *src = &w->ends[SOURCE], *dst = &w->ends[DEST];
	bool may_end = src->cancels_at || dst->cancels_at || src->frees_at || dst->frees_at || w->at_round || src->ignores ||
		       dst->ignores || src->refuses || dst->refuses || src->options.timeout_ms || dst->takes_no_state;
	assert_int_equal(st, st && may_end ? RDMAMIG_E_USAGE : RDMAMIG_OK);
}

/* Answer @event with @st; the driver's own deeds are done only if it is OK. */
static void answer(struct world *w, struct end *e, const struct rdmamig_event *event, enum rdmamig_status st)
{
	struct rdmamig_session *s = e->session;
	const char *why = st ? "the test says no" : NULL;
	switch (event->type) {
	case RDMAMIG_EVENT_NEED_PAUSE:
		guest_let(w, false);
		taken(w, rdmamig_session_paused(s, st, why));
		break;
	case RDMAMIG_EVENT_RESUME:
		guest_let(w, true);
		break;
	case RDMAMIG_EVENT_THROTTLE:
		w->throttle_pct = event->throttle_pct;
		pthread_mutex_lock(&w->guest.lock);
		w->guest.pause_us *= 4;
		pthread_mutex_unlock(&w->guest.lock);
		taken(w, rdmamig_session_throttled(s, st, why));
		break;
	case RDMAMIG_EVENT_NEED_STOP:
		guest_let(w, false);
		taken(w, rdmamig_session_stopped(s, w->found_running, st, why));
		break;
	case RDMAMIG_EVENT_COMMIT:
		w->decided_commit = !st;
		taken(w, rdmamig_session_committed(s, st, why));
		break;
	case RDMAMIG_EVENT_UNDO:
		if (!st)
			st = undo(w, e);
		taken(w, rdmamig_session_undone(s, st, why));
		break;
	case RDMAMIG_EVENT_BLOCKS:
		blocks_add(e);
		taken(w, rdmamig_session_blocks_ready(s, st, why));
		break;
	case RDMAMIG_EVENT_LOAD:
		taken(w, rdmamig_session_loaded(s, st, why));
		break;
	case RDMAMIG_EVENT_RUN:
		assert_true(w->decided_commit);
		assert_false(guest_runs(w));
		w->dest_owned = true;
		w->dest_was_told_runs = w->dest_runs = event->guest_runs;
		taken(w, rdmamig_session_running(s, st, why));
		break;
	case RDMAMIG_EVENT_DISCARD:
		assert_false(w->decided_commit);
		taken(w, rdmamig_session_discarded(s, st, why));
		break;
	case RDMAMIG_EVENT_STATE:
		if (e->options.session_id[0] && st)
			rdmamig_session_state_sent(s, st, why);
		else if (!e->options.session_id[0])
			state_take(w, event);
		else
			state_give(w);
		break;
	default:
		break;
	}
}

static void last_event(struct world *w, struct end *e, const struct rdmamig_event *event)
{
	struct rdmamig_event none = { .size = sizeof(none) };
	e->status = event->status;
	assert_int_equal(event->type == RDMAMIG_EVENT_DONE, e->status == RDMAMIG_OK);
	assert_int_equal(rdmamig_session_next_event(e->session, &none), RDMAMIG_AGAIN);
	rdmamig_session_error(e->session, e->text, sizeof(e->text));
	rdmamig_session_stats(e->session, &e->stats);
	end_free(w, e);
}

static void on_event(struct world *w, struct end *e, const struct rdmamig_event *event)
{
	e->seen[event->type]++;
	if (event->type == e->frees_at) {
		e->status = RDMAMIG_E_FAILED;
		end_free(w, e);
		return;
	}
	if (event->type == e->cancels_at)
		rdmamig_session_cancel(e->session);
	if (event->type == RDMAMIG_EVENT_ROUND && e == &w->ends[SOURCE] && w->at_round)
		w->at_round(w);
	if (event->type == RDMAMIG_EVENT_LISTENING) {
		char uri[400];
		rdmamig_session_local_uri(e->session, uri, sizeof(uri));
		source_start(w, uri);
	}
	if (event->type == RDMAMIG_EVENT_DONE || event->type == RDMAMIG_EVENT_FAILED)
		last_event(w, e, event);
	else if (event->type != e->ignores)
		answer(w, e, event, event->type == e->refuses ? RDMAMIG_E_DRIVER : RDMAMIG_OK);
}

static bool state_waits(const struct world *w)
{
	const struct end *src = &w->ends[SOURCE];
	return src->session && src->seen[RDMAMIG_EVENT_STATE] && src->ignores != RDMAMIG_EVENT_STATE &&
	       src->refuses != RDMAMIG_EVENT_STATE && w->state_given != SIZE_MAX && !src->seen[RDMAMIG_EVENT_UNDO];
}

static bool end_listens(const struct world *w, const struct end *e)
{
	if (now_ms() < e->takes_state_after_ms && w->ends[SOURCE].seen[RDMAMIG_EVENT_STATE])
		return false;
	return e->session && !(e->takes_no_state && w->ends[SOURCE].seen[RDMAMIG_EVENT_STATE] &&
			       !w->ends[SOURCE].seen[RDMAMIG_EVENT_UNDO]);
}

static void drive(struct world *w)
{
	uint64_t late_ms = now_ms() + HANG_MS;
	dest_start(w);
	while (!w->ends[SOURCE].ended || !w->ends[DEST].ended) {
		if (now_ms() >= late_ms)
			fail_msg("hangs: source %d, dest %d", w->ends[SOURCE].ended, w->ends[DEST].ended);
		struct pollfd p[SIDES];
		for (unsigned i = 0; i < SIDES; i++)
			p[i] = (struct pollfd){ .events = POLLIN, .fd = end_listens(w, &w->ends[i]) ?
						rdmamig_session_fd(w->ends[i].session) : -1 };
		poll(p, SIDES, state_waits(w) ? 2 : 100);
		if (state_waits(w))
			state_give(w);
		for (unsigned i = 0; i < SIDES; i++) {
			struct rdmamig_event event = { .size = sizeof(event) };
			if (end_listens(w, &w->ends[i]) && !rdmamig_session_next_event(w->ends[i].session, &event))
				on_event(w, &w->ends[i], &event);
		}
		if (w->ends[DEST].ended && !w->ends[SOURCE].session)
			w->ends[SOURCE].ended = true;	/* it never began */
	}
}

static void assert_memory_moved(struct world *w)
{
	for (unsigned page = 0; page < RAM_PAGES; page++)
		if (memcmp(w->ends[SOURCE].ram + (size_t)page * PAGE, w->ends[DEST].ram + (size_t)page * PAGE, PAGE))
			fail_msg("ram differs in page %u", page);
	assert_memory_equal(w->ends[SOURCE].rom, w->ends[DEST].rom, ROM_PAGES * PAGE);
}

static void assert_moved(struct world *w)
{
	struct end *src = &w->ends[SOURCE], *dst = &w->ends[DEST];
	if (src->status || dst->status)
		fail_msg("source: %s (%s)\ndest: %s (%s)", rdmamig_status_name(src->status), src->text,
			 rdmamig_status_name(dst->status), dst->text);
	assert_true(w->decided_commit && w->dest_owned && !guest_runs(w));
	assert_int_equal(w->dest_was_told_runs, w->found_running);
	assert_memory_moved(w);
	assert_int_equal(w->state_taken, w->state_bytes);
	assert_int_equal(src->stats.status, RDMAMIG_STATE_COMPLETED);
}

/* Without a move: the source's guest runs as found, dest has nothing, and both say so. */
static void assert_stayed(struct world *w)
{
	struct end *src = &w->ends[SOURCE], *dst = &w->ends[DEST];
	assert_false(w->decided_commit || w->dest_owned);
	assert_in_range(rdmamig_status_exit_code(src->status), 1, 7);
	assert_in_range(rdmamig_status_exit_code(dst->status), 1, 7);
	assert_int_equal(src->seen[RDMAMIG_EVENT_UNDO], 1);
	assert_int_equal(guest_runs(w), w->found_running && w->tracking != TRACK_NONE);
	assert_true(src->text[0] && dst->text[0]);
}

static void assert_one_owner(struct world *w)
{
	if (w->ends[SOURCE].status == RDMAMIG_OK)
		assert_moved(w);
	else
		assert_stayed(w);
}

/* --- it moves --- */

static void moves_with_a_supplied_tracker(void **state)
{
	(void)state;
	static struct world w;
	world_open(&w);
	w.ends[SOURCE].options.channels = 3;
	drive(&w);
	assert_moved(&w);
	assert_true(w.guest.writes > 0 && w.syncs >= 2 && w.arms > 0);
	assert_true(w.disarms >= 1);
	assert_false(w.ops_on_two_threads);
	struct end *src = &w.ends[SOURCE], *dst = &w.ends[DEST];
	assert_int_equal(src->seen[RDMAMIG_EVENT_NEED_STOP], 1);
	assert_int_equal(src->seen[RDMAMIG_EVENT_CONVERGED], 1);
	assert_true(src->seen[RDMAMIG_EVENT_ROUND] >= 2);
	assert_int_equal(src->seen[RDMAMIG_EVENT_NEED_PAUSE] + src->seen[RDMAMIG_EVENT_THROTTLE] + src->seen[RDMAMIG_EVENT_UNDO], 0);
	assert_int_equal(dst->seen[RDMAMIG_EVENT_LISTENING], 1);
	assert_int_equal(dst->seen[RDMAMIG_EVENT_BLOCKS], 1);
	assert_int_equal(dst->seen[RDMAMIG_EVENT_LOAD], 1);
	assert_int_equal(dst->seen[RDMAMIG_EVENT_RUN], 1);
	assert_int_equal(dst->seen[RDMAMIG_EVENT_DISCARD], 0);
	assert_true(src->stats.transferred_bytes > src->stats.data_bytes && src->stats.data_bytes >= 768ull * PAGE);
	assert_int_equal(src->stats.verified, -1);
	world_close(&w);
}

static void moves_with_marks_and_verifies(void **state)
{
	(void)state;
	static struct world w;
	world_open(&w);
	w.tracking = TRACK_MANUAL;
	w.ends[SOURCE].options.verify = true;
	drive(&w);
	assert_moved(&w);
	assert_int_equal(w.ends[SOURCE].stats.verified, 1);
	assert_int_equal(w.ends[DEST].stats.verified, 1);
	world_close(&w);
}

static void moves_what_nobody_writes_paused(void **state)
{
	(void)state;
	static struct world w;
	world_open(&w);
	w.tracking = TRACK_NONE;
	w.found_running = false;	/* its owner had paused it: it arrives so */
	w.ends[SOURCE].options.zero_pages_off = true;
	drive(&w);
	assert_moved(&w);
	assert_false(w.dest_runs);
	world_close(&w);
}

static void megabytes_of_device_state_arrive_unharmed(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 8; i++) {
		static struct world w;
		world_open(&w);
		w.state_bytes = (3 << 20) + i;
		w.ends[DEST].takes_state_after_ms = i % 2 ? now_ms() + 150 : 0;	/* all queues are full by then */
		drive(&w);
		assert_moved(&w);
		world_close(&w);
	}
}

static void no_device_state_is_fine(void **state)
{
	(void)state;
	static struct world w;
	world_open(&w);
	w.state_bytes = 0;
	drive(&w);
	assert_moved(&w);
	world_close(&w);
}

/* R12: the first arming too, for what is on its way into memory then lands behind it. */
static void pauses_around_every_arming(void **state)
{
	(void)state;
	static struct world w;
	world_open(&w);
	w.ends[SOURCE].options.pause_to_arm = true;
	drive(&w);
	assert_moved(&w);
	struct end *src = &w.ends[SOURCE];
	assert_int_equal(src->seen[RDMAMIG_EVENT_NEED_PAUSE], src->seen[RDMAMIG_EVENT_RESUME]);
	assert_int_equal(src->seen[RDMAMIG_EVENT_NEED_PAUSE], w.syncs);	/* the last sync has the guest stopped, the first is the arming */
	world_close(&w);
}

static void throttles_a_guest_that_writes_too_fast(void **state)
{
	(void)state;
	static struct world w;
	world_open(&w);
	w.guest.pause_us = 20;
	w.ends[SOURCE].options.bandwidth = 16 << 20;
	w.ends[SOURCE].options.downtime_ms = 20;
	w.ends[SOURCE].options.auto_converge = true;
	drive(&w);
	assert_moved(&w);
	assert_true(w.ends[SOURCE].seen[RDMAMIG_EVENT_THROTTLE] >= 1 && w.throttle_pct >= 20);
	assert_true(w.ends[SOURCE].stats.throttle_pct >= 20);
	world_close(&w);
}

static void too_fast(struct world *w, enum rdmamig_timeout_action action)
{
	world_open(w);
	w->guest.pause_us = 0;
	w->ends[SOURCE].options.bandwidth = 4 << 20;
	w->ends[SOURCE].options.downtime_ms = 1;
	w->ends[SOURCE].options.timeout_ms = 700;
	w->ends[SOURCE].options.timeout_action = action;
	drive(w);
}

static void gives_up_when_the_time_is_over(void **state)
{
	(void)state;
	static struct world w;
	too_fast(&w, RDMAMIG_TIMEOUT_CANCEL);
	assert_stayed(&w);
	assert_int_equal(w.ends[SOURCE].status, RDMAMIG_E_NOT_CONVERGED);
	assert_int_equal(w.ends[SOURCE].seen[RDMAMIG_EVENT_NEED_STOP], 0);
	world_close(&w);
}

static void stops_by_force_when_the_time_is_over(void **state)
{
	(void)state;
	static struct world w;
	too_fast(&w, RDMAMIG_TIMEOUT_FORCE);
	assert_moved(&w);
	world_close(&w);
}

/* Holes die and are born while rounds go on: what was sent must not stay, what came must not be missed. */
static void punch_and_fill(struct world *w)
{
	static unsigned round;
	pthread_mutex_lock(&w->guest.lock);
	if (w->guest.runs && ++round % 64) {
		unsigned at = 64 + round % 16 * 50;
		fallocate(w->ends[SOURCE].ram_file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at * PAGE, 40 * PAGE);
		guest_write(&w->guest, at + 3, round);
		guest_write(&w->guest, RAM_PAGES - 1 - round % 200, round);
	}
	pthread_mutex_unlock(&w->guest.lock);
}

static void follows_holes_that_come_and_go(void **state)
{
	(void)state;
	static struct world w;
	world_open(&w);
	w.at_round = punch_and_fill;
	w.guest.pause_us = 0;
	w.guest.pages = 32;
	w.ends[SOURCE].options.channels = 2;
	w.ends[SOURCE].options.downtime_ms = 1;
	w.ends[SOURCE].options.bandwidth = 64 << 20;
	w.ends[SOURCE].options.timeout_ms = 400;
	w.ends[SOURCE].options.timeout_action = RDMAMIG_TIMEOUT_FORCE;
	w.ends[SOURCE].options.verify = true;
	drive(&w);
	assert_moved(&w);
	world_close(&w);
}

/* --- it does not --- */

static void every_refusal_leaves_one_owner(void **state)
{
	(void)state;
	static const struct { enum side side; enum rdmamig_event_type event; } refusals[] = {
		{ SOURCE, RDMAMIG_EVENT_NEED_PAUSE }, { SOURCE, RDMAMIG_EVENT_NEED_STOP }, { SOURCE, RDMAMIG_EVENT_STATE },
		{ SOURCE, RDMAMIG_EVENT_COMMIT }, { DEST, RDMAMIG_EVENT_BLOCKS }, { DEST, RDMAMIG_EVENT_LOAD },
	};
	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
		static struct world w;
		world_open(&w);
		w.ends[SOURCE].options.pause_to_arm = refusals[i].event == RDMAMIG_EVENT_NEED_PAUSE;
		w.ends[refusals[i].side].refuses = refusals[i].event;
		drive(&w);
		assert_stayed(&w);
		assert_int_equal(w.ends[refusals[i].side].status, RDMAMIG_E_DRIVER);
		assert_int_equal(w.ends[1 - refusals[i].side].status, RDMAMIG_E_PEER);
		assert_non_null(strstr(w.ends[SOURCE].text, "the test says no"));
		assert_non_null(strstr(w.ends[DEST].text, "the test says no"));
		assert_true(w.arms == 0 || w.disarms >= 1);
		world_close(&w);
	}
}

/* After COMMIT nobody goes back: the guest is dest's, and an operator must see to it. */
static void a_dest_that_cannot_run_it_keeps_it(void **state)
{
	(void)state;
	for (unsigned silent = 0; silent < 2; silent++) {
		static struct world w;
		world_open(&w);
		if (silent)
			w.ends[DEST].ignores = RDMAMIG_EVENT_RUN;
		else
			w.ends[DEST].refuses = RDMAMIG_EVENT_RUN;
		w.ends[DEST].options.driver_timeout_ms = 300;
		w.ends[SOURCE].options.handover_timeout_ms = 600;
		drive(&w);
		assert_int_equal(w.ends[SOURCE].status, RDMAMIG_E_UNKNOWN_OWNER);
		assert_int_equal(w.ends[DEST].status, RDMAMIG_E_NOT_RUNNING);
		assert_non_null(strstr(w.ends[DEST].text, silent ? "did not answer" : "the test says no"));
		assert_false(guest_runs(&w));
		assert_int_equal(w.ends[SOURCE].seen[RDMAMIG_EVENT_UNDO], 0);
		assert_memory_moved(&w);
		world_close(&w);
	}
}

static void a_source_that_cannot_undo_says_so(void **state)
{
	(void)state;
	for (unsigned silent = 0; silent < 2; silent++) {
		static struct world w;
		world_open(&w);
		w.ends[SOURCE].cancels_at = RDMAMIG_EVENT_ROUND;
		if (silent)
			w.ends[SOURCE].ignores = RDMAMIG_EVENT_UNDO;
		else
			w.ends[SOURCE].refuses = RDMAMIG_EVENT_UNDO;
		w.ends[SOURCE].options.driver_timeout_ms = 300;
		drive(&w);
		assert_int_equal(w.ends[SOURCE].status, RDMAMIG_E_NOT_RUNNING);
		assert_in_range(rdmamig_status_exit_code(w.ends[DEST].status), 1, 7);
		world_close(&w);
	}
}

static void a_discard_that_fails_after_ready_is_held(void **state)
{
	(void)state;
	static struct world w;
	world_open(&w);
	w.ends[SOURCE].refuses = RDMAMIG_EVENT_COMMIT;
	w.ends[DEST].refuses = RDMAMIG_EVENT_DISCARD;
	drive(&w);
	assert_int_equal(w.ends[SOURCE].status, RDMAMIG_E_DRIVER);
	assert_int_equal(w.ends[DEST].status, RDMAMIG_E_HELD);
	assert_true(guest_runs(&w));
	world_close(&w);
}

static void every_silence_ends_in_time(void **state)
{
	(void)state;
	static const struct { enum side side; enum rdmamig_event_type event; } silences[] = {
		{ SOURCE, RDMAMIG_EVENT_NEED_PAUSE }, { SOURCE, RDMAMIG_EVENT_NEED_STOP }, { SOURCE, RDMAMIG_EVENT_STATE },
		{ SOURCE, RDMAMIG_EVENT_COMMIT }, { DEST, RDMAMIG_EVENT_BLOCKS }, { DEST, RDMAMIG_EVENT_LOAD },
	};
	for (size_t i = 0; i < sizeof(silences) / sizeof(silences[0]); i++) {
		static struct world w;
		world_open(&w);
		w.ends[SOURCE].options.pause_to_arm = silences[i].event == RDMAMIG_EVENT_NEED_PAUSE;
		w.ends[silences[i].side].ignores = silences[i].event;
		w.ends[silences[i].side].options.driver_timeout_ms = 300;
		uint64_t begin_ms = now_ms();
		drive(&w);
		assert_true(now_ms() - begin_ms < 5000);
		assert_stayed(&w);
		assert_int_equal(w.ends[silences[i].side].status, RDMAMIG_E_DRIVER_SILENT);
		assert_int_equal(w.ends[1 - silences[i].side].status, RDMAMIG_E_PEER);
		world_close(&w);
	}
}

/* Dest's driver takes no device state: the stopped guest must not wait for it long. */
static void a_driver_that_takes_no_state_ends_in_time(void **state)
{
	(void)state;
	static struct world w;
	world_open(&w);
	w.state_bytes = 1 << 20;
	w.ends[DEST].takes_no_state = true;
	w.ends[DEST].options.driver_timeout_ms = 500;
	uint64_t begin_ms = now_ms();
	drive(&w);
	assert_true(now_ms() - begin_ms < 8000);
	assert_stayed(&w);
	assert_int_equal(w.ends[DEST].status, RDMAMIG_E_DRIVER_SILENT);
	world_close(&w);
}

static void cancel_at(enum side side, enum rdmamig_event_type event)
{
	static struct world w;
	world_open(&w);
	w.ends[SOURCE].options.pause_to_arm = event == RDMAMIG_EVENT_NEED_PAUSE || event == RDMAMIG_EVENT_RESUME;
	w.ends[side].cancels_at = event;
	drive(&w);
	if (w.ends[SOURCE].seen[event] + w.ends[DEST].seen[event] == 0)
		fail_msg("event %d never came", (int)event);
	assert_one_owner(&w);
	if (w.ends[side].status) {
		assert_int_equal(w.ends[side].status, RDMAMIG_E_CANCELLED);
		assert_int_equal(w.ends[side].stats.status, RDMAMIG_STATE_CANCELLED);
		assert_int_equal(w.ends[1 - side].status, RDMAMIG_E_PEER_CANCELLED);
	} else {
		/* Too late: COMMIT is being journaled, or dest's session is further on than its driver has seen. */
		assert_true(side == DEST ? event != RDMAMIG_EVENT_BLOCKS : event == RDMAMIG_EVENT_COMMIT);
	}
	world_close(&w);
}

static void a_cancel_at_any_event_leaves_one_owner(void **state)
{
	(void)state;
	static const enum rdmamig_event_type at_source[] = {
		RDMAMIG_EVENT_NEED_PAUSE, RDMAMIG_EVENT_RESUME, RDMAMIG_EVENT_ROUND, RDMAMIG_EVENT_CONVERGED,
		RDMAMIG_EVENT_NEED_STOP, RDMAMIG_EVENT_STATE, RDMAMIG_EVENT_COMMIT,
	}, at_dest[] = {
		RDMAMIG_EVENT_BLOCKS, RDMAMIG_EVENT_ROUND, RDMAMIG_EVENT_STATE, RDMAMIG_EVENT_LOAD, RDMAMIG_EVENT_RUN,
	};
	for (size_t i = 0; i < sizeof(at_source) / sizeof(at_source[0]); i++)
		cancel_at(SOURCE, at_source[i]);
	for (size_t i = 0; i < sizeof(at_dest) / sizeof(at_dest[0]); i++)
		cancel_at(DEST, at_dest[i]);
}

/* The reason reaches dest though the data channels are closed long before the source's driver has undone. */
static void a_slow_undo_does_not_hide_the_reason(void **state)
{
	(void)state;
	static struct world w;
	world_open(&w);
	w.ends[SOURCE].cancels_at = RDMAMIG_EVENT_ROUND;
	w.ends[SOURCE].undo_delay_ms = 600;
	drive(&w);
	assert_stayed(&w);
	assert_int_equal(w.ends[DEST].status, RDMAMIG_E_PEER_CANCELLED);
	world_close(&w);
}

static void cut_source(struct world *w)
{
	assert_int_equal(ftruncate(w->ends[SOURCE].ram_file, 100 * PAGE), 0);
}

static void a_source_file_cut_short_ends_it(void **state)
{
	(void)state;
	static struct world w;
	world_open(&w);
	w.at_round = cut_source;
	w.guest.pages = 50;
	w.ends[SOURCE].options.downtime_ms = 1;
	w.ends[SOURCE].options.bandwidth = 20 << 20;
	w.guest.pause_us = 0;
	drive(&w);
	assert_stayed(&w);
	assert_int_equal(w.ends[SOURCE].status, RDMAMIG_E_BLOCK_CHANGED);
	world_close(&w);
}

static void cut_dest(struct world *w)
{
	assert_int_equal(ftruncate(w->ends[DEST].ram_file, 0), 0);
}

static void a_dest_file_cut_short_ends_it(void **state)
{
	(void)state;
	static struct world w;
	world_open(&w);
	w.at_round = cut_dest;
	w.ends[SOURCE].options.downtime_ms = 1;
	w.ends[SOURCE].options.bandwidth = 20 << 20;
	w.guest.pause_us = 0;
	drive(&w);
	assert_stayed(&w);
	world_close(&w);
}

static void grow_both(struct world *w)
{
	for (unsigned i = 0; i < SIDES; i++)
		assert_int_equal(ftruncate(w->ends[i].ram_file, 2 * RAM_PAGES * PAGE), 0);
}

static void a_file_that_grows_is_no_matter(void **state)
{
	(void)state;
	static struct world w;
	world_open(&w);
	w.at_round = grow_both;
	drive(&w);
	assert_moved(&w);
	world_close(&w);
}

static void free_at(enum side side, enum rdmamig_event_type event)
{
	static struct world w;
	world_open(&w);
	w.ends[SOURCE].options.handover_timeout_ms = w.ends[DEST].options.handover_timeout_ms = 300;
	w.ends[side].frees_at = event;
	drive(&w);
	assert_true(w.ends[side].seen[event] == 1);
	assert_int_not_equal(w.ends[1 - side].status, RDMAMIG_OK);
	if (side == SOURCE)
		assert_false(w.dest_owned);
	else if (!w.decided_commit)
		assert_true(guest_runs(&w));
	assert_true(w.arms == 0 || w.disarms >= 1);
	world_close(&w);
}

static void a_session_is_freed_at_any_event(void **state)
{
	(void)state;
	static const enum rdmamig_event_type at_source[] = {
		RDMAMIG_EVENT_ROUND, RDMAMIG_EVENT_NEED_STOP, RDMAMIG_EVENT_STATE, RDMAMIG_EVENT_COMMIT,
	}, at_dest[] = {
		RDMAMIG_EVENT_BLOCKS, RDMAMIG_EVENT_ROUND, RDMAMIG_EVENT_STATE, RDMAMIG_EVENT_LOAD, RDMAMIG_EVENT_RUN,
	};
	for (size_t i = 0; i < sizeof(at_source) / sizeof(at_source[0]); i++)
		free_at(SOURCE, at_source[i]);
	for (size_t i = 0; i < sizeof(at_dest) / sizeof(at_dest[0]); i++)
		free_at(DEST, at_dest[i]);
}

/* A source that waits for its driver to pause still sees that dest is gone. */
static void a_lost_dest_is_seen_while_the_driver_pauses(void **state)
{
	(void)state;
	static struct world w;
	world_open(&w);
	w.ends[SOURCE].options.pause_to_arm = true;
	w.ends[SOURCE].ignores = RDMAMIG_EVENT_NEED_PAUSE;
	dest_start(&w);
	uint64_t begin_ms = 0;
	while (!w.ends[SOURCE].ended) {
		assert_true(!begin_ms || now_ms() - begin_ms < 5000);
		for (unsigned i = 0; i < SIDES; i++) {
			struct rdmamig_event event = { .size = sizeof(event) };
			if (w.ends[i].session && !rdmamig_session_next_event(w.ends[i].session, &event))
				on_event(&w, &w.ends[i], &event);
		}
		if (w.ends[SOURCE].seen[RDMAMIG_EVENT_NEED_PAUSE] && !begin_ms) {
			begin_ms = now_ms();
			end_free(&w, &w.ends[DEST]);
		}
		poll(NULL, 0, 1);
	}
	assert_true(guest_runs(&w));
	assert_int_equal(rdmamig_status_exit_code(w.ends[SOURCE].status), 4);
	world_close(&w);
}

static void nobody_listens(void **state)
{
	(void)state;
	static struct world w;
	world_open(&w);
	w.ends[DEST].ended = true;
	source_start(&w, "tcp://127.0.0.1:1");
	while (!w.ends[SOURCE].ended) {
		struct pollfd p = { .fd = rdmamig_session_fd(w.ends[SOURCE].session), .events = POLLIN };
		struct rdmamig_event event = { .size = sizeof(event) };
		assert_int_equal(poll(&p, 1, HANG_MS), 1);
		if (!rdmamig_session_next_event(w.ends[SOURCE].session, &event))
			on_event(&w, &w.ends[SOURCE], &event);
	}
	assert_int_equal(w.ends[SOURCE].status, RDMAMIG_E_CONNECT);
	assert_int_equal(w.ends[SOURCE].seen[RDMAMIG_EVENT_UNDO], 1);
	world_close(&w);
}

static void a_dest_nobody_comes_to_ends_in_time(void **state)
{
	(void)state;
	static struct world w;
	world_open(&w);
	w.ends[SOURCE].ended = true;
	w.ends[DEST].options.wait_ms = 200;
	dest_start(&w);
	while (!w.ends[DEST].ended) {
		struct pollfd p = { .fd = rdmamig_session_fd(w.ends[DEST].session), .events = POLLIN };
		struct rdmamig_event event = { .size = sizeof(event) };
		assert_int_equal(poll(&p, 1, HANG_MS), 1);
		if (!rdmamig_session_next_event(w.ends[DEST].session, &event) && event.type != RDMAMIG_EVENT_LISTENING)
			on_event(&w, &w.ends[DEST], &event);
	}
	assert_int_equal(w.ends[DEST].status, RDMAMIG_E_PEER_SILENT);
	world_close(&w);
}

/* --- the calls --- */

static void refuses_options_that_make_no_sense(void **state)
{
	(void)state;
	struct rdmamig_session *s = NULL;
	struct rdmamig_options good = { .size = sizeof(good), .uri = "tcp://127.0.0.1", .session_id = "x" }, bad;
	char why[200];
	bad = good, bad.uri = NULL;
	assert_int_equal(rdmamig_session_new(RDMAMIG_SOURCE, &bad, &s, why, sizeof(why)), RDMAMIG_E_USAGE);
	bad = good, bad.channels = 17;
	assert_int_equal(rdmamig_session_new(RDMAMIG_SOURCE, &bad, &s, why, sizeof(why)), RDMAMIG_E_USAGE);
	bad = good, memset(bad.session_id, 0, sizeof(bad.session_id));
	assert_int_equal(rdmamig_session_new(RDMAMIG_SOURCE, &bad, &s, why, sizeof(why)), RDMAMIG_E_USAGE);
	bad = good, bad.downtime_ms = UINT64_MAX;
	assert_int_equal(rdmamig_session_new(RDMAMIG_SOURCE, &bad, &s, why, sizeof(why)), RDMAMIG_E_USAGE);
	bad = good, bad.uri = "tcp:/x";
	assert_int_equal(rdmamig_session_new(RDMAMIG_SOURCE, &bad, &s, why, sizeof(why)), RDMAMIG_E_URI);
	bad = good, bad.codec = "lzw";
	assert_int_equal(rdmamig_session_new(RDMAMIG_SOURCE, &bad, &s, NULL, 0), RDMAMIG_E_UNSUPPORTED);
	assert_null(s);
	rdmamig_session_free(NULL);
}

static void calls_out_of_turn_change_nothing(void **state)
{
	(void)state;
	static struct world w;
	world_open(&w);
	struct end *src = &w.ends[SOURCE];
	struct rdmamig_event event = { .size = sizeof(event) };
	struct rdmamig_peer_block block = { .size = sizeof(block) };
	assert_int_equal(rdmamig_session_new(RDMAMIG_SOURCE, &src->options, &src->session, NULL, 0), RDMAMIG_OK);
	assert_int_equal(rdmamig_session_start(src->session), RDMAMIG_E_USAGE);	/* no block */
	blocks_add(src);
	struct rdmamig_block again = { .size = sizeof(again), .name = "rom", .fd = -1, .addr = src->rom, .length = PAGE };
	assert_int_equal(rdmamig_session_add_block(src->session, &again), RDMAMIG_E_USAGE);
	assert_int_equal(rdmamig_session_mark_dirty(src->session, "ram", 0, (uint64_t)RAM_PAGES * PAGE), RDMAMIG_OK);
	assert_int_equal(rdmamig_session_mark_dirty(src->session, "ram", 1, (uint64_t)RAM_PAGES * PAGE), RDMAMIG_E_USAGE);
	assert_int_equal(rdmamig_session_mark_dirty(src->session, "ram", UINT64_MAX, 2), RDMAMIG_E_USAGE);
	assert_int_equal(rdmamig_session_mark_discarded(src->session, "vga", 0, 1), RDMAMIG_E_USAGE);
	assert_int_equal(rdmamig_session_track_manual(src->session), RDMAMIG_OK);
	assert_int_equal(rdmamig_session_track_manual(src->session), RDMAMIG_E_USAGE);
	assert_int_equal(rdmamig_session_stopped(src->session, true, RDMAMIG_OK, NULL), RDMAMIG_E_USAGE);
	assert_int_equal(rdmamig_session_send_state(src->session, "x", 1), RDMAMIG_E_USAGE);
	assert_int_equal(rdmamig_session_next_event(src->session, &event), RDMAMIG_AGAIN);
	assert_int_equal(rdmamig_session_peer_block(src->session, 0, &block), RDMAMIG_E_USAGE);
	world_close(&w);	/* frees a session that was never started */
}

/* A userfaultfd handed over is the session's, whatever comes of it. */
static void a_descriptor_taken_over_is_closed(void **state)
{
	(void)state;
	static struct world w;
	world_open(&w);
	w.ends[DEST].ended = true;
	struct end *src = &w.ends[SOURCE];
	int not_a_uffd = eventfd(0, EFD_CLOEXEC);
	w.tracking = TRACK_NONE;
	dest_start(&w);
	w.ends[DEST].ended = false;
	while (!src->ended || !w.ends[DEST].ended) {
		for (unsigned i = 0; i < SIDES; i++) {
			struct rdmamig_event event = { .size = sizeof(event) };
			if (!w.ends[i].session || rdmamig_session_next_event(w.ends[i].session, &event))
				continue;
			if (event.type != RDMAMIG_EVENT_LISTENING) {
				on_event(&w, &w.ends[i], &event);
				continue;
			}
			char uri[400];
			rdmamig_session_local_uri(w.ends[DEST].session, uri, sizeof(uri));
			src->options.uri = uri;
			assert_int_equal(rdmamig_session_new(RDMAMIG_SOURCE, &src->options, &src->session, NULL, 0), RDMAMIG_OK);
			blocks_add(src);
			assert_int_equal(rdmamig_session_track_uffd(src->session, not_a_uffd, getpid(), RDMAMIG_UFFD_AUTO), RDMAMIG_OK);
			assert_int_equal(rdmamig_session_start(src->session), RDMAMIG_OK);
		}
		poll(NULL, 0, 1);
	}
	assert_int_not_equal(src->status, RDMAMIG_OK);
	assert_int_equal(fcntl(not_a_uffd, F_GETFD), -1);
	assert_int_equal(errno, EBADF);
	world_close(&w);
}

static int close_what_failed(void **state)
{
	(void)state;
	if (open_world)
		world_close(open_world);
	return 0;
}

/* Making a session installs the guard. */
static bool guard_learn(void)
{
	struct rdmamig_options options = { .size = sizeof(options), .uri = "tcp://127.0.0.1" };
	struct rdmamig_session *session;
	if (rdmamig_session_new(RDMAMIG_DEST, &options, &session, NULL, 0))
		return false;
	rdmamig_session_free(session);
	return !sigaction(SIGBUS, NULL, &guard_action);
}

#define TEST(test) cmocka_unit_test_teardown(test, close_what_failed)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(moves_with_a_supplied_tracker),
		TEST(moves_with_marks_and_verifies),
		TEST(moves_what_nobody_writes_paused),
		TEST(megabytes_of_device_state_arrive_unharmed),
		TEST(no_device_state_is_fine),
		TEST(pauses_around_every_arming),
		TEST(throttles_a_guest_that_writes_too_fast),
		TEST(gives_up_when_the_time_is_over),
		TEST(stops_by_force_when_the_time_is_over),
		TEST(follows_holes_that_come_and_go),
		TEST(every_refusal_leaves_one_owner),
		TEST(a_dest_that_cannot_run_it_keeps_it),
		TEST(a_source_that_cannot_undo_says_so),
		TEST(a_discard_that_fails_after_ready_is_held),
		TEST(every_silence_ends_in_time),
		TEST(a_driver_that_takes_no_state_ends_in_time),
		TEST(a_cancel_at_any_event_leaves_one_owner),
		TEST(a_slow_undo_does_not_hide_the_reason),
		TEST(a_source_file_cut_short_ends_it),
		TEST(a_dest_file_cut_short_ends_it),
		TEST(a_file_that_grows_is_no_matter),
		TEST(a_session_is_freed_at_any_event),
		TEST(a_lost_dest_is_seen_while_the_driver_pauses),
		TEST(nobody_listens),
		TEST(a_dest_nobody_comes_to_ends_in_time),
		TEST(refuses_options_that_make_no_sense),
		TEST(calls_out_of_turn_change_nothing),
		TEST(a_descriptor_taken_over_is_closed),
	};
	if (!guard_learn())
		return 1;
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
