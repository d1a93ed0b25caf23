# SPDX-License-Identifier: BSD-2-Clause
"""What the end-to-end tests share: real processes of the built command, deadlines, TAP.

A test is a function marked with @test. It gets a Place: a directory on tmpfs, a state directory, and the processes it
started there, all of which are gone when it ends. It fails by raising; skip(reason) skips. Levels: "check" is the sample
that `make check` runs, "long" is everything.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

TOOL = os.path.abspath(os.environ.get("RDMAMIG_TOOL", "build/rdmamig"))
LEVEL = os.environ.get("RDMAMIG_LEVEL", "check")
HUGETLB = os.environ.get("RDMAMIG_HUGETLB", "")
SLOW = 4 if any(s in TOOL for s in ("asan", "tsan")) else 1	# deadlines of the tests themselves, not of the tool

_tests = []


class Skip(Exception):
    pass


def skip(reason):
    raise Skip(reason)


def skip_without_room():
    """ThreadSanitizer keeps shadows of all that is mapped."""
    if "tsan" in TOOL:
        skip("ThreadSanitizer has no room for 1 TiB")


def test(level="check", name=None, **arguments):
    """Mark a function as a test; may be applied several times, with other arguments each."""
    def mark(function):
        _tests.append((name or function.__name__, level, function, arguments))
        return function
    return mark


def is_long():
    return LEVEL == "long"


class Process:
    """One process, its output in files, never waited for without a deadline."""

    def __init__(self, place, arguments, name, program):
        self.name = name
        self.out_path = os.path.join(place.dir, name + ".out")
        self.err_path = os.path.join(place.dir, name + ".err")
        self.popen = subprocess.Popen([*program, *(str(a) for a in arguments)], stdin=subprocess.DEVNULL,
                                      stdout=open(self.out_path, "w"), stderr=open(self.err_path, "w"),
                                      cwd=place.dir)
        self.pid = self.popen.pid

    def out(self):
        return open(self.out_path, errors="replace").read()

    def err(self):
        return open(self.err_path, errors="replace").read()

    def events(self, kind=None):
        found = []
        for line in self.out().splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if kind is None or event.get("event") == kind:
                found.append(event)
        return found

    def result(self):
        return self.events("result")[-1]

    def wait(self, seconds=60):
        try:
            return self.popen.wait(seconds * SLOW)
        except subprocess.TimeoutExpired:
            raise AssertionError("%s still runs after %d s; out: %s err: %s" %
                                 (self.name, seconds * SLOW, self.out()[-1500:], self.err()[-1500:]))

    def ended(self):
        return self.popen.poll() is not None

    def expect(self, code, seconds=60, line=None):
        """Wait; the exit code must be @code (or one of them), and @line a part of stderr."""
        got = self.wait(seconds)
        codes = code if isinstance(code, (tuple, list, set)) else (code,)
        assert got in codes, "%s ended with %s, not %s; out: %s err: %s" % (
            self.name, got, code, self.out()[-1500:], self.err()[-1500:])
        if line is not None:
            assert line in self.err(), "%s: no %r in stderr: %s" % (self.name, line, self.err()[-1500:])
        return got

    def signal(self, number):
        self.popen.send_signal(number)

    def until(self, condition, what, seconds=30):
        end = time.monotonic() + seconds * SLOW
        while not condition():
            if self.ended():
                assert condition(), "%s ended (%s) before %s; err: %s" % (self.name, self.popen.returncode, what, self.err()[-1500:])
                return
            assert time.monotonic() < end, "%s: no %s within %d s; out: %s err: %s" % (
                self.name, what, seconds * SLOW, self.out()[-800:], self.err()[-800:])
            time.sleep(0.005)	# another process's file or /proc has no event to wait for


class Place:
    """A test's own directory on tmpfs and its processes."""

    def __init__(self, base="/dev/shm"):
        self.dir = tempfile.mkdtemp(prefix="rdmamig-test.", dir=base)
        self.processes = []
        self.port = None

    def path(self, name):
        return os.path.join(self.dir, name)

    def start(self, name, *arguments, program=(TOOL,)):
        process = Process(self, arguments, name, program)
        self.processes.append(process)
        return process

    def close(self):
        for process in self.processes:
            if not process.ended():
                process.signal(signal.SIGKILL)
                process.popen.wait(10)
        for pid in guardians(self):
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.dir, ignore_errors=True)

    # --- the three parts of a migration ---

    def synth(self, *arguments, name="synth", file="a", size="64M", wait=True):
        """A guest that fills @file and then rewrites pages; returns once it is filled."""
        process = self.start(name, "synth", self.path(file), "--size", size, "--json", *arguments)
        if wait:
            process.until(lambda: process.events("ready"), "ready", 120)
        return process

    def recv(self, *arguments, name="recv", ram=("ram0=b",), uri="tcp://127.0.0.1:0"):
        """A dest that listens; its port is in self.port."""
        process = self.start(name, "recv", uri, "--json", "--state-dir", self.path("state-dst"), *self.rams(ram), *arguments)
        process.until(lambda: process.events("listening"), "listening")
        self.port = int(process.events("listening")[-1]["uri"].rsplit(":", 1)[1])
        return process

    def send(self, *arguments, name="send", ram=("ram0=a",), uri=None):
        return self.start(name, "send", uri or "tcp://127.0.0.1:%d" % self.port, "--json", "--state-dir",
                          self.path("state-src"), *self.rams(ram), *arguments)

    def rams(self, ram):
        out = []
        for item in ram:
            name, file = item.split("=", 1)
            out += ["--ram", "%s=%s" % (name, file if file.startswith("/") else self.path(file))]
        return out


def guardians(place):
    """Pids of guardian processes that work in this place's state directory."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if open("/proc/%s/comm" % pid).read().strip() != "rdmamig-guard":
                continue
            links = [os.readlink("/proc/%s/fd/%s" % (pid, fd)) for fd in os.listdir("/proc/%s/fd" % pid)]
        except OSError:
            continue
        if any(link.startswith(place.dir) for link in links):
            found.append(int(pid))
    return found


def state_of(pid):
    """'R', 'S', 'T' ... of a process, '' if it is gone."""
    try:
        return open("/proc/%d/stat" % pid).read().rsplit(")", 1)[1].split()[0]
    except OSError:
        return ""


def is_stopped(pid):
    return state_of(pid) == "T"


def expect_running(pid, seconds=10):
    """The guest is not stopped, or is let go within @seconds."""
    end = time.monotonic() + seconds * SLOW
    while is_stopped(pid):
        assert time.monotonic() < end, "guest %d is still stopped after %d s" % (pid, seconds * SLOW)
        time.sleep(0.01)
    assert state_of(pid) not in ("", "Z"), "guest %d is dead" % pid


def extents(path):
    """(begin, end) of every range of a file that holds data."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        at = 0
        while at < size:
            try:
                begin = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:
                return
            at = os.lseek(file.fileno(), begin, os.SEEK_HOLE)
            yield begin, at


def same_bytes(a, b):
    """Are two files equal, byte by byte? Holes read as zero; only data is read."""
    if os.path.getsize(a) != os.path.getsize(b):
        return False
    ranges = sorted(list(extents(a)) + list(extents(b)))
    with open(a, "rb") as fa, open(b, "rb") as fb:
        for begin, end in ranges:
            for at in range(begin, end, 1 << 22):
                n = min(1 << 22, end - at)
                if os.pread(fa.fileno(), n, at) != os.pread(fb.fileno(), n, at):
                    return False
    return True


def allocated(path):
    return os.stat(path).st_blocks * 512


def main():
    only = sys.argv[1:]
    chosen = [t for t in _tests if (t[1] == "check" or is_long()) and (not only or any(o in t[0] for o in only))]
    failures = 0
    budget = float(os.environ.get("RDMAMIG_LONG_SECONDS", "0")) if is_long() else 0
    began = time.monotonic()
    # With a budget the long tests run in a random order, so that each gets its turn over the runs.
    if budget:
        seed = int(time.time())
        print("# seed %d" % seed)
        random.Random(seed).shuffle(chosen)
    for number, (name, _, function, arguments) in enumerate(chosen, 1):
        if budget and time.monotonic() - began > budget:
            print("# %d of %d tests run in %d s" % (number - 1, len(chosen), budget))
            break
        place = Place()
        try:
            function(place, **arguments)
            print("ok %d - %s" % (number, name), flush=True)
        except Skip as reason:
            print("ok %d - %s # SKIP %s" % (number, name, reason), flush=True)
        except BaseException as failure:
            failures += 1
            print("not ok %d - %s" % (number, name))
            for line in traceback.format_exc().splitlines():
                print("#   " + line)
            sys.stdout.flush()
            if isinstance(failure, KeyboardInterrupt):
                break
        finally:
            place.close()
    print("1..%d" % len(chosen), flush=True)
    sys.exit(1 if failures else 0)
