/* SPDX-License-Identifier: BSD-2-Clause */
/* driver_process.h - the two drivers of a plain process; with pid 0 those of memory that nobody runs. */
#ifndef VMM_DRIVER_PROCESS_H
#define VMM_DRIVER_PROCESS_H

#include "vmm/driver.h"
#include "vmm/guardian.h"

/* As driver_open_source(), driver_open_dest(); @params must outlive the guardian. */
enum rdmamig_status driver_process_open_source(pid_t pid, struct rdmamig_journal *journal, const struct guardian_params *params,
					       struct driver **out, char *why);
enum rdmamig_status driver_process_open_dest(pid_t pid, struct driver **out, char *why);

/* driver_process_begin - for driver_begin(). */
void driver_process_begin(struct driver *driver, struct rdmamig_journal *journal);

/*
 * driver_process_bring_back - ABORT stands and everybody who served this session is dead: the guest as it was found.
 * It reads in the journal which that is. E_NOT_RUNNING: it has ended (nothing is left to be done), or stays stopped.
 */
enum rdmamig_status driver_process_bring_back(const struct rdmamig_journal_info *info, bool *ended, char *why);

#endif
