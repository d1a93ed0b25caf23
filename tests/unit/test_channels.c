/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_channels.c - a sender and a receiver over a loopback connection: random batches against the source's memory, and
 * descriptions and fences in the wrong order, by hand.
 * Sender and receiver have their threads; the test is both sessions.
 */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "multifd/peer_sink.h"
#include "multifd/receiver.h"

enum { PAGES = 4096, POOL = 2 * SENDER_WINDOW, BLOCK = 1 };

struct bench {
	struct error errors[2];
	struct endpoint *endpoints[2];
	struct conn *conns[2];			/* until a sink's or receiver's */
	int files[2];
	struct block source, dest[2];		/* dest's second is the source's: indices count */
	struct region *region;
	struct region_key key;
	struct keys keys;
	struct wake wakes[2];
	struct queue described;
	struct peer_sink sink;
	struct sender sender;
	struct receiver receiver;
	bool has_sender, has_receiver;
	struct batch *pool[POOL];
	struct batch *batches;
	unsigned free_count;
	struct batch *unacked[SENDER_WINDOW];
	uint32_t acked;
};

static void block_make(struct bench *b, unsigned i, struct block *block, enum rdmamig_role role)
{
	b->files[i] = memfd_create("channels", MFD_CLOEXEC);
	assert_int_equal(ftruncate(b->files[i], PAGES * PAGE_BYTES), 0);
	struct rdmamig_block spec = { .size = sizeof(spec), .name = "ram", .fd = b->files[i], .length = PAGES * PAGE_BYTES };
	assert_int_equal(block_init(block, &spec, role, &b->errors[i]), RDMAMIG_OK);
}

static bool opens(struct conn *conn)
{
	struct conn_event event;
	return conn && conn_poll(conn, &event, 1) && event.type == CONN_OPENED;
}

static void connect_pair(struct bench *b)
{
	struct rdmamig_uri uri = { .size = sizeof(uri), .scheme = "tcp", .host = "127.0.0.1" };
	const struct endpoint_ops *ops = endpoint_ops_find("tcp");
	assert_int_equal(endpoint_open(ops, &uri, &clock_real, &b->errors[1], &b->endpoints[1]), RDMAMIG_OK);
	assert_int_equal(endpoint_listen(b->endpoints[1], &uri.port), RDMAMIG_OK);
	assert_int_equal(endpoint_open(ops, &uri, &clock_real, &b->errors[0], &b->endpoints[0]), RDMAMIG_OK);
	struct conn_hello hello = { .kind = CONN_DATA, .version_min = 1, .version_max = 1, .channel = 2, .token = 7, .session_id = "s" };
	assert_int_equal(conn_connect(b->endpoints[0], &hello, &b->conns[0]), RDMAMIG_OK);
	bool open[2] = { false, false };
	while (!open[0] || !open[1]) {
		if (!b->conns[1] && !endpoint_accept(b->endpoints[1], &b->conns[1]))
			assert_int_equal(conn_admit(b->conns[1]), RDMAMIG_OK);
		for (unsigned i = 0; i < 2; i++)
			open[i] = open[i] || opens(b->conns[i]);
	}
}

static int bench_open(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));
	for (unsigned i = 0; i < 2; i++) {
		error_init(&b->errors[i]);
		assert_int_equal(wake_open(&b->wakes[i]), RDMAMIG_OK);
	}
	block_make(b, 0, &b->source, RDMAMIG_SOURCE);
	block_make(b, 1, &b->dest[BLOCK], RDMAMIG_DEST);
	connect_pair(b);
	assert_int_equal(region_add(b->endpoints[1], b->dest[BLOCK].memory, PAGES * PAGE_BYTES, REGION_REMOTE_WRITE, &b->region,
				    &b->key), RDMAMIG_OK);
	assert_int_equal(keys_init(&b->keys), RDMAMIG_OK);
	assert_int_equal(queue_init(&b->described, POOL, &b->wakes[0]), RDMAMIG_OK);
	b->batches = calloc(POOL, sizeof(*b->batches));
	while (b->free_count < POOL) {
		b->pool[b->free_count] = &b->batches[b->free_count];
		b->free_count++;
	}
	*state = b;
	return 0;
}

static void start_receiver(struct bench *b)
{
	assert_int_equal(receiver_init(&b->receiver, &clock_real, &b->errors[1], b->conns[1], b->dest, &b->wakes[1]), RDMAMIG_OK);
	b->conns[1] = NULL;
	b->has_receiver = true;
	assert_int_equal(receiver_start(&b->receiver), RDMAMIG_OK);
}

static void keys_give(struct bench *b)
{
	struct key_row row = { .block = BLOCK, .bytes = PAGES * PAGE_BYTES, .base = b->key.base, .key = b->key.key };
	assert_int_equal(keys_add(&b->keys, &row), RDMAMIG_OK);
}

static void start_sender(struct bench *b, zero_scan *scan)
{
	peer_sink_init(&b->sink, b->conns[0], &b->keys, &b->errors[0]);
	b->conns[0] = NULL;
	assert_int_equal(sender_init(&b->sender, &clock_real, &b->errors[0], 2, 1, &b->sink.sink, scan, &b->described), RDMAMIG_OK);
	b->has_sender = true;
	assert_int_equal(sender_start(&b->sender), RDMAMIG_OK);
}

static int bench_close(void **state)
{
	struct bench *b = *state;
	if (b->has_sender) {
		sender_fini(&b->sender);
		peer_sink_fini(&b->sink);
	}
	if (b->has_receiver)
		receiver_fini(&b->receiver);
	region_remove(b->endpoints[1], b->region);
	queue_fini(&b->described);
	keys_fini(&b->keys);
	block_fini(&b->source);
	block_fini(&b->dest[BLOCK]);
	free(b->batches);
	for (unsigned i = 0; i < 2; i++) {
		conn_free(b->conns[i]);
		endpoint_close(b->endpoints[i]);
		wake_close(&b->wakes[i]);
		error_fini(&b->errors[i]);
		close(b->files[i]);
	}
	free(b);
	return 0;
}

/* Wait for either session to be woken; a test that hangs fails here. */
static void await(struct bench *b)
{
	struct pollfd p[2] = { { .fd = b->wakes[0].fd, .events = POLLIN }, { .fd = b->wakes[1].fd, .events = POLLIN } };
	assert_true(poll(p, 2, 10000) > 0);
	wake_clear(&b->wakes[0]);
	wake_clear(&b->wakes[1]);
}

static void acks_take(struct bench *b)
{
	uint32_t applied = receiver_applied(&b->receiver);
	while (b->acked != applied)
		b->pool[b->free_count++] = b->unacked[++b->acked % SENDER_WINDOW];
	peer_sink_ack(&b->sink, applied);
}

static void describe_what_is_fenced(struct bench *b)
{
	struct batch *batch;
	while ((batch = queue_take(&b->described))) {
		const struct message_batch *lists = &batch->description.batch;
		b->unacked[lists->batch_sequence % SENDER_WINDOW] = batch;
		assert_int_equal(receiver_describe(&b->receiver, lists), RDMAMIG_OK);
	}
}

static void turn(struct bench *b)
{
	describe_what_is_fenced(b);
	acks_take(b);
	assert_int_equal(sender_status(&b->sender), RDMAMIG_OK);
	assert_int_equal(receiver_status(&b->receiver), RDMAMIG_OK);
}

static void give(struct bench *b, struct batch *batch)
{
	while (!sender_has_room(&b->sender)) {
		turn(b);
		if (!sender_has_room(&b->sender))
			await(b);
	}
	assert_true(sender_unacked(&b->sender) < SENDER_WINDOW);
	sender_give(&b->sender, batch);
}

static struct batch *batch_take(struct bench *b)
{
	while (!b->free_count) {
		await(b);
		turn(b);
	}
	struct batch *batch = b->pool[--b->free_count];
	batch_begin(batch, &b->source, BLOCK, false);
	return batch;
}

static void pages_write(struct bench *b, struct run run)
{
	for (uint64_t page = run.first_page; page < run.first_page + run.pages; page++) {
		uint64_t *words = (uint64_t *)(uintptr_t)(b->source.memory + bytes_of_pages(page));
		uint64_t value = random() % 3 ? (uint64_t)random() : 0;
		for (unsigned i = 0; i < PAGE_BYTES / sizeof(*words); i++)
			words[i] = value;
	}
}

/* A round names a page once (R1): runs at random, ascending, cut into batches at random. */
static void send_round(struct bench *b)
{
	struct batch *batch = batch_take(b);
	for (uint64_t page = (uint64_t)random() % 40; page < PAGES; page += (uint64_t)random() % 20) {
		struct run run = { .first_page = page, .pages = 1 + (uint64_t)random() % 30 };
		if (run.pages > PAGES - page)
			run.pages = PAGES - page;
		if (batch->run_count && (random() % 8 == 0 || batch->pages + run.pages > BATCH_PAGES_MAX)) {
			give(b, batch);
			batch = batch_take(b);
		}
		pages_write(b, run);
		batch_add(batch, run);
		page += run.pages;
	}
	if (batch->run_count)
		give(b, batch);
	else
		b->pool[b->free_count++] = batch;
	turn(b);
	while (b->free_count < POOL) {
		await(b);
		turn(b);
	}
	assert_true(receiver_is_idle(&b->receiver));
}

static void random_rounds(struct bench *b, zero_scan *scan)
{
	keys_give(b);
	start_receiver(b);
	start_sender(b, scan);
	for (unsigned round = 0; round < 60; round++) {
		send_round(b);
		if (memcmp(b->source.memory, b->dest[BLOCK].memory, PAGES * PAGE_BYTES))
			fail_msg("memory differs after round %u", round);
	}
	assert_true(bitmap_count(&b->source.posted) <= receivedmap_count(&b->dest[BLOCK].received));
	assert_int_equal(error_status(&b->errors[0]), RDMAMIG_OK);
	assert_int_equal(error_status(&b->errors[1]), RDMAMIG_OK);
}

static void every_round_arrives(void **state)
{
	random_rounds(*state, zero_scan_best());
}

static void every_round_arrives_without_zero_detection(void **state)
{
	random_rounds(*state, NULL);
}

static void the_window_is_full_until_acks_come(void **state)
{
	struct bench *b = *state;
	keys_give(b);
	start_receiver(b);
	start_sender(b, NULL);
	for (unsigned i = 0; i < SENDER_WINDOW; i++) {
		assert_true(sender_has_room(&b->sender));
		struct batch *batch = batch_take(b);
		batch_add(batch, (struct run){ i, 1 });
		sender_give(&b->sender, batch);
	}
	assert_false(sender_has_room(&b->sender));
	assert_int_equal(sender_unacked(&b->sender), SENDER_WINDOW);
	while (b->free_count < POOL) {
		await(b);
		turn(b);
	}
	assert_int_equal(sender_unacked(&b->sender), 0);
}

/* It waits, placing nothing, and does not lose the batch. */
static void a_batch_without_keys_is_not_placed(void **state)
{
	struct bench *b = *state;
	start_receiver(b);
	start_sender(b, NULL);
	struct batch *batch = batch_take(b);
	batch_add(batch, (struct run){ 0, 4 });
	sender_give(&b->sender, batch);
	struct pollfd p = { .fd = b->wakes[0].fd, .events = POLLIN };
	assert_int_equal(poll(&p, 1, 50), 0);
	assert_int_equal(sender_status(&b->sender), RDMAMIG_OK);
	keys_give(b);
	stepper_wake(&b->sender.stepper);
	while (b->free_count < POOL) {
		await(b);
		turn(b);
	}
}

static void a_closed_channel_is_told_to_both(void **state)
{
	struct bench *b = *state;
	keys_give(b);
	start_receiver(b);
	start_sender(b, NULL);
	sender_fini(&b->sender);
	peer_sink_fini(&b->sink);
	b->has_sender = false;
	while (!receiver_status(&b->receiver))
		await(b);
	assert_int_equal(receiver_status(&b->receiver), RDMAMIG_E_DISCONNECTED);
}

static void a_source_file_cut_short_is_told(void **state)
{
	struct bench *b = *state;
	keys_give(b);
	start_receiver(b);
	start_sender(b, NULL);
	assert_int_equal(ftruncate(b->files[0], 0), 0);
	struct batch *batch = batch_take(b);
	batch_add(batch, (struct run){ 0, 4 });
	sender_give(&b->sender, batch);
	while (!sender_status(&b->sender))
		await(b);
	assert_int_equal(sender_status(&b->sender), RDMAMIG_E_BLOCK_CHANGED);
}

/* --- the source's end by hand: conns[0] is ours --- */

static void post(struct bench *b, uint32_t sequence)
{
	struct write write = { .local = b->source.memory, .remote = b->key.base, .key = b->key.key, .bytes = PAGE_BYTES };
	struct conn_event events[8];
	assert_int_equal(conn_write(b->conns[0], &write, 1, sequence), RDMAMIG_OK);
	assert_int_equal(conn_fence(b->conns[0], sequence), RDMAMIG_OK);
	conn_poll(b->conns[0], events, 8);
}

static enum rdmamig_status describe(struct bench *b, uint32_t sequence)
{
	struct message_batch batch = { .channel = 2, .epoch = 1, .batch_sequence = sequence, .block = BLOCK, .normal_count = 1,
				       .runs = { { 0, 1 } } };
	return receiver_describe(&b->receiver, &batch);
}

static void await_applied(struct bench *b, uint32_t sequence)
{
	while (receiver_applied(&b->receiver) != sequence)
		await(b);
}

/* R3: neither half alone sets a bit. */
static void both_halves_in_either_order(void **state)
{
	struct bench *b = *state;
	struct pollfd p = { .fd = b->wakes[1].fd, .events = POLLIN };
	start_receiver(b);
	assert_int_equal(describe(b, 1), RDMAMIG_OK);
	assert_int_equal(poll(&p, 1, 50), 0);
	assert_int_equal(receiver_applied(&b->receiver), 0);
	assert_false(receiver_is_idle(&b->receiver));
	assert_false(receivedmap_test(&b->dest[BLOCK].received, 0));
	post(b, 1);
	await_applied(b, 1);
	assert_true(receivedmap_test(&b->dest[BLOCK].received, 0));
	assert_true(receiver_is_idle(&b->receiver));

	wake_clear(&b->wakes[1]);
	post(b, 2);
	assert_int_equal(poll(&p, 1, 50), 0);
	assert_int_equal(receiver_applied(&b->receiver), 1);
	assert_int_equal(describe(b, 2), RDMAMIG_OK);
	await_applied(b, 2);
}

static void descriptions_out_of_order_are_refused(void **state)
{
	struct bench *b = *state;
	start_receiver(b);
	assert_int_equal(describe(b, 2), RDMAMIG_E_PROTOCOL);
	assert_int_equal(describe(b, 0), RDMAMIG_E_PROTOCOL);
	assert_int_equal(describe(b, 1), RDMAMIG_OK);
	assert_int_equal(describe(b, 1), RDMAMIG_E_PROTOCOL);
	for (uint32_t sequence = 2; sequence <= SENDER_WINDOW; sequence++)
		assert_int_equal(describe(b, sequence), RDMAMIG_OK);
	assert_int_equal(describe(b, SENDER_WINDOW + 1), RDMAMIG_E_PROTOCOL);
	post(b, 1);
	await_applied(b, 1);
	assert_int_equal(describe(b, SENDER_WINDOW + 1), RDMAMIG_OK);
}

static void await_refused(struct bench *b)
{
	while (!receiver_status(&b->receiver))
		await(b);
	assert_int_equal(receiver_status(&b->receiver), RDMAMIG_E_PROTOCOL);
	assert_int_equal(error_status(&b->errors[1]), RDMAMIG_E_PROTOCOL);
}

static void a_fence_out_of_order_is_refused(void **state)
{
	struct bench *b = *state;
	start_receiver(b);
	post(b, 2);
	await_refused(b);
}

static void a_fence_twice_is_refused(void **state)
{
	struct bench *b = *state;
	start_receiver(b);
	post(b, 1);
	post(b, 1);
	await_refused(b);
}

static void more_fences_than_the_window_are_refused(void **state)
{
	struct bench *b = *state;
	start_receiver(b);
	for (uint32_t sequence = 1; sequence <= SENDER_WINDOW + 1; sequence++)
		post(b, sequence);
	await_refused(b);
}

#define BENCH(test) cmocka_unit_test_setup_teardown(test, bench_open, bench_close)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BENCH(every_round_arrives),
		BENCH(every_round_arrives_without_zero_detection),
		BENCH(the_window_is_full_until_acks_come),
		BENCH(a_batch_without_keys_is_not_placed),
		BENCH(a_closed_channel_is_told_to_both),
		BENCH(a_source_file_cut_short_is_told),
		BENCH(both_halves_in_either_order),
		BENCH(descriptions_out_of_order_are_refused),
		BENCH(a_fence_out_of_order_is_refused),
		BENCH(a_fence_twice_is_refused),
		BENCH(more_fences_than_the_window_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
