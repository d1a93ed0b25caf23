# SPDX-License-Identifier: BSD-2-Clause
"""`rdmamig resolve` as the operator types it: every pair of records over a connection and alone, and real held guests.

Journals are made by hand, as a session that died has left them, with sleeping processes as guests; or by a real one.
"""

import itertools
import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor

from gate import journaled
from pair import Pair, child_guardian, failure_text, runs, said
from rmig import Place, is_stopped, main, test

WORKERS = 6
SESSION = "00112233445566778899aabbccddeeff"
OTHER = "ffeeddccbbaa99887766554433221100"
FILES = {"COMMIT": "decision", "ABORT": "decision", "READY": "ready", "OWNED": "outcome", "DISCARDED": "outcome"}


_ports = itertools.count(os.getpid() % 500 * 20)


def free_port():
    """One that nobody has: below those the kernel hands out, so that no connection of another case gets it meanwhile."""
    while True:
        port = 16000 + next(_ports) % 10000
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass


class Ends:
    """Two hosts with what is left of one session: records, and guests that stand still."""

    def __init__(self, place, source, dest, source_ran=True):
        self.place = place
        self.uri = "tcp://127.0.0.1:%d" % free_port()
        self.calls = 0
        self.guest = {}
        for side, record in (("src", source), ("dst", dest)):
            self.guest[side] = place.start("guest-" + side, "1000", program=("sleep",))
            self.guest[side].signal(signal.SIGSTOP)
            self.guest[side].until(lambda: is_stopped(self.guest[side].pid), "stopping")
            if record != "absent":
                self.write(side, *record.split("+"))

    def dir(self, side):
        return self.place.path("state-" + side)

    def write(self, side, *words, session=SESSION):
        """@words: the record, and perhaps "closed" and "paused" (its owner had it paused)."""
        role = "source" if side == "src" else "dest"
        directory = os.path.join(self.dir(side), session + "." + role)
        os.makedirs(directory, 0o700)
        pid = self.guest[side].pid
        start = open("/proc/%d/stat" % pid).read().rsplit(")", 1)[1].split()[19]
        about = ("rdmamig-journal 1 " + role, "pid=%d" % pid, "pid_start=" + start,
                 "guest_runs=%d" % ("paused" not in words), "driver=process", "peer=" + self.uri,
                 "ram=r=" + self.place.path("memory-" + side), "")
        files = {"lock": "", "session": "\n".join(about)}
        if words[0] in ("READY", "OWNED", "DISCARDED"):
            files["ready"] = "READY\n"
        if words[0] in FILES:
            files[FILES[words[0]]] = words[0] + "\n"
        if "closed" in words:
            files["closed"] = "closed\n"
        for name, text in files.items():
            with open(os.path.join(directory, name), "w") as file:
                file.write(text)

    def start(self, side, *arguments, session=SESSION):
        self.calls += 1
        return self.place.start("resolve%d-%s" % (self.calls, side), "resolve", session, "--state-dir", self.dir(side),
                                *arguments)

    def resolve(self, side, code, *arguments, session=SESSION):
        process = self.start(side, *arguments, session=session)
        process.expect(code, 30)
        assert code == 0 or len(said(process)) == 1, said(process)	# one line says what lacks
        return process

    def expect_runner(self, *sides):
        """Those run and no other; whoever must not has a while to be caught at it."""
        end = time.monotonic() + 10
        while not all(runs(self.guest[side].pid) for side in sides) and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.1)
        running = tuple(side for side in ("src", "dst") if runs(self.guest[side].pid))
        assert running == sides, "%s run, not %s" % (running, sides)


# source, dest: exit codes of both over a connection, who runs then; and the same when each is resolved alone.
# ABORT (or nothing) against OWNED is not here: no source that obeys the journal leaves that (R5).
MATRIX = {
    ("none", "none"):			((0, 0, "src"), (0, 0, "src")),
    ("none", "READY"):			((0, 0, "src"), (0, 8, "src")),
    ("none", "DISCARDED"):		((0, 0, "src"), (0, 0, "src")),
    ("ABORT", "none"):			((0, 0, "src"), (0, 0, "src")),
    ("ABORT", "READY"):			((0, 0, "src"), (0, 8, "src")),
    ("ABORT", "DISCARDED"):		((0, 0, "src"), (0, 0, "src")),
    ("ABORT+closed", "READY"):		((0, 0, ""), (0, 8, "")),	# its guest was seen to run; who stopped it since is not us
    ("COMMIT", "READY"):		((0, 0, "dst"), (8, 8, "")),
    ("COMMIT", "OWNED"):		((0, 0, "dst"), (8, 0, "dst")),
    ("COMMIT", "OWNED+closed"):		((0, 0, ""), (8, 0, "")),
    ("COMMIT", "DISCARDED"):		((0, 0, "src"), (8, 0, "")),
    ("COMMIT", "DISCARDED+closed"):	((0, 0, "src"), (8, 0, "")),
    ("COMMIT+closed", "OWNED"):		((0, 0, "dst"), (0, 0, "dst")),
    ("none+paused", "READY"):		((0, 0, ""), (0, 8, "")),	# paused by its owner it stays
    ("COMMIT", "READY+paused"):		((0, 0, ""), (8, 8, "")),
    ("COMMIT+paused", "DISCARDED"):	((0, 0, ""), (8, 0, "")),
}


def over_connection(place, source, dest, listener):
    ends = Ends(place, source, dest)
    codes = dict(zip(("src", "dst"), MATRIX[source, dest][0]))
    runner = MATRIX[source, dest][0][2]
    caller = "dst" if listener == "src" else "src"
    waits = ends.start(listener, "--listen", ends.uri, "--timeout-s", "8")
    ends.resolve(caller, codes[caller], "--peer", ends.uri, "--timeout-s", "8")
    waits.expect(codes[listener], 30)
    ends.expect_runner(*filter(None, [runner]))
    for side in ("src", "dst"):
        assert journaled(place, side, "closed") is not None, side + " is still open"
        ends.resolve(side, 0)	# again: nothing is left to be done
    ends.expect_runner(*filter(None, [runner]))


def alone(place, source, dest, first):
    """Without a connection an end does what its own record allows; in this order or that."""
    ends = Ends(place, source, dest)
    codes = dict(zip(("src", "dst"), MATRIX[source, dest][1]))
    runner = MATRIX[source, dest][1][2]
    for side in (first, "dst" if first == "src" else "src"):
        ends.resolve(side, codes[side])
        assert codes[side] != 8 or journaled(place, side, "closed") is None
    ends.expect_runner(*filter(None, [runner]))


def one_end(place, side, record, arguments, code, runner):
    """The other host is gone, with its journal."""
    ends = Ends(place, *(("absent", record) if side == "dst" else (record, "absent")))
    ends.resolve(side, code, *arguments)
    ends.expect_runner(*filter(None, [runner]))


NOBODY = ("--peer", "tcp://127.0.0.1:1", "--timeout-s", "1")
ONE_END = [
    ("src", "none", (), 0, "src"), ("src", "ABORT", (), 0, "src"), ("src", "COMMIT", (), 8, ""),
    ("dst", "none", (), 0, ""), ("dst", "READY", (), 8, ""),
    ("dst", "OWNED", (), 0, "dst"), ("dst", "DISCARDED", (), 0, ""),
    ("src", "none", NOBODY, 0, "src"), ("src", "ABORT", NOBODY, 0, "src"),
    ("dst", "OWNED", NOBODY, 0, "dst"), ("dst", "DISCARDED", NOBODY, 0, ""),
    ("dst", "READY", ("--peer-fenced",), 0, "dst"), ("dst", "READY+paused", ("--peer-fenced",), 0, ""),
    ("dst", "none", ("--peer-fenced",), 2, ""), ("dst", "OWNED", ("--peer-fenced",), 2, ""),
    ("dst", "DISCARDED", ("--peer-fenced",), 2, ""), ("dst", "READY", ("--peer-fenced", *NOBODY), 2, ""),
    ("src", "none", ("--peer-fenced",), 2, ""), ("src", "ABORT", ("--peer-fenced",), 2, ""),
    ("src", "COMMIT", ("--peer-fenced",), 2, ""),
]


def nobody_answers(place, side, record, way):
    """What decides cannot be learnt: nothing is done, and it ends in its time."""
    ends = Ends(place, *(("absent", record) if side == "dst" else (record, "absent")))
    began = time.monotonic()
    process = ends.start(side, "--" + way, ends.uri, "--timeout-s", "1")
    code = process.wait(30)
    assert code in (4, 8) and len(said(process)) == 1, (code, process.err())
    assert time.monotonic() - began < 10
    ends.expect_runner()
    assert journaled(place, side, "closed") is None


def wrong_caller(place):
    """Someone asks for another session: that decides nothing. Then the right one does."""
    ends = Ends(place, "COMMIT", "READY")
    waits = ends.start("dst", "--listen", ends.uri, "--timeout-s", "15")
    stranger = Place()
    try:
        other = Ends(stranger, "absent", "absent")
        other.write("src", "COMMIT", session=OTHER)
        asks = other.start("src", "--peer", ends.uri, "--timeout-s", "2", session=OTHER)
        asks.expect((3, 4, 8), 30)	# refused
        other.expect_runner()
    finally:
        stranger.close()
    assert not waits.ended()
    ends.expect_runner()
    ends.resolve("src", 0, "--peer", ends.uri, "--timeout-s", "8")
    waits.expect(0, 30)
    ends.expect_runner("dst")


def two_dests(place):
    """Both state directories hold the dest's end of it: neither learns what the source decided."""
    ends = Ends(place, "absent", "READY")
    second = Place()
    try:
        twin = Ends(second, "absent", "READY")
        waits = ends.start("dst", "--listen", ends.uri, "--timeout-s", "3")
        asks = twin.start("dst", "--peer", ends.uri, "--timeout-s", "3")
        for process in (waits, asks):
            assert process.wait(30) not in (0, None), process.out()
        ends.expect_runner()
        twin.expect_runner()
    finally:
        second.close()


def bad_names(place):
    ends = Ends(place, "none", "READY")
    for name in ("x", "../" + SESSION, "", SESSION.upper(), SESSION + "0", SESSION[:-1], SESSION + ".source",
                 SESSION[:-1] + "\n"):
        ends.resolve("src", 2, session=name)
    ends.resolve("src", 3, session=OTHER)
    ends.resolve("dst", 3, "--peer-fenced", session=OTHER)
    ends.resolve("dst", 2, "--peer", "tcp://127.0.0.1:1", "--listen", "tcp://127.0.0.1:0")
    ends.resolve("dst", 2, "--peer", "nonsense")
    ends.expect_runner()


# --- what a real session leaves ---

def held_by_real_source(place, way):
    """The source dies, its guardian too, after READY: dest holds, and the operator goes by what the last line says."""
    pair = Pair(place)
    try:
        pair.start_recv()
        pair.shut_gate(to_source=lambda: journaled(place, "dst", "ready") is not None)
        pair.start_send("--bandwidth", "64M", "--verify")
        pair.send.until(pair.gate.hit.is_set, "READY")
        guardian = child_guardian(pair.send.pid)
        os.kill(guardian, signal.SIGKILL)
        pair.send.signal(signal.SIGKILL)
        pair.recv.expect(8, 20, "rdmamig resolve ")
        assert is_stopped(pair.guest.pid) and is_stopped(pair.heir.pid)
        session = pair.sessions()[0][1]
        if way == "fenced":
            pair.guest.signal(signal.SIGKILL)		# its host is off
            pair.guest.wait()
            pair.resolve("dst", session, "--peer-fenced").expect(0, 30)
            owner = pair.heir
        else:
            pair.resolve("dst", session, name="alone").expect(8, 30)
            pair.resolve("src", session, name="alone").expect(0, 30)
            uri = "tcp://127.0.0.1:%d" % free_port()
            ends = [pair.resolve("dst", session, "--listen", uri), pair.resolve("src", session, "--peer", uri)]
            for end in ends:
                end.expect(0, 30)
            owner = pair.guest
        assert [side for side, _ in pair.sessions()] == (["src"] if way == "fenced" else []), pair.sessions()
        pair.expect_exact(owner if way == "fenced" else pair.expect_one_runner(owner))
    except Exception as failure:
        raise AssertionError("%s\n%s" % (failure, failure_text(pair)))
    finally:
        pair.close()


def living_session(place):
    """As long as they live, they end it themselves: resolve is told so at both ends, and changes nothing."""
    pair = Pair(place)
    try:
        pair.start_recv()
        pair.start_send("--bandwidth", "8M")
        pair.send.until(lambda: any(e["status"] == "active" for e in pair.send.events("progress")), "active")
        session = pair.sessions()[0][1]
        tries = [pair.resolve("src", session, "--timeout-s", "300ms"),
                 pair.resolve("dst", session, "--timeout-s", "300ms"),
                 pair.resolve("dst", session, "--peer-fenced", name="fenced")]
        for process, codes in zip(tries, ((3,), (3,), (2,))):
            process.expect(codes, 30)
            assert len(said(process)) == 1, said(process)
        pair.send.signal(signal.SIGINT)
        pair.send.expect(7, 30)
        pair.recv.expect(7, 30)
        pair.expect_exact(pair.expect_one_runner(pair.guest))
    except Exception as failure:
        raise AssertionError("%s\n%s" % (failure, failure_text(pair)))
    finally:
        pair.close()


def living_hold(place):
    """Even an oath does not run a guest whose recv still waits for the source's decision."""
    pair = Pair(place)
    try:
        pair.start_recv("--handover-timeout-s", "10")
        pair.shut_gate(to_dest=lambda: journaled(place, "src", "decision") is not None)
        pair.start_send("--bandwidth", "64M", "--handover-timeout-s", "10")
        pair.send.until(pair.gate.hit.is_set, "COMMIT")
        session = pair.sessions()[0][1]
        fenced = pair.resolve("dst", session, "--peer-fenced", "--timeout-s", "200ms")
        source = pair.resolve("src", session, "--timeout-s", "200ms")
        fenced.expect(3, 30)
        source.expect((3, 8), 30)
        assert is_stopped(pair.guest.pid) and is_stopped(pair.heir.pid)
        pair.gate.open()
        pair.send.expect(0, 30)
        pair.recv.expect(0, 30)
        pair.expect_exact(pair.expect_one_runner(pair.heir))
    except Exception as failure:
        raise AssertionError("%s\n%s" % (failure, failure_text(pair)))
    finally:
        pair.close()


CONNECTION = [(over_connection, s, d, way) for s, d in MATRIX for way in ("src", "dst")]
ALONE = [(alone, s, d, way) for s, d in MATRIX for way in ("src", "dst")]
SINGLE = [(one_end, *case) for case in ONE_END]
SINGLE += [(nobody_answers, side, record, way) for way in ("peer", "listen")
           for side, record in (("src", "COMMIT"), ("dst", "READY"))]
ODD = [(wrong_caller,), (two_dests,), (bad_names,)]
REAL = [(held_by_real_source, "told"), (held_by_real_source, "fenced"), (living_session,), (living_hold,)]


def run_case(case):
    function, *arguments = case
    place = Place()
    try:
        function(place, *arguments)
        return None
    except Exception as failure:
        resolves = "\n".join("%s: %s: %s" % (p.name, p.popen.poll(), p.err() + p.out())
                             for p in place.processes if "resolve" in p.name)
        return "%s%s: %s: %s\n%s" % (function.__name__, arguments, type(failure).__name__, failure, resolves)
    finally:
        place.close()


@test(name="resolve_over_connection", cases=CONNECTION)
@test(name="resolve_alone", cases=ALONE)
@test(name="resolve_one_end", cases=SINGLE)
@test(name="resolve_odd", cases=ODD)
@test(name="resolve_real", cases=REAL)
def resolve_all(place, cases):
    with ThreadPoolExecutor(WORKERS) as pool:
        failed = [text for text in pool.map(run_case, cases) if text]
    assert not failed, "%d of %d failed:\n%s" % (len(failed), len(cases), "\n".join(failed))


if __name__ == "__main__":
    main()
