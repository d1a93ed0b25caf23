#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Install the Debian packages that are missing: deps.sh build|test|ci. DEPS=no only says which.
set -euo pipefail

packages="gcc libc6-dev libjson-c-dev libssl-dev make"
case ${1:-build} in
build) ;;
test) packages="$packages g++ libcmocka-dev python3" ;;
ci) packages="$packages g++ libcmocka-dev python3 clang libclang-rt-14-dev" ;;
*) echo "deps.sh: build, test or ci, not $1" >&2; exit 2 ;;
esac

if ! command -v dpkg-query >/dev/null; then
	echo "this is not Debian: make sure yourself that these are there: $packages" >&2
	exit 0
fi

missing=
for package in $packages; do
	state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
	[ "$state" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

sudo=
if [ "$(id -u)" != 0 ]; then
	sudo=sudo
	command -v sudo >/dev/null || { echo "missing packages, and neither root nor sudo:$missing" >&2; exit 1; }
fi
install="$sudo apt-get install -y --no-install-recommends$missing"
if [ "${DEPS:-yes}" = no ]; then
	echo "missing packages (DEPS=no, so nothing is installed): $install" >&2
	exit 1
fi
echo "installing missing packages: $install"
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -qq
$install >/dev/null
