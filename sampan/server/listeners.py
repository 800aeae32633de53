"""What the connections of a server share: who is there, heads that are made once, and a bound on
what waits for readers that do not read.

`MAX_UNSENT` bounds the bytes of large answers that are made but not taken, over all connections;
beyond it the reader that has kept its buffer full for the longest is cut off.
"""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus
from typing import TYPE_CHECKING

from .exchange import NOT_KEPT

if TYPE_CHECKING:
    from .app import Server
    from .connection import Connection

MAX_UNSENT = 512 << 20
"""Four lists of 50,000 pods; without a bound a few hundred readers that stop after asking for one
would take all memory there is until their time is up."""
HTTP_STATUS = {item.value: item.phrase for item in HTTPStatus}


class Listeners:
    """What all connections of a server share."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.connections: set[Connection] = set()
        self.closing = False
        self.empty = asyncio.Event()
        """Set by the last connection that goes while `closing`."""
        self.slow: dict[Connection, None] = {}
        """Those whose send buffer is full, since longest first."""
        self._heads: dict[tuple[int, str], bytes] = {}
        self._date = (0, b"")

    def remove(self, connection: Connection) -> None:
        self.connections.discard(connection)
        self.slow.pop(connection, None)
        if self.closing and not self.connections:
            self.empty.set()

    def bound_unsent(self) -> None:
        """Cut off slow readers, the slowest first, until what waits for all is within bounds."""
        waiting = sum(connection.unsent for connection in self.slow)
        for connection in tuple(self.slow):
            if waiting <= MAX_UNSENT:
                return
            waiting -= connection.unsent
            connection.abort()

    def head(self, status: int, content_type: str) -> bytes:
        """The first lines of an answer, up to and with Date. Without a content type it is the
        answer's own headers that say what it is, and what caches may do with it."""
        second = int(time.time())
        if second != self._date[0]:
            text = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(second))
            self._date = (second, f"Date: {text}\r\n".encode())
        made = self._heads.get((status, content_type))
        if made is None:
            kept = "{}: {}\r\n".format(*NOT_KEPT)
            made = self._heads[status, content_type] = (
                f"HTTP/1.1 {status} {HTTP_STATUS.get(status, '')}\r\n"
                + (f"{kept}Content-Type: {content_type}\r\n" if content_type else "")
            ).encode()
        return made + self._date[1]
