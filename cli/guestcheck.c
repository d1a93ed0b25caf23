/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * guestcheck.c - checks the memory of a stopped synth guest, byte by byte, through read(2).
 * Neighbours: guest.h has the layout, content.c the bytes; synth --resume and bench ask. One thread.
 */
#include "cli/guestcheck.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/guest.h"
#include "cli/why.h"

enum { PIECE_PAGES = 256, LINE_BYTES = 256 };

struct checker {
	const struct memory *memory;
	struct guest_header header;
	struct content content;
	uint64_t first_page;
	uint64_t used_pages;
	uint32_t *versions;	/* a copy */
	void (*say)(const char *line);
	struct guestcheck *out;
	uint64_t next_page;	/* all before it are checked */
	uint8_t piece[PIECE_PAGES * MEMORY_PAGE_BYTES];
};

static enum rdmamig_status header_bad(char *why, const char *what)
{
	return why_say(why, RDMAMIG_E_NOT_VERIFIED, "page 0: %s", what);
}

static enum rdmamig_status header_check(struct checker *checker, char *why)
{
	const struct guest_header *header = &checker->header;
	const struct guest_plan *plan = &header->plan;
	uint8_t page[MEMORY_PAGE_BYTES];
	static const uint8_t zeros[MEMORY_PAGE_BYTES];
	uint32_t beat;
	if (checker->memory->bytes < sizeof(page))
		return header_bad(why, "the file is empty");
	enum rdmamig_status st = memory_read(checker->memory, 0, page, sizeof(page), why);
	if (st)
		return st;
	memcpy(&checker->header, page, sizeof(*header));
	if (header->magic != GUEST_MAGIC)
		return header_bad(why, "no synth guest lives here");
	if (header->plan_hash != guest_plan_hash(plan) || !guest_plan_is_possible(plan))
		return header_bad(why, "the guest's parameters are damaged");
	if (plan->size_bytes != checker->memory->bytes)
		return header_bad(why, "the files are not as long as the guest's memory was");
	if (!guest_beat_count(header->beat, &beat))
		return header_bad(why, "the beat is damaged");
	if (memcmp(page + sizeof(*header), zeros, sizeof(page) - sizeof(*header)))
		return header_bad(why, "bytes behind the header are not zero");
	return RDMAMIG_OK;
}

/* The versions of all used pages, and that they add up to the ticks: stale versions with stale pages must not pass. */
static enum rdmamig_status versions_check(struct checker *checker, char *why)
{
	const struct guest_header *header = &checker->header;
	uint64_t count = (checker->first_page - 1) * MEMORY_PAGE_BYTES / sizeof(uint32_t), sum = 0, others = 0;
	checker->versions = malloc(count * sizeof(uint32_t));
	if (!checker->versions)
		return why_say(why, RDMAMIG_E_NO_MEMORY, "out of memory");
	enum rdmamig_status st = memory_read(checker->memory, MEMORY_PAGE_BYTES, checker->versions, count * sizeof(uint32_t), why);
	if (st)
		return st;
	for (uint64_t i = 0; i < count; i++) {
		bool is_data = i >= checker->first_page && i < checker->used_pages;
		sum += checker->versions[i];
		others |= is_data ? 0 : checker->versions[i];
	}
	uint64_t page = header->in_progress >> 32;
	uint32_t version = (uint32_t)header->in_progress;
	bool is_data = page >= checker->first_page && page < checker->used_pages;
	if (header->in_progress && (!is_data || !version || version - checker->versions[page] > 1))
		return header_bad(why, "the page in progress is damaged");
	if (others || (sum != header->tick && !(header->in_progress && sum == header->tick + 1)))
		return why_say(why, RDMAMIG_E_NOT_VERIFIED, "pages 1 to %" PRIu64 ": the versions add up to %" PRIu64
			       ", but %" PRIu64 " rewrites were made", checker->first_page - 1, sum, header->tick);
	return RDMAMIG_OK;
}

static void page_report(struct checker *checker, uint64_t page, const uint8_t *found, const uint8_t *wanted)
{
	if (checker->out->bad_pages++ >= GUESTCHECK_LINES_MAX)
		return;
	unsigned at = 0;
	while (found[at] == wanted[at])
		at++;
	char line[LINE_BYTES];
	uint32_t version = page < checker->used_pages ? checker->versions[page] : 0;
	snprintf(line, sizeof(line), "page %" PRIu64 " (offset %" PRIu64 "), version %" PRIu32 ": byte %u is 0x%02x, not 0x%02x%s",
		 page, page * MEMORY_PAGE_BYTES, version, at, found[at], wanted[at],
		 page >= checker->used_pages ? "; nobody ever wrote there" : "");
	checker->say(line);
}

/* @found NULL: the page is a hole. */
static void page_check(struct checker *checker, uint64_t page, const uint8_t *found)
{
	static const uint8_t zeros[MEMORY_PAGE_BYTES];
	uint64_t wanted[MEMORY_PAGE_BYTES / 8];
	const uint8_t *want = zeros;
	if (page < checker->first_page || (checker->out->in_progress_page == page))
		return;
	checker->out->pages++;
	if (page < checker->used_pages && !(!found && content_is_zero(&checker->content, page, checker->versions[page]))) {
		content_write(&checker->content, page, checker->versions[page], wanted);
		want = (const uint8_t *)wanted;
	}
	if (!found)
		found = zeros;
	if (found != want && memcmp(found, want, MEMORY_PAGE_BYTES))
		page_report(checker, page, found, want);
}

/* Used pages up to @end that no extent covered; holes beyond the used ones are as they must be. */
static void holes_check(struct checker *checker, uint64_t end)
{
	for (; checker->next_page < end && checker->next_page < checker->used_pages; checker->next_page++)
		page_check(checker, checker->next_page, NULL);
	checker->next_page = end;
}

static enum rdmamig_status extent_check(struct checker *checker, const struct memory_extent *extent, char *why)
{
	uint64_t end = (extent->end + MEMORY_PAGE_BYTES - 1) / MEMORY_PAGE_BYTES;
	holes_check(checker, extent->start / MEMORY_PAGE_BYTES);
	while (checker->next_page < end) {
		uint64_t pages = end - checker->next_page < PIECE_PAGES ? end - checker->next_page : PIECE_PAGES;
		enum rdmamig_status st = memory_read(checker->memory, checker->next_page * MEMORY_PAGE_BYTES, checker->piece,
						     pages * MEMORY_PAGE_BYTES, why);
		if (st)
			return st;
		for (uint64_t i = 0; i < pages; i++)
			page_check(checker, checker->next_page++, checker->piece + i * MEMORY_PAGE_BYTES);
	}
	return RDMAMIG_OK;
}

static enum rdmamig_status pages_check(struct checker *checker, char *why)
{
	struct memory_extent extent;
	for (uint64_t at = 0; memory_next_data(checker->memory, at, &extent); at = extent.end) {
		enum rdmamig_status st = extent_check(checker, &extent, why);
		if (st)
			return st;
	}
	holes_check(checker, checker->memory->bytes / MEMORY_PAGE_BYTES);
	if (!checker->out->bad_pages)
		return RDMAMIG_OK;
	return why_say(why, RDMAMIG_E_NOT_VERIFIED, "%" PRIu64 " of %" PRIu64 " pages are wrong", checker->out->bad_pages,
		       checker->out->pages);
}

static enum rdmamig_status checker_run(struct checker *checker, char *why)
{
	enum rdmamig_status st = header_check(checker, why);
	if (st)
		return st;
	checker->content = guest_plan_content(&checker->header.plan);
	checker->first_page = guest_plan_first_page(&checker->header.plan);
	checker->used_pages = checker->header.plan.used_bytes / MEMORY_PAGE_BYTES;
	checker->out->tick = checker->header.tick;
	checker->out->in_progress_page = checker->header.in_progress >> 32;
	st = versions_check(checker, why);
	return st ? st : pages_check(checker, why);
}

enum rdmamig_status guestcheck_run(const struct memory *memory, void (*say)(const char *line), struct guestcheck *out,
				   char *why)
{
	struct checker *checker = calloc(1, sizeof(*checker));
	if (!checker)
		return why_say(why, RDMAMIG_E_NO_MEMORY, "out of memory");
	memset(out, 0, sizeof(*out));
	checker->memory = memory;
	checker->say = say;
	checker->out = out;
	enum rdmamig_status st = checker_run(checker, why);
	free(checker->versions);
	free(checker);
	return st;
}

enum rdmamig_status guestcheck_beat(const struct memory *memory, uint32_t *out, char *why)
{
	struct guest_header header;
	enum rdmamig_status st = memory_read(memory, 0, &header, sizeof(header), why);
	if (st)
		return st;
	return header.magic == GUEST_MAGIC && guest_beat_count(header.beat, out) ? RDMAMIG_OK
										  : header_bad(why, "no synth guest lives here");
}
