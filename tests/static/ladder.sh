#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Includes point down only (docs/architecture.md): each folder may include itself and those listed behind it.
set -u
cd "$(dirname "$0")/../.." || exit 1

declare -A below=(
	[base]=""
	[ram]="base"
	[wire]="base"
	[transport]="base"
	[multifd]="transport ram wire base"
	[migration]="multifd transport ram wire base"
	[vmm]="base"
	[cli]="vmm base"
)
n=0 bad=0
for folder in base ram wire transport multifd migration vmm cli; do
	allowed="$folder ${below[$folder]} rdmamig"
	wrong=$(grep -nE '^#include ["<](base|ram|wire|transport|multifd|migration|vmm|cli|rdmamig)/' "$folder"/*.[ch] |
		grep -vE "#include [\"<](${allowed// /|})/")
	n=$((n + 1))
	if [ -z "$wrong" ]; then
		echo "ok $n - $folder includes nothing above it"
	else
		bad=1
		echo "not ok $n - $folder includes what it must not:"
		echo "$wrong"
	fi
done

n=$((n + 1))
conditional=$(grep -nE '^[[:space:]]*#[[:space:]]*(if|ifdef|elif)\b' {base,ram,wire,transport,multifd,migration,vmm,cli}/*.[ch] | grep -vE '^base/compat\.h|^transport/verbs\.c')
if [ -z "$conditional" ]; then
	echo "ok $n - #if in base/compat.h only"
else
	bad=1
	echo "not ok $n - #if outside base/compat.h:"
	echo "$conditional"
fi
echo "1..$n"
exit $bad
