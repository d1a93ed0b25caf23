/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * queue.c - a ring of pointers under a mutex; batches are large, so the lock is taken some thousand times a second.
 * Neighbour: wake.c. Any thread.
 */
#include "base/queue.h"

#include <stdlib.h>
#include <string.h>

enum rdmamig_status queue_init(struct queue *queue, unsigned capacity, const struct wake *taker)
{
	memset(queue, 0, sizeof(*queue));
	queue->slots = calloc(capacity, sizeof(*queue->slots));
	if (!queue->slots)
		return RDMAMIG_E_NO_MEMORY;
	pthread_mutex_init(&queue->lock, NULL);
	queue->capacity = capacity;
	queue->taker = taker;
	return RDMAMIG_OK;
}

void queue_fini(struct queue *queue)
{
	if (!queue->slots)
		return;
	pthread_mutex_destroy(&queue->lock);
	free(queue->slots);
	queue->slots = NULL;
}

bool queue_put(struct queue *queue, void *item)
{
	pthread_mutex_lock(&queue->lock);
	bool fits = queue->count < queue->capacity;
	if (fits)
		queue->slots[(queue->head + queue->count++) % queue->capacity] = item;
	pthread_mutex_unlock(&queue->lock);
	if (fits && queue->taker)
		wake_up(queue->taker);
	return fits;
}

void *queue_take(struct queue *queue)
{
	void *item = NULL;
	pthread_mutex_lock(&queue->lock);
	if (queue->count) {
		item = queue->slots[queue->head];
		queue->head = (queue->head + 1) % queue->capacity;
		queue->count--;
	}
	pthread_mutex_unlock(&queue->lock);
	return item;
}

bool queue_is_empty(struct queue *queue)
{
	pthread_mutex_lock(&queue->lock);
	bool empty = queue->count == 0;
	pthread_mutex_unlock(&queue->lock);
	return empty;
}
