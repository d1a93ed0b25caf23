# SPDX-License-Identifier: BSD-2-Clause
"""The main job once over: a live guest moves, every byte is compared, the guest goes on at dest."""

from rmig import is_stopped, main, test


@test()
def live_guest_moves_and_goes_on(place):
    guest = place.synth("--dirty-rate", "50M", "--fill", "mixed:50")
    heir = place.start("heir", "synth", "--resume", place.path("b"), "--json", "--ticks", "1000")
    heir.until(lambda: is_stopped(heir.pid), "stopping itself")
    recv = place.recv("--pid", heir.pid)
    send = place.send("--pid", guest.pid, "--verify")
    send.expect(0)
    recv.expect(0)
    result = send.result()
    assert result["status"] == "completed" and result["ram"]["dirty-sync-count"] > 1, result
    assert is_stopped(guest.pid), "the source's guest runs on"
    heir.expect(0)	# it checks every byte first, and ends with 1 if one is wrong
    assert heir.events("ready")[-1]["checked-pages"] > 0
    assert heir.result()["rewrites"] == 1000


if __name__ == "__main__":
    main()
