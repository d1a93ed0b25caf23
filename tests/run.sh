#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Run the tests of a level and count: run.sh fast|check|long. Tests speak TAP; the last line is the sum.
#
# B is the build directory. STRICT=yes (CI) makes a skip a failure: this kind of machine has all that the tests need.
# ONLY=word runs the programs whose name has that word in it. RDMAMIG_LONG_SECONDS bounds the programs of level long
# together: each takes its share, in a random order of its tests.
set -u
cd "$(dirname "$0")/.." || exit 1
level=${1:-check}
B=$(realpath "${B:-build}")
ONLY=${ONLY:-}
export RDMAMIG_LEVEL=$level RDMAMIG_TOOL=$B/rdmamig RDMAMIG_BUILD=$B
export CMOCKA_MESSAGE_OUTPUT=TAP
# A sanitizer's report is a failure, leaks included; the guest's SIGBUS is ours to handle.
export ASAN_OPTIONS=detect_leaks=1:handle_sigbus=0:${ASAN_OPTIONS:-} UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1:${TSAN_OPTIONS:-}

log=$(mktemp -d /tmp/rdmamig-check.XXXXXX)
passed=0 failed=0 skipped=0

# hugetlbfs tests need some huge pages: 2 MiB x 512, given back at the end.
pages=/proc/sys/vm/nr_hugepages
had=$(cat $pages)
hugetlb=
if [ -w $pages ]; then
	[ "$had" -ge 512 ] || { echo 1 > /proc/sys/vm/drop_caches; echo 512 > $pages; } 2>/dev/null
	if [ "$(cat $pages)" -ge 512 ] && mkdir -p "$log/huge" && mount -t hugetlbfs none "$log/huge" 2>/dev/null; then
		hugetlb=$log/huge
	fi
fi
export RDMAMIG_HUGETLB=$hugetlb

cleanup() {
	[ -z "$hugetlb" ] || umount "$hugetlb"
	[ "$(cat $pages)" = "$had" ] || echo "$had" > $pages
	[ $failed = 0 ] && rm -rf "$log"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# A program's TAP is counted; one that fails without saying which test did counts as one failure.
count() {
	local name=$1 status=$2 out=$3 bad
	bad=$(grep '^not ok' "$out" | grep -vc '# SKIP')	# cmocka says "not ok 3 # SKIP name"
	local skips
	skips=$(grep -cE '^(not )?ok .*# SKIP' "$out")
	local good
	good=$(grep '^ok' "$out" | grep -vc '# SKIP')
	[ "$good$bad$skips$status" != 0000 ] || good=1		# a script without TAP is one test
	passed=$((passed + good))
	skipped=$((skipped + skips))
	[ "$skips" = 0 ] || grep -E '^(not )?ok .*# SKIP|^SKIP' "$out" | sed "s/^/  $name: /"
	if [ "$status" != 0 ] && [ "$bad" = 0 ]; then
		bad=1
		echo "not ok $name: exit status $status" >> "$out"
	fi
	if [ "$bad" != 0 ]; then
		failed=$((failed + bad))
		echo "FAILED $name (all of its output: $out)"
		grep -A12 -E '^not ok|ERROR: |WARNING: ThreadSanitizer|runtime error' "$out" | head -60 | sed 's/^/    /'
	fi
}

run() {
	local name=$1 limit=$2 begin=$SECONDS
	shift 2
	case $name in *$ONLY*) ;; *) return ;; esac
	timeout -k 10 "$limit" "$@" > "$log/$name" 2>&1 < /dev/null
	count "$name" $? "$log/$name"
	printf '  %-28s %3d s\n' "$name" $((SECONDS - begin))
}

for test in tests/static/*.sh; do
	run "$(basename "$test" .sh)" 120 bash "$test" "$RDMAMIG_TOOL"
done
for test in "$B"/tests/test_*; do
	[ -x "$test" ] && [ "${test%.d}" = "$test" ] && run "$(basename "$test")" 300 "$test"
done
if [ "$level" != fast ]; then
	for test in tests/e2e/test_*.sh; do
		run "$(basename "$test" .sh)" 300 bash "$test" "$RDMAMIG_TOOL"
	done
	programs=(tests/e2e/test_*.py)
	export RDMAMIG_LONG_SECONDS=$((${RDMAMIG_LONG_SECONDS:-0} / ${#programs[@]}))
	for test in "${programs[@]}"; do
		run "$(basename "$test" .py)" $([ "$level" = long ] && echo 3600 || echo 600) python3 "$test"
	done
fi

if [ "${STRICT:-no}" = yes ] && [ "$skipped" != 0 ]; then
	echo "FAILED: skips, on a machine that has all the tests need"
	failed=$((failed + skipped))
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
