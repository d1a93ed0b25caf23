# SPDX-License-Identifier: BSD-2-Clause
"""Either end of the protocol by hand, able to say what no rdmamig would. From docs/protocol.md alone.

Source and Dest do one proper step a call; a test goes as far as it wants and then misbehaves with control.send(),
stream.frame() or the bare socket. Everything is checked that arrives, so a wrong byte of the product shows here too.
"""

import collections
import os
import random
import socket
import struct
import threading
import time

VERSION = 1

# Frames
HELLO_FRAME, ADMIT, REJECT, MESSAGE, WRITE, FENCE, READ_REQUEST, READ_DATA = range(1, 9)
# Kinds of connections
CONTROL, DATA, RECORD_CONNECTION = 1, 2, 3
# Messages
HELLO, BLOCKS, KEYS, BATCH, ACK, ROUND, STATE, READY, COMMIT, ABORT, DONE = 1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12
CHANNEL_UP, ERROR, CANCEL, PING, CREDIT, VERIFY, RECORD = 14, 18, 19, 20, 21, 22, 23
# Of rdmamig/status.h, which the documents refer to
E_VERSION, E_PROTOCOL = 305, 405

CREDITS_FIRST = 8
CREDITS = 64
PING_S = 0.3


class Closed(Exception):
    """The other end closed the connection."""


class Rejected(Exception):
    """status, text"""


class Stream:
    """Frames on a socket."""

    def __init__(self, sock, seconds=20):
        self.sock = sock
        self.sock.settimeout(seconds)
        self.ahead = b""

    def frame(self, kind, count=0, sequence=0, payload=b"", pieces=(), payload_bytes=None):
        head = struct.pack("<BBHIQ", kind, 0, count or len(pieces), sequence,
                           len(payload) if payload_bytes is None else payload_bytes)
        self.sock.sendall(head + b"".join(struct.pack("<QII", *piece) for piece in pieces) + payload)

    def take(self, size):
        while len(self.ahead) < size:
            try:
                more = self.sock.recv(1 << 16)
            except ConnectionError:
                more = b""
            if not more:
                raise Closed("closed by the other end")
            self.ahead += more
        out, self.ahead = self.ahead[:size], self.ahead[size:]
        return out

    def read(self):
        """(type, sequence, pieces, payload) of the next frame."""
        head = self.take(16)
        kind, zero, count, sequence, payload_bytes = struct.unpack("<BBHIQ", head)
        assert 1 <= kind <= 8 and zero == 0, head
        assert kind in (WRITE, READ_REQUEST) or count == 0, head
        pieces = [struct.unpack("<QII", self.take(16)) for _ in range(count)]
        return kind, sequence, pieces, self.take(payload_bytes) if kind != READ_REQUEST else b""

    def is_readable(self, seconds):
        if self.ahead:
            return True
        old = self.sock.gettimeout()
        self.sock.settimeout(seconds)
        try:
            more = self.sock.recv(1 << 16)
        except (TimeoutError, BlockingIOError):
            return False
        except ConnectionError:
            more = b""
        finally:
            self.sock.settimeout(old)
        if not more:
            raise Closed("closed by the other end")
        self.ahead += more
        return True

    def close(self):
        self.sock.close()


def private_data(kind, session_id, channel=0, epoch=0, token=0, versions=(VERSION, VERSION), magic=b"RDMG"):
    return struct.pack("<4sHHBBHHHIQ16s", magic, 44, 1, kind, 0, *versions, channel, epoch, token, session_id)


def connect(port, kind, session_id, **fields):
    """An admitted connection; raises Rejected or Closed."""
    stream = Stream(socket.create_connection(("127.0.0.1", port), 10))
    stream.frame(HELLO_FRAME, payload=private_data(kind, session_id, **fields))
    answer, sequence, _, payload = stream.read()
    if answer == REJECT:
        stream.close()
        raise Rejected(sequence, payload.decode())
    assert answer == ADMIT, answer
    return stream


def text(string):
    return struct.pack("<H", len(string)) + string


class Control:
    """Messages on a control connection: numbers, credits and pings are kept right, unless a test says otherwise."""

    def __init__(self, stream):
        self.stream = stream
        self.sent = self.received = self.owed = 0
        self.credit = CREDITS_FIRST
        self.heard_of = []	# types of all messages

    def send(self, kind, body=b"", sequence=None, credit=None, flags=0, length=None):
        given = self.owed if credit is None else credit
        head = struct.pack("<HHIII", kind, flags, len(body) if length is None else length,
                           self.sent if sequence is None else sequence, given)
        self.stream.frame(MESSAGE, payload=head + body)
        self.sent += 1
        self.owed -= min(given, self.owed)
        self.credit -= 1

    def keep_alive(self):
        if self.credit > 2:
            self.send(PING)

    def read(self):
        """(type, body) of the next message other than PING and CREDIT."""
        while True:
            end = time.monotonic() + 20
            while not self.stream.is_readable(PING_S):
                assert time.monotonic() < end, "no message for 20 s"
                self.keep_alive()
            kind, _, _, payload = self.stream.read()
            assert kind == MESSAGE and len(payload) >= 16, (kind, payload)
            number, flags, length, sequence, credit = struct.unpack("<HHIII", payload[:16])
            assert flags == 0 and length == len(payload) - 16 and sequence == self.received, payload[:16]
            self.received += 1
            self.credit += credit
            self.owed += 1
            self.heard_of.append(number)
            if self.owed >= 4 and self.credit > 1:
                self.send(CREDIT)
            if number not in (PING, CREDIT):
                return number, payload[16:]

    def expect(self, kind):
        got, body = self.read()
        if got == ERROR:
            raise AssertionError("ERROR %r" % (error_decode(body),))
        assert got == kind, "message %d, not %d" % (got, kind)
        return body

    def until_closed(self):
        """(status, text) of the ERROR that comes before the other end goes; None if it only goes."""
        try:
            while True:
                kind, body = self.read()
                if kind in (ERROR, CANCEL, ABORT):
                    return error_decode(body)
        except (Closed, ConnectionError):
            return None

    def stay_alive(self, until):
        """Ping, and read what comes, until the condition holds."""
        while not until():
            try:
                if self.stream.is_readable(PING_S):
                    self.stream.read()
                    self.owed += 1
                self.send(PING)
            except (Closed, ConnectionError):
                return


def hello_body(session_id, versions=(VERSION, VERSION), features=0, page_bytes=4096, channels=1, credits=CREDITS,
               batch_pages_max=256, codec=0, verify=0, blocks=1, handover_ms=1000):
    return struct.pack("<HHQIHHIBBH16sQ", *versions, features, page_bytes, channels, credits, batch_pages_max, codec, verify,
                       blocks, session_id, handover_ms)


def hello_decode(body):
    assert len(body) == 52, len(body)
    names = ("version_min version_max features page_bytes channels credits batch_pages_max codec verify blocks session_id "
             "handover_timeout_ms").split()
    return dict(zip(names, struct.unpack("<HHQIHHIBBH16sQ", body)))


def blocks_body(blocks, first=0):
    """blocks: (name, length, granule) ..."""
    return struct.pack("<HH", first, len(blocks)) + b"".join(text(name.encode()) + struct.pack("<QQ", length, granule)
                                                             for name, length, granule in blocks)


def blocks_decode(body):
    first, count = struct.unpack_from("<HH", body)
    at, found = 4, []
    for _ in range(count):
        size, = struct.unpack_from("<H", body, at)
        length, granule = struct.unpack_from("<QQ", body, at + 2 + size)
        found.append((body[at + 2:at + 2 + size].decode(), length, granule))
        at += 18 + size
    assert at == len(body)
    return first, found


def keys_body(keys):
    """keys: (block, offset, length, base, key) ..."""
    return struct.pack("<H", len(keys)) + b"".join(struct.pack("<HQQQI", *key) for key in keys)


def keys_decode(body):
    count, = struct.unpack_from("<H", body)
    assert len(body) == 2 + 30 * count
    return [struct.unpack_from("<HQQQI", body, 2 + 30 * i) for i in range(count)]


def batch_body(sequence, normal=(), zero=(), forced=(), channel=0, epoch=1, block=0):
    """normal, zero, forced: runs (first page, pages)."""
    runs = [*normal, *zero, *forced]
    return struct.pack("<HIIHHHH", channel, epoch, sequence, block, len(normal), len(zero), len(forced)) + \
        b"".join(struct.pack("<QI", *run) for run in runs)


def batch_decode(body):
    channel, epoch, sequence, block, *counts = struct.unpack_from("<HIIHHHH", body)
    assert len(body) == 18 + 12 * sum(counts)
    return channel, epoch, sequence, block, [struct.unpack_from("<QI", body, 18 + 12 * i) for i in range(sum(counts))]


def ack_body(acks):
    """acks: (channel, epoch, applied) ..."""
    return struct.pack("<H", len(acks)) + b"".join(struct.pack("<HII", *ack) for ack in acks)


def ack_decode(body):
    count, = struct.unpack_from("<H", body)
    assert len(body) == 2 + 10 * count
    return [struct.unpack_from("<HII", body, 2 + 10 * i) for i in range(count)]


def round_body(number, dirty=0, normal=0, zero=0):
    return struct.pack("<IQQQQQ", number, dirty, normal, zero, 0, 0)


def state_body(last=1, guest_runs=1, data=b""):
    return struct.pack("<BBH", last, guest_runs, len(data)) + data


def channel_up_body(channel, epoch, token):
    return struct.pack("<HIQ", channel, epoch, token)


def error_body(status, string):
    return struct.pack("<I", status) + text(string.encode())


def error_decode(body):
    status, size = struct.unpack_from("<IH", body)
    assert len(body) == 6 + size
    return status, body[6:].decode()


class Source:
    """A source with one block; each method is a step of the session, to be called in this order."""

    def __init__(self, port, size=1 << 20, name="ram0", **hello):
        self.port, self.size, self.name, self.hello = port, size, name, hello
        self.id = os.urandom(16)
        self.data = {}
        self.tokens = {}

    def connect(self, **fields):
        self.control = Control(connect(self.port, CONTROL, self.id, **fields))
        return self

    def say_hello(self):
        self.control.send(HELLO, hello_body(self.id, **self.hello))
        self.reply = hello_decode(self.control.expect(HELLO))
        self.control.credit += self.reply["credits"] - CREDITS_FIRST
        return self

    def say_blocks(self):
        self.control.send(BLOCKS, blocks_body([(self.name, self.size, 4096)]))
        self.keys = []
        while sum(key[2] for key in self.keys) < self.size:
            self.keys += keys_decode(self.control.expect(KEYS))
        return self

    def announce(self, channel=0, epoch=1):
        self.tokens[channel] = random.getrandbits(64)
        body = channel_up_body(channel, epoch, self.tokens[channel])
        self.control.send(CHANNEL_UP, body)
        assert self.control.expect(CHANNEL_UP) == body
        return self

    def join(self, channel=0, epoch=1, token=None):
        token = self.tokens[channel] if token is None else token
        self.data[channel] = connect(self.port, DATA, self.id, channel=channel, epoch=epoch, token=token)
        return self

    def ready_to_write(self):
        return self.connect().say_hello().say_blocks().announce().join()

    def write(self, offset, data, channel=0, key=None):
        block, begin, length, base, its_key = self.keys[0]
        self.data[channel].frame(WRITE, payload=data, pieces=[((base + offset - begin) % (1 << 64),
                                                               its_key if key is None else key, len(data))])

    def fence(self, sequence, channel=0):
        self.data[channel].frame(FENCE, sequence=sequence)

    def send_page(self, sequence, page, data, acked=True):
        """A whole batch of one page."""
        self.control.send(BATCH, batch_body(sequence, normal=[(page, 1)]))
        self.write(page * 4096, data)
        self.fence(sequence)
        while acked:
            if (0, 1, sequence) in ack_decode(self.control.expect(ACK)):
                return

    def close(self):
        for stream in [*self.data.values(), self.control.stream]:
            stream.close()


class Dest:
    """A dest for one source; each method is a step of the session, to be called in this order."""

    KEY = 7
    BASE = 1 << 40

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(20)
        self.port = self.listener.getsockname()[1]

    def accept(self):
        """The bare connection, nothing read."""
        return self.listener.accept()[0]

    def accept_hello(self):
        """A connection with a proper hello, not admitted yet: (stream, kind, versions, channel, epoch, token, session id)."""
        stream = Stream(self.accept())
        kind, sequence, _, payload = stream.read()
        assert kind == HELLO_FRAME and sequence == 0 and len(payload) == 44, (kind, payload)
        magic, length, layout, role, zero, low, high, channel, epoch, token, session_id = struct.unpack(
            "<4sHHBBHHHIQ16s", payload)
        assert (magic, length, layout, zero) == (b"RDMG", 44, 1, 0) and low <= high, payload
        return stream, role, (low, high), channel, epoch, token, session_id

    def admit(self):
        stream, role, _, channel, epoch, token, self.id = self.accept_hello()
        assert (role, channel, epoch, token) == (CONTROL, 0, 0, 0)
        stream.frame(ADMIT)
        self.control = Control(stream)
        return self

    def hear_hello(self):
        self.hello = hello_decode(self.control.expect(HELLO))
        assert self.hello["session_id"] == self.id
        return self

    def say_hello(self, **changed):
        fields = dict(channels=self.hello["channels"], batch_pages_max=self.hello["batch_pages_max"],
                      verify=self.hello["verify"], blocks=self.hello["blocks"])
        fields.update(changed)
        self.control.send(HELLO, hello_body(self.id, **fields))
        self.control.credit += self.hello["credits"] - CREDITS_FIRST
        return self

    def hear_blocks(self):
        self.blocks = []
        while len(self.blocks) < self.hello["blocks"]:
            first, more = blocks_decode(self.control.expect(BLOCKS))
            assert first == len(self.blocks)
            self.blocks += more
        return self

    def say_keys(self):
        self.control.send(KEYS, keys_body([(i, 0, block[1], self.BASE * (i + 1), self.KEY + i)
                                           for i, block in enumerate(self.blocks)]))
        return self

    def join(self):
        """Announced, echoed and connected: one channel."""
        body = self.control.expect(CHANNEL_UP)
        self.control.send(CHANNEL_UP, body)
        self.stream, role, _, *shown, _ = self.accept_hello()
        assert role == DATA and tuple(shown) == struct.unpack("<HIQ", body)
        self.stream.frame(ADMIT)
        return self

    def ready_to_receive(self):
        return self.admit().hear_hello().say_hello().hear_blocks().say_keys().join()

    def first_batch(self):
        """(channel, epoch, sequence, block, runs) of the first batch described."""
        return batch_decode(self.control.expect(BATCH))

    def receive_all(self):
        """Acknowledge everything, the bytes unread, until the device state is here and READY may be said."""
        sock = self.stream.sock
        drain = threading.Thread(target=lambda: collections.deque(iter(lambda: sock.recv(1 << 20), b""), 0), daemon=True)
        drain.start()
        while True:
            kind, body = self.control.read()
            if kind == BATCH:
                channel, epoch, sequence, _, _ = batch_decode(body)
                self.control.send(ACK, ack_body([(channel, epoch, sequence)]))
            elif kind == ROUND:
                self.control.send(ROUND, round_body(struct.unpack_from("<I", body)[0]))
            elif kind == STATE and body[0] == 1:
                return self
            else:
                assert kind == STATE, kind

    def close(self):
        self.listener.close()
