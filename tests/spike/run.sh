#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Build the spike and run it between two processes on a real rxe device, in the VM of vm.sh (about 15 s, 110 MB once).
# Needs libibverbs-dev librdmacm-dev and what vm.sh lists.
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p build
gcc -D_GNU_SOURCE -std=gnu11 -Wall -Wextra -O2 -g -pthread -Iinclude -I. -o build/spike_rdma \
	tests/spike/spike_rdma.c tests/spike/rdma_endpoint.c \
	base/clock.c base/error.c base/log.c base/status.c base/cursor.c transport/hello.c -lrdmacm -libverbs
tests/spike/vm.sh 'build/spike_rdma dest 10.9.0.1 & dest=$!
	timeout 150 build/spike_rdma source 10.9.0.1 && wait $dest && echo "source and dest ended well"'
