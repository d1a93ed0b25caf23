/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_cli_synth.c - the guest without a VM: what it leaves is what its own record says, and any other byte is noticed.
 * The subjects are compiled in: the command's files are in no library. Needs /dev/shm. One thread.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cli/content.c"
#include "cli/guest.c"
#include "cli/guestcheck.c"
#include "cli/compare.c"
#include "cli/memory.c"
#include "cli/why.c"

enum { PAGES = 301, USED = 200, TICKS = 1000 };	/* odd: two files of 151 and 150 pages, the used part in both */

struct place {
	char dir[64];
	char paths[2][256];		/* of the guest, of a copy */
	struct memory memory;
	struct guest guest;
	char why[MEMORY_WHY_BYTES];
};

static int setup(void **state)
{
	struct place *place = calloc(1, sizeof(*place));
	strcpy(place->dir, "/dev/shm/test_cli_synth.XXXXXX");
	if (!mkdtemp(place->dir))
		return -1;
	snprintf(place->paths[0], sizeof(place->paths[0]), "%s/a0,%s/a1", place->dir, place->dir);
	snprintf(place->paths[1], sizeof(place->paths[1]), "%s/b0,%s/b1", place->dir, place->dir);
	*state = place;
	return 0;
}

static int teardown(void **state)
{
	struct place *place = *state;
	memory_unlink(&place->memory);
	memory_close(&place->memory);
	rmdir(place->dir);
	free(place);
	return 0;
}

static struct guest_plan plan_of(uint32_t fill, uint32_t pattern, uint32_t discard_pct, uint32_t holes)
{
	return (struct guest_plan){
		.size_bytes = (uint64_t)PAGES * MEMORY_PAGE_BYTES, .used_bytes = (uint64_t)USED * MEMORY_PAGE_BYTES, .seed = 7,
		.fill = fill, .random_pct = 40, .pattern = pattern, .hot_pct = 10, .discard_pct = discard_pct, .holes = holes,
	};
}

static void guest_begin(struct place *place, const struct guest_plan *plan)
{
	assert_int_equal(memory_create(&place->memory, place->paths[0], plan->size_bytes, place->why), RDMAMIG_OK);
	assert_int_equal(memory_map(&place->memory, place->why), RDMAMIG_OK);
	guest_fill(&place->guest, &place->memory, plan);
}

static void guest_end(struct place *place)
{
	memory_unlink(&place->memory);
	memory_close(&place->memory);
}

static void rewrite(struct place *place, unsigned times)
{
	while (times-- > 0)
		assert_int_equal(guest_rewrite(&place->guest, place->why), RDMAMIG_OK);
}

static void line_ignore(const char *line)
{
	(void)line;
}

static enum rdmamig_status checked(struct place *place, struct guestcheck *check)
{
	return guestcheck_run(&place->memory, line_ignore, check, place->why);
}

static uint64_t allocated_blocks(const struct memory *memory)
{
	uint64_t blocks = 0;
	for (unsigned i = 0; i < memory->count; i++) {
		struct stat stat;
		assert_int_equal(fstat(memory->files[i].fd, &stat), 0);
		blocks += (uint64_t)stat.st_blocks;
	}
	return blocks;
}

static void every_fill_and_pattern_checks_clean(void **state)
{
	struct place *place = *state;
	for (uint32_t fill = CONTENT_RANDOM; fill <= CONTENT_TEXT; fill++)
		for (uint32_t variant = 0; variant < 3 * 2 * 2; variant++) {
			struct guest_plan plan = plan_of(fill, GUEST_UNIFORM + variant % 3, variant / 3 % 2 * 30, variant / 6);
			struct guestcheck check;
			guest_begin(place, &plan);
			assert_int_equal(checked(place, &check), RDMAMIG_OK);
			rewrite(place, TICKS);
			guest_beat(&place->guest);
			uint64_t blocks = allocated_blocks(&place->memory);
			assert_int_equal(checked(place, &check), RDMAMIG_OK);
			assert_int_equal(check.tick, TICKS);
			assert_int_equal(check.pages, USED - place->guest.first_page);
			assert_int_equal(allocated_blocks(&place->memory), blocks);
			guest_end(place);
		}
}

static void every_flipped_byte_is_noticed(void **state)
{
	struct place *place = *state;
	struct guest_plan plan = plan_of(CONTENT_MIXED, GUEST_UNIFORM, 20, 1);
	struct guestcheck check;
	guest_begin(place, &plan);
	rewrite(place, TICKS);
	/* every byte of header and versions, then a stride that meets every page and every offset in turn */
	uint64_t dense = place->guest.first_page * MEMORY_PAGE_BYTES;
	for (uint64_t at = 0; at < plan.size_bytes; at += at < dense ? 1 : 1021) {
		place->memory.map[at] ^= 1u << at % 8;
		assert_int_equal(checked(place, &check), RDMAMIG_E_NOT_VERIFIED);
		place->memory.map[at] ^= 1u << at % 8;
	}
	assert_int_equal(checked(place, &check), RDMAMIG_OK);
}

static void an_old_page_with_its_old_version_is_noticed(void **state)
{
	struct place *place = *state;
	struct guest_plan plan = plan_of(CONTENT_RANDOM, GUEST_SEQUENTIAL, 0, 0);
	struct guestcheck check;
	guest_begin(place, &plan);
	uint8_t page[MEMORY_PAGE_BYTES];
	uint64_t first = place->guest.first_page;
	memcpy(page, place->memory.map + first * MEMORY_PAGE_BYTES, sizeof(page));
	rewrite(place, 1);
	assert_memory_not_equal(page, place->memory.map + first * MEMORY_PAGE_BYTES, sizeof(page));
	memcpy(place->memory.map + first * MEMORY_PAGE_BYTES, page, sizeof(page));
	place->guest.versions[first] = 0;
	assert_int_equal(checked(place, &check), RDMAMIG_E_NOT_VERIFIED);
}

/* As far as a stop between any two stores can leave it. */
static void wake_finishes_the_page_in_progress(void **state)
{
	struct place *place = *state;
	for (unsigned stop = 0; stop < 4; stop++) {
		struct guest_plan plan = plan_of(CONTENT_RANDOM, GUEST_UNIFORM, 0, 0);
		struct guestcheck check;
		guest_begin(place, &plan);
		rewrite(place, TICKS);
		uint64_t page = place->guest.first_page + 5;
		uint32_t version = place->guest.versions[page] + 1;
		place->guest.header->in_progress = page << 32 | version;
		if (stop >= 1)
			place->guest.versions[page] = version;
		if (stop >= 2)
			memset(place->memory.map + page * MEMORY_PAGE_BYTES, 0x55, 777);
		if (stop >= 3)
			place->guest.header->tick++;
		assert_int_equal(checked(place, &check), RDMAMIG_OK);
		assert_int_equal(check.in_progress_page, page);

		struct guest woken;
		assert_int_equal(guest_wake(&woken, &place->memory, place->why), RDMAMIG_OK);
		assert_int_equal(checked(place, &check), RDMAMIG_OK);
		assert_int_equal(check.in_progress_page, 0);
		assert_int_equal(check.tick, TICKS + 1);
		guest_end(place);
	}
}

static void compare_sees_data_on_either_side(void **state)
{
	struct place *place = *state;
	struct memory copy;
	struct comparison comparison;
	struct guest_plan plan = plan_of(CONTENT_MIXED, GUEST_UNIFORM, 30, 1);
	guest_begin(place, &plan);
	rewrite(place, TICKS);
	assert_int_equal(memory_create(&copy, place->paths[1], plan.size_bytes, place->why), RDMAMIG_OK);
	assert_int_equal(memory_map(&copy, place->why), RDMAMIG_OK);
	memcpy(copy.map, place->memory.map, plan.size_bytes);
	assert_int_equal(compare_memories(&place->memory, &copy, &comparison, place->why), RDMAMIG_OK);

	uint64_t last = plan.size_bytes - 1;
	copy.map[last] ^= 1;
	assert_int_equal(compare_memories(&copy, &place->memory, &comparison, place->why), RDMAMIG_E_NOT_VERIFIED);
	assert_int_equal(compare_memories(&place->memory, &copy, &comparison, place->why), RDMAMIG_E_NOT_VERIFIED);
	assert_int_equal(comparison.different_pages, 1);
	assert_int_equal(comparison.first_different, last);
	memory_unlink(&copy);
	memory_close(&copy);
}

static void beat_tells_a_guest_from_noise(void **state)
{
	struct place *place = *state;
	struct guest_plan plan = plan_of(CONTENT_ZERO, GUEST_UNIFORM, 0, 1);
	uint32_t before, after;
	guest_begin(place, &plan);
	assert_int_equal(guestcheck_beat(&place->memory, &before, place->why), RDMAMIG_OK);
	guest_beat(&place->guest);
	assert_int_equal(guestcheck_beat(&place->memory, &after, place->why), RDMAMIG_OK);
	assert_int_equal(after, before + 1);
	place->guest.header->beat ^= 1;
	assert_int_equal(guestcheck_beat(&place->memory, &after, place->why), RDMAMIG_E_NOT_VERIFIED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(every_fill_and_pattern_checks_clean, setup, teardown),
		cmocka_unit_test_setup_teardown(every_flipped_byte_is_noticed, setup, teardown),
		cmocka_unit_test_setup_teardown(an_old_page_with_its_old_version_is_noticed, setup, teardown),
		cmocka_unit_test_setup_teardown(wake_finishes_the_page_in_progress, setup, teardown),
		cmocka_unit_test_setup_teardown(compare_sees_data_on_either_side, setup, teardown),
		cmocka_unit_test_setup_teardown(beat_tells_a_guest_from_noise, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
