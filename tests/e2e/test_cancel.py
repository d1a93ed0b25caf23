# SPDX-License-Identifier: BSD-2-Clause
"""Cancel in each state, at each end, by each signal: 7 here, a clear line there, the guest runs on, a retry succeeds.

Each state is made to last by keeping back what would end it (gate.py), so that the cancel certainly comes in it.
"""

import signal
import time
from concurrent.futures import ThreadPoolExecutor

from gate import journaled
from pair import Pair, failure_text, runs, said
from rmig import Place, expect_running, is_stopped, main, test

WORKERS = 6
SOON_S = 20		# a cancel takes 0.2 s; the rest is for the load

STATES = ("setup", "active", "pre-switchover", "device")


def shut_in(pair, state):
    """What keeps the migration in @state: nothing passes from the instant it is there."""
    if state == "setup":
        pair.shut_gate(to_source=lambda: True)
    elif state == "pre-switchover":
        pair.shut_gate(to_source=lambda: is_stopped(pair.guest.pid))
    elif state == "device":
        pair.shut_gate(to_source=lambda: journaled(pair.place, "dst", "ready") is not None)
    elif state == "completed":
        pair.shut_gate(to_dest=lambda: journaled(pair.place, "src", "decision") is not None)


def wait_for(pair, state):
    if state == "active":
        pair.send.until(lambda: any(e["status"] == "active" for e in pair.send.events("progress")), "active")
    else:
        pair.send.until(pair.gate.hit.is_set, state)
    if state in ("pre-switchover", "device"):
        assert is_stopped(pair.guest.pid)


def begin(pair, state):
    pair.start_recv("--handover-timeout-s", "10")
    shut_in(pair, state)
    pair.start_send("--bandwidth", "4M" if state == "active" else "64M", "--handover-timeout-s", "10")
    wait_for(pair, state)


def retry(pair):
    """The same guest into the same files, and every byte arrives."""
    if pair.gate:
        pair.gate.close()
        pair.gate = None
    assert not pair.sessions(), "left open: %s" % pair.sessions()
    recv = pair.start_recv(name="recv-again")
    send = pair.start_send(name="send-again")
    send.expect(0)
    recv.expect(0)
    pair.expect_exact(pair.expect_one_runner(pair.heir))


def expect_cancelled(process, signals=1):
    """It says that it heard us, each time until it has ended, and then how that was."""
    process.expect(7, SOON_S)
    assert process.result()["status"] == "cancelled", process.result()
    heard, last = said(process)[:-1], said(process)[-1]
    assert 1 <= len(heard) <= signals and all(line.endswith("cancelling") for line in heard), said(process)
    assert "(exit code 7)" in last, last


def expect_told(process, codes=(1, 4, 7)):
    process.expect(codes, SOON_S)
    assert len(said(process)) == 1 and "(exit code " in said(process)[0], said(process)
    return said(process)[0]


def cancel_send(pair, state, signals):
    begin(pair, state)
    for number in signals:
        pair.send.signal(number)
        time.sleep(0.15)	# so that it is heard before a second one comes
    expect_cancelled(pair.send, len(signals))
    expect_running(pair.guest.pid)
    if pair.gate:
        pair.gate.open()
    line = expect_told(pair.recv)
    assert state == "setup" or "cancel" in line or "abort" in line, line
    assert journaled(pair.place, "src", "decision") == "ABORT"
    assert not runs(pair.heir.pid)
    retry(pair)


def cancel_recv(pair, state, signals):
    begin(pair, state)
    for number in signals:
        pair.recv.signal(number)
    expect_cancelled(pair.recv)
    if pair.gate:
        pair.gate.open()
    line = expect_told(pair.send)
    assert state == "setup" or "cancel" in line, line
    expect_running(pair.guest.pid)
    retry(pair)


def cancel_too_late(pair, end, state):
    """Once it has promised READY, or committed, that end does not go back: the cancel has no effect."""
    begin(pair, state)
    process = pair.send if end == "send" else pair.recv
    process.signal(signal.SIGINT)
    process.until(lambda: said(process), "hearing the signal")
    time.sleep(0.2)
    assert not process.ended() and not runs(pair.guest.pid) and not runs(pair.heir.pid)
    pair.gate.open()
    pair.send.expect(0)
    pair.recv.expect(0)
    pair.expect_exact(pair.expect_one_runner(pair.heir))


def cancel_recv_alone(pair):
    """Nobody has called yet."""
    pair.start_recv()
    pair.recv.signal(signal.SIGINT)
    expect_cancelled(pair.recv)
    retry(pair)


SIGNALS = (signal.SIGINT, signal.SIGTERM)
CASES = [("send_%s_%s" % (s.name, state), cancel_send, state, (s,)) for state in STATES for s in SIGNALS]
CASES += [("send_twice_" + state, cancel_send, state, (signal.SIGINT, signal.SIGINT)) for state in STATES]
CASES += [("recv_%s_%s" % (s.name, state), cancel_recv, state, (s,)) for state in STATES[:-1] for s in SIGNALS]
CASES += [("recv_too_late_device", cancel_too_late, "recv", "device"),
          ("recv_too_late_completed", cancel_too_late, "recv", "completed"),
          ("send_too_late_completed", cancel_too_late, "send", "completed"),
          ("recv_alone", cancel_recv_alone)]


def run_case(case):
    name, function, *arguments = case
    place, pair = Place(), None
    try:
        try:
            pair = Pair(place)
            function(pair, *arguments)
        finally:
            if pair:
                pair.close()
        return None
    except Exception as failure:
        return "%s: %s: %s\n%s" % (name, type(failure).__name__, failure, failure_text(pair) if pair else "")
    finally:
        place.close()


@test(name="cancel_send", prefix="send_")
@test(name="cancel_recv", prefix="recv_")
def cancel_all(place, prefix):
    """All cases at once: they mostly wait."""
    with ThreadPoolExecutor(WORKERS) as pool:
        failed = [text for text in pool.map(run_case, [case for case in CASES if case[0].startswith(prefix)]) if text]
    assert not failed, "%d failed:\n%s" % (len(failed), "\n".join(failed))


if __name__ == "__main__":
    main()
