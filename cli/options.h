/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * options.h - a subcommand's options as rows of one table; getopt_long's array and --help are made from it.
 *
 * A row names the field it fills and the setter that turns text into it, so that parsing ends before acting begins:
 *
 *	static const struct option_row rows[] = {
 *		{ "size", 0, "BYTES", "size of the memory", option_set_bytes, offsetof(struct synth_args, size_bytes) },
 *		{ "json", 'j', NULL, "one JSON object per line", option_set_flag, offsetof(struct synth_args, json) },
 *	};
 *	static const struct option_table table = { "synth", "FILE --size BYTES [OPTION...]", "...", rows, ARRAY... };
 *
 *	struct synth_args args = { .size_bytes = defaults };
 *	int first_operand;
 *	switch (options_parse(&table, argc, argv, &args, &first_operand)) {
 *	case OPTIONS_HELPED: return 0;
 *	case OPTIONS_BAD:    return 2;
 *	case OPTIONS_PARSED: break;
 *	}
 *	... argv[first_operand] to argv[argc - 1] are the operands
 *
 * Every table has --help of itself. Values point into argv and live as long as it does.
 */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

/* A setter: false if @value is no good for it; the message names option and value itself. @value is NULL for a flag. */
typedef bool option_setter(const char *value, void *field);

struct option_row {
	const char *name;	/* without the dashes */
	char letter;		/* 0 for none */
	const char *argument;	/* as --help shows it: "BYTES", "cancel|force"; NULL for a flag */
	const char *help;	/* one line; say the default */
	option_setter *set;
	size_t offset;		/* of the field in the subcommand's arguments */
};

struct option_table {
	const char *command;	/* "synth" */
	const char *usage;	/* what follows it: "FILE --size BYTES [OPTION...]" */
	const char *about;	/* a few lines below the usage; each ends in a newline */
	const struct option_row *rows;
	unsigned count;
};

enum options_result { OPTIONS_PARSED, OPTIONS_HELPED, OPTIONS_BAD };

/*
 * options_parse - run each option's setter on @into; argv[0] is the subcommand.
 *
 * PARSED   *first_operand is the index of the first operand (argc if there is none; argv is permuted)
 * HELPED   --help was printed on stdout: exit 0
 * BAD      one line on stderr says what is wrong: exit 2. @into may be half filled
 */
enum options_result options_parse(const struct option_table *table, int argc, char **argv, void *into, int *first_operand);

/* options_bad - "rdmamig COMMAND: ..." and where the help is, on stderr; always OPTIONS_BAD. For checks across options. */
enum options_result options_bad(const struct option_table *table, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

enum { OPTION_LIST_MAX = 64 };

/* An option that may be repeated; zeroed to start. */
struct option_list {
	const char *items[OPTION_LIST_MAX];
	unsigned count;
};

option_setter option_set_flag;		/* bool: true */
option_setter option_set_string;	/* const char *: not empty */
option_setter option_set_list;		/* struct option_list: appended; false when full */
option_setter option_set_bytes;		/* uint64_t: a size or rate, 0 included */
option_setter option_set_count;		/* uint64_t */
option_setter option_set_pid;		/* pid_t: > 0 */
option_setter option_set_ms;		/* uint64_t milliseconds from a duration; bare numbers are ms */
option_setter option_set_s;		/* uint64_t milliseconds from a duration; bare numbers are seconds */

#endif
