/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * status.h - one enum answers how something ended and who owns the guest now.
 *
 * The hundreds digit is the exit code of the rdmamig command, and it says who owns the guest:
 *   0      done; after `send` the dest owns it, after `recv` we do
 *   1..7   failed; the source owns the guest and runs it (the digit says where to look)
 *   8      unknown, stopped or held; an operator must decide: `rdmamig resolve`
 * Values below 100 other than RDMAMIG_OK are not endings: they never reach an exit code.
 */
#ifndef RDMAMIG_STATUS_H
#define RDMAMIG_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

enum rdmamig_status {
	RDMAMIG_OK = 0,
	RDMAMIG_AGAIN = 1,		/* nothing yet; wait on the fd and call again */

	/* 1: failed */
	RDMAMIG_E_FAILED = 100,		/* none of the others */
	RDMAMIG_E_NO_MEMORY = 101,	/* this process could not get memory or a thread */
	RDMAMIG_E_IO = 102,		/* reading or writing a file of ours failed */
	RDMAMIG_E_BLOCK_CHANGED = 103,	/* a block's size changed or its memory went away under us */
	RDMAMIG_E_NOT_VERIFIED = 104,	/* --verify found other bytes at dest than at the source */
	RDMAMIG_E_TRACKER = 105,	/* the dirty tracker failed in mid-run */

	/* 2: usage */
	RDMAMIG_E_USAGE = 200,		/* an option, value or call that makes no sense */
	RDMAMIG_E_URI = 201,		/* a URI that does not parse or whose scheme we lack */

	/* 3: a check made before anything moved */
	RDMAMIG_E_PRECHECK = 300,	/* none of the others */
	RDMAMIG_E_NO_FILE = 301,	/* memory file missing, not a regular file, or not to be opened */
	RDMAMIG_E_NO_SPACE = 302,	/* file system, hugetlb pool or memory too small */
	RDMAMIG_E_PERMISSION = 303,	/* ptrace, userfaultfd, state directory, ... refused */
	RDMAMIG_E_BLOCKS_DIFFER = 304,	/* names, number or sizes of blocks differ between the ends */
	RDMAMIG_E_VERSION = 305,	/* no protocol version in common, or a feature the peer lacks */
	RDMAMIG_E_UNSUPPORTED = 306,	/* the kernel, device or backing cannot do what was asked */
	RDMAMIG_E_BUSY = 307,		/* another session holds this guest, file or session id */
	RDMAMIG_E_NO_PROCESS = 308,	/* no such process, or it does not map the memory file */

	/* 4: the peer or the network */
	RDMAMIG_E_PEER = 400,		/* the peer ended the session; its text is in the error */
	RDMAMIG_E_CONNECT = 401,	/* no listener, no route, name unknown, or nobody answered in time */
	RDMAMIG_E_LISTEN = 402,		/* port in use or address not ours */
	RDMAMIG_E_PEER_SILENT = 403,	/* no sign of life within the deadline */
	RDMAMIG_E_DISCONNECTED = 404,	/* the connection broke */
	RDMAMIG_E_PROTOCOL = 405,	/* the peer sent what the protocol forbids */
	RDMAMIG_E_DEVICE = 406,		/* an RDMA device failed or was removed */

	/* 5: the driver, i.e. what runs the guest */
	RDMAMIG_E_DRIVER = 500,		/* the driver reported a failure */
	RDMAMIG_E_DRIVER_SILENT = 501,	/* the driver did not answer within the deadline */

	/* 6: not converged */
	RDMAMIG_E_NOT_CONVERGED = 600,	/* the time-out passed and its action was cancel */

	/* 7: cancelled */
	RDMAMIG_E_CANCELLED = 700,	/* cancelled here */
	RDMAMIG_E_PEER_CANCELLED = 701,	/* cancelled at the other end */

	/* 8: an operator must decide */
	RDMAMIG_E_UNKNOWN_OWNER = 800,	/* source: COMMIT stands but dest did not confirm */
	RDMAMIG_E_HELD = 801,		/* dest: complete and paused, the source's decision unknown */
	RDMAMIG_E_NOT_RUNNING = 802,	/* the guest should run here and does not */
};

/* rdmamig_status_name - "RDMAMIG_E_CONNECT" and so on; "RDMAMIG_?" for a value not in the enum. Any thread. */
const char *rdmamig_status_name(enum rdmamig_status status);

/* rdmamig_status_text - a short phrase without the session's details. Any thread; never NULL. */
const char *rdmamig_status_text(enum rdmamig_status status);

/* rdmamig_status_exit_code - 0..8 as above. Any thread. */
int rdmamig_status_exit_code(enum rdmamig_status status);

#ifdef __cplusplus
}
#endif
#endif
