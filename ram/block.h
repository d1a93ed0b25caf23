/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * block.h - a named range of guest memory, mapped here, and the bitmaps this end keeps of it.
 *
 * By fd it is a tmpfs or hugetlbfs file mapped shared (MAP_SHARED, without MAP_NORESERVE: a hugetlb pool too small shows
 * at once); by address it is the caller's mapping.
 */
#ifndef RAM_BLOCK_H
#define RAM_BLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include <rdmamig/session.h>
#include <rdmamig/status.h>

#include "base/error.h"
#include "ram/bitmap.h"
#include "ram/page.h"
#include "ram/receivedmap.h"

struct block {
	char name[RDMAMIG_BLOCK_NAME_BYTES];
	uint8_t *memory;		/* our mapping */
	uint64_t bytes;
	uint64_t pages;
	uint64_t granule;		/* 4096, or the huge page size of a hugetlbfs file */
	int fd;				/* ours; -1 by address */
	uint64_t offset;		/* in the file */
	bool is_hugetlb;
	bool is_mapped;			/* munmap at fini */
	bool is_private_anonymous;	/* by address: what is not resident is a hole (ram/resident.h) */

	/* source */
	struct bitmap dirty;		/* to be sent */
	struct bitmap posted;		/* R4: a WRITE or stage of the page was ever posted; set by channels, atomically */
	struct bitmap exists;		/* armed and known to hold data at the last look (ram/extent.h) */
	struct bitmap gone;		/* became a hole after it had existed: zero without a look */

	/* dest */
	struct receivedmap received;
};

enum { BLOCK_BYTES_MAX_SHIFT = 44 };	/* 16 TiB */

/*
 * block_init - check @spec, map it and make the bitmaps of @role. The statuses are those of rdmamig_session_add_block();
 * the cause is noted in @error. block_fini() unmaps and closes; a zeroed block is fine.
 */
enum rdmamig_status block_init(struct block *block, const struct rdmamig_block *spec, enum rdmamig_role role, struct error *error);
void block_fini(struct block *block);

/* block_has_changed - the file is no longer as long as it was (E_BLOCK_CHANGED is for the caller to note). */
bool block_has_changed(const struct block *block);

/*
 * block_clean - make @pages from *next_page on read as zero at dest; call until *next_page == pages.
 *
 * tmpfs: the hole is punched. hugetlbfs: written with zeros where it is allocated, never punched (its reservation would
 * be lost). By address: written where not zero already. At most about 64 MiB of work a call (a punch may be whole).
 * E_NO_SPACE: the memory is not to be had.
 */
enum rdmamig_status block_clean(struct block *block, uint64_t *next_page, struct error *error);

/* block_discard - give the pages of a failed dest back (punch, or zero where that would lose a reservation). */
void block_discard(struct block *block);

#endif
