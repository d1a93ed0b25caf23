#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# resolve.sh - what `rdmamig resolve` does for each pair of records, with sleeping processes as guests.
# Usage: resolve.sh [RDMAMIG]
set -u

rdmamig=${1:-${RDMAMIG:-build/rdmamig}}
tmp=$(mktemp -d)
guests=()
failed=0
session=00112233445566778899aabbccddeeff
trap 'kill -KILL "${guests[@]}" $(jobs -p) 2> /dev/null; rm -rf "$tmp"' EXIT

fail() { echo "FAIL $case: $*" >&2; failed=1; }

# A guest that stands still; $guest is its pid.
guest_new()
{
	sleep 1000 &
	guest=$!
	disown "$guest"		# bash would report its end
	guests+=("$guest")
	kill -STOP "$guest"
	expect_guest "$guest" T
}

# journal STATE_DIR ROLE PID [FILE=RECORD...] - as a session that died has left it.
journal()
{
	local dir=$1/$session.$2
	mkdir -p -m 700 "$1" "$dir"
	: > "$dir/lock"
	printf 'rdmamig-journal 1 %s\npid=%d\npid_start=%s\nguest_runs=1\ndriver=process\npeer=tcp://127.0.0.1:%d\nram=r=%s\n' \
		"$2" "$3" "$(awk '{ print $22 }' "/proc/$3/stat")" "$port" "/dev/shm/resolve-test-$2" > "$dir/session"
	for record in "${@:4}"; do
		echo "${record#*=}" > "$dir/${record%%=*}"
	done
}

# expect_guest PID T|S - signals take a moment; a guest that must not change is looked at after those that must.
expect_guest()
{
	local now
	for _ in {1..100}; do
		now=$(awk '{ print $3 }' "/proc/$1/stat")
		[ "$now" = "$2" ] && return
		sleep 0.02
	done
	fail "process $1 is in state $now, not $2"
}

expect_record() { [ "$(cat "$1/$session.$2/$3" 2> /dev/null)" = "$4" ] || fail "$2 $3 is not '$4'"; }
expect_closed() { [ -f "$1/$session.$2/closed" ] || fail "the $2 journal is not closed"; }
expect_open() { [ ! -f "$1/$session.$2/closed" ] || fail "the $2 journal is closed"; }

# resolve EXIT_CODE ARGUMENT...
resolve()
{
	timeout 30 "$rdmamig" resolve "${@:2}" > "$tmp/out" 2>&1
	local rc=$?
	[ $rc = "$1" ] || { fail "exit code $rc, not $1:"; cat "$tmp/out" >&2; }
}

expect_said() { grep -q -- "$1" "$tmp/out" || { fail "does not say '$1':"; cat "$tmp/out" >&2; }; }

begin() { case=$1; state=$tmp/$1; port=$((20000 + RANDOM % 10000)); }

begin source_undecided_is_undone
guest_new
journal "$state" source "$guest"
resolve 0 --state-dir "$state"
expect_said "$session  source  none"
resolve 0 $session --state-dir "$state"
expect_record "$state" source decision ABORT
expect_closed "$state" source
expect_guest "$guest" S

begin source_committed_waits_for_dest
guest_new
journal "$state" source "$guest" decision=COMMIT
resolve 8 $session --state-dir "$state"
expect_open "$state" source
expect_guest "$guest" T

begin source_committed_and_dest_discarded_runs_here
guest_new; source_guest=$guest
guest_new
journal "$state" source "$source_guest" decision=COMMIT
journal "$state" dest "$guest" ready=READY outcome=DISCARDED
resolve 0 $session --state-dir "$state"
expect_guest "$source_guest" S
expect_guest "$guest" T
expect_closed "$state" source
expect_closed "$state" dest

begin dest_ready_alone_is_held
guest_new
journal "$state" dest "$guest" ready=READY
resolve 8 $session --state-dir "$state"
expect_said "$session"
expect_open "$state" dest
expect_guest "$guest" T

begin dest_never_ready_is_closed
guest_new
journal "$state" dest "$guest"
resolve 0 $session --state-dir "$state"
expect_closed "$state" dest
expect_guest "$guest" T

begin committed_goes_to_dest
guest_new; source_guest=$guest
guest_new
journal "$state" source "$source_guest" decision=COMMIT
journal "$state" dest "$guest" ready=READY
resolve 0 $session --state-dir "$state" --json
grep '"event":"result"' "$tmp/out" | grep '"source":"COMMIT","dest":"OWNED","exit-code":0' > /dev/null ||
	{ fail "no such result"; cat "$tmp/out" >&2; }
expect_record "$state" dest outcome OWNED
expect_closed "$state" source
expect_closed "$state" dest
expect_guest "$guest" S
expect_guest "$source_guest" T

begin undecided_pair_goes_to_source
guest_new; source_guest=$guest
guest_new
journal "$state" source "$source_guest"
journal "$state" dest "$guest" ready=READY
resolve 0 $session --state-dir "$state"
expect_record "$state" source decision ABORT
expect_record "$state" dest outcome DISCARDED
expect_guest "$source_guest" S
expect_guest "$guest" T

begin fenced_source_leaves_guest_to_dest
guest_new
journal "$state" dest "$guest" ready=READY
resolve 0 $session --state-dir "$state" --peer-fenced
expect_record "$state" dest outcome OWNED
expect_guest "$guest" S

begin fencing_is_not_for_a_source
guest_new
journal "$state" source "$guest" decision=COMMIT
resolve 2 $session --state-dir "$state" --peer-fenced
expect_guest "$guest" T

begin owned_but_stopped_is_run_again
guest_new
journal "$state" dest "$guest" ready=READY outcome=OWNED
resolve 0 $session --state-dir "$state"
expect_guest "$guest" S
expect_closed "$state" dest

begin another_process_with_that_pid_is_not_run
guest_new
journal "$state" dest "$guest" ready=READY
sed -i 's/^pid_start=.*/pid_start=1/' "$state/$session.dest/session"
resolve 8 $session --state-dir "$state" --peer-fenced
expect_open "$state" dest
expect_guest "$guest" T

begin living_session_is_left_alone
guest_new
journal "$state" dest "$guest" ready=READY
exec 9> "$state/$session.dest/lock"
flock 9
resolve 3 $session --state-dir "$state" --peer-fenced --timeout-s 200ms
exec 9>&-
expect_open "$state" dest

# Two hosts: two state directories and a connection between them.
two_hosts()	# LISTENER'S_ROLE SOURCE_EXIT_CODE DEST_EXIT_CODE
{
	local uri=tcp://127.0.0.1:$port listener=$1 caller=source
	[ "$listener" = source ] && caller=dest
	timeout 30 "$rdmamig" resolve $session --state-dir "$state.$listener" --listen "$uri" --timeout-s 5 > "$tmp/listener" 2>&1 &
	local listening=$! rc
	resolve "$([ $caller = source ] && echo "$2" || echo "$3")" $session --state-dir "$state.$caller" --peer "$uri" --timeout-s 5
	wait $listening
	rc=$?
	[ $rc = "$([ "$listener" = source ] && echo "$2" || echo "$3")" ] || { fail "listener: exit code $rc"; cat "$tmp/listener" >&2; }
}

for listener in source dest; do
	begin "committed_over_a_connection_$listener"
	guest_new; source_guest=$guest
	guest_new
	journal "$state.source" source "$source_guest" decision=COMMIT
	journal "$state.dest" dest "$guest" ready=READY
	two_hosts $listener 0 0
	expect_record "$state.dest" dest outcome OWNED
	expect_closed "$state.source" source
	expect_closed "$state.dest" dest
	expect_guest "$guest" S
	expect_guest "$source_guest" T

	begin "undecided_over_a_connection_$listener"
	guest_new; source_guest=$guest
	guest_new
	journal "$state.source" source "$source_guest"
	journal "$state.dest" dest "$guest" ready=READY
	two_hosts $listener 0 0
	expect_record "$state.source" source decision ABORT
	expect_record "$state.dest" dest outcome DISCARDED
	expect_guest "$source_guest" S
	expect_guest "$guest" T
done

begin held_memory_is_not_overwritten
guest_new
journal "$state" dest "$guest" ready=READY
timeout 10 "$rdmamig" recv tcp://127.0.0.1:0 --ram r=/dev/shm/resolve-test-dest --state-dir "$state" > "$tmp/out" 2>&1
rc=$?
[ $rc = 8 ] || { fail "recv: exit code $rc, not 8"; cat "$tmp/out" >&2; }
expect_said "rdmamig resolve $session"

exit $failed
