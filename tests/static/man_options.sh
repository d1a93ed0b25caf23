#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# man_options.sh - every option of `rdmamig COMMAND --help` is in the man page's OPTIONS, and the other way round.
# Usage: man_options.sh [RDMAMIG [MAN_DIR]]
set -eu

rdmamig=${1:-${RDMAMIG:-build/rdmamig}}
man_dir=${2:-$(dirname "$0")/../../docs/man}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
failed=0

# An option row of --help starts with blanks, perhaps a letter, and the name.
help_options()
{
	"$rdmamig" "$1" --help | sed -nE 's/^  (-.,|   )? ?(--[a-z-]+).*/\2/p' | sort -u
}

# Only paragraph heads (the line after .TP) of OPTIONS name an option; the text may mention those of others.
man_options()
{
	sed -n '/^\.SH OPTIONS/,/^\.SH EXIT/p' "$man_dir/rdmamig-$1.1" | sed 's/\\-/-/g' |
		awk 'head { print } { head = /^\.TP/ }' | grep -oE -- '--[a-z-]+' | sort -u
}

commands=$("$rdmamig" --help | sed -nE 's/^  ([a-z]+) +.*/\1/p')
[ -n "$commands" ] || { echo "no commands in $rdmamig --help" >&2; exit 1; }

for command in $commands; do
	if [ ! -f "$man_dir/rdmamig-$command.1" ]; then
		echo "rdmamig $command has no man page" >&2
		failed=1
		continue
	fi
	help_options "$command" > "$tmp/help"
	man_options "$command" > "$tmp/man"
	[ -s "$tmp/help" ] || { echo "no options in rdmamig $command --help" >&2; failed=1; }
	if ! diff "$tmp/help" "$tmp/man" > "$tmp/diff"; then
		echo "rdmamig $command: --help (<) and man page (>) differ:" >&2
		grep '^[<>]' "$tmp/diff" >&2
		failed=1
	fi
done
exit $failed
