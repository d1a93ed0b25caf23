/* SPDX-License-Identifier: BSD-2-Clause */
/* command.h - what every subcommand is: a name, a function, a line of help. */
#ifndef CLI_COMMAND_H
#define CLI_COMMAND_H

struct command {
	const char *name;
	/* argv[0] is the subcommand's name. Returns the exit code: 0..8, see rdmamig/status.h. */
	int (*run)(int argc, char **argv);
	const char *summary;
};

extern const struct command command_send;
extern const struct command command_recv;
extern const struct command command_bench;
extern const struct command command_check;
extern const struct command command_synth;
extern const struct command command_resolve;

#endif
