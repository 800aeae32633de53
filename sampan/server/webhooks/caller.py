"""The outgoing caller: dials, keeps connections for the next call, bounds time and size.

`Server.webhooks` is the one instance. Redirects are answers like others and never followed
(CVE-2022-3172); HTTP/1.1 only, as upstream, so that calls spread over a service's endpoints.

Bounds: a call is given up at its time-out, dialling included; an answer is at most
`MAX_ANSWER_BYTES`; `MAX_IDLE` connections per target and `MAX_IDLE_ALL` in all are kept, each for
`IDLE_S`. Calls under way are bounded by the requests under way that make them.
"""

from __future__ import annotations

import asyncio
import math
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import quote, urlsplit

import orjson
from msgspec import Struct

from sampan.api.errors import Object
from sampan.wire.address import connect_words, join_host_port

from .connection import Broken, Connection
from .target import Address, CallFailed, Target, addresses_of
from .trust import context_of, tls_words
from .words import error_in

if TYPE_CHECKING:
    from ..app import Server

MAX_ANSWER_BYTES = 16 << 20
"""A patch or conversion of several of the largest objects (3 MiB) in base64 fits; a flood does
not."""
MAX_IDLE = 25
"""As upstream's transport keeps per host."""
MAX_IDLE_ALL = 200
IDLE_S = 90.0
MAX_DIALS = 3
"""Endpoints of a service tried when they refuse the connection at once."""
SAFE = "/:@!$&'()*+,;=-._~%"

Key = tuple[Any, ...]
Headers = Sequence[tuple[str, str]]
Side = TypeVar("Side", bound=asyncio.BaseProtocol)


class Parts(Protocol):
    """A body that is sent as it comes."""

    length: int | None
    """None: as long as it is, in chunks."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...


class Answer(Struct, frozen=True):
    """A whole answer, whatever its status."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str:
        return next((value for known, value in self.headers if known == name), "")


class Caller:
    """Calls targets for one server; keeps their idle connections."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._idle: dict[Key, list[Connection]] = {}
        self._timers: dict[Connection, asyncio.TimerHandle] = {}

    async def post_json(
        self, target: Target, value: Object, timeout_s: float, *, tell_timeout: bool = True
    ) -> Object:
        """POST a JSON object and decode the JSON object answered. Raises CallFailed with
        upstream's words for everything else: errors, garbage, time-outs."""
        body = orjson.dumps(value)
        answer = await self.post(target, body, timeout_s, tell_timeout=tell_timeout)
        failed = error_in(answer.status, answer.header("content-type"), answer.body)
        if failed is not None:
            failed.asks_to_wait = bool(answer.header("retry-after"))
            raise failed
        if not answer.body:
            kind = answer.header("content-type")
            raise CallFailed(
                f"0-length response with status code: {answer.status} and content type: {kind}"
            )
        try:
            decoded = orjson.loads(answer.body)
        except orjson.JSONDecodeError as error:
            raise CallFailed(f"couldn't get version/kind; json parse error: {error}") from None
        if not isinstance(decoded, dict):
            raise CallFailed("couldn't get version/kind; json parse error: not an object")
        return decoded

    async def post(
        self, target: Target, body: bytes, timeout_s: float, *, tell_timeout: bool = True
    ) -> Answer:
        """POST bytes of JSON; any answer counts, of any status. `tell_timeout` puts the time-out
        into the query, as admission webhooks get it. Raises CallFailed."""
        url = _with_timeout(target.url, timeout_s) if tell_timeout else target.url
        headers = (("Accept", "application/json"), ("Content-Type", "application/json"))
        try:
            async with asyncio.timeout(timeout_s):
                connection = await self.open(target, "POST", url, headers, body)
                try:
                    content = await connection.read(MAX_ANSWER_BYTES)
                except BaseException:
                    connection.abort()
                    raise
        except TimeoutError:
            raise CallFailed(f'Post "{url}": context deadline exceeded') from None
        except CallFailed as error:
            raise CallFailed(f'Post "{url}": {error.message}', error.code) from None
        self.keep(target, connection)
        return Answer(connection.status, connection.headers, content)

    async def open(
        self, target: Target, method: str, url: str, headers: Headers, body: bytes | Parts
    ) -> Connection:
        """Send a request; when it returns, the head of the answer is here and its body is the
        connection's to read. The caller gives the connection back (`keep`) or closes it. `url`
        is the target's, with path and query. Raises CallFailed; has no time-out of its own."""
        if not isinstance(body, bytes):
            return await self._open_parts(target, method, url, headers, body)
        head = _head(target, method, url, headers, len(body))
        addresses = addresses_of(self._server, target)
        while True:
            connection, fresh = self._take(target, addresses), False
            if connection is None:
                (_, connection), fresh = await dial(target, addresses, Connection), True
            try:
                await connection.send(method, head, body)
            except Broken as error:
                # A kept connection may have been closed by the peer just now.
                if fresh or not error.silent:
                    raise
                continue
            except BaseException:
                connection.abort()
                raise
            return connection

    async def _open_parts(
        self, target: Target, method: str, url: str, headers: Headers, body: Parts
    ) -> Connection:
        """What is sent as it comes cannot be sent again, so it goes on a connection of its own."""
        head = _head(target, method, url, headers, body.length)
        _, connection = await dial(target, addresses_of(self._server, target), Connection)
        try:
            await connection.send_parts(method, head, body, chunked=body.length is None)
        except BaseException:
            connection.abort()
            raise
        return connection

    def keep(self, target: Target, connection: Connection) -> None:
        """Keep a connection whose answer was read for the next call, or close it."""
        key = _key(target)
        idle = self._idle.get(key)
        full = len(self._timers) >= MAX_IDLE_ALL or (idle is not None and len(idle) >= MAX_IDLE)
        if not connection.reusable or full:
            connection.close()
            return
        if idle is None:
            idle = self._idle[key] = []
        idle.append(connection)
        loop = asyncio.get_running_loop()
        self._timers[connection] = loop.call_later(IDLE_S, self._expire, key, connection)

    def close(self) -> None:
        """Close every idle connection."""
        for idle in list(self._idle.values()):
            for connection in idle:
                connection.close()
        for timer in self._timers.values():
            timer.cancel()
        self._idle.clear()
        self._timers.clear()

    def _take(self, target: Target, addresses: Sequence[Address]) -> Connection | None:
        """An idle connection to one of the addresses that are right now."""
        key = _key(target)
        idle = self._idle.get(key)
        while idle:
            connection = idle.pop()
            self._timers.pop(connection).cancel()
            if not idle:
                self._idle.pop(key, None)
            if connection.closed:
                continue
            if connection.peer in addresses:
                return connection
            connection.close()
        return None

    def _expire(self, key: Key, connection: Connection) -> None:
        self._timers.pop(connection, None)
        idle = self._idle.get(key)
        if idle is not None and connection in idle:
            idle.remove(connection)
            if not idle:
                del self._idle[key]
        connection.close()


def _key(target: Target) -> Key:
    url = urlsplit(target.url)
    return (
        url.scheme, url.netloc, target.service, target.ca, target.server_name, target.client_cert,
        target.insecure,
    )  # fmt: skip


def _head(target: Target, method: str, url: str, headers: Headers, length: int | None) -> bytes:
    """Request line and headers. Control characters cannot get in: what has some is refused."""
    parts = urlsplit(url)
    path = quote(parts.path or "/", SAFE) + (f"?{parts.query}" if parts.query else "")
    lines = [f"{method} {path} HTTP/1.1", f"Host: {parts.netloc.rpartition('@')[2]}"]
    given = [*headers, *target.headers]
    if not any(name.lower() == "user-agent" for name, _ in given):
        given.append(("User-Agent", "kube-apiserver-admission"))
    lines += [f"{name}: {value}" for name, value in given]
    if length is None:
        lines.append("Transfer-Encoding: chunked")
    elif length or method not in ("GET", "HEAD", "DELETE"):
        lines.append(f"Content-Length: {length}")
    if any("\r" in line or "\n" in line or "\0" in line for line in lines):
        raise CallFailed("net/http: invalid header field value")
    return "\r\n".join([*lines, "", ""]).encode("utf-8")


def _with_timeout(url: str, timeout_s: float) -> str:
    """The URL with the time-out told to the peer, in whole seconds, as upstream."""
    return f"{url}{'&' if '?' in url else '?'}timeout={math.ceil(timeout_s)}s"


async def dial(
    target: Target, addresses: Sequence[Address], make: Callable[[Address], Side]
) -> tuple[asyncio.Transport, Side]:
    """A connection to the first address that takes one. Raises CallFailed."""
    context = None if target.url.startswith("http://") else context_of(target)
    failed = CallFailed("no address to dial")
    for address in addresses[:MAX_DIALS]:
        try:
            return await _dial(target, address, context, make)
        except CallFailed as error:
            failed = error
    raise failed


async def _dial(
    target: Target,
    address: Address,
    context: ssl.SSLContext | None,
    make: Callable[[Address], Side],
) -> tuple[asyncio.Transport, Side]:
    loop = asyncio.get_running_loop()
    name = target.server_name or address.host
    try:
        transport, protocol = await loop.create_connection(
            lambda: make(address),
            address.host,
            address.port,
            ssl=context,
            server_hostname=name if context else None,
        )
    except ssl.SSLError as error:
        raise CallFailed(await tls_words(error, address, name)) from None
    except socket.gaierror:
        raise CallFailed(f"dial tcp: lookup {address.host}: no such host") from None
    except (ConnectionResetError, BrokenPipeError, EOFError):
        raise CallFailed("EOF") from None
    except OSError as error:
        where = join_host_port(address.host, address.port)
        raise CallFailed(f"dial tcp {where}: connect: {connect_words(error)}") from None
    return transport, protocol
