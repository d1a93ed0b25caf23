/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * generate.c - prints the tables of docs/protocol.md; `make docs` puts them between its markers.
 * Neighbour: wire/message.c, which has them. One thread.
 */
#include <stdio.h>

#include "wire/message.h"

int main(void)
{
	message_document(stdout);
	return ferror(stdout) ? 1 : 0;
}
