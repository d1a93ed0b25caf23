/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * status.c - names, texts and exit codes of enum rdmamig_status, from one table.
 * Used by every layer; no thread of its own.
 */
#include <rdmamig/stats.h>
#include <rdmamig/status.h>

#include <stddef.h>

#define ROW(name, text) { RDMAMIG_##name, "RDMAMIG_" #name, text }

static const struct status_row {
	enum rdmamig_status status;
	const char *name;
	const char *text;
} status_rows[] = {
	ROW(OK, "ok"),
	ROW(AGAIN, "nothing yet"),
	ROW(E_FAILED, "failed"),
	ROW(E_NO_MEMORY, "out of memory, descriptors or threads"),
	ROW(E_IO, "a file could not be read or written"),
	ROW(E_BLOCK_CHANGED, "guest memory changed its size or went away"),
	ROW(E_NOT_VERIFIED, "source and dest differ"),
	ROW(E_TRACKER, "the dirty tracker failed"),
	ROW(E_USAGE, "wrong use"),
	ROW(E_URI, "bad URI"),
	ROW(E_PRECHECK, "a check before the start failed"),
	ROW(E_NO_FILE, "memory file missing or not usable"),
	ROW(E_NO_SPACE, "not enough memory or space"),
	ROW(E_PERMISSION, "permission denied"),
	ROW(E_BLOCKS_DIFFER, "memory blocks differ between source and dest"),
	ROW(E_VERSION, "no protocol version in common"),
	ROW(E_UNSUPPORTED, "not supported here"),
	ROW(E_BUSY, "in use by another session"),
	ROW(E_NO_PROCESS, "no such process, or not the guest"),
	ROW(E_PEER, "the peer ended the session"),
	ROW(E_CONNECT, "could not connect"),
	ROW(E_LISTEN, "could not listen"),
	ROW(E_PEER_SILENT, "the peer gives no sign of life"),
	ROW(E_DISCONNECTED, "the connection broke"),
	ROW(E_PROTOCOL, "the peer broke the protocol"),
	ROW(E_DEVICE, "the RDMA device failed"),
	ROW(E_DRIVER, "the guest's driver failed"),
	ROW(E_DRIVER_SILENT, "the guest's driver did not answer"),
	ROW(E_NOT_CONVERGED, "not converged in time"),
	ROW(E_CANCELLED, "cancelled"),
	ROW(E_PEER_CANCELLED, "cancelled at the other end"),
	ROW(E_UNKNOWN_OWNER, "committed, but dest did not confirm"),
	ROW(E_HELD, "held: complete and paused, the source's decision unknown"),
	ROW(E_NOT_RUNNING, "the guest should run here and does not"),
};

static const struct status_row *status_find(enum rdmamig_status status)
{
	for (size_t i = 0; i < sizeof(status_rows) / sizeof(status_rows[0]); i++)
		if (status_rows[i].status == status)
			return &status_rows[i];
	return NULL;
}

const char *rdmamig_status_name(enum rdmamig_status status)
{
	const struct status_row *row = status_find(status);
	return row ? row->name : "RDMAMIG_?";
}

const char *rdmamig_status_text(enum rdmamig_status status)
{
	const struct status_row *row = status_find(status);
	return row ? row->text : "unknown status";
}

int rdmamig_status_exit_code(enum rdmamig_status status)
{
	int hundreds = (int)status / 100;
	return status == RDMAMIG_OK ? 0 : hundreds >= 1 && hundreds <= 8 ? hundreds : 1;
}

const char *rdmamig_state_name(enum rdmamig_state state)
{
	static const char *const names[] = {
		[RDMAMIG_STATE_NONE] = "none", [RDMAMIG_STATE_SETUP] = "setup", [RDMAMIG_STATE_ACTIVE] = "active",
		[RDMAMIG_STATE_PRE_SWITCHOVER] = "pre-switchover", [RDMAMIG_STATE_DEVICE] = "device",
		[RDMAMIG_STATE_COMPLETED] = "completed", [RDMAMIG_STATE_CANCELLING] = "cancelling",
		[RDMAMIG_STATE_CANCELLED] = "cancelled", [RDMAMIG_STATE_FAILED] = "failed",
	};
	return (size_t)state < sizeof(names) / sizeof(names[0]) ? names[state] : "?";
}
