/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * options.c - option tables: parsing with getopt_long, and --help.
 * Neighbours: number.c parses the numbers, each subcommand has a table. Main thread only: getopt has globals.
 */
#include "cli/options.h"

#include <assert.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>

#include "cli/number.h"

enum { OPTIONS_MAX = 48, HELP_COLUMN = 30 };

/* getopt_long's answers: beyond any letter, so that rows need none. */
enum { VALUE_HELP = 256, VALUE_FIRST_ROW };

struct getopt_tables {
	char letters[2 * OPTIONS_MAX + 3];
	struct option longs[OPTIONS_MAX + 2];
};

static void getopt_tables_fill(struct getopt_tables *tables, const struct option_table *table)
{
	assert(table->count <= OPTIONS_MAX);
	memset(tables, 0, sizeof(*tables));
	char *letter = tables->letters;
	*letter++ = ':';	/* tell a missing argument from an unknown option */
	*letter++ = 'h';
	for (unsigned i = 0; i < table->count; i++) {
		const struct option_row *row = &table->rows[i];
		tables->longs[i] = (struct option){ row->name, row->argument ? required_argument : no_argument, NULL,
						    VALUE_FIRST_ROW + (int)i };
		if (!row->letter)
			continue;
		*letter++ = row->letter;
		if (row->argument)
			*letter++ = ':';
	}
	tables->longs[table->count] = (struct option){ "help", no_argument, NULL, VALUE_HELP };
}

static const struct option_row *row_find(const struct option_table *table, int value)
{
	if (value >= VALUE_FIRST_ROW)
		return &table->rows[value - VALUE_FIRST_ROW];
	for (unsigned i = 0; i < table->count; i++)
		if (table->rows[i].letter && table->rows[i].letter == value)
			return &table->rows[i];
	return NULL;
}

static void help_print(const struct option_table *table)
{
	printf("Usage: rdmamig %s %s\n\n%s\n", table->command, table->usage, table->about);
	for (unsigned i = 0; i <= table->count; i++) {
		static const struct option_row help = { .name = "help", .letter = 'h', .help = "this text" };
		const struct option_row *row = i < table->count ? &table->rows[i] : &help;
		char letter[8] = "    ";
		if (row->letter)
			snprintf(letter, sizeof(letter), "-%c, ", row->letter);
		int width = printf("  %s--%s%s%s", letter, row->name, row->argument ? " " : "", row->argument ? row->argument : "");
		if (width >= HELP_COLUMN)
			width = printf("\n") - 1;
		printf("%*s%s\n", HELP_COLUMN - width, "", row->help);
	}
}

enum options_result options_bad(const struct option_table *table, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	fprintf(stderr, "rdmamig %s: ", table->command);
	vfprintf(stderr, format, args);
	fprintf(stderr, "; see rdmamig %s --help\n", table->command);
	va_end(args);
	return OPTIONS_BAD;
}

enum options_result options_parse(const struct option_table *table, int argc, char **argv, void *into, int *first_operand)
{
	struct getopt_tables tables;
	getopt_tables_fill(&tables, table);
	optind = 0;	/* main has used getopt before us */
	opterr = 0;
	for (;;) {
		int value = getopt_long(argc, argv, tables.letters, tables.longs, NULL);
		if (value == -1)
			break;
		if (value == 'h' || value == VALUE_HELP) {
			help_print(table);
			return OPTIONS_HELPED;
		}
		if (value == ':')
			return options_bad(table, "%s wants a value", argv[optind - 1]);
		if (value == '?')
			return optopt && optopt < VALUE_HELP ? options_bad(table, "no option -%c", optopt)
							     : options_bad(table, "%s is not an option or takes no value", argv[optind - 1]);
		const struct option_row *row = row_find(table, value);
		assert(row);
		if (!row->set(optarg, (char *)into + row->offset))
			return options_bad(table, "--%s wants %s, not '%s'", row->name, row->argument, optarg);
	}
	*first_operand = optind;
	return OPTIONS_PARSED;
}

bool option_set_flag(const char *value, void *field)
{
	(void)value;
	*(bool *)field = true;
	return true;
}

bool option_set_string(const char *value, void *field)
{
	*(const char **)field = value;
	return *value != '\0';
}

bool option_set_list(const char *value, void *field)
{
	struct option_list *list = field;
	if (list->count == OPTION_LIST_MAX || !*value)
		return false;
	list->items[list->count++] = value;
	return true;
}

bool option_set_bytes(const char *value, void *field)
{
	return number_parse_bytes(value, field);
}

bool option_set_count(const char *value, void *field)
{
	return number_parse_count(value, 0, UINT64_MAX, field);
}

bool option_set_pid(const char *value, void *field)
{
	uint64_t pid;
	if (!number_parse_count(value, 1, INT_MAX, &pid))
		return false;
	*(pid_t *)field = (pid_t)pid;
	return true;
}

bool option_set_ms(const char *value, void *field)
{
	return number_parse_duration(value, 1, field);
}

bool option_set_s(const char *value, void *field)
{
	return number_parse_duration(value, 1000, field);
}
