/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * drive.c - the loop between a session and the driver of its guest: an event in, the driver called, the answer out.
 * Neighbours: the session's own threads behind its fd; the driver; cli/ looks on. The command's main thread.
 */
#include "vmm/driver.h"

#include <assert.h>
#include <poll.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"

enum { OBSERVE_MS = 100, BEAT_MS = 200 };

struct drive {
	struct driver *driver;
	struct rdmamig_session *session;
	const struct driver_callbacks *callbacks;
	bool over;			/* the last event was seen */
	bool decided;			/* undone or committed: the guardian is not needed any more */
	enum rdmamig_status status;	/* the session's */
	bool failed;			/* we told the session to end */
	uint64_t beat;			/* the session's, as last passed on */
	uint64_t beat_ns;
	uint64_t observe_ns;
	char why[DRIVER_WHY_BYTES];
};

/* For what goes wrong when the session has not asked. */
static void drive_fail(struct drive *drive, enum rdmamig_status status)
{
	drive->failed = true;
	rdmamig_session_fail(drive->session, status, drive->why);
}

static bool drive_is_source(const struct drive *drive)
{
	return drive->driver->ops->give_state != NULL;
}

static void on_nothing(struct drive *drive, const struct rdmamig_event *event)
{
	(void)drive, (void)event;
}

static void on_need_pause(struct drive *drive, const struct rdmamig_event *event)
{
	(void)event;
	enum rdmamig_status status = drive->driver->ops->pause(drive->driver, drive->why);
	rdmamig_session_paused(drive->session, status, drive->why);
}

static void on_resume(struct drive *drive, const struct rdmamig_event *event)
{
	(void)event;
	enum rdmamig_status status = drive->driver->ops->resume(drive->driver, drive->why);
	if (status)
		drive_fail(drive, status);
}

static void on_throttle(struct drive *drive, const struct rdmamig_event *event)
{
	enum rdmamig_status status = drive->driver->ops->throttle(drive->driver, event->throttle_pct, drive->why);
	rdmamig_session_throttled(drive->session, status, drive->why);
}

static void on_need_stop(struct drive *drive, const struct rdmamig_event *event)
{
	(void)event;
	bool guest_runs = false;
	enum rdmamig_status status = drive->driver->ops->stop(drive->driver, &guest_runs, drive->why);
	rdmamig_session_stopped(drive->session, guest_runs, status, drive->why);
}

static void on_state(struct drive *drive, const struct rdmamig_event *event)
{
	enum rdmamig_status status;
	if (drive_is_source(drive)) {
		status = drive->driver->ops->give_state(drive->driver, drive->session, drive->why);
		rdmamig_session_state_sent(drive->session, status, drive->why);
		return;
	}
	status = drive->driver->ops->take_state(drive->driver, event->state_data, event->state_bytes, drive->why);
	if (status)
		drive_fail(drive, status);
}

static void on_commit(struct drive *drive, const struct rdmamig_event *event)
{
	(void)event;
	enum rdmamig_status status = drive->driver->ops->commit(drive->driver, drive->why);
	drive->decided = !status;
	rdmamig_session_committed(drive->session, status, drive->why);
}

static enum rdmamig_status drive_undo(struct drive *drive)
{
	drive->decided = true;
	return drive->driver->ops->undo(drive->driver, drive->why);
}

static void on_undo(struct drive *drive, const struct rdmamig_event *event)
{
	(void)event;
	enum rdmamig_status status = drive_undo(drive);
	rdmamig_session_undone(drive->session, status, drive->why);
}

static void on_blocks(struct drive *drive, const struct rdmamig_event *event)
{
	(void)event;
	enum rdmamig_status status = drive->callbacks->blocks(drive->callbacks->opaque, drive->why);
	rdmamig_session_blocks_ready(drive->session, status, drive->why);
}

static void on_load(struct drive *drive, const struct rdmamig_event *event)
{
	enum rdmamig_status status = drive->driver->ops->load(drive->driver, event->guest_runs, drive->why);
	rdmamig_session_loaded(drive->session, status, drive->why);
}

static void on_run(struct drive *drive, const struct rdmamig_event *event)
{
	enum rdmamig_status status = drive->driver->ops->run(drive->driver, event->guest_runs, drive->why);
	rdmamig_session_running(drive->session, status, drive->why);
}

static void on_discard(struct drive *drive, const struct rdmamig_event *event)
{
	(void)event;
	enum rdmamig_status status = drive->driver->ops->discard(drive->driver, drive->why);
	rdmamig_session_discarded(drive->session, status, drive->why);
}

static void on_done(struct drive *drive, const struct rdmamig_event *event)
{
	(void)event;
	drive->over = true;
	drive->driver->ops->done(drive->driver);
}

/* A source that failed before it had anything to undo still has a journal, which says nothing yet. */
static void on_failed(struct drive *drive, const struct rdmamig_event *event)
{
	drive->over = true;
	drive->status = event->status;
	if (!drive_is_source(drive) || drive->decided)
		return;
	enum rdmamig_status status = drive_undo(drive);
	if (status) {
		log_line(RDMAMIG_LOG_ERROR, "%s", drive->why);
		drive->status = status;
	}
}

static void (*const handlers[])(struct drive *drive, const struct rdmamig_event *event) = {
	[RDMAMIG_EVENT_NONE] = on_nothing,
	[RDMAMIG_EVENT_ROUND] = on_nothing,
	[RDMAMIG_EVENT_CONVERGED] = on_nothing,
	[RDMAMIG_EVENT_NEED_PAUSE] = on_need_pause,
	[RDMAMIG_EVENT_RESUME] = on_resume,
	[RDMAMIG_EVENT_THROTTLE] = on_throttle,
	[RDMAMIG_EVENT_NEED_STOP] = on_need_stop,
	[RDMAMIG_EVENT_STATE] = on_state,
	[RDMAMIG_EVENT_COMMIT] = on_commit,
	[RDMAMIG_EVENT_UNDO] = on_undo,
	[RDMAMIG_EVENT_BLOCKS] = on_blocks,
	[RDMAMIG_EVENT_LOAD] = on_load,
	[RDMAMIG_EVENT_RUN] = on_run,
	[RDMAMIG_EVENT_DISCARD] = on_discard,
	[RDMAMIG_EVENT_DONE] = on_done,
	[RDMAMIG_EVENT_FAILED] = on_failed,
	[RDMAMIG_EVENT_LISTENING] = on_nothing,
};

static void drive_handle(struct drive *drive, struct rdmamig_event *event)
{
	assert((size_t)event->type < sizeof(handlers) / sizeof(handlers[0]));
	drive->why[0] = '\0';
	handlers[event->type](drive, event);
	if (drive->over)
		event->status = drive->status;	/* what is shown is how it ended */
	if (drive->callbacks->observe)
		drive->callbacks->observe(drive->callbacks->opaque, event);
}

/* The guardian hears that the session is well, not merely that this loop is. */
static void drive_beat(struct drive *drive)
{
	uint64_t now = clock_now_ns(&clock_real);
	if (now < drive->beat_ns)
		return;
	drive->beat_ns = now + BEAT_MS * NS_PER_MS;
	uint64_t beat = rdmamig_session_beat(drive->session);
	if (beat != drive->beat)
		drive->driver->ops->beat(drive->driver);
	drive->beat = beat;
}

static void drive_observe_progress(struct drive *drive)
{
	uint64_t now = clock_now_ns(&clock_real);
	if (!drive->callbacks->observe || now < drive->observe_ns)
		return;
	drive->observe_ns = now + OBSERVE_MS * NS_PER_MS;
	drive->callbacks->observe(drive->callbacks->opaque, NULL);
}

/* Without its guardian a stop would outlive us: end it now, while the guest can still be let go. */
static void drive_watch_guardian(struct drive *drive)
{
	struct pollfd guardian = { .fd = drive->driver->ops->fd(drive->driver), .events = POLLIN };
	if (guardian.fd < 0 || drive->decided || drive->failed || poll(&guardian, 1, 0) != 1)
		return;
	snprintf(drive->why, sizeof(drive->why), "the guardian process has died: somebody killed it; the migration is undone");
	drive_fail(drive, RDMAMIG_E_DRIVER);
}

static void drive_wait(struct drive *drive)
{
	struct wait wait;
	wait_reset(&wait);
	wait_until(&wait, clock_after_ms(&clock_real, OBSERVE_MS));
	wait_add_fd(&wait, rdmamig_session_fd(drive->session), POLLIN);
	if (!drive->decided && !drive->failed)		/* once it is known to be dead its fd stays readable */
		wait_add_fd(&wait, drive->driver->ops->fd(drive->driver), POLLIN);
	wait_sleep(&wait, &clock_real);
}

enum rdmamig_status driver_drive(struct driver *driver, struct rdmamig_session *session, const struct driver_callbacks *callbacks)
{
	struct drive drive = { .driver = driver, .session = session, .callbacks = callbacks };
	while (!drive.over) {
		struct rdmamig_event event = { .size = sizeof(event) };
		drive_beat(&drive);
		drive_watch_guardian(&drive);
		drive_observe_progress(&drive);
		if (rdmamig_session_next_event(session, &event) == RDMAMIG_OK)
			drive_handle(&drive, &event);
		else
			drive_wait(&drive);
	}
	return drive.status;
}
