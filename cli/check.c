/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * check.c - `rdmamig check`: prints what rdmamig_check_host() finds.
 * Neighbours: rdmamig/check.h does the looking. Main thread.
 */
#include <rdmamig/check.h>

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/command.h"
#include "cli/json.h"
#include "cli/options.h"

struct check_args {
	bool json;
	bool is_coloured;
};

static const struct option_row rows[] = {
	{ "json", 'j', NULL, "one JSON object per line", option_set_flag, offsetof(struct check_args, json) },
};

static const struct option_table table = {
	"check", "[OPTION...]",
	"Looks whether this host can send and receive guests; changes nothing. WARN: something will not work or be slow,\n"
	"FAIL: a running guest cannot be sent from here. Each says what to do. Exit code 3 if anything is FAIL.\n",
	rows, sizeof(rows) / sizeof(rows[0]),
};

static const struct {
	const char *name;
	const char *colour;
} results[] = {
	[RDMAMIG_CHECK_PASS] = { "PASS", "\033[32m" },
	[RDMAMIG_CHECK_WARN] = { "WARN", "\033[33m" },
	[RDMAMIG_CHECK_FAIL] = { "FAIL", "\033[31m" },
};

static void row_print_json(const struct rdmamig_check_row *row)
{
	struct json_object *event = json_event_new("check");
	json_add_string(event, "result", results[row->result].name);
	json_add_string(event, "name", row->name);
	json_add_string(event, "text", row->text);
	json_add_string(event, "cure", row->cure);
	json_event_print(event);
}

static void row_print(void *opaque, const struct rdmamig_check_row *row)
{
	const struct check_args *args = opaque;
	if (args->json) {
		row_print_json(row);
		return;
	}
	printf("%s%s%s  %-14s %s\n", args->is_coloured ? results[row->result].colour : "", results[row->result].name,
	       args->is_coloured ? "\033[0m" : "", row->name, row->text);
	if (row->cure[0])
		printf("      %-14s cure: %s\n", "", row->cure);
}

static int check_run(int argc, char **argv)
{
	struct check_args args = { .is_coloured = isatty(STDOUT_FILENO) && !getenv("NO_COLOR") };
	int first_operand;
	switch (options_parse(&table, argc, argv, &args, &first_operand)) {
	case OPTIONS_HELPED:
		return 0;
	case OPTIONS_BAD:
		return 2;
	case OPTIONS_PARSED:
		break;
	}
	if (first_operand < argc) {
		options_bad(&table, "'%s': it takes no operand", argv[first_operand]);
		return 2;
	}
	return rdmamig_status_exit_code(rdmamig_check_host(row_print, &args));
}

const struct command command_check = { "check", check_run, "can this host send and receive guests?" };
