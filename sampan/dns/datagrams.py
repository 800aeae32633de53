"""The UDP socket, read in batches, and the answers that need no thought.

A question that was answered before is found by its very bytes: clients ask the same few names over
and over, and their questions differ in the number alone. What such an answer costs is two system
calls and a look into a dictionary. Everything else goes to `slow`.

`Ready` forgets the answers of a service when that service or its endpoints change, and no others.
Bounds: `KEPT` questions of at most `QUESTION_BYTES` (with EDNS cookies, which differ from client to
client, they could be any), past that all are forgotten and learnt again; a turn of the loop takes
`BATCH` datagrams, then others have theirs.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from itertools import cycle
from time import perf_counter
from typing import Any

from .metrics import Metrics, Note

log = logging.getLogger("sampan.dns")

KEPT = 8192
QUESTION_BYTES = 320
BATCH = 64
# What a question may have. More is cut off, and then it is nonsense.
_DATAGRAM_BYTES = 4096
# A burst waits here while the loop is busy with something else: 2 MB are thousands of questions.
_WAITING_BYTES = 2 << 20
TURNS = 8
"""Answers with several addresses are kept in so many orders, so that clients spread."""

Address = tuple[Any, ...]
Slow = Callable[["Port", bytes, Address], None]


class Answered:
    """What is sent to whoever asks these bytes; `note` says how it is counted."""

    __slots__ = ("next", "note")

    def __init__(self, bodies: list[bytes], note: Note) -> None:
        turns = cycle([body[2:] for body in bodies])
        self.next: Callable[[], bytes] = turns.__next__
        self.note = note


class Ready:
    """Answers by question, without its number. `owner` is the service ("NAMESPACE/NAME") that an
    answer is about, "" for what depends on more."""

    def __init__(self) -> None:
        self._answers: dict[bytes, Answered] = {}
        self._by_owner: dict[str, set[bytes]] = {}
        self.get = self._answers.get

    def __len__(self) -> int:
        return len(self._answers)

    def keep(self, question: bytes, owner: str, answered: Answered) -> None:
        """`question` begins behind the number."""
        if len(question) > QUESTION_BYTES:
            return
        if len(self._answers) >= KEPT:
            self.clear()
        self._answers[question] = answered
        self._by_owner.setdefault(owner, set()).add(question)

    def forget(self, owner: str) -> None:
        """A service has changed; with it what depends on more than one."""
        for name in (owner, ""):
            for question in self._by_owner.pop(name, ()):
                self._answers.pop(question, None)

    def clear(self) -> None:
        self._answers.clear()
        self._by_owner.clear()


class Port:
    """Reads `sock` while it is open. `slow` gets what `ready` does not know."""

    def __init__(self, sock: socket.socket, ready: Ready, metrics: Metrics, slow: Slow) -> None:
        self._socket = sock
        self._ready = ready
        self._metrics = metrics
        self._slow = slow
        self._loop = asyncio.get_running_loop()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _WAITING_BYTES)
        self._loop.add_reader(sock.fileno(), self._take)
        self.open = True

    def close(self) -> None:
        if self.open:
            self.open = False
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()

    def send(self, body: bytes, asker: Address) -> None:
        """An answer that cannot be sent is lost, as datagrams may be: the client asks again."""
        if self.open:
            try:
                self._socket.sendto(body, asker)
            except OSError as error:
                log.debug("no answer to %s: %s", asker[0], error)

    def _take(self) -> None:
        receive, send = self._socket.recvfrom, self._socket.sendto
        find, count = self._ready.get, self._metrics.count
        for _ in range(BATCH):
            try:
                data, asker = receive(_DATAGRAM_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                # Somebody we answered has gone away (ECONNREFUSED); nothing else is expected.
                if error.errno == errno.EBADF:
                    return
                continue
            began = perf_counter()
            found = find(data[2:])
            if found is None:
                self._slow(self, data, asker)
                continue
            try:
                send(data[:2] + found.next(), asker)
            except OSError as error:
                log.debug("no answer to %s: %s", asker[0], error)
            count(found.note, perf_counter() - began)
