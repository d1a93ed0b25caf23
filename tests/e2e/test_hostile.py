# SPDX-License-Identifier: BSD-2-Clause
"""Peers that are no rdmamig, or a bad one: each end says so in one line, loses nothing, and dest keeps no memory."""

import os
import random
import socket
import struct
import subprocess
import threading
import time

import peer
from rmig import SLOW, TOOL, allocated, expect_running, extents, is_long, is_stopped, main, same_bytes, skip, test

MB = 1 << 20


def run(*arguments):
    return subprocess.run([TOOL, *arguments], capture_output=True, text=True, timeout=30 * SLOW)


def one_line(process, *parts):
    said = process.err()
    assert said.count("\n") == 1 and said.startswith("rdmamig "), "%s: not one line: %s" % (process.name, said)
    assert len(said) < 500, said
    for part in parts:
        assert part in said, "%s: no %r in: %s" % (process.name, part, said)


def nothing_open(place, state):
    listed = run("resolve", "--json", "--state-dir", place.path(state))
    assert listed.returncode == 0 and not listed.stdout and not listed.stderr, "an open session: %r" % (listed,)


def memory(place, name="a", size=MB, fill=os.urandom):
    with open(place.path(name), "wb") as file:
        file.write(fill(size))


def real_send(place, recv, **options):
    """After all that, a guest still arrives."""
    memory(place)
    send = place.send(**options)
    send.expect(0, 30)
    recv.expect(0, 30)
    assert same_bytes(place.path("a"), place.path("b"))


# --- strangers at recv's door: it goes on waiting ---

def stranger(place, data):
    sock = socket.create_connection(("127.0.0.1", place.port), 5)
    sock.settimeout(10 * SLOW)
    try:
        sock.sendall(data)
        return sock, sock.recv(1000)	# b"": it has hung up
    except ConnectionError:
        return sock, b""


def hello_frame(kind=peer.CONTROL, head=None, **fields):
    data = peer.private_data(kind, b"s" * 16, **fields)
    return (head or struct.pack("<BBHIQ", peer.HELLO_FRAME, 0, 0, 0, 44)) + data


@test()
def garbage_at_the_door(place):
    recv = place.recv()
    noise = random.Random(1).randbytes
    for data in [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + noise(300), bytes(64),
                 b"\xff" * 64, *(noise(60) for _ in range(20)), noise(100000), hello_frame(magic=b"QEMU"),
                 hello_frame(head=struct.pack("<BBHIQ", 1, 0, 0, 0, 1 << 60)), hello_frame(kind=0), hello_frame(kind=9),
                 hello_frame(head=struct.pack("<BBHIQ", 1, 1, 0, 0, 44)), hello_frame(channel=1), hello_frame(token=1),
                 hello_frame(versions=(0, 0)), hello_frame(versions=(3, 2)), hello_frame(kind=peer.DATA, channel=16)]:
        sock, answer = stranger(place, data)
        assert answer == b"", "an answer to %r: %r" % (data[:40], answer)
        sock.close()
    # Hellos that are fine, but not for now, are told why.
    for data, status in [(hello_frame(versions=(9, 9)), peer.E_VERSION), (hello_frame(kind=peer.DATA, token=1), 307),
                         (hello_frame(kind=peer.RECORD_CONNECTION), 307)]:
        sock, answer = stranger(place, data)
        kind, _, count, said, size = struct.unpack("<BBHIQ", answer[:16])
        assert (kind, count, said, size) == (peer.REJECT, 0, status, len(answer) - 16) and 0 < size <= 80, answer
        assert answer[16:].decode().isprintable()
        sock.close()
    # A hello and gone: it may be a port scanner that knows us.
    for _ in range(5):
        socket.create_connection(("127.0.0.1", place.port), 5).close()
    assert not recv.ended() and not os.path.exists(place.path("b")) and not recv.err(), recv.err()
    real_send(place, recv)


@test()
def half_open_connections(place):
    recv = place.recv()
    part = hello_frame()
    silent = [socket.create_connection(("127.0.0.1", place.port), 5) for _ in range(100)]
    for i, sock in enumerate(silent):
        try:
            sock.sendall(part[:i % 59])
        except ConnectionError:
            pass	# dropped already, for a newer one
    assert not recv.ended()
    real_send(place, recv)
    for sock in silent:
        sock.close()


@test()
def a_hundred_at_once(place):
    recv = place.recv()
    stop = []

    def shout():
        while not stop:
            try:
                stranger(place, b"GET / HTTP/1.0\r\n\r\n")[0].close()
            except OSError:
                pass	# recv has ended
    shouters = [threading.Thread(target=shout) for _ in range(100)]
    for thread in shouters:
        thread.start()
    try:
        real_send(place, recv)
    finally:
        stop.append(True)
        for thread in shouters:
            thread.join()


# --- a source that goes wrong after its handshake: recv ends with 4, its line, and no memory ---

def bad(word, code=4, **options):
    """Mark what a source does; recv then ends with @code and a line with @word."""
    def mark(function):
        _bad_sources.append((function, word, code, options))
        return function
    return mark


_bad_sources = []




@bad("closed")
def goes_after_hello(s):
    s.connect().say_hello()
    s.close()


@bad("ended")
def says_it_failed(s):
    s.ready_to_write()
    s.control.send(peer.ERROR, peer.error_body(103, "a disk ended"))


@bad("cancel", code=7)
def cancels(s):
    s.ready_to_write()
    s.control.send(peer.CANCEL, peer.error_body(700, "cancelled by its user"))


@bad("update", code=3)
def newer_version_in_the_message(s):
    s.hello = dict(versions=(9, 9))
    s.connect()
    s.control.send(peer.HELLO, peer.hello_body(s.id, **s.hello))


@bad("codec", code=3)
def unknown_codec(s):
    s.connect()
    s.control.send(peer.HELLO, peer.hello_body(s.id, codec=200))


for _fields in (dict(page_bytes=65536), dict(channels=0), dict(channels=17), dict(credits=7), dict(credits=65), dict(verify=2),
                dict(blocks=257), dict(blocks=0), dict(versions=(3, 1)), dict(versions=(0, 1)), dict(batch_pages_max=0),
                dict(batch_pages_max=1 << 31)):
    @bad("127.0.0.1", fields=_fields)
    def hello_out_of_bounds(s, fields):
        s.connect()
        s.control.send(peer.HELLO, peer.hello_body(s.id, **fields))


@bad("message 0 came as number 1")
def wrong_first_sequence(s):
    s.connect()
    s.control.send(peer.HELLO, peer.hello_body(s.id), sequence=1)


@bad("came as number")
def repeated_sequence(s):
    s.ready_to_write()
    s.control.send(peer.PING, sequence=s.control.sent - 1)


@bad("credit")
def gives_back_too_much_credit(s):
    s.ready_to_write()
    s.control.send(peer.PING, credit=1000)


@bad("127.0.0.1")
def sends_more_than_it_has_credit_for(s):
    s.connect().say_hello()
    body = peer.blocks_body([])		# allowed, and does nothing
    flood = b"".join(struct.pack("<BBHIQ", peer.MESSAGE, 0, 0, 0, 20) + struct.pack("<HHIII", peer.BLOCKS, 0, 4, 1 + i, 0) + body
                     for i in range(100000))
    s.control.stream.sock.sendall(flood)
    s.control.sent += 100000
    s.control.send(99)


for _number in (0, 3, 13, 15, 16, 17, 24, 99, 65535):
    @bad("127.0.0.1", number=_number)
    def unknown_message(s, number):
        s.ready_to_write()
        s.control.send(number)


for _kind in (peer.HELLO, peer.KEYS, peer.READY, peer.DONE, peer.COMMIT, peer.ABORT, peer.ACK):
    _bodies = {peer.HELLO: peer.hello_body(b"s" * 16), peer.KEYS: peer.keys_body([]), peer.ACK: peer.ack_body([]),
               peer.DONE: bytes(16), peer.ABORT: peer.error_body(100, "why not")}

    @bad("127.0.0.1", kind=_kind, body=_bodies.get(_kind, b""))
    def a_message_that_may_not_come_now(s, kind, body):
        s.ready_to_write()
        s.control.send(kind, body)


for _change in (dict(flags=1), dict(length=1), dict(length=0xffffffff)):
    @bad("127.0.0.1", change=_change)
    def bad_header(s, change):
        s.ready_to_write()
        s.control.send(peer.PING, **change)


@bad("127.0.0.1")
def oversized_message(s):
    s.ready_to_write()
    s.control.stream.frame(peer.MESSAGE, payload=bytes(8193))


@bad("127.0.0.1")
def message_frame_of_exabytes(s):
    s.ready_to_write()
    s.control.stream.frame(peer.MESSAGE, payload_bytes=1 << 62)


@bad("127.0.0.1")
def message_shorter_than_its_header(s):
    s.ready_to_write()
    s.control.stream.frame(peer.MESSAGE, payload=b"short")


@bad("127.0.0.1")
def write_on_the_control_connection(s):
    s.ready_to_write()
    key = s.keys[0]
    s.control.stream.frame(peer.WRITE, payload=bytes(4096), pieces=[(key[3], key[4], 4096)])


@bad("127.0.0.1")
def block_of_odd_size(s):
    s.connect().say_hello()
    s.control.send(peer.BLOCKS, peer.blocks_body([("ram0", 4097, 4096)]))


@bad("127.0.0.1")
def block_of_exabytes(s):
    s.connect().say_hello()
    s.control.send(peer.BLOCKS, peer.blocks_body([("ram0", 1 << 63, 4096)]))


@bad("127.0.0.1")
def more_blocks_than_announced(s):
    s.connect().say_hello()
    s.control.send(peer.BLOCKS, peer.blocks_body([("ram0", MB, 4096), ("ram1", MB, 4096)]))


@bad("127.0.0.1")
def blocks_out_of_order(s):
    s.connect().say_hello()
    s.control.send(peer.BLOCKS, peer.blocks_body([("ram0", MB, 4096)], first=1))


@bad("ram1", code=3)
def block_dest_lacks(s):
    s.connect().say_hello()
    s.control.send(peer.BLOCKS, peer.blocks_body([("ram1", MB, 4096)]))


@bad("differ", code=3)
def the_same_block_twice(s):
    s.hello = dict(blocks=2)
    s.connect().say_hello()
    s.control.send(peer.BLOCKS, peer.blocks_body([("ram0", MB, 4096), ("ram0", MB, 4096)]))


for _run in ((256, 1), (255, 2), (0, 257), (1 << 63, 1), ((1 << 64) - 1, 1), (0, 0xffffffff)):
    @bad("past the end of", run=_run)
    def batch_past_the_end(s, run):
        s.ready_to_write()
        s.control.send(peer.BATCH, peer.batch_body(1, zero=[run]))


for _what in (dict(normal=[(3, 1), (2, 1)]), dict(normal=[(2, 2), (3, 1)]), dict(normal=[(2, 2)], zero=[(3, 1)]), dict(normal=[(2, 0)])):
    @bad("127.0.0.1", what=_what)
    def batch_that_is_not_in_order(s, what):
        s.ready_to_write()
        s.control.send(peer.BATCH, peer.batch_body(1, **what))


for _what in (dict(channel=1), dict(channel=15), dict(epoch=2), dict(block=1), dict(block=255)):
    @bad("127.0.0.1", what=_what)
    def batch_of_something_else(s, what):
        s.ready_to_write()
        s.control.send(peer.BATCH, peer.batch_body(1, normal=[(0, 1)], **what))


@bad("out of order")
def batch_out_of_order(s):
    s.ready_to_write()
    s.control.send(peer.BATCH, peer.batch_body(2, normal=[(0, 1)]))


@bad("out of order")
def batch_repeated(s):
    s.ready_to_write()
    s.send_page(1, 0, bytes(4096))
    s.control.send(peer.BATCH, peer.batch_body(1, normal=[(0, 1)]))


@bad("out of order")
def fence_out_of_order(s):
    s.ready_to_write()
    s.fence(2)


@bad("out of order")
def fence_repeated(s):
    s.ready_to_write()
    s.send_page(1, 0, os.urandom(4096))
    s.fence(1)


@bad("127.0.0.1")
def fences_without_end(s):
    s.ready_to_write()
    for i in range(1, 5000):
        s.fence(i)


for _offset, _size in ((MB, 1), (MB - 1, 2), (-1, 1), (0, MB + 1), (1 << 62, 1)):
    @bad("memory it was not given", offset=_offset, size=_size)
    def write_outside(s, offset, size):
        s.ready_to_write()
        s.write(offset, b"x" * size)


@bad("memory it was not given")
def write_with_another_key(s):
    s.ready_to_write()
    s.write(0, bytes(4096), key=s.keys[0][4] ^ 1)


@bad("memory it was not given")
def second_piece_outside(s):
    s.ready_to_write()
    _, _, _, base, key = s.keys[0]
    s.data[0].frame(peer.WRITE, payload=b"x" * 8192, pieces=[(base, key, 4096), (base + MB, key, 4096)])


@bad("memory it was not given")
def read_of_dest(s):
    s.ready_to_write()
    _, _, _, base, key = s.keys[0]
    s.data[0].frame(peer.READ_REQUEST, pieces=[(base, key, 4096)])


@bad("differ in length")
def write_of_other_length(s):
    s.ready_to_write()
    _, _, _, base, key = s.keys[0]
    s.data[0].frame(peer.WRITE, payload=b"x" * 4097, pieces=[(base, key, 4096)])


@bad("127.0.0.1")
def answer_nobody_asked_for(s):
    s.ready_to_write()
    s.data[0].frame(peer.READ_DATA, payload=b"x" * 4096)


@bad("127.0.0.1")
def message_on_a_data_channel(s):
    s.ready_to_write()
    s.data[0].frame(peer.MESSAGE, payload=bytes(16))


@bad("closed data channel 0")
def data_channel_closes(s):
    s.ready_to_write()
    s.send_page(1, 0, os.urandom(4096))
    s.data[0].close()
    s.control.stay_alive(lambda: s.recv.ended())


@bad("127.0.0.1")
def data_channel_closes_in_the_middle_of_a_write(s):
    s.ready_to_write()
    _, _, _, base, key = s.keys[0]
    s.data[0].frame(peer.WRITE, payload=b"x" * 10, pieces=[(base, key, 4096)], payload_bytes=4096)
    s.data[0].close()
    s.control.stay_alive(lambda: s.recv.ended())


@bad("channel")
def channel_it_did_not_ask_for(s):
    s.connect().say_hello().say_blocks()
    s.control.send(peer.CHANNEL_UP, peer.channel_up_body(1, 1, 5))


@bad("channel")
def channel_announced_twice(s):
    s.ready_to_write()
    s.control.send(peer.CHANNEL_UP, peer.channel_up_body(0, 2, 5))


@bad("before all memory was here")
def state_before_the_last_batch(s):
    s.ready_to_write()
    s.control.send(peer.BATCH, peer.batch_body(1, normal=[(0, 1)]))
    s.control.send(peer.STATE, peer.state_body())


@bad("hashes nobody asked for")
def hashes_nobody_asked_for(s):
    s.ready_to_write()
    s.control.send(peer.VERIFY, struct.pack("<HH32s", 1, 0, bytes(32)))


@bad("127.0.0.1")
def commit_before_ready(s):
    s.ready_to_write()
    s.send_page(1, 0, os.urandom(4096))
    s.control.send(peer.COMMIT)


@bad("closed")
def goes_in_the_middle(s):
    s.ready_to_write()
    s.send_page(1, 7, os.urandom(4096))
    s.close()


for _kind, _code in ((peer.ABORT, 4), (peer.ERROR, 4), (peer.CANCEL, 7)):
    @bad("the source's journal says so", kind=_kind, status=_code * 100, code=_code)
    def aborts_after_ready(s, kind, status):
        s.ready_to_write()
        s.send_page(1, 7, os.urandom(4096))
        s.control.send(peer.STATE, peer.state_body())
        s.control.expect(peer.READY)
        s.control.send(kind, peer.error_body(status, "the source's journal says so"))


def against_recv(place, number, function, word, code, options):
    """One bad source; dest's file is missing before, or there and full of old bytes."""
    file = "b%d" % number
    was_there = number % 2 == 1
    if was_there:
        memory(place, file)
    recv = place.recv(name="recv%d" % number, ram=("ram0=" + file,))
    source = peer.Source(place.port)
    source.recv = recv
    try:
        function(source, **options)
    except (peer.Closed, ConnectionError):
        pass	# dest was quicker to see it
    if hasattr(source, "control"):
        try:
            source.control.until_closed()
        except (ConnectionError, OSError):
            pass
        source.close()
    recv.expect(code, 10)
    one_line(recv, word, "nothing was taken over")
    if was_there:
        touched = "touched" if list(extents(place.path(file))) != [(0, MB)] else ""
        assert not touched or allocated(place.path(file)) == 0, "an old file kept a part of the source's data"
        os.unlink(place.path(file))
    assert not os.path.exists(place.path(file)), "a file that recv made was left"


@test()
def sources_that_go_wrong(place):
    problems, lock = [], threading.Lock()
    queue = list(enumerate(_bad_sources))

    def work():
        while True:
            with lock:
                if not queue:
                    return
                number, (function, word, code, options) = queue.pop()
            try:
                against_recv(place, number, function, word, code, options)
            except BaseException as problem:
                problems.append("%s %s: %s: %s" % (function.__name__, options, type(problem).__name__, problem))
    work()
    assert not problems, "%d of %d:\n%s" % (len(problems), len(_bad_sources), "\n".join(problems))
    nothing_open(place, "state-dst")


# --- what dest takes without ending ---

@test()
def others_come_while_a_session_is_active(place):
    recv = place.recv()
    source = peer.Source(place.port).ready_to_write()
    page = os.urandom(4096)
    source.send_page(1, 3, page)
    for kind, options in [(peer.CONTROL, {}), (peer.RECORD_CONNECTION, {}), (peer.DATA, dict(token=source.tokens[0], epoch=1))]:
        try:
            peer.connect(place.port, kind, os.urandom(16), **options)
            raise AssertionError("a stranger's connection of kind %d was let in" % kind)
        except peer.Rejected as refused:
            assert refused.args[0] == 307 and "under way" in refused.args[1], refused
    # One with the right session, but a token that is used up or was never given, waits in vain and does no harm.
    for token in (source.tokens[0], source.tokens[0] ^ 1):
        sock = socket.create_connection(("127.0.0.1", place.port), 5)
        peer.Stream(sock).frame(peer.HELLO_FRAME, payload=peer.private_data(peer.DATA, source.id, epoch=1, token=token))
        peer.Stream(sock).frame(peer.WRITE, payload=b"evil" * 1024, pieces=[(source.keys[0][3], source.keys[0][4], 4096)])
    stranger(place, b"GET / HTTP/1.1\r\n\r\n")[0].close()
    source.send_page(2, 4, page)
    source.control.send(peer.STATE, peer.state_body())
    source.control.expect(peer.READY)
    source.control.send(peer.COMMIT)
    source.control.expect(peer.DONE)
    source.close()
    recv.expect(0)
    with open(place.path("b"), "rb") as file:
        assert file.read() == bytes(3 * 4096) + page * 2 + bytes(MB - 5 * 4096), "dest's memory is not what was sent"


@test(level="long")
def recv_outlives_a_silent_source_only_so_long(place):
    """All that takes a deadline, at the same time."""
    cases = []
    for number, (word, steps) in enumerate([("its HELLO did not come", lambda s: s.connect()),
                                            ("list of blocks did not come", lambda s: s.connect().say_hello())]):
        recv = place.recv(name="recv%d" % number, ram=("ram0=b%d" % number,))
        source = peer.Source(place.port)
        steps(source)
        thread = threading.Thread(target=source.control.stay_alive, args=(recv.ended,))
        thread.start()
        cases.append((recv, word, thread))
    recv = place.recv(name="recv9", ram=("ram0=b9",))
    silent = peer.Source(place.port).ready_to_write()
    recv.expect(4, 10)
    one_line(recv, "no sign of life")
    silent.close()
    for recv, word, thread in cases:
        recv.expect(4, 15)
        one_line(recv, word)
        thread.join()
    assert not [name for name in os.listdir(place.dir) if name.startswith("b")]


# --- a dest that goes wrong: send ends with 4 and the guest runs on ---

_bad_dests = []


def bad_dest(word, code=4, seconds=10, level="check", **options):
    def mark(function):
        _bad_dests.append((function, word, code, seconds, level, options))
        return function
    return mark


@bad_dest("not an rdmamig dest")
def answers_http(d):
    d.accept().sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")


@bad_dest("not an rdmamig dest")
def answers_ssh(d):
    d.accept().sendall(b"SSH-2.0-OpenSSH_9.2\r\n")


@bad_dest("not an rdmamig dest")
def answers_noise(d):
    d.accept().sendall(b"\x02\x1b[2J\n" + bytes(range(256)))


@bad_dest("closed the connection without a word")
def closes_at_once(d):
    d.accept().close()


@bad_dest("did not answer within 10 s", seconds=14, level="long")
def accepts_and_says_nothing(d):
    d.kept = d.accept()


@bad_dest("no sign of life", seconds=6)
def admits_and_says_nothing(d):
    d.admit()


@bad_dest("HELLO did not come", seconds=14, level="long")
def pings_and_says_nothing(d):
    d.admit().control.stay_alive(d.send.ended)


@bad_dest("update", code=3)
def rejects_our_version(d):
    stream = d.accept_hello()[0]
    text = b"it speaks protocol 1 to 1, here 9 to 9: update the older rdmamig"
    stream.frame(peer.REJECT, sequence=peer.E_VERSION, payload=text)


@bad_dest("refused")
def rejects_with_nonsense(d):
    d.accept_hello()[0].frame(peer.REJECT, sequence=801, payload=b"\x1b[31m\nboo")


@bad_dest("127.0.0.1")
def rejects_at_length(d):
    d.accept_hello()[0].frame(peer.REJECT, sequence=1, payload=bytes(81))


for _fields in (dict(versions=(9, 9)), dict(versions=(1, 9)), dict(features=1), dict(channels=2), dict(codec=1), dict(credits=0),
                dict(credits=65), dict(page_bytes=16384)):
    @bad_dest("127.0.0.1", fields=_fields)
    def wrong_hello_reply(d, fields):
        d.admit().hear_hello().say_hello(**fields)


for _key in ((0, 0, MB + 1, 1 << 40, 7), (0, MB, 1, 1 << 40, 7), (1, 0, 4096, 1 << 40, 7), (0, 1 << 63, 1 << 62, 0, 7),
             (0, 0, 0, 0, 7), (0, 0, MB, (1 << 64) - 1, 7)):
    @bad_dest("127.0.0.1", key=_key)
    def key_past_the_end(d, key):
        d.admit().hear_hello().say_hello().hear_blocks().control.send(peer.KEYS, peer.keys_body([key]))


@bad_dest("two keys")
def same_key_twice(d):
    d.admit().hear_hello().say_hello().hear_blocks().control.send(peer.KEYS, peer.keys_body([(0, 0, 4096, 0, 7), (0, 0, 4096, 0, 8)]))


@bad_dest("127.0.0.1")
def ready_early(d):
    d.ready_to_receive().control.send(peer.READY)


@bad_dest("127.0.0.1")
def ready_before_keys(d):
    d.admit().hear_hello().say_hello().hear_blocks().control.send(peer.READY)


for _ack in ((0, 1, 1000000), (0, 1, 0xffffffff), (1, 1, 1), (15, 1, 1)):
    @bad_dest("127.0.0.1", ack=_ack)
    def ack_of_what_was_never_sent(d, ack):
        d.ready_to_receive().control.send(peer.ACK, peer.ack_body([ack]))


@bad_dest("127.0.0.1")
def ack_that_goes_back(d):
    d.ready_to_receive()
    sequence = d.first_batch()[2]
    d.control.send(peer.ACK, peer.ack_body([(0, 1, sequence)]))
    d.control.send(peer.ACK, peer.ack_body([(0, 1, 0xfffffff0)]))


for _kind in (peer.COMMIT, peer.BATCH, peer.DONE, peer.STATE, peer.HELLO, 99):
    _body = {peer.BATCH: peer.batch_body(1, normal=[(0, 1)]), peer.DONE: bytes(16), peer.STATE: peer.state_body(),
             peer.HELLO: peer.hello_body(b"s" * 16)}.get(_kind, b"")

    @bad_dest("127.0.0.1", kind=_kind, body=_body)
    def message_of_the_other_side(d, kind, body):
        d.ready_to_receive().control.send(kind, body)


@bad_dest("127.0.0.1")
def writes_to_the_source(d):
    d.ready_to_receive().stream.frame(peer.WRITE, payload=b"x" * 4096, pieces=[(0, 1, 4096)])


@bad_dest("127.0.0.1")
def reads_from_the_source(d):
    d.ready_to_receive().stream.frame(peer.READ_REQUEST, pieces=[(0, 1, 4096)])


@bad_dest("127.0.0.1")
def closes_the_data_channel(d):
    d.ready_to_receive().stream.close()
    d.control.stay_alive(d.send.ended)


@bad_dest("refused: no", code=3)
def rejects_the_data_channel(d):
    d.admit().hear_hello().say_hello().hear_blocks().say_keys()
    d.control.send(peer.CHANNEL_UP, d.control.expect(peer.CHANNEL_UP))
    d.accept_hello()[0].frame(peer.REJECT, sequence=307, payload=b"no")
    d.control.stay_alive(d.send.ended)


@bad_dest("127.0.0.1")
def another_echo(d):
    d.admit().hear_hello().say_hello().hear_blocks().say_keys()
    d.control.expect(peer.CHANNEL_UP)
    d.control.send(peer.CHANNEL_UP, peer.channel_up_body(1, 1, 1))


@bad_dest("the disk of dest ended")
def says_it_failed(d):
    d.ready_to_receive().control.send(peer.ERROR, peer.error_body(302, "the disk of dest ended"))


@bad_dest("127.0.0.1")
def error_with_control_characters(d):
    d.ready_to_receive().control.send(peer.ERROR, peer.error_body(302, "a\n\x1b[2Jb"))


def against_send(place, number, function, word, code, seconds, options):
    name, file = "send%d" % number, "g%d" % number
    guest = place.synth("--dirty-rate", "1M", name="guest%d" % number, file=file, size="1M")
    dest = peer.Dest()
    dest.send = send = place.send("--pid", guest.pid, "--handover-timeout-s", "2", name=name, ram=("ram0=" + file,),
                                  uri="tcp://127.0.0.1:%d" % dest.port)
    try:
        function(dest, **options)
    except (peer.Closed, ConnectionError):
        pass	# send was quicker to see it
    try:
        if hasattr(dest, "control") and word != "no sign of life":
            dest.control.until_closed()
            dest.control.stream.close()
    except OSError:
        pass
    send.expect(code, seconds)
    dest.close()
    one_line(send, word, "the guest stays here, as it was")
    assert "\x1b" not in send.err()
    expect_running(guest.pid)
    guest.signal(15)


@test()
def dests_that_go_wrong(place):
    problems = []
    cases = [case for case in enumerate(_bad_dests) if case[1][4] == "check" or is_long()]

    def one(number, function, word, code, seconds, _, options):
        try:
            against_send(place, number, function, word, code, seconds, options)
        except BaseException as problem:
            problems.append("%s %s: %s: %s" % (function.__name__, options, type(problem).__name__, problem))
    waiting = []
    for number, case in cases:
        if case[3] > 10:	# waits for a deadline: meanwhile the others
            waiting.append(threading.Thread(target=one, args=(number, *case)))
            waiting[-1].start()
        else:
            one(number, *case)
    for thread in waiting:
        thread.join()
    assert not problems, "%d of %d:\n%s" % (len(problems), len(cases), "\n".join(problems))
    nothing_open(place, "state-src")


# --- wrong at the worst moment: nobody may decide alone ---

@test()
def source_goes_wrong_once_dest_is_ready(place):
    """From READY on dest keeps what it has, whatever the source does that says neither COMMIT nor that ABORT stands."""
    def leave(s):
        s.close()

    def say(number, body=b""):
        return lambda s: s.control.send(number, body)

    cases = []
    for number, act in enumerate([leave, say(99), say(peer.STATE, peer.state_body()), say(peer.READY),
                                  say(peer.BATCH, peer.batch_body(2, zero=[(0, 1)])), lambda s: s.fence(7),
                                  lambda s: s.write(MB, b"x"), lambda s: s.control.stream.sock.sendall(b"\xff" * 99)]):
        file = "b%d" % number
        recv = place.recv("--handover-timeout-s", "1", name="recv%d" % number, ram=("ram0=" + file,))
        source = peer.Source(place.port).ready_to_write()
        page = os.urandom(4096)
        source.send_page(1, 7, page)
        source.control.send(peer.STATE, peer.state_body())
        source.control.expect(peer.READY)
        try:
            act(source)
        except (peer.Closed, ConnectionError):
            pass
        cases.append((recv, source, file, page))
    for recv, source, file, page in cases:
        recv.expect(8, 20)
        one_line(recv, "rdmamig resolve ", "--listen")
        source.close()
        with open(place.path(file), "rb") as held:
            assert held.read() == bytes(7 * 4096) + page + bytes(MB - 8 * 4096), "held memory is not what was sent"


@test()
def dest_goes_wrong_once_commit_stands(place):
    """After COMMIT the guest stays stopped, and an operator is told how to ask."""
    cases = []
    for number, act in enumerate([lambda d: d.control.stream.close(), lambda d: d.control.send(99),
                                  lambda d: d.control.send(peer.READY),
                                  lambda d: d.control.send(peer.ERROR, peer.error_body(302, "no")),
                                  lambda d: d.control.send(peer.CANCEL, peer.error_body(700, "no")),
                                  lambda d: d.control.stream.sock.sendall(b"\xff" * 99)]):
        name, file = "send%d" % number, "g%d" % number
        guest = place.synth("--dirty-rate", "1M", name="guest%d" % number, file=file, size="1M")
        dest = peer.Dest()
        send = place.send("--pid", guest.pid, "--handover-timeout-s", "1", name=name, ram=("ram0=" + file,),
                          uri="tcp://127.0.0.1:%d" % dest.port)
        dest.ready_to_receive().receive_all().control.send(peer.READY)
        dest.control.expect(peer.COMMIT)
        assert is_stopped(guest.pid)
        act(dest)
        cases.append((send, guest, dest))
        dest.close()	# nobody answers what its record says
    for send, guest, dest in cases:
        send.expect(8, 20)
        one_line(send, "rdmamig resolve ", "--peer")
        assert is_stopped(guest.pid), "the guest of a session that committed runs on"


@test()
def dest_goes_wrong_before_it_is_ready(place):
    """The guest is stopped already, and runs again."""
    for number, act in enumerate([lambda d: d.control.stream.close(), lambda d: d.control.send(peer.DONE, bytes(16)),
                                  lambda d: d.control.send(peer.ERROR, peer.error_body(302, "no"))]):
        name, file = "send%d" % number, "g%d" % number
        guest = place.synth("--dirty-rate", "1M", name="guest%d" % number, file=file, size="1M")
        dest = peer.Dest()
        send = place.send("--pid", guest.pid, "--handover-timeout-s", "1", name=name, ram=("ram0=" + file,),
                          uri="tcp://127.0.0.1:%d" % dest.port)
        dest.ready_to_receive().receive_all()
        act(dest)
        dest.close()
        send.expect((3, 4), 20)
        one_line(send, "127.0.0.1", "the guest stays here, as it was")
        expect_running(guest.pid)
    nothing_open(place, "state-src")


# --- no room at dest ---

class Mount:
    """A small tmpfs of its own."""

    def __init__(self, path, size):
        self.path = path
        os.mkdir(path, 0o755)
        if os.getuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755,size=" + size, "none", path],
                                         capture_output=True).returncode:
            skip("no mount(2) here")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for _ in range(100):
            if not subprocess.run(["umount", self.path], capture_output=True).returncode:
                return
            time.sleep(0.05)
        subprocess.run(["umount", "-l", self.path])


@test()
@test(name="dest_memory_is_full_on_four_channels", options=("--channels", "4"))
@test(name="dest_memory_is_full_of_zeros_written_over", fill="zero", options=("--zero-pages", "off"))
def dest_memory_is_full(place, options=(), fill="random"):
    guest = place.synth("--dirty-rate", "10M", "--fill", fill, size="128M")
    with Mount(place.path("small"), "32M") as small:
        recv = place.recv(ram=("ram0=small/b",))
        send = place.send("--pid", guest.pid, *options)
        send.expect((3, 4), 60)
        recv.expect((1, 3), 60)
        one_line(recv, "full", "ram0=" + place.path("small/b"), "nothing was taken over")
        one_line(send, "full", "the guest stays here")
        expect_running(guest.pid)
        assert not os.listdir(small.path), "dest's file was left"
        assert os.statvfs(small.path).f_bfree == os.statvfs(small.path).f_blocks, "dest's memory is still held"
    nothing_open(place, "state-src")
    nothing_open(place, "state-dst")


@test()
def state_directory_is_full(place):
    guest = place.synth("--dirty-rate", "10M", size="1M")
    with Mount(place.path("small"), "64K") as small:
        state = place.path("small/state")
        os.mkdir(state, 0o700)
        with open(place.path("small/filler"), "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
        send = place.send("--pid", guest.pid, "--state-dir", state, uri="tcp://127.0.0.1:1")
        send.expect(3, 20)
        one_line(send, "No space left", state)
        expect_running(guest.pid)
        recv = place.recv("--state-dir", state)
        send = place.send("--pid", guest.pid, name="send2")
        send.expect((3, 4), 20)
        recv.expect(3, 20)
        one_line(recv, "No space left", state)
        one_line(send, "No space left")
        expect_running(guest.pid)
        assert not os.path.exists(place.path("b")), "dest's file was left"
        assert not os.listdir(state), os.listdir(state)


if __name__ == "__main__":
    main()
