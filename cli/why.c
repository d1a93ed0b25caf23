/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * why.c - fills the line that driver.h calls @why.
 * Used by ram.c, claim.c and the subcommands that have a driver. Any thread.
 */
#include "cli/why.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "vmm/driver.h"

enum rdmamig_status why_say(char *why, enum rdmamig_status status, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(why, DRIVER_WHY_BYTES, format, args);
	va_end(args);
	return status;
}

void why_add(char *why, const char *format, ...)
{
	size_t used = strlen(why);
	va_list args;
	va_start(args, format);
	vsnprintf(why + used, DRIVER_WHY_BYTES - used, format, args);
	va_end(args);
}
