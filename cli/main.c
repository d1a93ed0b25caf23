/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * main.c - the command `rdmamig`: finds the subcommand in a table and runs it.
 * Neighbours: one file per subcommand. Main thread.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rdmamig/log.h>

#include "cli/command.h"

static const struct command *const commands[] = {
	&command_send, &command_recv, &command_resolve, &command_check, &command_synth, &command_bench,
};

enum { COMMAND_COUNT = sizeof(commands) / sizeof(commands[0]), EXIT_USAGE = 2 };

static void help_print(FILE *out)
{
	fprintf(out, "Usage: rdmamig COMMAND [ARGUMENT...]\n\n"
		     "Live migration of a guest's memory over RDMA or TCP.\n\n");
	for (unsigned i = 0; i < COMMAND_COUNT; i++)
		fprintf(out, "  %-9s %s\n", commands[i]->name, commands[i]->summary);
	fprintf(out, "\n  --help, --version; `rdmamig COMMAND --help` lists the options of each.\n");
}

static void log_print(void *opaque, enum rdmamig_log_level level, const char *line)
{
	(void)opaque;
	fprintf(stderr, "<%d>%s\n", (int)level, line);	/* the prefix is journald's */
}

static void log_begin(void)
{
	const char *wanted = getenv("RDMAMIG_LOG");
	if (wanted)
		rdmamig_log_set(log_print, NULL, !strcmp(wanted, "debug") ? RDMAMIG_LOG_DEBUG : RDMAMIG_LOG_INFO);
}

static const struct command *command_find(const char *name)
{
	for (unsigned i = 0; i < COMMAND_COUNT; i++)
		if (!strcmp(commands[i]->name, name))
			return commands[i];
	return NULL;
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		help_print(stderr);
		return EXIT_USAGE;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
		help_print(stdout);
		return 0;
	}
	if (!strcmp(argv[1], "--version")) {
		puts("rdmamig " RDMAMIG_VERSION);
		return 0;
	}
	const struct command *command = command_find(argv[1]);
	if (!command) {
		fprintf(stderr, "rdmamig: '%s' is not a command; see rdmamig --help\n", argv[1]);
		return EXIT_USAGE;
	}
	signal(SIGPIPE, SIG_IGN);	/* whoever reads our output may go; the guest must not */
	log_begin();
	return command->run(argc - 1, argv + 1);
}
