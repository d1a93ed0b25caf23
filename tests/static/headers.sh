#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Every public header compiles alone, in C and in C++, and the shared library exports public symbols only.
set -u
cd "$(dirname "$0")/../.." || exit 1
n=0 bad=0

result() {	# description, 0 if good
	n=$((n + 1))
	if [ "$2" = 0 ]; then echo "ok $n - $1"; else bad=1; echo "not ok $n - $1"; fi
}

for header in include/rdmamig/*.h; do
	name=rdmamig/$(basename "$header")
	echo "#include <$name>" | gcc -std=c11 -Wall -Wextra -Wpedantic -Werror -Iinclude -fsyntax-only -x c -
	result "<$name> alone in C" $?
	echo "#include <$name>" | g++ -std=c++11 -Wall -Wextra -Werror -Iinclude -fsyntax-only -x c++ -
	result "<$name> alone in C++" $?
done
for header in {base,ram,wire,transport,multifd,migration,vmm,cli}/*.h; do
	echo "#include \"$header\"" | gcc -D_GNU_SOURCE -std=gnu11 -Wall -Wextra -Werror -Iinclude -I. -fsyntax-only -x c - || { result "$header alone" 1; }
done
result "every inner header alone in C" $bad

foreign=$(nm -D --defined-only "${RDMAMIG_BUILD:-build}"/librdmamig.so | awk '{ print $3 }' | grep -vE '^rdmamig_|^RDMAMIG_')
[ -z "$foreign" ]
result "the shared library exports public symbols only $foreign" $?

missing=
for symbol in $(grep -hoE '\brdmamig_[a-z_]+\(' include/rdmamig/*.h | tr -d '(' | sort -u); do
	case $symbol in rdmamig_log_fn) continue ;; esac
	nm -D --defined-only "${RDMAMIG_BUILD:-build}"/librdmamig.so | grep -qE " $symbol(@|$)" || missing="$missing $symbol"
done
[ -z "$missing" ]
result "every function of the headers is exported $missing" $?
echo "1..$n"
exit $bad
