# SPDX-License-Identifier: BSD-2-Clause
"""Each wrong use ends at once with its exit code and one line on stderr that says what to do."""

import os
import shutil
import socket
import subprocess

from rmig import SLOW, TOOL, main, skip, test

MB = 1 << 20


def run(command, seconds=15, cwd=None, **who):
    return subprocess.run([str(a) for a in command], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=seconds * SLOW, cwd=cwd, **who)


def wrong(arguments, code, *parts, tool=TOOL, **options):
    """Exit code, exactly one line on stderr with all of @parts in it, nothing on stdout."""
    got = run([tool, *arguments], **options)
    what = "rdmamig %s: exit code %d, stderr %r, stdout %r" % (" ".join(map(str, arguments)), got.returncode, got.stderr,
                                                              got.stdout[-300:])
    assert got.returncode == code, "not %d: %s" % (code, what)
    assert got.stderr.count("\n") == 1 and got.stderr.startswith("rdmamig"), "not one line: " + what
    assert len(got.stderr) < 600, "nobody reads that: " + what
    for part in parts:
        assert part in got.stderr, "no %r: %s" % (part, what)
    assert not got.stdout, "said something on stdout: " + what
    return got.stderr


def memory(place, name="a", size=MB, fill=None):
    path = place.path(name)
    with open(path, "wb") as file:
        file.truncate(size)
        if fill:
            file.write(fill)
    return path


COMMANDS = ["send", "recv", "resolve", "check", "synth", "bench"]


@test()
def unknown_command_and_option(place):
    wrong(["sned"], 2, "'sned' is not a command", "rdmamig --help")
    wrong([""], 2, "is not a command")
    wrong(["--frobnicate"], 2, "--help")
    for command in COMMANDS:
        wrong([command, "--frobnicate"], 2, "--frobnicate", "rdmamig %s --help" % command)
        wrong([command, "-x"], 2, "-x")
        wrong([command, "--json=yes"], 2, "--json")
    got = run([TOOL])
    assert got.returncode == 2 and "Usage:" in got.stderr and not got.stdout, got


@test()
def missing_and_spare_arguments(place):
    a = "ram0=" + memory(place)
    for command in ("send", "recv"):
        wrong([command], 2, "URI")
        wrong([command, "--ram", a], 2, "URI")
        wrong([command, "tcp://127.0.0.1:1"], 2, "--ram NAME=PATH")
        wrong([command, "tcp://127.0.0.1:1", "tcp://127.0.0.1:2", "--ram", a], 2, "URI")
        for option in ("--ram", "--pid", "--state-dir", "--handover-timeout-s"):
            wrong([command, "tcp://127.0.0.1:1", option], 2, option, "value")
            wrong([command, "tcp://127.0.0.1:1", "--ram", a, option, ""], 2, option)
    wrong(["synth"], 2, "FILE")
    wrong(["synth", place.path("s")], 2, "--size")
    wrong(["resolve", "a", "b"], 2, "SESSION")


@test()
def bad_numbers(place):
    a = "ram0=" + memory(place)
    send = ["send", "tcp://127.0.0.1:1", "--ram", a, "--state-dir", place.path("state")]
    recv = ["recv", "tcp://127.0.0.1:0", "--ram", a, "--state-dir", place.path("state")]
    numbers = ["x", "-1", "+1", "1e3", "0x10", " 1", "1 ", "1.5", "99999999999999999999999", "1q", "ms"]
    for option, more in [("--channels", ["1K"]), ("--bandwidth", ["10X", "1KB", "17179869184G"]), ("--downtime-ms", ["5d"]),
                         ("--timeout-s", ["5d"]), ("--handover-timeout-s", ["s"]), ("--pid", ["0", "1K", "4294967296"])]:
        for number in numbers + more:
            wrong([*send, "%s=%s" % (option, number)], 2, option, "'%s'" % number)
    for number in numbers:
        wrong([*recv, "--wait-s=" + number], 2, "--wait-s", "'%s'" % number)
    for number in ("0", "17", "1000000"):
        wrong([*send, "--channels", number], 2, "--channels", "1 to 16")
    for option in ("--downtime-ms", "--timeout-s", "--handover-timeout-s"):
        wrong([*send, option, "0"], 2, option, "more than 0")
    wrong([*recv, "--handover-timeout-s", "0"], 2, "--handover-timeout-s", "more than 0")
    for arguments in (["--timeout-action", "explode"], ["--tracker", "soft-dirty"], ["--zero-pages", "yes"]):
        wrong([*send, *arguments], 2, arguments[0], arguments[1])
    wrong([*send, "--codec", "zstd-9000"], 3, "zstd-9000", "none")
    for arguments in (["--size", "0"], ["--size", "4097"], ["--size", "1Q"], ["--size", "1M", "--used", "2M"],
                      ["--size", "1M", "--fill", "stripes"], ["--size", "1M", "--fill", "mixed:101"],
                      ["--size", "1M", "--pattern", "hot:101"], ["--size", "1M", "--discard", "101"]):
        wrong(["synth", place.path("s"), *arguments], 2)
    assert not os.path.exists(place.path("s"))
    for arguments in (["--size", "1Q"], ["--blocks", "0"], ["--blocks", "x"], ["--channels", "17"], ["--backing", "disk"],
                      ["--flip-byte", "-1"]):
        wrong(["bench", "tcp://127.0.0.1:0", *arguments], 2, arguments[0])


@test()
def bad_uris(place):
    a = "ram0=" + memory(place)
    looks = "tcp://HOST:PORT"
    for uri, part in [
            ("", looks), ("x", looks), ("localhost", looks), ("127.0.0.1:7471", looks), ("tcp:", looks), ("tcp:/h", looks),
            ("file:/tmp/x", "not supported"), ("://h", "scheme"), ("http://h:80", "unknown scheme 'http'"),
            ("TCP://h:1", "unknown scheme 'TCP'"), ("quic://h", "unknown scheme 'quic'"), (" tcp://h", "scheme"),
            ("tcp://h:", "not a port"), ("tcp://h:x", "not a port"), ("tcp://h:-1", "not a port"), ("tcp://h:65536", "0 to 65535"),
            ("tcp://h:99999999999999999999", "0 to 65535"), ("tcp://h:1x", "not a port"), ("tcp://h: 1", "not a port"),
            ("tcp://h/x", "not a host name"), ("tcp://a b:1", "not a host name"), ("tcp://h@x:1", "not a host name"),
            ("tcp://::1:7471", "in brackets"), ("tcp://fe80::1", "in brackets"), ("tcp://[::1", "']'"),
            ("tcp://[]:1", "not an IPv6 address"), ("tcp://[zz::1]:1", "not an IPv6 address"),
            ("tcp://[127.0.0.1]:1", "not an IPv6 address"), ("tcp://[::1%]:1", "not an IPv6 address"),
            ("tcp://[::1]7471", "after the host"), ("tcp://[::1]:", "not a port"), ("tcp://mlx5_0%h:1", "only rdma://"),
            ("rdma://%h:1", "RDMA device"), ("rdma://a/b%h:1", "RDMA device"), ("tcp://" + "h" * 300 + ":1", "longer than"),
            ("tcp://h\n:1", "control character"), ("tcp://h\x1b[2J:1", "control character")]:
        for command in ("send", "recv"):
            wrong([command, uri, "--ram", a], 2, part, "rdmamig %s --help" % command)
    wrong(["send", "tcp://:1", "--ram", a, "--state-dir", place.path("state")], 4, "name the host")


@test()
def rdma_is_not_in_this_build(place):
    a = "ram0=" + memory(place)
    for command in ("send", "recv"):
        got = run([TOOL, command, "rdma://127.0.0.1:0" if command == "recv" else "rdma://127.0.0.1:1", "--ram", a, "--state-dir",
                   place.path("state"), *(["--wait-s", "100ms"] if command == "recv" else [])])
        if got.returncode == 4:
            skip("this build has rdma")
        assert got.returncode == 3 and got.stderr.count("\n") == 1 and "tcp://" in got.stderr, got


@test()
def peers_that_are_not_there(place):
    a = "ram0=" + memory(place)
    state = ["--state-dir", place.path("state")]
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    wrong(["recv", "tcp://127.0.0.1:%d" % port, "--ram", a, *state], 4, "127.0.0.1:%d" % port, "give another port", "ss -ltnp")
    wrong(["recv", "tcp://192.0.2.1:0", "--ram", a, *state], 4, "192.0.2.1", "ip -br address")
    taken.close()
    wrong(["send", "tcp://127.0.0.1:%d" % port, "--ram", a, *state], 4, "127.0.0.1:%d" % port, "refused", "is `rdmamig recv` running")
    for command in ("send", "recv"):
        wrong([command, "tcp://no-such-host.invalid:1", "--ram", a, *state], 4, "no-such-host.invalid", seconds=30)
    wrong(["recv", "tcp://127.0.0.1:0", "--wait-s", "1ms", "--ram", "ram0=" + place.path("new"), *state, "--quiet"], 4,
          "no source came", "--wait-s")
    assert not os.path.exists(place.path("new")), "a file was made though no source came"


@test()
def bad_memory_files(place):
    good = memory(place, "good")
    uri = "tcp://127.0.0.1:1"
    state = ["--state-dir", place.path("state")]

    def both(ram, code, *parts):
        wrong(["send", uri, *ram, *state], code, *parts)
        wrong(["recv", "tcp://127.0.0.1:0", *ram, *state], code, *parts)

    for text in ("good", "=" + good, "ram0=", "ram0=a,b=c", ""):
        both(["--ram", text], 2, "--ram")
    both(["--ram", "n" * 256 + "=" + good], 2, "longer than 255 bytes")
    both(["--ram", "a=" + good, "--ram", "a=" + good], 2, "twice")
    both(["--ram", "a=" + good, "--ram", "b=" + good], 2, "same file")
    os.link(good, place.path("link"))
    both(["--ram", "a=" + good, "--ram", "b=" + place.path("link")], 2, "same file")
    os.symlink(good, place.path("symlink"))
    both(["--ram", "a=" + good, "--ram", "b=" + place.path("symlink")], 2, "same file")

    wrong(["send", uri, "--ram", "a=" + place.path("none"), *state], 3, place.path("none"), "No such file")
    both(["--ram", "a=" + place.path("none/none")], 3, "none/none", "No such file")
    both(["--ram", "a=" + place.dir], 3, place.dir, "directory")
    both(["--ram", "a=" + memory(place, "empty", 0)], 3, "empty", "empty")
    both(["--ram", "a=" + memory(place, "odd", 4097)], 3, "odd", "4096")
    os.mkfifo(place.path("fifo"))
    both(["--ram", "a=" + place.path("fifo")], 3, "fifo", "regular")
    both(["--ram", "a=/dev/null"], 3, "/dev/null")
    os.symlink("loop", place.path("loop"))
    both(["--ram", "a=" + place.path("loop")], 3, "loop")
    both(["--ram", "a=" + good + "/x"], 3, "good/x")
    both(["--ram", "a=/" + "x" * 5000], 3, "/xxx", "too long")
    many = [part for i in range(65) for part in ("--ram", "b%d=%s" % (i, memory(place, "m%d" % i)))]
    got = run([TOOL, "send", uri, *many, *state])
    assert got.returncode in (2, 4) and got.stderr.count("\n") == 1, got


@test()
def memory_on_a_disk(place):
    disk = "/var/tmp/rdmamig-test-%d" % os.getpid()
    try:
        with open(disk, "wb") as file:
            file.truncate(MB)
        kind = run(["stat", "-f", "-c", "%T", disk]).stdout.strip()
        if kind == "tmpfs":
            skip("/var/tmp is on tmpfs")
        wrong(["send", "tcp://127.0.0.1:1", "--ram", "a=" + disk, "--state-dir", place.path("state")], 3, disk, "/dev/shm")
        wrong(["recv", "tcp://127.0.0.1:0", "--ram", "a=" + disk, "--state-dir", place.path("state")], 3, disk, "/dev/shm")
        wrong(["recv", "tcp://127.0.0.1:0", "--ram", "a=" + disk + ".new", "--state-dir", place.path("state")], 3, "/dev/shm")
        wrong(["synth", disk + ".new", "--size", "1M"], 3, "/dev/shm")
        assert not os.path.exists(disk + ".new"), "a file was left on the disk"
    finally:
        os.unlink(disk)


@test()
def an_ordinary_user(place):
    if os.getuid():
        skip("only root can become another user")
    os.chmod(place.dir, 0o711)
    tool = shutil.copy(TOOL, place.path("rdmamig"))
    os.chmod(tool, 0o755)
    mine = memory(place)
    os.chmod(mine, 0o600)
    os.mkdir(place.path("own"), 0o700)
    shutil.chown(place.path("own"), "nobody")
    nobody = dict(user="nobody", group="nogroup", extra_groups=[], cwd="/", tool=tool)
    state = ["--state-dir", place.path("own/state")]
    wrong(["send", "tcp://127.0.0.1:1", "--ram", "a=" + mine, *state], 3, mine, "ermission denied", **nobody)
    wrong(["recv", "tcp://127.0.0.1:0", "--ram", "a=" + mine, *state], 3, mine, "ermission denied", **nobody)
    own = memory(place, "own/a")
    shutil.chown(own, "nobody")
    # The default state directory belongs to root; one that cannot be made, too.
    wrong(["send", "tcp://127.0.0.1:1", "--ram", "a=" + own, "--state-dir", place.path("s/t")], 3, "state directory", "use another one", **nobody)
    guest = place.synth(size="1M", file="g")
    os.chmod(place.path("g"), 0o666)
    wrong(["send", "tcp://127.0.0.1:1", "--ram", "a=" + place.path("g"), "--pid", guest.pid, *state], 3, str(guest.pid), **nobody)


@test()
def processes_that_are_not_the_guest(place):
    a = "a=" + memory(place)
    other = place.start("other", "1000", program=("sleep",))
    gone = place.start("gone", program=("true",))
    gone.wait()
    state = ["--state-dir", place.path("state")]
    for command, uri in (("send", "tcp://127.0.0.1:1"), ("recv", "tcp://127.0.0.1:0")):
        wrong([command, uri, "--ram", a, *state, "--pid", gone.pid], 3, str(gone.pid), "there is no process")
    wrong(["send", "tcp://127.0.0.1:1", "--ram", a, *state, "--pid", 1 << 30], 3, "there is no process")
    # The one who is to go on with the guest waits for it, stopped.
    memory(place, "a")
    recv = place.recv("--pid", other.pid, name="recv0")
    send = place.send(name="send0")
    recv.expect(3, 20, "process %d runs" % other.pid)
    send.expect((3, 4), 20)
    assert not os.path.exists(place.path("b"))
    recv = place.recv("--wait-s", "20")
    send = place.send("--pid", other.pid)
    send.expect(3, 20, str(other.pid))
    assert send.err().count("\n") == 1 and "block ram0" in send.err(), send.err()
    recv.expect((4, 7), 20)
    assert not os.path.exists(place.path("b"))


@test()
def blocks_that_differ(place):
    def differ(source, dest, *parts):
        for name in ("b", "c", "d"):
            if os.path.exists(place.path(name)) and os.path.getsize(place.path(name)) == MB:
                os.unlink(place.path(name))
        recv = place.recv(ram=dest)
        send = place.send(ram=source)
        send.expect(3, 20)
        recv.expect(3, 20)
        for process in (send, recv):
            assert process.err().count("\n") == 1, process.err()
            for part in parts:
                assert part in process.err(), (part, process.err())

    memory(place, "a", MB, b"x" * 8192)
    memory(place, "a2", MB, b"x" * 8192)
    differ(["ram0=a"], ["ram1=b"], "ram0", "ram1")
    differ(["ram0=a"], ["ram0=b", "ram1=c"], "ram1")
    differ(["ram0=a", "ram1=a2"], ["ram0=b"], "ram1")
    differ(["ram0=a", "ram1=a2"], ["ram0=b", "ram2=c"], "ram1", "ram2")
    assert not os.path.exists(place.path("b")) and not os.path.exists(place.path("c")), "files were left"
    before = b"y" * 4096
    memory(place, "d", 2 * MB, before)
    differ(["ram0=a"], ["ram0=d"], "ram0", str(MB), str(2 * MB))
    assert open(place.path("d"), "rb").read(4096) == before, "a file of another size was touched"


@test()
def state_directories_that_are_none(place):
    guest = place.synth(size="1M")
    send = ["send", "tcp://127.0.0.1:1", "--ram", "ram0=" + place.path("a"), "--pid", guest.pid, "--state-dir"]
    recv = ["recv", "tcp://127.0.0.1:0", "--ram", "ram0=" + place.path("b"), "--wait-s", "5", "--quiet", "--state-dir"]
    memory(place, "file")
    for bad in (place.path("file"), place.path("file/x"), "/proc/rdmamig", "/sys/rdmamig"):
        for command in (send, recv):
            wrong([*command, bad], 3, bad, "use another one")
    assert not os.path.exists(place.path("b"))


if __name__ == "__main__":
    main()
