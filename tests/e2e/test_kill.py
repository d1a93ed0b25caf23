# SPDX-License-Identifier: BSD-2-Clause
"""kill -9 and SIGSTOP of each process at any instant: never two guests run, and never none without saying so (R5, R13).

Each run has a seed of its own that fixes what happens and when; a failure prints it, RDMAMIG_KILL_SEED=N replays it.
The rest is as in life: whatever the processes leave undecided, the operator ends with `rdmamig resolve`.
"""

import os
import random
import signal
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

from gate import journaled
from pair import LOAD, Pair, child_guardian, failure_text, runs, said
from rmig import SLOW, Place, is_stopped, main, test

WORKERS = 8			# a run mostly waits for deadlines
END_S = 12			# dead after 2 s, then to reach the other end 3 to 5 s, twice at most
GUARDIAN_REPLY_S = 8		# what `send` waits for a guardian that does not answer
SEED = os.environ.get("RDMAMIG_KILL_SEED")

VICTIMS = ("send", "recv", "guardian", "send+guardian")


class Instant:
    """When: a condition, and how long after it. The handover gets most of them."""

    #      name       weight  spread in s, what the network keeps back from then on
    KINDS = (("start",    1, 0.06, None),
             ("rounds",   2, 0.60, None),
             ("stopped",  3, 0.15, None),
             ("ready",    1, 0.004, None),
             ("commit",   1, 0.004, None),
             ("ready!",   3, 0.05, "source"),	# READY is journaled, and on its way
             ("commit!",  3, 0.05, "dest"),	# COMMIT is journaled, and on its way
             ("owned!",   2, 0.05, "source"))	# dest has said that it runs the guest, but not yet been heard

    def __init__(self, seed):
        self.name, _, spread, self.keeps_back = seed.choices(self.KINDS, [k[1] for k in self.KINDS])[0]
        self.delay = seed.uniform(0, spread)

    def condition(self, pair):
        name = self.name.rstrip("!")
        return {"start": lambda: True, "rounds": lambda: journaled(pair.place, "src", "session") is not None,
                "stopped": lambda: is_stopped(pair.guest.pid),
                "ready": lambda: journaled(pair.place, "dst", "ready") is not None,
                "commit": lambda: journaled(pair.place, "src", "decision") is not None,
                "owned": lambda: journaled(pair.place, "dst", "outcome") is not None}[name]

    def shut_gate(self, pair):
        if self.keeps_back:
            pair.shut_gate(**{"to_" + self.keeps_back: self.condition(pair)})

    def wait(self, pair):
        """False: the migration was over before."""
        condition = pair.gate.hit.is_set if self.keeps_back else self.condition(pair)
        end = time.monotonic() + 30 * SLOW
        while not condition():
            assert time.monotonic() < end, "instant %s does not come" % self.name
            if pair.send.ended():
                return False
            time.sleep(0.0005)
        time.sleep(self.delay)
        return True


def victims_of(pair, names):
    """(name, process or pid) of those that live at this moment."""
    guardian = child_guardian(pair.send.pid)
    found = {"send": pair.send.pid, "recv": pair.recv.pid, "guardian": guardian}
    alive = {"send": not pair.send.ended(), "recv": not pair.recv.ended(), "guardian": guardian is not None}
    return {name: found[name] for name in names if alive[name]}


def strike(victims, number):
    for name in list(victims):
        try:
            os.kill(victims[name], number)
        except ProcessLookupError:
            del victims[name]


def judge_codes(pair, killed):
    """Exit codes, last lines and journals say the same."""
    decision = pair.journaled("src", "decision")
    ready, outcome = pair.journaled("dst", "ready"), pair.journaled("dst", "outcome")
    assert outcome != "OWNED" or decision == "COMMIT", "dest owns what was never committed"
    assert decision != "COMMIT" or ready, "committed without READY"
    if "send" not in killed:
        code = pair.send.popen.returncode
        if code == 0:
            assert (decision, outcome) == ("COMMIT", "OWNED"), (decision, outcome)
        elif code == 8:
            assert decision == "COMMIT", "send gave up a guest that is its own: " + str(decision)
        else:
            has_journal = pair.journaled("src", "session") is not None
            assert 1 <= code <= 7 and decision == ("ABORT" if has_journal else None), (code, decision)
        lines = [line for line in said(pair.send) if "no sign of life, so its guardian" not in line]
        assert len(lines) == (1 if code else 0), said(pair.send)
    if "recv" not in killed:
        code = pair.recv.popen.returncode
        if code == 0:
            assert outcome == "OWNED"
        elif code == 8:
            assert ready and outcome is None, outcome
        else:
            assert 1 <= code <= 7 and (outcome == "DISCARDED" or not ready), (code, ready, outcome)
        assert len(said(pair.recv)) == (1 if code else 0), said(pair.recv)


def judge_guardian(pair, killed):
    """Alone with what its `send` left, it says so: once."""
    if "send" not in killed or "guardian" in killed:
        return
    decision = pair.journaled("src", "decision")
    is_open = "src" in dict(pair.sessions())
    least = 1 if decision == "ABORT" or (decision == "COMMIT" and is_open) else 0
    end = time.monotonic() + 10 * SLOW
    while len(said(pair.send)) < least and time.monotonic() < end:
        time.sleep(0.01)
    assert least <= len(said(pair.send)) <= 1, said(pair.send)


def judge_source(pair, killed):
    """Without COMMIT the guest runs; where nobody was left to see to it, the next `send` says so and does."""
    if pair.journaled("src", "decision") == "COMMIT":
        return
    if "send" in killed and "guardian" in killed:
        return
    end = time.monotonic() + 10 * SLOW
    while not runs(pair.guest.pid):
        assert time.monotonic() < end, "the source owns its guest, which does not run"
        time.sleep(0.01)


def next_send(pair):
    """Nobody listens there, but first it looks at what is left of the last session."""
    session = dict(pair.sessions())["src"]
    committed = pair.journaled("src", "decision") == "COMMIT"
    send = pair.place.send("--pid", pair.guest.pid, name="next", uri="tcp://127.0.0.1:1")
    send.expect(8 if committed else 4, 40, line="session %s" % session)
    if not committed:
        assert runs(pair.guest.pid), "the next send did not bring the guest back"


def operator(pair):
    """What is still open is resolved as the last lines say: the source first, then both together."""
    for number in range(4):
        left = dict(pair.sessions())
        if not left:
            return
        session = next(iter(left.values()))
        listen = "tcp://127.0.0.1:%d" % pair.place.port		# recv's, as its last line says
        peer = "tcp://127.0.0.1:%d" % (pair.gate.port if pair.gate else pair.place.port)
        if "src" in left and pair.journaled("src", "decision") != "COMMIT":
            pair.resolve("src", session, name="alone%d" % number).expect(0, 40)
            continue
        if "dst" in left and not pair.journaled("dst", "ready"):
            pair.resolve("dst", session, name="alone%d" % number).expect(0, 40)
            continue
        ends = [pair.resolve("dst", session, "--listen", listen, "--timeout-s", "10", name="both%d" % number),
                pair.resolve("src", session, "--peer", peer, "--timeout-s", "10", name="both%d" % number)]
        for end in ends:
            end.expect(0, 40)
    raise AssertionError("resolved, and still open: %s" % pair.sessions())


def migrate_and_strike(pair, seed, names, number):
    """Returns those it struck, which are still frozen if it was SIGSTOP; the others have ended."""
    instant = Instant(seed)
    arguments = ["--bandwidth", "32M"] + (["--verify"] if seed.random() < 0.5 else [])
    arguments += ["--channels", seed.choice((1, 1, 3))]
    mends = seed.random() < 0.5

    pair.start_recv("--wait-s", "5")	# a `send` that was struck at once never calls
    instant.shut_gate(pair)
    pair.start_send(*arguments)
    victims = victims_of(pair, names) if instant.wait(pair) else {}
    strike(victims, number)
    began = time.monotonic()
    pair.what = "%s %s at %s + %d ms, %s" % (signal.Signals(number).name, " ".join(victims) or "nobody", instant.name,
                                             instant.delay * 1000, "network mends" if mends else "network stays down")
    if pair.gate and (mends or not victims):
        pair.gate.open()
    expect_end(pair, victims)
    pair.what += ", the others ended after %.1f s" % (time.monotonic() - began)
    if pair.gate:
        pair.gate.open()
    return victims


def expect_end(pair, victims, frozen=True):
    for process in (pair.send, pair.recv):
        if not frozen or process.name not in victims:
            process.wait(END_S * LOAD + (GUARDIAN_REPLY_S if "guardian" in victims else 0))


def kill_once(pair, seed, victim, number):
    names = victim.split("+")
    seed.shuffle(names)
    victims = migrate_and_strike(pair, seed, names, number)
    killed = set(victims) if number == signal.SIGKILL else set()
    if number == signal.SIGSTOP:
        if "guardian" not in victims:
            judge_source(pair, killed)
        strike(victims, signal.SIGCONT)
    expect_end(pair, victims, frozen=False)
    judge_codes(pair, killed)
    judge_source(pair, killed)
    judge_guardian(pair, killed)

    committed = pair.journaled("src", "decision") == "COMMIT"
    if len(killed) == 2 and "src" in dict(pair.sessions()) and seed.random() < 0.5:
        next_send(pair)
    operator(pair)
    owner = pair.expect_one_runner()
    assert owner is (pair.heir if committed else pair.guest), "%s runs, but the journal says otherwise" % owner.name
    pair.expect_exact(owner)
    return "%s: send %s, recv %s, decision %s, outcome %s" % (
        pair.what, pair.send.popen.returncode, pair.recv.popen.returncode, pair.journaled("src", "decision"),
        pair.journaled("dst", "outcome"))


def run_seed(number, victim, seed):
    """One run in a place of its own; its report, and whether it failed."""
    place, pair = Place(), None
    try:
        try:
            pair = Pair(place)
            report = kill_once(pair, random.Random(seed), victim, number)
        finally:
            if pair:
                pair.close()
        return "seed %d %s" % (seed, report), False
    except Exception:
        what = "seed %d %s %s failed: %s\n%s" % (seed, victim, getattr(pair, "what", ""), traceback.format_exc(),
                                                failure_text(pair) if pair else "")
        return what, True
    finally:
        place.close()


@test(name="kill_sample", number=signal.SIGKILL, victims=VICTIMS, each=5)
@test(name="stop_sample", number=signal.SIGSTOP, victims=VICTIMS, each=5)
def strike_all(place, number, victims, each):
    first = int(SEED) if SEED else int(time.time() * 1000) % 1000000000
    count = len(victims) * (1 if SEED else each)
    jobs = [(number, victims[i % len(victims)], first if SEED else first + i) for i in range(count)]
    with ThreadPoolExecutor(WORKERS) as pool:
        reports = list(pool.map(lambda job: run_seed(*job), jobs))
    for text, failed in reports:
        if failed or os.environ.get("RDMAMIG_VERBOSE"):
            print("\n".join("# " + line for line in text.splitlines()))
    sys.stdout.flush()
    failures = sum(failed for _, failed in reports)
    assert not failures, "%d of %d runs failed; RDMAMIG_KILL_SEED=N replays one" % (failures, len(jobs))


@test()
def frozen_guardian_of_a_dead_send(place):
    """Its parent's death lets it go (setpgid(2): stopped jobs of a group that becomes orphaned), and then it undoes."""
    pair = Pair(place)
    try:
        pair.start_recv()
        pair.shut_gate(to_source=lambda: is_stopped(pair.guest.pid))
        pair.start_send("--bandwidth", "64M")
        pair.send.until(pair.gate.hit.is_set, "the guest's stop")
        guardian = child_guardian(pair.send.pid)
        os.kill(guardian, signal.SIGSTOP)
        pair.send.until(lambda: is_stopped(guardian), "the guardian's stop")	# only stopped jobs are let go
        pair.send.signal(signal.SIGKILL)
        pair.recv.expect((1, 4, 7), END_S * LOAD)
        judge_source(pair, {"send"})
        judge_guardian(pair, {"send"})
        pair.expect_exact(pair.expect_one_runner(pair.guest))
    finally:
        pair.close()


for victim in VICTIMS:
    for number in (signal.SIGKILL, signal.SIGSTOP):
        name = "%s_%s" % ("kill" if number == signal.SIGKILL else "stop", victim)
        test("long", name=name, number=number, victims=(victim,), each=50)(strike_all)


if __name__ == "__main__":
    main()
