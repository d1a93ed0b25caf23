#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# send_recv.sh - exit codes, lines and left-overs of `rdmamig send` and `recv`, over tcp on this machine.
# Usage: send_recv.sh [RDMAMIG]
set -u

rdmamig=${1:-${RDMAMIG:-build/rdmamig}}
tmp=$(mktemp -d)
ram=$(mktemp -d /dev/shm/send_recv.XXXXXX)
failed=
guests=()
trap 'kill -KILL "${guests[@]}" $(jobs -p) 2> /dev/null; rm -rf "$tmp" "$ram"' EXIT

fail()
{
	echo "FAIL $case: $*" >&2
	[ "$failed" = "$case" ] || cat "$tmp/send" "$tmp/recv" >&2
	failed=$case
}

begin()
{
	case=$1
	rm -rf "$ram"/* "$tmp"/*
	: > "$tmp/send"
	: > "$tmp/recv"
	head -c 16M /dev/urandom > "$ram/src"
}

# recv_start ARGUMENT... - in the background, until it says where it listens: $uri.
recv_start()
{
	"$rdmamig" recv tcp://127.0.0.1:0 --json --wait-s 60 --state-dir "$tmp/dest" "$@" > "$tmp/recv" 2>&1 &
	recv=$!
	uri=
	for _ in {1..200}; do
		uri=$(sed -n 's/.*"event":"listening".*"uri":"\([^"]*\)".*/\1/p' "$tmp/recv")
		[ -n "$uri" ] && return
		sleep 0.02
	done
	fail "recv does not listen"
}

expect_recv() { wait $recv; local rc=$?; [ $rc = "$1" ] || fail "recv: exit code $rc, not $1"; }

# send EXIT_CODE ARGUMENT...
send()
{
	timeout 60 "$rdmamig" send "${@:2}" --state-dir "$tmp/source" > "$tmp/send" 2>&1
	local rc=$?
	[ $rc = "$1" ] || fail "send: exit code $rc, not $1"
}

expect_said() { grep -q -- "$2" "$tmp/$1" || fail "$1 does not say '$2'"; }
expect_gone() { [ ! -e "$1" ] || fail "$1 was left behind"; }
expect_nothing_open() { [ -z "$("$rdmamig" resolve --json --state-dir "$tmp/$1")" ] || fail "an open session at $1"; }

expect_guest()	# PID STATES
{
	local now
	for _ in {1..100}; do
		now=$(awk '{ print $3 }' "/proc/$1/stat")
		[[ $2 = *"$now"* ]] && return
		sleep 0.02
	done
	fail "process $1 is in state $now, not in one of $2"
}

# A guest that writes 1 MiB/s; $guest is its pid.
guest_new()
{
	rm -f "$ram/src"
	"$rdmamig" synth "$ram/src" --size 16M --dirty-rate 1M --json > "$tmp/synth" &
	guest=$!
	disown "$guest"		# bash would report its end
	guests+=("$guest")
	for _ in {1..200}; do
		grep -q '"event":"ready"' "$tmp/synth" && return
		sleep 0.02
	done
	fail "no guest"
}

begin memory_alone_is_moved
recv_start --ram a="$ram/dst"
send 0 "$uri" --ram a="$ram/src" --verify --json
expect_recv 0
cmp "$ram/src" "$ram/dst" || fail "the memories differ"
[ "$(stat -c %a "$ram/dst")" = 600 ] || fail "the new file's mode is not 0600"
tail -n 1 "$tmp/send" | grep '"event":"result"' | grep '"status":"completed"' | grep '"exit-code":0' | grep -q '"verified":true' ||
	fail "no result of send"
tail -n 1 "$tmp/recv" | grep '"event":"result"' | grep -q '"exit-code":0' || fail "no result of recv"
expect_nothing_open source
expect_nothing_open dest

begin existing_file_is_overwritten
head -c 16M /dev/urandom > "$ram/dst"
recv_start --ram a="$ram/dst"
send 0 "$uri" --ram a="$ram/src" --quiet
expect_recv 0
cmp "$ram/src" "$ram/dst" || fail "the memories differ"
[ ! -s "$tmp/send" ] || fail "--quiet is not"

begin blocks_come_in_any_order
head -c 8M /dev/urandom > "$ram/src2"
recv_start --ram b="$ram/dst2" --ram a="$ram/dst"
send 0 "$uri" --ram a="$ram/src" --ram b="$ram/src2"
expect_recv 0
cmp "$ram/src" "$ram/dst" && cmp "$ram/src2" "$ram/dst2" || fail "the memories differ"

begin names_differ
recv_start --ram b="$ram/dst"
send 3 "$uri" --ram a="$ram/src"
expect_recv 3
expect_said recv "the source has a; --ram names b"
expect_gone "$ram/dst"

begin a_block_is_missing
recv_start --ram a="$ram/dst" --ram b="$ram/dst2"
send 3 "$uri" --ram a="$ram/src"
expect_recv 3
expect_gone "$ram/dst"
expect_gone "$ram/dst2"

begin sizes_differ
head -c 4M /dev/urandom > "$ram/dst"
cp "$ram/dst" "$tmp/before"
recv_start --ram a="$ram/dst"
send 3 "$uri" --ram a="$ram/src"
expect_recv 3
expect_said recv "16777216 bytes at the source, .* has 4194304"
cmp "$tmp/before" "$ram/dst" || fail "dest's file was touched"

begin nobody_listens
guest_new
send 4 tcp://127.0.0.1:1 --ram a="$ram/src" --pid "$guest"
expect_guest "$guest" SR
expect_nothing_open source

begin no_source_comes
timeout 20 "$rdmamig" recv tcp://127.0.0.1:0 --ram a="$ram/dst" --state-dir "$tmp/dest" --wait-s 200ms > "$tmp/recv" 2>&1
[ $? = 4 ] || fail "recv: not exit code 4"
expect_gone "$ram/dst"

begin waiting_recv_is_interrupted
recv_start --ram a="$ram/dst"
kill -INT $recv
expect_recv 7
expect_gone "$ram/dst"

begin send_is_interrupted
guest_new
recv_start --ram a="$ram/dst"
"$rdmamig" send "$uri" --ram a="$ram/src" --pid "$guest" --state-dir "$tmp/source" --bandwidth 1M --json > "$tmp/send" 2>&1 &
sender=$!
for _ in {1..200}; do
	grep -q '"event":"progress".*"status":"active"' "$tmp/send" && break
	sleep 0.05
done
kill -TERM $sender
kill -TERM $sender 2> /dev/null
wait $sender
rc=$?
[ $rc = 7 ] || fail "send: exit code $rc, not 7"
expect_said send cancelling
expect_recv 7
expect_guest "$guest" SR
expect_gone "$ram/dst"
expect_nothing_open source
expect_nothing_open dest

begin guest_is_moved
guest_new
truncate -s 16M "$ram/dst"
"$rdmamig" synth --resume "$ram/dst" --check-only --json > "$tmp/resumed" &
resumed=$!
expect_guest $resumed T
recv_start --ram a="$ram/dst" --pid $resumed
send 0 "$uri" --ram a="$ram/src" --pid "$guest"
expect_recv 0
[ "$failed" = "$case" ] && kill -KILL $resumed	# nobody will continue it
wait $resumed || fail "the guest found wrong pages at dest"
expect_guest "$guest" T

begin own_memory_is_not_overwritten
recv_start --ram a="$ram/src" --state-dir "$tmp/source"
cp "$ram/src" "$tmp/before"
send 4 "$uri" --ram a="$ram/src"
expect_recv 3
expect_said send "is migrating this guest"
cmp "$tmp/before" "$ram/src" || fail "the source's memory was touched"

[ -z "$failed" ]
