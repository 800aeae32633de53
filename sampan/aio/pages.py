"""Pages for programs that look in now and then: metrics and health of a part of the node.

They speak just enough HTTP for a scraper or a load balancer: GET, one request per connection.
Tasks: one per open connection, for at most `ANSWER_S`; at most `MAX_CONNECTIONS` at once, further
ones are closed unanswered.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable

ANSWER_S = 5.0
# Those who look come every few seconds; anything more is somebody else.
MAX_CONNECTIONS = 100
HEAD_BYTES = 8192
_IP_FREEBIND = 15
_REASONS = {200: "OK", 404: "Not Found", 503: "Service Unavailable"}

Page = tuple[int, str, str]
"""Status, content type, and text."""
NOTHING: Page = 404, "text/plain; charset=utf-8", "404 page not found\n"


def response(page: Page, *headers: str) -> bytes:
    """The whole response; `headers` are lines more."""
    code, kind, text = page
    body = text.encode()
    lines = (
        f"HTTP/1.1 {code} {_REASONS[code]}", f"Content-Type: {kind}", *headers,
        f"Content-Length: {len(body)}", "Connection: close",
    )  # fmt: skip
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Pages:
    """Connections are counted over all listeners that have its `converse`."""

    def __init__(self, answer: Callable[[str], bytes], most: int = MAX_CONNECTIONS) -> None:
        """`answer`: from a path, without what follows "?", to the whole response; "" closes."""
        self._answer = answer
        self._most = most
        self._open = 0

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        if self._open >= self._most:
            writer.close()
            return
        self._open += 1
        try:
            async with asyncio.timeout(ANSWER_S):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._respond(head))
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            self._open -= 1
            writer.close()

    def _respond(self, head: bytes) -> bytes:
        words = head.split(b" ", 2)
        if words[0] != b"GET" or len(words) < 2:
            return response(NOTHING)
        return self._answer(words[1].partition(b"?")[0].decode("latin-1"))


def bind_early(host: str, port: int, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """A socket at an address that the machine may not have yet. Raises OSError."""
    sock = socket.socket(socket.AF_INET, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


async def serve_pages(pages: Pages, listeners: Iterable[socket.socket]) -> list[asyncio.Server]:
    """Listen; close what comes back."""
    return [
        await asyncio.start_server(pages.converse, sock=listener, limit=HEAD_BYTES)
        for listener in listeners
    ]
