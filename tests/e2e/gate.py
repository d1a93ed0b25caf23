# SPDX-License-Identifier: BSD-2-Clause
"""A network between source and dest that can be shut at an exact instant: a relay of TCP connections.

One end journals before it speaks (R5). So a relay that looks at the journal after it has received something, and only
then passes it on, stops the very message: shut once `ready` is there, READY never reaches the source, and so on.
"""

import glob
import os
import socket
import threading

CHUNK = 1 << 18


def journaled(place, side, file):
    """What stands in a journal file of the one session in this place, None if it is not there."""
    for path in glob.glob(os.path.join(place.dir, "state-" + side, "*", file)):
        return open(path).read().strip()
    return None


class Gate:
    """Relays to @port, both ways, until shut: @to_source() or @to_dest() says from when on nothing goes that way."""

    def __init__(self, port, to_source=None, to_dest=None):
        self.target = port
        self.shut = {"source": to_source, "dest": to_dest}
        self.hit = threading.Event()		# something was kept back
        self.opened = threading.Event()
        self.sockets = []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                source, _ = self.listener.accept()
            except OSError:
                return
            try:
                dest = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                source.close()
                continue
            self.sockets += [source, dest]
            for end in (source, dest):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.relay, args=(source, dest, "dest"), daemon=True).start()
            threading.Thread(target=self.relay, args=(dest, source, "source"), daemon=True).start()

    def relay(self, out_of, into, way):
        """One way, until it ends; what is on its way the other way is not lost with it."""
        try:
            while True:
                chunk = out_of.recv(CHUNK)
                if not self.opened.is_set() and self.shut[way] and self.shut[way]():
                    self.hit.set()
                    self.opened.wait()
                if not chunk:
                    break
                into.sendall(chunk)
        except OSError:
            pass
        try:
            into.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def open(self):
        """What was kept back arrives, late; from now on all goes through."""
        self.opened.set()

    def close(self):
        self.shut = {"source": None, "dest": None}
        self.opened.set()
        for end in [self.listener] + self.sockets:
            try:
                end.shutdown(socket.SHUT_RDWR)	# wakes its thread; a mere close() would not
            except OSError:
                pass
            end.close()
