# SPDX-License-Identifier: BSD-2-Clause
"""A migration of a live guest that is to be disturbed: both guests, both ends, what must be true of them (R5, R13)."""

import glob
import os
import signal
import threading
import time

from gate import Gate, journaled
from rmig import SLOW, is_stopped, state_of

SIGNAL_S = 10		# for a guest of ours to be let go
LOAD = max(1, min(4, os.getloadavg()[0] / os.cpu_count()))	# others' work stretches all deadlines


def child_guardian(pid):
    """The guardian of a `send`; None before it has one."""
    try:
        children = open("/proc/%d/task/%d/children" % (pid, pid)).read().split()
        return next((int(c) for c in children if open("/proc/%s/comm" % c).read().strip() == "rdmamig-guard"), None)
    except OSError:
        return None


def runs(pid):
    return state_of(pid) in ("R", "S", "D")


class Pair:
    """Source and dest guest with one or more migrations between them."""

    def __init__(self, place, size="16M", rate="50M"):
        self.place = place
        self.gate = None
        self.guest = place.synth("--dirty-rate", rate, "--fill", "mixed:70", size=size)
        self.heir = place.start("heir", "synth", "--resume", place.path("b"), "--json")
        self.heir.until(lambda: is_stopped(self.heir.pid), "stopping itself")
        self.both_ran = 0
        self.over = threading.Event()
        self.watcher = threading.Thread(target=self.watch, daemon=True)
        self.watcher.start()

    def watch(self):
        """Never two run, at no instant: the guest is looked at before and after the heir."""
        while not self.over.wait(0.002):
            if runs(self.guest.pid) and runs(self.heir.pid) and runs(self.guest.pid):
                self.both_ran += 1

    def start_recv(self, *arguments, name="recv"):
        self.recv = self.place.recv("--pid", self.heir.pid, "--handover-timeout-s", "3", *arguments, name=name)
        return self.recv

    def shut_gate(self, **shut):
        self.gate = Gate(self.place.port, **shut)
        return self.gate

    def start_send(self, *arguments, name="send"):
        port = self.gate.port if self.gate else self.place.port
        self.send = self.place.send("--pid", self.guest.pid, "--handover-timeout-s", "3", *arguments, name=name,
                                    uri="tcp://127.0.0.1:%d" % port)
        return self.send

    def journaled(self, side, file):
        return journaled(self.place, side, file)

    def sessions(self):
        """(side, session id) of each journal that is not closed."""
        found = []
        for path in sorted(glob.glob(os.path.join(self.place.dir, "state-*", "*"))):
            if not os.path.exists(os.path.join(path, "closed")):
                found.append((path.split("/")[-2][-3:], os.path.basename(path).split(".")[0]))
        return found

    def resolve(self, side, session, *arguments, name="resolve"):
        return self.place.start("%s-%s" % (name, side), "resolve", session, "--state-dir",
                                self.place.path("state-" + side), *arguments)

    def expect_one_runner(self, owner=None):
        """Exactly one of them runs; returns it, once it has been looked at for a while."""
        end = time.monotonic() + SIGNAL_S * SLOW
        while runs(self.guest.pid) == runs(self.heir.pid) and time.monotonic() < end:
            time.sleep(0.01)
        for _ in range(30):
            states = state_of(self.guest.pid), state_of(self.heir.pid)
            assert runs(self.guest.pid) != runs(self.heir.pid), "guest %s, heir %s" % states
            time.sleep(0.01)
        runner = self.guest if runs(self.guest.pid) else self.heir
        assert owner in (None, runner), "%s runs: guest %s, heir %s" % (runner.name, *states)
        return runner

    def expect_exact(self, owner):
        """The owner ends as it would have anyway; its memory agrees with its own record of it."""
        owner.until(lambda: owner.events("ready"), "ready")	# from then on it ends on a signal
        owner.signal(signal.SIGTERM)
        owner.expect(0)
        if owner is self.heir:
            assert owner.events("ready")[-1]["checked-pages"] > 0
        file = "a" if owner is self.guest else "b"
        checker = self.place.start("checker", "synth", "--resume", self.place.path(file), "--json", "--now",
                                   "--check-only")
        checker.expect(0)
        assert checker.events("ready")[-1]["checked-pages"] > 0

    def close(self):
        self.over.set()
        self.watcher.join(5)
        if self.gate:
            self.gate.close()
        assert not self.both_ran, "both guests ran at the same time, seen %d times" % self.both_ran


def said(process):
    """What rdmamig or its guardian said in the end; the other lines are remarks."""
    return [line for line in process.err().splitlines() if line.startswith("rdmamig")]


def failure_text(pair):
    """For a failure's report: all that is known of this run."""
    lines = []
    for process in pair.place.processes:
        lines.append("%s (%d): exit code %s, state '%s'" % (process.name, process.pid, process.popen.poll(),
                                                           state_of(process.pid)))
        lines += ["    " + line for line in process.err().splitlines()[-8:]]
    for path in sorted(glob.glob(os.path.join(pair.place.dir, "state-*", "*", "*"))):
        if os.path.basename(path) in ("ready", "decision", "outcome", "closed"):
            lines.append("%s: %s" % (os.path.relpath(path, pair.place.dir), open(path).read().strip()))
    return "\n".join(lines)
