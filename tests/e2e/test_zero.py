# SPDX-License-Identifier: BSD-2-Clause
"""Pages of zeros and holes, on tmpfs: not sent, not allocated at dest, and never what was there before (rule R4)."""

import ctypes
import os
import random
import sys

from rmig import allocated, is_stopped, main, same_bytes, test

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
PAGE = 4 * KIB
PUNCH_HOLE_KEEP_SIZE = 3	# fallocate(2)
libc = ctypes.CDLL(None, use_errno=True)

# A guest whose few pages change their kind all the time: zeros, bytes, hole, hole and at once bytes again, hole and then
# only read, which fills it with zeros that nobody wrote.
RESTLESS = """
import mmap, os, random, sys, time
path, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
file = open(path, "r+b")
memory = mmap.mmap(file.fileno(), 0)
turn = random.Random(1)
print('{"event": "ready"}', flush=True)
while True:
    for page in range(first, first + count):
        at, kind = page * 4096, turn.randrange(5)
        if kind >= 2:
            memory.madvise(mmap.MADV_REMOVE, at, 4096)
        if kind == 4:
            assert memory[at] == 0
        elif kind != 2:
            memory[at:at + 4096] = bytes(4096) if kind == 0 else turn.randbytes(4096)
    time.sleep(0.001)
"""


def punch(path, page, pages=1):
    file = os.open(path, os.O_RDWR)
    try:
        if libc.fallocate(file, PUNCH_HOLE_KEEP_SIZE, ctypes.c_long(page * PAGE), ctypes.c_long(pages * PAGE)):
            raise OSError(ctypes.get_errno(), "fallocate " + path)
    finally:
        os.close(file)


def page_of(path, page):
    try:
        with open(path, "rb") as file:
            return os.pread(file.fileno(), PAGE, page * PAGE)
    except FileNotFoundError:	# recv makes it when the source has said how long it is
        return b""


def write_random(path, first_byte, end_byte):
    with open(path, "r+b") as file:
        for at in range(first_byte, end_byte, MIB):
            os.pwrite(file.fileno(), os.urandom(min(MIB, end_byte - at)), at)


def check_guest(place, *files):
    checker = place.start("checker", "synth", "--resume", ",".join(map(place.path, files)), "--json", "--now", "--check-only")
    checker.expect(0, 120)
    assert checker.events("ready")[-1]["checked-pages"] > 0


def expect_moved(send, recv):
    send.expect(0, 120)
    recv.expect(0)
    return send.result()


@test(name="zero_block_is_neither_sent_nor_allocated")
@test(name="zero_block_is_not_allocated_by_verify", send=("--verify", "--channels", "4"))
def zero_block(place, send=()):
    guest = place.synth("--fill", "zero", size="1G")
    assert allocated(place.path("a")) > GIB - 2 * MIB, "the zeros are not there"
    recv = place.recv()
    result = expect_moved(place.send("--pid", guest.pid, *send), recv)
    assert result["ram"]["transferred"] < MIB, result
    assert result["ram"]["duplicate"] > (GIB - 2 * MIB) // PAGE, result
    assert allocated(place.path("b")) <= 16 * KIB, allocated(place.path("b"))	# the page of the guest's header
    check_guest(place, "b")


@test()
def holes_stay_holes(place):
    guest = place.synth("--fill", "mixed:10", "--holes", "--used", "64M", "--dirty-rate", "1M", size="1G")
    recv = place.recv()
    expect_moved(place.send("--pid", guest.pid, "--channels", "2", "--verify"), recv)
    assert same_bytes(place.path("a"), place.path("b"))
    assert allocated(place.path("b")) <= allocated(place.path("a"))


@test(name="normal_zero_normal_in_many_rounds", options="--channels 1")
@test(name="normal_zero_normal_in_many_rounds_sync", options="--channels 4 --tracker sync")
@test(name="normal_hole_normal_in_many_rounds", options="--channels 4 --discard 40")
@test(name="normal_hole_normal_in_many_rounds_zero_pages_off", options="--channels 2 --discard 40 --zero-pages off")
def many_rounds(place, options):
    """Few hot pages, zero or not at each rewrite; never converged, so there is a new round as soon as one is over."""
    bench = place.start("bench", "bench", "--json", "--dir", place.dir, "--size", "4M", "--fill", "mixed:50", "--pattern", "hot:20",
                        *"--dirty-rate 200M --bandwidth 4M --downtime-ms 1 --timeout-s 2 --timeout-action force".split(),
                        *options.split())
    bench.expect(0)
    result = bench.result()
    assert result["verified"] is True and result["different-pages"] == 0 and result["wrong-pages"] == 0, result
    assert result["ram"]["dirty-sync-count"] >= 4, result


@test(name="pages_change_their_kind", options=())
@test(name="pages_change_their_kind_sync", options=("--tracker", "sync", "--channels", "4"))
@test(name="pages_change_their_kind_zero_pages_off", options=("--zero-pages", "off", "--channels", "4"))
def restless(place, options):
    """The source's process stands still at the end, so its memory is what dest must hold."""
    size, first, count = 4 * MIB, 100, 300
    with open(place.path("a"), "wb") as file:
        file.truncate(size)
    write_random(place.path("a"), 0, size // 2)
    guest = place.start("guest", "-c", RESTLESS, place.path("a"), first, count, program=(sys.executable,))
    guest.until(lambda: guest.events("ready"), "ready")
    recv = place.recv()
    send = place.send("--pid", guest.pid, *"--bandwidth 4M --downtime-ms 1 --timeout-s 2 --timeout-action force".split(),
                      *options)
    result = expect_moved(send, recv)
    assert is_stopped(guest.pid) and result["ram"]["dirty-sync-count"] >= 4, result
    assert same_bytes(place.path("a"), place.path("b"))


@test(name="punched_after_it_was_sent", every=3)
@test(name="punched_after_it_was_sent_all", every=1)
@test(name="punched_after_it_was_sent_sync", every=2, options=("--tracker", "sync", "--channels", "4"))
def punched_after_it_was_sent(place, every, options=()):
    """
    Pages that no process rewrites are punched out of the source's file by us: no tracker can see that, only a look at the
    file. Each was seen at dest before, and the guest ran on after, so at least the last look was still to come.
    """
    used, size = 4 * MIB, 16 * MIB
    guest = place.synth("--used", used, "--dirty-rate", "20M", "--pattern", "hot:10", size=size)
    write_random(place.path("a"), used, size)	# where the guest never writes
    recv = place.recv()
    send = place.send("--pid", guest.pid, *"--bandwidth 20M --downtime-ms 1 --timeout-s 3 --timeout-action force".split(), *options)

    todo, punched = list(range(used // PAGE, size // PAGE, every)), 0
    late = None
    random.Random(1).shuffle(todo)
    while todo and late is None and not send.ended():
        left = []
        for page in todo:
            if is_stopped(guest.pid):
                late = page
                break
            if page_of(place.path("b"), page) != page_of(place.path("a"), page):
                left.append(page)
                continue
            punch(place.path("a"), page)
            if is_stopped(guest.pid):	# perhaps too late for the last look
                late = page
                break
            punched += 1
        todo = left
    expect_moved(send, recv)
    if late is not None:
        punch(place.path("a"), late)
        punch(place.path("b"), late)
    assert punched >= 500, "only %d pages were punched in time" % punched
    assert same_bytes(place.path("a"), place.path("b"))
    if every == 1 and late is None:
        check_guest(place, "b")		# which wants nothing but zeros there


@test()
def punched_on_the_way(place):
    """Holes of many pages, at any time, also under the hands of the thread that sends them."""
    used, size = 4 * MIB, 32 * MIB
    guest = place.synth("--used", used, "--dirty-rate", "20M", "--discard", "20", size=size)
    write_random(place.path("a"), used, size)
    recv = place.recv()
    send = place.send("--pid", guest.pid, *"--bandwidth 32M --downtime-ms 1 --timeout-s 2 --timeout-action force".split())
    turn, late = random.Random(2), None
    while not send.ended() and not is_stopped(guest.pid):
        late = turn.randrange(used // PAGE, size // PAGE - 16), turn.randrange(1, 17)
        punch(place.path("a"), *late)
    expect_moved(send, recv)
    assert late, "nothing was punched in time"
    punch(place.path("a"), *late)	# the one that may have come after the last look
    punch(place.path("b"), *late)
    assert same_bytes(place.path("a"), place.path("b"))


@test(name="old_bytes_of_dest_are_gone", options="--channels 2")
@test(name="old_bytes_of_dest_are_gone_zero_pages_off", options="--zero-pages off --verify")
def old_bytes(place, options):
    """A dest file that is there already, full of something else; the source has holes, zeros and bytes."""
    size = 32 * MIB
    guest = place.synth("--fill", "mixed:30", "--used", "16M", "--dirty-rate", "20M", "--discard", "20", size=size)
    with open(place.path("b"), "wb") as file:
        for _ in range(size // MIB):
            file.write(b"\xff" * MIB)
    recv = place.recv()
    expect_moved(place.send("--pid", guest.pid, *options.split()), recv)
    assert same_bytes(place.path("a"), place.path("b"))
    assert allocated(place.path("b")) <= 16 * MIB, "the source's holes are allocated at dest"
    check_guest(place, "b")


@test()
def blocks_in_another_order(place):
    guest = place.synth("--fill", "mixed:60", "--dirty-rate", "20M", file=",".join(map(place.path, "abc")), size=3 * 8 * MIB + 2 * PAGE)
    recv = place.recv(ram=("ram2=z", "ram0=x", "ram1=y"))
    expect_moved(place.send("--pid", guest.pid, "--channels", "3", ram=("ram1=b", "ram2=c", "ram0=a")), recv)
    for source, dest in zip("abc", "xyz"):
        assert same_bytes(place.path(source), place.path(dest)), dest
    check_guest(place, *"xyz")


if __name__ == "__main__":
    main()
