/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * progress.c - turns a snapshot of a session's figures into a line, a table or JSON.
 * Neighbours: send.c and recv.c at each tick, result.c at the end. Main thread.
 */
#include "cli/progress.h"

#include <stdio.h>
#include <unistd.h>

#include "cli/number.h"

enum { JSON_EVERY_MS = 1000 };

#define GIB (1024.0 * 1024 * 1024)
#define MIB (1024.0 * 1024)

void progress_init(struct progress *progress, bool json, bool quiet)
{
	*progress = (struct progress){ .json = json, .has_line = !json && !quiet && isatty(STDERR_FILENO) };
}

static double gb_per_s(const struct rdmamig_stats *stats)
{
	return stats->mbps / 8000;
}

static double dirty_gb_per_s(const struct rdmamig_stats *stats)
{
	return (double)(stats->dirty_pages_rate * stats->page_size) / 1e9;
}

static unsigned percent(const struct rdmamig_stats *stats)
{
	if (!stats->total_bytes || stats->remaining_bytes > stats->total_bytes)
		return 0;
	return (unsigned)(100 * ((double)(stats->total_bytes - stats->remaining_bytes) / (double)stats->total_bytes));
}

/* Until what is left fits, at the speed with which it gets less; false if it does not. */
static bool eta(const struct rdmamig_stats *stats, char out[NUMBER_TEXT_BYTES])
{
	double speed = (gb_per_s(stats) - dirty_gb_per_s(stats)) * 1e9;
	if (stats->status != RDMAMIG_STATE_ACTIVE || speed <= 0)
		return false;
	number_format_duration((uint64_t)(1000 * (double)stats->remaining_bytes / speed), out);
	return true;
}

static void line_draw(const struct rdmamig_stats *stats)
{
	char downtime[NUMBER_TEXT_BYTES], left[NUMBER_TEXT_BYTES] = "-";
	eta(stats, left);
	number_format_duration(stats->expected_downtime_ms, downtime);
	fprintf(stderr, "\r\033[K%s  %u%%  %.2f GB/s  dirty %.2f GB/s  round %llu  expected downtime %s  eta %s",
		rdmamig_state_name(stats->status), percent(stats), gb_per_s(stats), dirty_gb_per_s(stats),
		(unsigned long long)stats->dirty_sync_count, downtime, left);
	fflush(stderr);
}

void progress_show(struct progress *progress, const struct rdmamig_stats *stats, uint64_t now_ms)
{
	if (progress->has_line) {
		line_draw(stats);
		progress->is_line_shown = true;
	}
	if (progress->json && now_ms >= progress->next_json_ms) {
		progress->next_json_ms = now_ms + JSON_EVERY_MS;
		struct json_object *event = json_event_new("progress");
		progress_add_json(event, stats);
		json_event_print(event);
	}
}

void progress_clear(struct progress *progress)
{
	if (progress->is_line_shown)
		fputs("\r\033[K", stderr);
	progress->is_line_shown = false;
}

static double mib_per_s(const struct rdmamig_stats *stats)
{
	return stats->data_time_us ? (double)stats->data_bytes / MIB / ((double)stats->data_time_us / 1e6) : 0;
}

static double cpu_s_per_gib(const struct rdmamig_stats *stats)
{
	double seconds = stats->cpu_user_s + stats->cpu_system_s + stats->peer_cpu_user_s + stats->peer_cpu_system_s;
	return stats->data_bytes ? seconds / ((double)stats->data_bytes / GIB) : 0;
}

static void add_ram_json(struct json_object *object, const struct rdmamig_stats *stats)
{
	json_add_u64(object, "ram.total", stats->total_bytes);
	json_add_u64(object, "ram.transferred", stats->transferred_bytes);
	json_add_u64(object, "ram.remaining", stats->remaining_bytes);
	json_add_u64(object, "ram.normal", stats->normal_pages);
	json_add_u64(object, "ram.normal-bytes", stats->normal_pages * stats->page_size);
	json_add_u64(object, "ram.duplicate", stats->duplicate_pages);
	json_add_u64(object, "ram.dirty-sync-count", stats->dirty_sync_count);
	json_add_u64(object, "ram.dirty-pages-rate", stats->dirty_pages_rate);
	json_add_u64(object, "ram.page-size", stats->page_size);
	json_add_double(object, "ram.mbps", stats->mbps);
}

void progress_add_json(struct json_object *object, const struct rdmamig_stats *stats)
{
	json_add_string(object, "status", rdmamig_state_name(stats->status));
	json_add_u64(object, "total-time", stats->total_time_ms);
	json_add_u64(object, "setup-time", stats->setup_time_ms);
	json_add_u64(object, "downtime", stats->downtime_ms);
	json_add_u64(object, "expected-downtime", stats->expected_downtime_ms);
	add_ram_json(object, stats);
	json_add_double(object, "throughput-mib-s", mib_per_s(stats));
	json_add_u64(object, "data-bytes", stats->data_bytes);
	json_add_u64(object, "data-time-us", stats->data_time_us);
	json_add_u64(object, "attach-pause-us", stats->attach_pause_us);
	json_add_u64(object, "cpu-throttle-percentage", stats->throttle_pct);
	json_add_u64(object, "channels", stats->channels);
	json_add_double(object, "cpu.user", stats->cpu_user_s);
	json_add_double(object, "cpu.system", stats->cpu_system_s);
	json_add_double(object, "cpu.peer-user", stats->peer_cpu_user_s);
	json_add_double(object, "cpu.peer-system", stats->peer_cpu_system_s);
	json_add_double(object, "cpu.seconds-per-gib", cpu_s_per_gib(stats));
	if (stats->verified >= 0)
		json_add_bool(object, "verified", stats->verified);
}

void progress_print_table(const struct rdmamig_stats *stats)
{
	char text[NUMBER_TEXT_BYTES], setup[NUMBER_TEXT_BYTES];
	printf("  total time   %s (setup %s)\n", number_format_duration(stats->total_time_ms, text),
	       number_format_duration(stats->setup_time_ms, setup));
	printf("  downtime     %s\n", number_format_duration(stats->downtime_ms, text));
	printf("  memory       %s", number_format_bytes(stats->total_bytes, text));
	printf(", sent %s in %llu rounds\n", number_format_bytes(stats->transferred_bytes, text),
	       (unsigned long long)stats->dirty_sync_count);
	printf("  throughput   %.0f MiB/s on %u channels\n", mib_per_s(stats), stats->channels);
	printf("  cpu          %.2f s here, %.2f s there, %.2f s per GiB\n", stats->cpu_user_s + stats->cpu_system_s,
	       stats->peer_cpu_user_s + stats->peer_cpu_system_s, cpu_s_per_gib(stats));
	if (stats->verified >= 0)
		printf("  verified     %s\n", stats->verified ? "both ends hold the same bytes" : "NO: the ends differ");
}
