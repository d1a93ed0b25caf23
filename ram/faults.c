/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * faults.c - reads write faults from a userfaultfd, marks and unprotects; hands the marks out and protects again.
 * Neighbours: tracked.c protects, tracker_uffd.c takes. Its own thread serves, the session thread takes.
 *
 * No write is lost: marking with unprotecting, and taking a mark with protecting, are each done under the lock. So a
 * page that can be written without a fault always has its mark set. A write before the take is in the marks taken; one
 * after it faults, and is in the next. Were the fault's two halves apart, a take between them would report the page
 * and the late unprotect leave it open, unmarked.
 */
#include "ram/faults.h"

#include <errno.h>
#include <unistd.h>

#include "base/compat.h"
#include "ram/uffd.h"

enum {
	MESSAGES = 32,		/* read at a time */
	TAKE_PAGES = 512,	/* under one hold of the lock: a fault waits for it */
	LOOK_PAGES = 512,	/* the same */
};

/* Under the lock. The guest goes on untracked: better than one that hangs. */
static void faults_lose(struct faults *faults, int err, const char *what)
{
	if (!faults->is_lost)
		error_note(faults->error, RDMAMIG_E_TRACKER, err, "userfaultfd: %s; tracking has ended", what);
	faults->is_lost = true;
	for (unsigned i = 0; i < faults->count; i++)
		tracked_unregister(&faults->tracked[i], faults->uffd);
}

static struct tracked *faults_find(struct faults *faults, uint64_t address, const struct piece **piece)
{
	for (unsigned i = 0; i < faults->count; i++) {
		const struct placement *placement = &faults->tracked[i].placement;
		for (unsigned j = 0; j < placement->count; j++) {
			*piece = &placement->pieces[j];
			if ((*piece)->start <= address && address < (*piece)->end)
				return &faults->tracked[i];
		}
	}
	return NULL;
}

/* Under the lock. */
static void fault_serve(struct faults *faults, uint64_t address)
{
	const struct piece *piece;
	struct tracked *tracked = faults_find(faults, address, &piece);
	uint64_t page = address / PAGE_BYTES * PAGE_BYTES;
	if (!tracked || !tracked->is_registered) {
		uffd_wake(faults->uffd, page, PAGE_BYTES);	/* unregistered meanwhile: the write just goes on */
		return;
	}

	struct run run = tracked_granules(tracked, piece_run(piece, page, page + PAGE_BYTES));
	bitmap_set_range(&tracked->written, run.first_page, run.pages);
	uint64_t start, end;
	piece_clip(piece, run, &start, &end);
	int err = uffd_unprotect(faults->uffd, start, end - start);
	if (err)
		faults_lose(faults, -err, "a page cannot be unprotected");
}

/* Under the lock. */
static void message_serve(struct faults *faults, const struct uffd_msg *msg)
{
	if (msg->event == UFFD_EVENT_PAGEFAULT)
		fault_serve(faults, msg->arg.pagefault.address);
	else
		faults_lose(faults, 0, "the guest has moved or unmapped tracked memory");
}

/*
 * Under the lock, reading too: a guest thread that remaps memory goes on when its message is read, so the next take must
 * not come between that and our losing the tracker. False: there was nothing to read.
 */
static bool messages_serve(struct faults *faults)
{
	struct uffd_msg messages[MESSAGES];
	ssize_t got = read(faults->uffd, messages, sizeof(messages));
	if (got < 0 && errno != EAGAIN && errno != EINTR)
		faults_lose(faults, errno, "read");
	for (size_t i = 0; got > 0 && i < (size_t)got / sizeof(messages[0]); i++)
		message_serve(faults, &messages[i]);
	return got > 0;
}

static bool faults_step(void *self, struct wait *wait)
{
	struct faults *faults = self;
	pthread_mutex_lock(&faults->lock);
	bool is_more = messages_serve(faults);
	bool goes_on = !faults->is_ending;
	pthread_mutex_unlock(&faults->lock);

	wait_add_fd(wait, faults->uffd, POLLIN);
	if (is_more)
		wait_now(wait);
	return goes_on;
}

enum rdmamig_status faults_start(struct faults *faults, int uffd, int pagemap, struct tracked *tracked, unsigned count,
				 struct error *error)
{
	*faults = (struct faults){ .tracked = tracked, .count = count, .uffd = uffd, .pagemap = pagemap, .error = error };
	enum rdmamig_status st = stepper_init(&faults->thread, &clock_real, faults_step, faults);
	if (st)
		return error_note(error, st, 0, "a descriptor for the fault thread");
	pthread_mutex_init(&faults->lock, NULL);
	faults->is_started = true;
	st = stepper_start(&faults->thread, "rdmamig-faults");
	if (st) {
		error_note(error, st, 0, "the fault thread");
		faults_stop(faults);
	}
	return st;
}

void faults_stop(struct faults *faults)
{
	if (!faults->is_started)
		return;
	pthread_mutex_lock(&faults->lock);
	faults->is_ending = true;
	pthread_mutex_unlock(&faults->lock);
	stepper_wake(&faults->thread);
	stepper_join(&faults->thread);
	stepper_fini(&faults->thread);
	pthread_mutex_destroy(&faults->lock);
	faults->is_started = false;
}

/* Marks, if there are any in [from, ...), become protection. 1 *out is to be reported, 0 none, -errno. */
static int run_take(struct faults *faults, struct tracked *tracked, uint64_t from, struct run *out)
{
	uint64_t granule = pages_of_bytes(tracked->block->granule);
	uint64_t max = granule > TAKE_PAGES ? granule : TAKE_PAGES;
	pthread_mutex_lock(&faults->lock);
	int result = faults->is_lost ? -ENOENT : bitmap_take_run(&tracked->written, from, tracked->block->pages, max, out);
	if (result > 0) {
		int err = tracked_protect(tracked, faults->uffd, *out);
		result = err ? err : 1;
	}
	pthread_mutex_unlock(&faults->lock);
	return result;
}

/*
 * A page punched out of the file keeps its protection as a marker, but not if another process mapped it anew in between:
 * we do, reading it (unmap_mapping_folio(), called again by the truncation, drops markers). Writes then are no faults.
 * What is open without a mark is such a page.
 */
static int open_pages_mark(struct faults *faults, struct tracked *tracked, const struct piece *piece, struct run run)
{
	uint64_t entries[LOOK_PAGES], start, end;
	piece_clip(piece, run, &start, &end);
	size_t bytes = run.pages * sizeof(entries[0]);
	pthread_mutex_lock(&faults->lock);
	bool is_read = pread(faults->pagemap, entries, bytes, (off_t)(pages_of_bytes(start) * sizeof(entries[0]))) == (ssize_t)bytes;
	for (uint64_t i = 0; i < run.pages && is_read && tracked->is_registered; i++)
		if (!(entries[i] & COMPAT_PM_UFFD_WP))
			bitmap_set_range(&tracked->written, run.first_page + i, 1);
	pthread_mutex_unlock(&faults->lock);
	return is_read ? 0 : -ESRCH;
}

static int piece_look(struct faults *faults, struct tracked *tracked, const struct piece *piece)
{
	struct run all = piece_run(piece, piece->start, piece->end), run;
	uint64_t from = all.first_page, end = all.first_page + all.pages;
	int err = 0;
	while (!err && bitmap_next_run(&tracked->armed, from, end, LOOK_PAGES, &run)) {
		err = open_pages_mark(faults, tracked, piece, run);
		from = run.first_page + run.pages;
	}
	return err;
}

enum rdmamig_status faults_take(struct faults *faults, unsigned index, const struct rdmamig_dirty_sink *dirty)
{
	struct tracked *tracked = &faults->tracked[index];
	struct run run;
	uint64_t from = 0;
	int found = 0;
	/* Huge pages of hugetlbfs are not punched one by one, and older kernels do not tell their protection. */
	for (unsigned i = 0; i < tracked->placement.count && !tracked->block->is_hugetlb && !found; i++)
		found = piece_look(faults, tracked, &tracked->placement.pieces[i]);
	if (found)
		return error_note(faults->error, RDMAMIG_E_TRACKER, -found, "block %s: reading the guest's pagemap", tracked->block->name);
	while ((found = run_take(faults, tracked, from, &run)) > 0) {
		dirty->mark(dirty->opaque, index, run.first_page, run.pages);
		from = run.first_page + run.pages;
	}
	if (found < 0)		/* if tracking is lost, the thread has noted why, and that note stands */
		return error_note(faults->error, RDMAMIG_E_TRACKER, -found, "block %s: protecting written pages", tracked->block->name);
	return RDMAMIG_OK;
}
