/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * guest.c - fills and rewrites the memory of a guest without a VM.
 * Neighbours: synth.c paces it, guestcheck.c checks what it left, content.c makes the bytes. One thread; may be stopped
 * between any two instructions, and its memory read by others then: hence the release stores.
 */
#include "cli/guest.h"

#include <string.h>

enum { VERSION_BYTES = 4, PURPOSE_PATTERN = 0x70 };

uint64_t guest_plan_hash(const struct guest_plan *plan)
{
	uint64_t words[sizeof(*plan) / 8], hash = GUEST_MAGIC;
	memcpy(words, plan, sizeof(words));
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		hash = content_mix(hash, words[i]);
	return hash;
}

uint64_t guest_plan_first_page(const struct guest_plan *plan)
{
	uint64_t used_pages = plan->used_bytes / MEMORY_PAGE_BYTES;
	return 1 + (used_pages * VERSION_BYTES + MEMORY_PAGE_BYTES - 1) / MEMORY_PAGE_BYTES;
}

bool guest_plan_is_possible(const struct guest_plan *plan)
{
	uint64_t used_pages = plan->used_bytes / MEMORY_PAGE_BYTES;
	return plan->size_bytes % MEMORY_PAGE_BYTES == 0 && plan->used_bytes % MEMORY_PAGE_BYTES == 0 &&
	       plan->used_bytes <= plan->size_bytes &&
	       used_pages <= UINT32_MAX && used_pages > guest_plan_first_page(plan) &&
	       plan->fill >= CONTENT_RANDOM && plan->fill <= CONTENT_TEXT && plan->random_pct <= 100 &&
	       plan->pattern >= GUEST_UNIFORM && plan->pattern <= GUEST_SEQUENTIAL && plan->hot_pct <= 100 &&
	       plan->discard_pct <= 100 && plan->holes <= 1;
}

struct content guest_plan_content(const struct guest_plan *plan)
{
	return (struct content){ .seed = plan->seed, .fill = (enum content_fill)plan->fill, .random_pct = plan->random_pct,
				 .discard_pct = plan->discard_pct };
}

static void guest_init(struct guest *guest, struct memory *memory, const struct guest_plan *plan)
{
	*guest = (struct guest){
		.memory = memory,
		.header = (struct guest_header *)memory->map,
		.versions = (uint32_t *)(memory->map + MEMORY_PAGE_BYTES),
		.content = guest_plan_content(plan),
		.first_page = guest_plan_first_page(plan),
	};
	guest->pages = plan->used_bytes / MEMORY_PAGE_BYTES - guest->first_page;
}

static uint64_t *page_bytes(const struct guest *guest, uint64_t page)
{
	return (uint64_t *)(guest->memory->map + page * MEMORY_PAGE_BYTES);
}

/* The number in the lower half, its hash in the upper: one store, and still a flipped byte shows. */
static uint64_t beat_encode(uint32_t count)
{
	return content_mix(GUEST_MAGIC, count) << 32 | count;
}

bool guest_beat_count(uint64_t beat, uint32_t *out)
{
	*out = (uint32_t)beat;
	return beat == beat_encode((uint32_t)beat);
}

void guest_beat(struct guest *guest)
{
	uint32_t count = (uint32_t)guest->header->beat + 1;
	__atomic_store_n(&guest->header->beat, beat_encode(count), __ATOMIC_RELEASE);
}

void guest_fill(struct guest *out, struct memory *memory, const struct guest_plan *plan)
{
	guest_init(out, memory, plan);
	for (uint64_t page = out->first_page; page < out->first_page + out->pages; page++)
		if (!plan->holes || !content_is_zero(&out->content, page, 0))
			content_write(&out->content, page, 0, page_bytes(out, page));
	out->header->plan = *plan;
	out->header->plan_hash = guest_plan_hash(plan);
	out->header->beat = beat_encode(0);
	__atomic_store_n(&out->header->magic, GUEST_MAGIC, __ATOMIC_RELEASE);
}

static uint64_t pattern_page(const struct guest *guest)
{
	const struct guest_plan *plan = &guest->header->plan;
	uint64_t tick = guest->header->tick;
	uint64_t pick = content_mix(plan->seed + PURPOSE_PATTERN, tick);
	uint64_t among = guest->pages;
	switch ((enum guest_pattern)plan->pattern) {
	case GUEST_SEQUENTIAL:
		pick = tick;
		break;
	case GUEST_HOT:
		if (content_mix(pick, tick) % 10 != 0)
			among = guest->pages * plan->hot_pct / 100;
		break;
	case GUEST_UNIFORM:
		break;
	}
	return guest->first_page + (among ? pick % among : 0);
}

/* We may be stopped between any two instructions: stores in program order are enough, so the fence is for the compiler. */
static enum rdmamig_status page_rewrite(struct guest *guest, uint64_t page, uint32_t version, char *why)
{
	struct guest_header *header = guest->header;
	__atomic_store_n(&header->in_progress, page << 32 | version, __ATOMIC_SEQ_CST);
	__atomic_store_n(&guest->versions[page], version, __ATOMIC_SEQ_CST);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	enum rdmamig_status st = RDMAMIG_OK;
	if (content_is_discarded(&guest->content, page, version))
		st = memory_discard(guest->memory, page, why);
	else
		content_write(&guest->content, page, version, page_bytes(guest, page));
	return st;
}

static void rewrite_done(struct guest *guest, uint64_t tick)
{
	__atomic_store_n(&guest->header->tick, tick, __ATOMIC_SEQ_CST);
	__atomic_store_n(&guest->header->in_progress, 0, __ATOMIC_SEQ_CST);
}

enum rdmamig_status guest_rewrite(struct guest *guest, char *why)
{
	uint64_t page = pattern_page(guest);
	enum rdmamig_status st = page_rewrite(guest, page, guest->versions[page] + 1, why);
	if (!st)
		rewrite_done(guest, guest->header->tick + 1);
	return st;
}

static uint64_t versions_sum(const struct guest *guest)
{
	uint64_t sum = 0;
	for (uint64_t page = guest->first_page; page < guest->first_page + guest->pages; page++)
		sum += guest->versions[page];
	return sum;
}

enum rdmamig_status guest_wake(struct guest *out, struct memory *memory, char *why)
{
	guest_init(out, memory, &((struct guest_header *)memory->map)->plan);
	uint64_t in_progress = out->header->in_progress;
	if (!in_progress)
		return RDMAMIG_OK;
	enum rdmamig_status st = page_rewrite(out, in_progress >> 32, (uint32_t)in_progress, why);
	if (!st)
		rewrite_done(out, versions_sum(out));	/* it may have been stopped before or after its tick */
	return st;
}
