/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ram.h - the guest's memory files, as --ram NAME=PATH names them.
 *
 * Every function leaves one line in @why (DRIVER_WHY_BYTES) when it fails. Main thread only.
 */
#ifndef CLI_RAM_H
#define CLI_RAM_H

#include <stdbool.h>
#include <stdint.h>

#include <rdmamig/session.h>
#include <rdmamig/status.h>

#include "cli/options.h"

struct ram_file {
	char name[RDMAMIG_BLOCK_NAME_BYTES];
	char *path;		/* absolute, links resolved; ours */
	int fd;			/* -1 while there is no such file */
	uint64_t length;	/* bytes */
	uint64_t granule;	/* page size of the backing */
	bool is_created;	/* by us: to be unlinked if nothing comes of it */
};

struct ram_set {
	struct ram_file files[OPTION_LIST_MAX];
	unsigned count;
};

/*
 * ram_open - parse @list, open the files there are and look at what holds them.
 *
 * @may_be_missing: at dest, a file may not exist yet; its directory must, on tmpfs or hugetlbfs.
 * E_USAGE      not NAME=PATH, a name or file twice, no --ram at all, or a ',' in it (the journal separates by it)
 * E_NO_FILE    missing, not to be opened, not on tmpfs or hugetlbfs, or of a size no guest has
 * ram_close() in any case.
 */
enum rdmamig_status ram_open(struct ram_set *set, const struct option_list *list, bool may_be_missing, char *why);
void ram_close(struct ram_set *set);

/*
 * ram_match - make our files fit what the source has: same names, same sizes; missing files are created, 0600.
 *
 * On success @set is in the order of @peers. Nothing is created unless all that exists fits.
 * E_BLOCKS_DIFFER    names or sizes; @why has both
 * E_NO_FILE, E_NO_SPACE    a file cannot be created; those created by then stay until ram_unlink_created()
 */
enum rdmamig_status ram_match(struct ram_set *set, const struct rdmamig_peer_block *peers, unsigned peer_count, char *why);

/* ram_unlink_created - never one that existed before. */
void ram_unlink_created(struct ram_set *set);

/* ram_add_blocks - each file to @session, in order. The statuses of rdmamig_session_add_block(). */
enum rdmamig_status ram_add_blocks(const struct ram_set *set, struct rdmamig_session *session, char *why);

/* ram_describe - "NAME=PATH,NAME=PATH" for journal and result. E_USAGE: it does not fit. */
enum rdmamig_status ram_describe(const struct ram_set *set, char *out, size_t out_bytes, char *why);

/* ram_have_path_in_common - of two such descriptions. */
bool ram_have_path_in_common(const char *a, const char *b);

#endif
