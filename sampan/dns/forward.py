"""Names that are not the cluster's: asked of the host's own name servers.

Bounds: `MAX_IN_FLIGHT` questions at once, past that the answer is SERVFAIL at once; the cache keeps
`CACHE_ENTRIES` answers, the oldest goes. The same question asked twice at once is sent once; so a
loop (the host's name server asks us back) ends in one time-out instead of a storm, and is found out
(`loops`). Without a name server, or with none but ourselves, SERVFAIL comes at once.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import struct
from collections.abc import Callable, Collection
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

from msgspec import Struct

from sampan.aio.clock import Clock, SystemClock

from .loops import Loops
from .message import (
    CD,
    HEADER,
    MOST_BYTES,
    QR,
    RD,
    TC,
    Code,
    Kind,
    Query,
    Sections,
    opt_record,
    records_of,
    respond,
    skip_name,
)
from .routes import MAX_SERVERS, Routes, Server
from .search import search_of

log = logging.getLogger("sampan.dns")

MAX_IN_FLIGHT = 500
CACHE_ENTRIES = 2000
# CoreDNS as kubeadm sets it up caches for at most this long.
CACHE_TTL_S = 30
TIMEOUT_S = 2.0
_ID_AND_FLAGS = struct.Struct(">HH")
_TTL = struct.Struct(">I")
_MESSAGE_BYTES = 65535
# As CoreDNS tells apart what it caches.
SUCCESS, DENIAL = "success", "denial"

# (question in lower case, flags that matter, EDNS, DO)
_Key = tuple[bytes, int, bool, bool]


class _Cached(Struct):
    """A response with its id cleared, and where its time-outs stand."""

    body: bytes
    ttls: tuple[tuple[int, int], ...]
    """(offset, seconds)."""
    stored_at: float
    expires_at: float
    sort: str
    """SUCCESS or DENIAL."""


class Forwarder:
    """Asks the servers of `resolv_conf`, except those in `own` (our own addresses)."""

    def __init__(
        self, own: Collection[str], resolv_conf: Path, clock: Clock | None = None, port: int = 53
    ) -> None:
        self._own = frozenset(own)
        self._resolv_conf = resolv_conf
        self._clock = clock or SystemClock()
        self._port = port
        self._servers: tuple[Server, ...] = ()
        self._routes = Routes()
        self._loops = Loops(self._ask_datagram)
        self._search: tuple[str, ...] = ()
        self._read_mark: tuple[int, int] | None = None
        self._in_flight: dict[_Key, asyncio.Task[bytes | None]] = {}
        self._cache: dict[_Key, _Cached] = {}
        self.hits = {SUCCESS: 0, DENIAL: 0}
        """Questions whose answer was kept; a denial is "no such name" or "nothing of that type"."""
        self.misses = 0
        self.answered: Callable[[Server, int, float], None] = lambda server, code, seconds: None
        """Told of each answer: who gave it, its code, and how long it took."""

    def kept(self) -> dict[str, int]:
        """How many answers are kept."""
        denials = sum(found.sort == DENIAL for found in self._cache.values())
        return {SUCCESS: len(self._cache) - denials, DENIAL: denials}

    @property
    def search(self) -> tuple[str, ...]:
        """The host's search domains, which pods have too."""
        self._host_servers()
        return self._search

    def route(self, routes: Routes) -> None:
        """Ask these servers from now on; what was answered by others is forgotten."""
        if routes != self._routes:
            self._routes = routes
            self._cache.clear()
            self._loops.forget()

    async def close(self) -> None:
        await self._loops.close()
        tasks = list(self._in_flight.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def cached(self, query: Query) -> bytes | None:
        """The response to a question asked not long ago, aged, without a wait."""
        key = _key(query)
        found = self._cache.get(key)
        if found is None:
            return None
        now = self._clock.monotonic()
        if now >= found.expires_at:
            del self._cache[key]
            return None
        self.hits[found.sort] += 1
        body = bytearray(found.body)
        age = int(now - found.stored_at)
        if age:
            for offset, ttl_s in found.ttls:
                _TTL.pack_into(body, offset, max(0, ttl_s - age))
        return _addressed(bytes(body), query)

    async def ask(self, query: Query) -> bytes:
        """The response, addressed to the asker; SERVFAIL when nobody answers."""
        if self._loops.hear(query.name):
            return failure(query)
        found = self.cached(query)
        if found is not None:
            return found
        key = _key(query)
        self.misses += 1
        task = self._in_flight.get(key)
        if task is None:
            servers = self._loops.sound(self._routes.servers(query.name) or self._host_servers())
            if not servers or len(self._in_flight) >= MAX_IN_FLIGHT:
                return failure(query)
            task = asyncio.create_task(self._exchange(key, query, servers), name="dns upstream")
            self._in_flight[key] = task
            task.add_done_callback(lambda _: self._in_flight.pop(key, None))
        # One asker that goes away must not take the answer from the others.
        body = await asyncio.shield(task)
        return failure(query) if body is None else _addressed(body, query)

    def _host_servers(self) -> tuple[Server, ...]:
        """Read anew when the file has changed: machines move between networks."""
        try:
            status = self._resolv_conf.stat()
            mark = (status.st_mtime_ns, status.st_ino)
            if mark != self._read_mark:
                text = self._resolv_conf.read_text(errors="replace")
                self._servers = tuple((item, 0) for item in servers_in(text, self._own))
                self._search = search_of(text)
                self._loops.forget()
                self._read_mark = mark
        except OSError:
            self._servers, self._search, self._read_mark = (), (), None
        return self._servers

    async def _exchange(self, key: _Key, query: Query, servers: tuple[Server, ...]) -> bytes | None:
        last: bytes | None = None
        for server in servers:
            message, began = _outgoing(query), self._clock.monotonic()
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    body = await self._ask_datagram(server, message)
                    if _ID_AND_FLAGS.unpack_from(body)[1] & TC:
                        body = await self._ask_stream(server, message)
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                continue
            self.answered(server, body[3] & 15, self._clock.monotonic() - began)
            if body[3] & 15 in (Code.SERVER_FAILURE, Code.REFUSED):
                last = body
                continue
            self._keep(key, body)
            return body
        return last

    async def _ask_datagram(self, server: Server, message: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        # A fresh socket has a fresh random port, which a forger would have to guess.
        transport, protocol = await loop.create_datagram_endpoint(
            lambda: _Asked(loop.create_future(), message),
            remote_addr=(server[0], server[1] or self._port),
        )
        try:
            transport.sendto(message)
            return await protocol.answer
        finally:
            transport.close()

    async def _ask_stream(self, server: Server, message: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(server[0], server[1] or self._port)
        try:
            writer.write(struct.pack(">H", len(message)) + message)
            (size,) = struct.unpack(">H", await reader.readexactly(2))
            body = await reader.readexactly(size)
            if not is_answer(body, message):
                raise OSError("the answer is to another question")
            return body
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def _keep(self, key: _Key, body: bytes) -> None:
        ttls = ttls_of(body)
        if not ttls or body[3] & 15 not in (Code.OK, Code.NO_NAME):
            return
        now = self._clock.monotonic()
        lasts_s = min(CACHE_TTL_S, *(ttl_s for _, ttl_s in ttls))
        if lasts_s > 0:
            while len(self._cache) >= CACHE_ENTRIES:
                del self._cache[next(iter(self._cache))]
            answers = HEADER.unpack_from(body)[3]
            sort = SUCCESS if answers and body[3] & 15 == Code.OK else DENIAL
            self._cache[key] = _Cached(body, ttls, now, now + lasts_s, sort)


class _Asked(asyncio.DatagramProtocol):
    """Waits for the datagram that answers `message`; others are dropped."""

    def __init__(self, answer: asyncio.Future[bytes], message: bytes) -> None:
        self.answer = answer
        self._message = message

    def datagram_received(self, data: bytes, address: object) -> None:
        if not self.answer.done() and is_answer(data, self._message):
            self.answer.set_result(data)

    def error_received(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.answer.done():
            self.answer.cancel()


def failure(query: Query) -> bytes:
    sections = Sections(Code.SERVER_FAILURE)
    return respond(query, sections, MOST_BYTES, authoritative=False)


def servers_in(text: str, own: Collection[str]) -> tuple[str, ...]:
    """The name servers of a resolv.conf, as far as they are not ourselves."""
    out: list[str] = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 2 or words[0] != "nameserver":
            continue
        try:
            address = str(ip_address(words[1].partition("%")[0]))
        except ValueError:
            continue
        if address not in own and address not in out:
            out.append(words[1])
    return tuple(out[:MAX_SERVERS])


def is_answer(data: bytes, message: bytes) -> bool:
    """Whether `data` answers the question of `message`: same id, same question."""
    if len(data) < HEADER.size or len(data) > _MESSAGE_BYTES or data[:2] != message[:2]:
        return False
    _, flags, questions, *_ = HEADER.unpack_from(data)
    if not flags & QR or questions != 1:
        return False
    try:
        end = skip_name(message, HEADER.size) + 4
    except (ValueError, IndexError):
        return False
    return data[HEADER.size : end].lower() == message[HEADER.size : end].lower()


def ttls_of(body: bytes) -> tuple[tuple[int, int], ...]:
    """(offset, seconds) of every time-out in a response; () if it cannot be read."""
    try:
        _, _, _, answers, authority, additional = HEADER.unpack_from(body)
        offset = skip_name(body, HEADER.size) + 4
        records = records_of(body, offset, answers + authority + additional)
        return tuple((item.ttl_at, item.ttl_s) for item in records if item.kind != Kind.OPT)
    except (ValueError, IndexError, struct.error):
        return ()


def _key(query: Query) -> _Key:
    return query.question.lower(), query.flags & (RD | CD), query.edns > 0, query.dnssec


def _outgoing(query: Query) -> bytes:
    """The question under a random id of our own, with EDNS only if the asker has it."""
    flags = query.flags & (RD | CD)
    head = HEADER.pack(secrets.randbits(16), flags, 1, 0, 0, 1 if query.edns else 0)
    tail = opt_record(dnssec=query.dnssec) if query.edns else b""
    return head + query.question.lower() + tail


def _addressed(body: bytes, query: Query) -> bytes:
    """A response for this asker: its id, and its question letter for letter (RFC draft 0x20)."""
    end = HEADER.size + len(query.question)
    return query.id.to_bytes(2, "big") + body[2 : HEADER.size] + query.question + body[end:]
