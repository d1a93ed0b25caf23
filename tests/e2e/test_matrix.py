# SPDX-License-Identifier: BSD-2-Clause
"""Every way to move a guest, by bench and by synth, send and recv: exact each time, and in rounds where it wrote."""

import itertools
import mmap
import os
import random
import shutil
import signal
import socket
import tempfile

from rmig import HUGETLB, SLOW, allocated, expect_running, guardians, is_stopped, main, same_bytes, skip, skip_without_room, test

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
PAGE = 4 * KIB

# More is dirtied than the link carries: what there is takes seconds to send, and is given one.
TOO_FAST = "--dirty-rate 8G --downtime-ms 1 --timeout-s 1 --bandwidth "


# --- by bench: both memories are compared, then dest is checked against the guest's own record ---

def hugetlb_dir():
    return HUGETLB or skip("RDMAMIG_HUGETLB names no hugetlbfs mount (512 pages of 2 MiB)")


def bench(place, arguments, code=0, hugetlb=False):
    where = "--backing hugetlb --dir " + hugetlb_dir() if hugetlb else "--dir " + place.dir
    process = place.start("bench", "bench", "--json", *where.split(), "--size", "32M", *arguments.split())
    process.expect(code, 300)
    return process.result()


def exact(place, arguments, hugetlb=False):
    if "--size 1T" in arguments:
        skip_without_room()
    result = bench(place, arguments, 0, hugetlb)
    assert result["status"] == "completed" and result["verified"] is True, result
    assert result["different-pages"] == 0 and result["wrong-pages"] == 0 and result["checked-pages"] > 0, result
    assert result["ram"]["dirty-sync-count"] > 1, result
    return result


def cancelled(place, arguments, hugetlb=False):
    result = bench(place, arguments, 6, hugetlb)
    assert result["source-runs"] is True and result["status-code"] == "RDMAMIG_E_NOT_CONVERGED", result
    return result


# The sample has every value of every dimension; the product is at the end of the file.
SAMPLE = {
    "random": "--fill random --channels 1 --dirty-rate 50M --pattern uniform --tracker async",
    "zero": "--fill zero --channels 2 --dirty-rate 50M --pattern hot:10 --tracker sync",
    "mixed": "--fill mixed:50 --channels 4 --dirty-rate 50M --pattern sequential --tracker async --blocks 3",
    "text": "--fill text --channels 8 --dirty-rate 50M --pattern uniform --tracker sync --verify",
    "sixteen_channels": "--channels 16 --dirty-rate 50M --fill mixed:80",
    "idle": "--fill random --channels 4 --dirty-rate 0",
    "idle_sync": "--fill mixed:50 --channels 8 --dirty-rate 0 --tracker sync",
    "discard": "--fill random --channels 2 --dirty-rate 100M --discard 30 --verify",
    "discard_sync": "--fill mixed:50 --dirty-rate 100M --discard 30 --tracker sync --pattern hot:20",
    "three_pages": "--size 12K --dirty-rate 50M",
    "odd_pages": "--size 4116K --channels 4 --dirty-rate 50M --fill mixed:50",
    "odd_blocks": "--size 4116K --channels 2 --dirty-rate 50M --blocks 5",
    "eight_blocks": "--size 16M --dirty-rate 50M --blocks 8 --channels 8",
    "sparse": "--size 1T --used 64M --dirty-rate 50M --channels 2",
    "too_fast_forced": TOO_FAST + "32M --timeout-action force",
    "too_fast_forced_sync": TOO_FAST + "32M --timeout-action force --tracker sync --channels 4 --pattern sequential --fill text",
}
SAMPLE_HUGETLB = {
    "random": "--dirty-rate 50M --channels 2 --tracker async",
    "mixed_sync": "--dirty-rate 50M --channels 4 --tracker sync --fill mixed:50 --pattern hot:10 --blocks 3 --verify",
    "sparse": "--size 128M --used 32M --dirty-rate 50M",
}
LARGE = "--size 4G --fill mixed:70 --dirty-rate 200M --channels 4"

for name, arguments in SAMPLE.items():
    test(name="bench_" + name, arguments=arguments)(exact)
for name, arguments in SAMPLE_HUGETLB.items():
    test(name="bench_hugetlb_" + name, arguments=arguments, hugetlb=True)(exact)
test(name="bench_too_fast_cancelled", arguments=TOO_FAST + "8M")(cancelled)


def need_free(place, size):
    free = int(next(line.split()[1] for line in open("/proc/meminfo") if line.startswith("MemAvailable"))) * KIB
    free = min(free, shutil.disk_usage(place.dir).free)
    if free < size:
        skip("%d MiB of memory free, %d MiB needed" % (free // MIB, size // MIB))


@test("long")
def bench_large(place):
    need_free(place, 9 * GIB)
    exact(place, LARGE)


@test()
def bench_zero_pages_off_sends_them(place):
    exact_off = exact(place, "--fill zero --dirty-rate 10M --zero-pages off")
    assert exact_off["ram"]["transferred"] > 31 * MIB and exact_off["ram"]["duplicate"] * PAGE < MIB, exact_off


@test()
def bench_bandwidth_is_kept(place):
    result = exact(place, "--dirty-rate 10M --bandwidth 64M --channels 2")
    assert result["total-time"] > 400, result	# half a second, less what goes in advance


@test(name="flipped_byte_of_the_guests_own_record", offset="0")
@test(name="flipped_byte_of_three_blocks", offset="5M", blocks=3)
@test(name="flipped_last_byte", offset="33554431", blocks=2)
def bench_notices_a_flipped_byte(place, offset, blocks=1):
    result = bench(place, "--dirty-rate 10M --flip-byte %s --blocks %d" % (offset, blocks), 1)
    assert result["verified"] is False and result["different-pages"] == 1, result


# --- by synth, send and recv ---

def start_heir(place, *arguments):
    """The process that goes on with the guest at dest; it stops itself until then."""
    heir = place.start("heir", "synth", "--resume", place.path("b"), "--json", *arguments)
    heir.until(lambda: is_stopped(heir.pid), "stopping itself")
    return heir


def check_guest(place, *files):
    """Dest against the guest's own record, where nobody goes on with it."""
    checker = place.start("checker", "synth", "--resume", ",".join(map(place.path, files)), "--json", "--now", "--check-only")
    checker.expect(0)
    assert checker.events("ready")[-1]["checked-pages"] > 0


def expect_moved(send, recv):
    send.expect(0, 120)
    recv.expect(0)
    result = send.result()
    assert result["status"] == "completed" and result["ram"]["dirty-sync-count"] > 1, result
    return result


@test(name="move_random", guest="--fill random --dirty-rate 50M", send="--channels 2 --tracker async")
@test(name="move_mixed_sync", guest="--fill mixed:50 --dirty-rate 50M --pattern sequential", send="--channels 8 --tracker sync")
@test(name="move_text_discard", guest="--fill text --dirty-rate 100M --pattern hot:20 --discard 20", send="--channels 4 --verify")
@test(name="move_zero_paced", guest="--fill zero --dirty-rate 50M --holes", send="--bandwidth 32M --zero-pages off")
def guest_goes_on(place, guest, send):
    """The process that had it keeps still, and another one, at dest, checks every byte and goes on."""
    guest = place.synth(*guest.split(), size="32M")
    heir = start_heir(place, "--ticks", "1000")
    recv = place.recv("--pid", heir.pid)
    expect_moved(place.send("--pid", guest.pid, *send.split()), recv)
    assert is_stopped(guest.pid), "the source's guest runs on"
    heir.expect(0)	# it ends with 1 if a byte is wrong
    assert heir.events("ready")[-1]["checked-pages"] > 0 and heir.result()["rewrites"] == 1000
    assert not guardians(place)


@test(name="three_blocks", guest="--fill random --dirty-rate 50M")
@test(name="three_blocks_idle", guest="--fill mixed:50")
@test(name="three_blocks_hugetlb", guest="--fill random --dirty-rate 50M", hugetlb=True)
def three_blocks(place, guest, hugetlb=False):
    with tempfile.TemporaryDirectory(dir=hugetlb_dir() if hugetlb else place.dir) as dir:
        here, there = ([os.path.join(dir, name + number) for number in "012"] for name in "ab")
        guest = place.synth(*guest.split(), file=",".join(here), size="32M")
        recv = place.recv(ram=["ram%d=%s" % item for item in enumerate(there)])
        send = place.send("--pid", guest.pid, "--channels", "3", ram=["ram%d=%s" % item for item in enumerate(here)])
        expect_moved(send, recv)
        for source, dest in zip(here, there):
            assert same_bytes(source, dest), dest
        check_guest(place, *there)


@test(name="one_page", size=PAGE)
@test(name="odd_pages_nobody_writes", size=259 * PAGE)
@test(name="one_huge_page", size=2 * MIB, hugetlb=True)
def nobody_writes(place, size, hugetlb=False):
    with tempfile.TemporaryDirectory(dir=hugetlb_dir() if hugetlb else place.dir) as dir:
        here, there = os.path.join(dir, "a"), os.path.join(dir, "b")
        with open(here, "wb+") as file:
            file.truncate(size)
            with mmap.mmap(file.fileno(), size) as memory:	# hugetlbfs has no write(2)
                memory[:] = os.urandom(size)
        recv = place.recv(ram=["ram0=" + there])
        send = place.send(ram=["ram0=" + here])
        send.expect(0)
        recv.expect(0)
        assert same_bytes(here, there)


@test()
def sparse_block_costs_what_is_used(place):
    skip_without_room()
    guest = place.synth("--dirty-rate", "50M", "--used", "64M", size="1T")
    recv = place.recv()
    send = place.send("--pid", guest.pid, "--channels", "4")
    peaks = {recv: 0, send: 0}
    while not all(process.ended() for process in peaks):	# each has a deadline for the other
        for process in peaks:
            peaks[process] = max(peaks[process], peak_memory(process.pid))
    result = expect_moved(send, recv)
    assert result["total-time"] < 5000 * SLOW, result
    if SLOW == 1:	# sanitizers have memory of their own
        assert all(0 < peak < 100 * MIB for peak in peaks.values()), sorted(peaks.values())
    assert same_bytes(place.path("a"), place.path("b"))
    assert allocated(place.path("b")) <= allocated(place.path("a"))
    check_guest(place, "b")


def peak_memory(pid):
    """Bytes, the guest's pages it touched included; 0 once it has ended."""
    try:
        return next(int(line.split()[1]) * KIB for line in open("/proc/%d/status" % pid) if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return 0


@test("long")
def large_guest_goes_on(place):
    need_free(place, 9 * GIB)
    guest = place.synth("--dirty-rate", "100M", "--fill", "mixed:70", size="4G")
    heir = start_heir(place, "--ticks", "1000")
    recv = place.recv("--pid", heir.pid)
    expect_moved(place.send("--pid", guest.pid, "--channels", "2"), recv)
    heir.expect(0, 120)
    assert is_stopped(guest.pid)


@test(name="too_fast_cancelled", send="--tracker async")
@test(name="too_fast_cancelled_throttled", send="--auto-converge --channels 4")
def too_fast_is_cancelled(place, send):
    """The source runs on, and dest is left as it was found: without the file."""
    guest = place.synth("--dirty-rate", "8G", "--fill", "mixed:50", size="8M")
    heir = start_heir(place)
    recv = place.recv("--pid", heir.pid)
    limits = "--downtime-ms 1 --timeout-s 2 --bandwidth 16M"
    sender = place.send("--pid", guest.pid, *limits.split(), *send.split())
    sender.expect(6, line="--timeout-action force")
    recv.expect(4, line="nothing was taken over")
    expect_running(guest.pid)
    assert not guardians(place), "somebody is left who might stop the guest"
    assert not os.path.exists(place.path("b")) and is_stopped(heir.pid)


@test()
def slowed_guest_converges(place):
    guest = place.synth("--dirty-rate", "8G", size="16M")
    heir = start_heir(place, "--ticks", "1000")
    recv = place.recv("--pid", heir.pid)
    limits = "--auto-converge --bandwidth 128M --downtime-ms 40 --timeout-s 100"
    result = expect_moved(place.send("--pid", guest.pid, *limits.split()), recv)
    assert result["cpu-throttle-percentage"] >= 20, result
    heir.expect(0)


@test()
def paused_guest_arrives_paused(place):
    guest = place.synth("--dirty-rate", "50M", size="16M")
    guest.signal(signal.SIGSTOP)
    guest.until(lambda: is_stopped(guest.pid), "stop")
    heir = start_heir(place, "--ticks", "1000")
    recv = place.recv("--pid", heir.pid)
    expect_moved(place.send("--pid", guest.pid), recv)
    assert is_stopped(heir.pid), "dest runs a guest that its owner had paused"
    assert is_stopped(guest.pid) and same_bytes(place.path("a"), place.path("b"))
    heir.signal(signal.SIGCONT)
    heir.expect(0)


@test()
def ipv6(place):
    try:
        socket.socket(socket.AF_INET6).bind(("::1", 0))
    except OSError as error:
        skip("no IPv6 loopback: %s" % error)
    guest = place.synth("--dirty-rate", "50M", size="16M")
    recv = place.recv(uri="tcp://[::1]:0")
    expect_moved(place.send("--pid", guest.pid, "--channels", "2", uri="tcp://[::1]:%d" % place.port), recv)
    assert same_bytes(place.path("a"), place.path("b"))
    check_guest(place, "b")


# --- the product ---

def combinations():
    """(function, arguments, hugetlb) of each; what is not multiplied out takes turns."""
    fills, channels, trackers = ("random", "zero", "mixed:50", "text"), (1, 2, 4, 8), ("async", "sync")
    writes = [("0", "uniform")] + list(itertools.product(("50M", "8G"), ("uniform", "hot:10", "sequential")))
    turn = random.Random(1)
    for fill, channel, tracker, (rate, pattern), hugetlb in itertools.product(fills, channels, trackers, writes, (False, True)):
        others = ["--seed %d" % turn.randrange(1, 1000)]
        others.append(turn.choice(("", "--blocks 3", "--blocks 5")))
        others.append(turn.choice(("", "--verify")))
        others.append(turn.choice(("", "", "--zero-pages off")))
        if not hugetlb:
            others.append(turn.choice(("", "--size 9876K", "--size 1G --used 32M")))
            others.append(turn.choice(("", "--discard 30")) if rate != "0" else "")
        function = exact
        if rate == "8G" and fill != "zero" and turn.random() < 0.5:	# zero pages take no time, so that might be over first
            function = cancelled
            others.append("--size 32M --used 32M " + TOO_FAST + "8M")
        elif rate == "8G":
            others.append(TOO_FAST + "64M --timeout-action force")
        yield function, "--fill %s --channels %d --tracker %s --dirty-rate %s --pattern %s %s" % (
            fill, channel, tracker, rate, pattern, " ".join(filter(None, others))), hugetlb


for function, arguments, hugetlb in combinations():
    test("long", "%s%s %s" % (function.__name__, " hugetlb" if hugetlb else "", arguments),
         arguments=arguments, hugetlb=hugetlb)(function)


if __name__ == "__main__":
    main()
