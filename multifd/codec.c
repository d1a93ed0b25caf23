/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * codec.c - the table of codecs; a new one is a file and a row here.
 * Neighbours: sender.c encodes, receiver.c decodes. Any thread.
 */
#include "multifd/codec.h"

#include <string.h>

static const struct codec codecs[] = {
	{ .name = "none", .number = 0 },
};

const struct codec *codec_find(const char *name)
{
	for (size_t i = 0; i < sizeof(codecs) / sizeof(codecs[0]); i++)
		if (!strcmp(codecs[i].name, name))
			return &codecs[i];
	return NULL;
}

const struct codec *codec_at(uint8_t number)
{
	for (size_t i = 0; i < sizeof(codecs) / sizeof(codecs[0]); i++)
		if (codecs[i].number == number)
			return &codecs[i];
	return NULL;
}
