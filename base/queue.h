/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * queue.h - a bounded queue of pointers between threads; putting one in wakes the taker.
 *
 * The queue owns nothing: what is still in it at queue_fini() is the caller's to have freed.
 */
#ifndef BASE_QUEUE_H
#define BASE_QUEUE_H

#include <pthread.h>
#include <stdbool.h>

#include <rdmamig/status.h>

#include "base/wake.h"

struct queue {
	pthread_mutex_t lock;
	void **slots;
	unsigned capacity;
	unsigned head;		/* next to take */
	unsigned count;
	const struct wake *taker;
};

/* queue_init - @taker is woken by each put and must outlive the queue; NULL for none. E_NO_MEMORY. */
enum rdmamig_status queue_init(struct queue *queue, unsigned capacity, const struct wake *taker);
void queue_fini(struct queue *queue);	/* a zeroed queue is fine */

bool queue_put(struct queue *queue, void *item);	/* false when full */
void *queue_take(struct queue *queue);			/* NULL when empty */
bool queue_is_empty(struct queue *queue);

#endif
