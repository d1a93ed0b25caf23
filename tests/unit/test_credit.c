/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_credit.c - the rules of credit.pml as a table, and a random walk of two ends that checks what the model proves.
 * One thread.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "migration/credit.h"

static bool allows(uint32_t avail, uint32_t owed, uint16_t type)
{
	return credit_allows(&(struct credit){ .avail = avail, .owed = owed }, type);
}

static void keeps_the_last_three_slots(void **state)
{
	(void)state;
	assert_true(allows(4, 0, MESSAGE_BATCH));
	assert_false(allows(3, 99, MESSAGE_BATCH));
	assert_true(allows(3, 0, MESSAGE_PING));
	assert_false(allows(2, 0, MESSAGE_PING));
	assert_true(allows(2, 1, MESSAGE_PING));
	assert_false(allows(1, 1, MESSAGE_PING));
	assert_true(allows(2, CREDIT_TELL_AT, MESSAGE_CREDIT));
	assert_false(allows(2, CREDIT_TELL_AT - 1, MESSAGE_CREDIT));
	assert_false(allows(1, 99, MESSAGE_CREDIT));
	assert_true(allows(1, 0, MESSAGE_ERROR));
	assert_false(allows(0, 99, MESSAGE_ERROR));
}

enum { HOLDS = 8, IN_FLIGHT = 64 };

struct side {
	struct credit credit;
	unsigned to_send;	/* ordinary messages */
	unsigned inbox;		/* ordinary ones not yet handled */
	unsigned receives;	/* posted */
	struct { bool ordinary; uint32_t credit; } wire[IN_FLIGHT];	/* what it sent and the peer has not taken */
	unsigned wire_count;
};

static void put(struct side *from, const struct side *to, bool ordinary)
{
	assert_true(to->receives > from->wire_count);	/* else RNR */
	from->wire[from->wire_count].ordinary = ordinary;
	from->wire[from->wire_count++].credit = from->credit.owed;
	from->credit.owed = 0;
	from->credit.avail--;
	assert_true(from->credit.avail >= 1);		/* ERROR could go now */
}

static void side_take(struct side *side, struct side *peer)
{
	if (!peer->wire_count)
		return;
	side->credit.avail += peer->wire[0].credit;
	assert_true(side->credit.avail <= HOLDS);
	bool ordinary = peer->wire[0].ordinary;
	for (unsigned i = 1; i < peer->wire_count; i++)
		peer->wire[i - 1] = peer->wire[i];
	peer->wire_count--;
	side->receives--;
	if (ordinary) {
		side->inbox++;
	} else {
		side->receives++;
		side->credit.owed++;
	}
}

static void side_move(struct side *side, struct side *peer, unsigned what, bool is_stalled)
{
	switch (what) {
	case 0:
		side_take(side, peer);
		break;
	case 1:
		if (side->to_send && credit_allows(&side->credit, MESSAGE_BATCH)) {
			side->to_send--;
			put(side, peer, true);
		}
		break;
	case 2:
		if (side->inbox && !is_stalled) {
			side->inbox--;
			side->receives++;
			side->credit.owed++;
		}
		break;
	case 3:
		if (credit_allows(&side->credit, MESSAGE_PING))
			put(side, peer, false);
		break;
	case 4:
		if (credit_allows(&side->credit, MESSAGE_CREDIT))
			put(side, peer, false);
		break;
	}
}

static void random_walk(bool is_stalled)
{
	struct side sides[2] = { 0 };
	for (unsigned i = 0; i < 2; i++)
		sides[i] = (struct side){ .credit.avail = HOLDS, .receives = HOLDS, .to_send = 200 };
	unsigned pings_heard = 0;
	for (unsigned step = 0; step < 200000; step++) {
		unsigned i = (unsigned)random() & 1;
		unsigned what = (unsigned)random() % 5;
		unsigned before = sides[1 - i].wire_count && !sides[1 - i].wire[0].ordinary;
		side_move(&sides[i], &sides[1 - i], what, is_stalled);
		pings_heard += what == 0 && before && step > 100000;
	}
	if (is_stalled)
		assert_true(pings_heard > 100);		/* the heartbeat goes on for ever */
	else
		assert_int_equal(sides[0].to_send + sides[1].to_send, 0);
}

static void two_ends_never_overrun_or_hang(void **state)
{
	(void)state;
	for (unsigned seed = 1; seed < 20; seed++) {
		srandom(seed);
		random_walk(false);
	}
}

static void sessions_that_never_read_do_not_stop_the_heartbeat(void **state)
{
	(void)state;
	for (unsigned seed = 1; seed < 20; seed++) {
		srandom(seed);
		random_walk(true);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keeps_the_last_three_slots),
		cmocka_unit_test(two_ends_never_overrun_or_hang),
		cmocka_unit_test(sessions_that_never_read_do_not_stop_the_heartbeat),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
