/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * zero.c - is this page all zero: one loop at three widths, the widest the CPU has being used.
 * Used by the zero split of multifd and by block_clean(). Any thread.
 */
#include "ram/zero.h"

#include <stdint.h>

#include "base/compat.h"
#include "ram/page.h"

/* Vector types have no name of their own. may_alias: guest memory has no type. */
typedef uint64_t word __attribute__((may_alias));
typedef uint64_t vector32 __attribute__((vector_size(32), may_alias));
typedef uint64_t vector64 __attribute__((vector_size(64), may_alias));

/* What is not zero mostly shows at once, and then no more than one cache line is fetched. */
static inline bool first_word_is_zero(const void *memory)
{
	return *(const word *)memory == 0;
}

bool zero_scan_scalar(const void *memory, size_t bytes)
{
	const word *at = memory;
	const word *end = at + bytes / sizeof(*at);
	if (!first_word_is_zero(memory))
		return false;
	for (; at < end; at += 8)
		if (at[0] | at[1] | at[2] | at[3] | at[4] | at[5] | at[6] | at[7])
			return false;
	return true;
}

COMPAT_TARGET("avx2") static bool zero_scan_avx2(const void *memory, size_t bytes)
{
	const vector32 *at = memory;
	const vector32 *end = at + bytes / sizeof(*at);
	if (!first_word_is_zero(memory))
		return false;
	for (; at < end; at += 8) {
		vector32 any = (at[0] | at[1] | at[2] | at[3]) | (at[4] | at[5] | at[6] | at[7]);
		if ((any[0] | any[1]) | (any[2] | any[3]))
			return false;
	}
	return true;
}

COMPAT_TARGET("avx512f") static bool zero_scan_avx512(const void *memory, size_t bytes)
{
	const vector64 *at = memory;
	const vector64 *end = at + bytes / sizeof(*at);
	if (!first_word_is_zero(memory))
		return false;
	for (; at < end; at += 8) {
		vector64 any = (at[0] | at[1] | at[2] | at[3]) | (at[4] | at[5] | at[6] | at[7]);
		if ((any[0] | any[1] | any[2] | any[3]) | (any[4] | any[5] | any[6] | any[7]))
			return false;
	}
	return true;
}

static bool has_avx512(void)
{
	return COMPAT_CPU_HAS("avx512f");
}

static bool has_avx2(void)
{
	return COMPAT_CPU_HAS("avx2");
}

static bool has_scalar(void)
{
	return true;
}

/* The best first. */
static const struct variant {
	const char *name;
	zero_scan *scan;
	bool (*is_supported)(void);
} variants[] = {
	{ "avx512", zero_scan_avx512, has_avx512 },
	{ "avx2", zero_scan_avx2, has_avx2 },
	{ "scalar", zero_scan_scalar, has_scalar },
};

bool zero_scan_at(unsigned index, const char **name, zero_scan **out)
{
	for (const struct variant *v = variants; v < variants + sizeof(variants) / sizeof(variants[0]); v++) {
		if (!v->is_supported() || index--)
			continue;
		*name = v->name;
		*out = v->scan;
		return true;
	}
	return false;
}

zero_scan *zero_scan_best(void)
{
	const char *name;
	zero_scan *best = zero_scan_scalar;
	zero_scan_at(0, &name, &best);
	return best;
}
