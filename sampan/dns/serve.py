"""The DNS server of one node: UDP and TCP on the node's gateway address.

Tasks: `run`, under the daemon's supervisor; one per forwarded question (bounded in `forward`) and
one per TCP connection (at most `MAX_CONNECTIONS`, idle ones end after `IDLE_S`). The cluster's own
names are answered in the turn of the loop in which they are asked, from a small cache of ready
answers that any change of a Service or EndpointSlice empties. Until the first list is there, the
cluster's names get SERVFAIL, which resolvers try again, rather than a false "no such name".
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from sampan.aio.clock import Clock
from sampan.aio.tasks import Supervisor
from sampan.api.errors import Object
from sampan.api.resources import resource
from sampan.client.api import Client
from sampan.client.informer import Informers

from . import routes
from .answer import Answer, Zone
from .cluster import InformedCluster
from .forward import Forwarder, failure
from .message import (
    MOST_BYTES,
    RD,
    Code,
    Kind,
    Malformed,
    Query,
    Record,
    Sections,
    addresses_in,
    encode_name,
    parse_query,
    respond,
)
from .metrics import Metrics, MetricsPort
from .publish import Place, Publisher

log = logging.getLogger("sampan.dns")

# Linux: bind to an address that no device has yet (the pod network may come up later).
_IP_FREEBIND = 15
# Enough for a busy node's resolvers; each question over TCP is rare and short.
MAX_CONNECTIONS = 200
IDLE_S = 10.0
# Forwarded questions whose askers wait; the rest is told to come back.
MAX_WAITING = 2000
ANSWERS_KEPT = 4096
_STREAM_BYTES = 65535

_Address = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class DnsConfig:
    """`host` is where to listen, the node's gateway address; `service_ip` the cluster's DNS."""

    host: str
    service_ip: str
    node_name: str
    domain: str = "cluster.local"
    port: int = 53
    resolv_conf: Path = Path("/etc/resolv.conf")
    """The host's own; its name servers are asked for all other names."""
    metrics_port: int = 9153
    """As CoreDNS's; 0 for none."""


class DnsServer:
    """`ready` is set once it answers and has published itself."""

    def __init__(
        self, client: Client, informers: Informers, config: DnsConfig, clock: Clock | None = None
    ) -> None:
        self._config = config
        self._services = informers.informer(resource("services"))
        self._slices = informers.informer(resource("endpointslices", "discovery.k8s.io"))
        # Read where it is, or is put later; nothing waits for it.
        self._settings = informers.informer(
            resource("configmaps"), routes.NAMESPACE, fields=f"metadata.name={routes.NAME}"
        )
        cluster = InformedCluster(self._services, self._slices)
        self._zone = Zone(cluster, config.domain, config.service_ip)
        place = Place(
            config.service_ip, config.node_name, config.host, config.port, config.metrics_port
        )
        self._publisher = Publisher(client, self._services, self._slices, place)
        own = (config.host, config.service_ip)
        self._own = own
        self._forwarder = Forwarder(own, config.resolv_conf, clock)
        self._answers: dict[tuple[str, int], Answer | None] = {}
        self._waiting: set[asyncio.Task[None]] = set()
        self._talks: set[asyncio.Task[None]] = set()
        self._clock = clock
        self.metrics = Metrics(lambda: len(self._forwarder))
        self.ready = asyncio.Event()

    async def run(self) -> None:
        """Serve until cancelled. Raises OSError when the address is taken."""
        loop = asyncio.get_running_loop()
        stop = [item.on_change(self._changed) for item in (self._services, self._slices)]
        stop.append(self._settings.on_change(self._set))
        transport, _ = await loop.create_datagram_endpoint(
            lambda: _Datagrams(self), sock=_bound(self._config, socket.SOCK_DGRAM)
        )
        supervisor = Supervisor(self._clock)
        try:
            stream = _bound(self._config, socket.SOCK_STREAM)
            async with (
                await asyncio.start_server(self._converse, sock=stream),
                self._measured(),
            ):
                # Apart from the rest: names are answered also while the API server is away.
                supervisor.start("dns publisher", self._publisher.run)
                await self._publisher.done.wait()
                self.ready.set()
                await asyncio.Event().wait()
        finally:
            for unsubscribe in stop:
                unsubscribe()
            transport.close()
            await supervisor.stop()
            await self._forwarder.close()
            tasks = [*self._waiting, *self._talks]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _set(self, old: Object | None, new: Object | None) -> None:
        """Stub domains and name servers; nonsense leaves those that were."""
        if (new or old or {})["metadata"]["name"] != routes.NAME:
            return
        try:
            data = (new or {}).get("data") or {}
            self._forwarder.route(routes.parse_routes(data, self._own))
        except ValueError as error:
            log.warning("ConfigMap %s/%s: %s", routes.NAMESPACE, routes.NAME, error)

    @asynccontextmanager
    async def _measured(self) -> AsyncIterator[None]:
        """With the metrics' port open; names are answered also where it is somebody else's."""
        if not self._config.metrics_port:
            yield
            return
        place = replace(self._config, port=self._config.metrics_port)
        try:
            listener = _bound(place, socket.SOCK_STREAM)
        except OSError as error:
            log.error("no metrics: %s", error)
            yield
            return
        async with await asyncio.start_server(MetricsPort(self.metrics).converse, sock=listener):
            yield

    def _changed(self, old: Object | None, new: Object | None) -> None:
        self._answers.clear()

    def answer_now(self, query: Query, limit: int) -> bytes | None:
        """The response, if it can be given without asking anybody else."""
        found = self._look_up(query.name, query.kind)
        if found is None:
            return self._forwarder.cached(query)
        if found.alias and query.flags & RD:
            return None
        sections = found.sections
        if len(sections.answers) > 1 and not found.alias:
            # Clients take the first: turn the list so that all are first in turn.
            turn = random.randrange(len(sections.answers))
            answers = sections.answers[turn:] + sections.answers[:turn]
            if sections.answers[0].kind != Kind.CNAME:
                sections = Sections(sections.code, answers, sections.authority, sections.additional)
        return respond(query, sections, limit)

    def _look_up(self, name: str, kind: int) -> Answer | None:
        key = (name, kind)
        try:
            return self._answers[key]
        except KeyError:
            pass
        found = self._zone.answer(name, kind)
        if not (self._services.has_synced and self._slices.has_synced):
            return None if found is None else Answer(Sections(Code.SERVER_FAILURE))
        if found is not None:
            if len(self._answers) >= ANSWERS_KEPT:
                del self._answers[next(iter(self._answers))]
            self._answers[key] = found
        return found

    def _answer_at_once(self, query: Query, limit: int) -> bytes | None:
        try:
            return self.answer_now(query, limit)
        except Exception:
            log.exception("no answer for %s", query.name)
            self.metrics.panics += 1
            return failure(query)

    async def answer_later(self, query: Query, limit: int) -> bytes:
        """The response, after asking the host's name servers."""
        found = self._look_up(query.name, query.kind)
        if found is None:
            body = await self._forwarder.ask(query)
            return body if len(body) <= limit else respond_truncated(query)
        return respond(query, await self._resolve_alias(query, found), limit)

    async def _resolve_alias(self, query: Query, found: Answer) -> Sections:
        """The CNAME of an ExternalName service, and the addresses it leads to, as CoreDNS adds."""
        question = encode_name(found.alias) + struct.pack(">HH", query.kind, 1)
        body = await self._forwarder.ask(
            Query(0, query.flags, found.alias, query.kind, question, 0, dnssec=False)
        )
        more: list[Record] = []
        try:
            more = addresses_in(body, (query.kind, Kind.CNAME))
        except (ValueError, IndexError, struct.error):
            log.debug("the answer for %s cannot be read", found.alias)
        code = Code.SERVER_FAILURE if body[3] & 15 == Code.SERVER_FAILURE else Code.OK
        return Sections(code, (*found.sections.answers, *more))

    def datagram(self, data: bytes, transport: asyncio.DatagramTransport, asker: _Address) -> None:
        """One datagram: answered at once, or by a task of its own."""
        began = self.metrics.begin()
        try:
            query = parse_query(data)
        except Malformed as error:
            body = error.response()
            transport.sendto(body, asker)
            self.metrics.note("udp", 0, len(data), body, began)
            return
        if query is None:
            return
        limit = query.datagram_bytes
        found = self._answer_at_once(query, limit)
        if found is None and len(self._waiting) >= MAX_WAITING:
            self.metrics.rejected += 1
            found = failure(query)
        if found is not None:
            if len(found) > limit:
                found = respond_truncated(query)
            transport.sendto(found, asker)
            self.metrics.note("udp", query.kind, len(data), found, began)
            return

        async def send_later() -> None:
            body = await self._answer_safely(query, limit)
            if not transport.is_closing():
                transport.sendto(body, asker)
            self.metrics.note("udp", query.kind, len(data), body, began)

        task = asyncio.create_task(send_later(), name="dns answer")
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def _answer_safely(self, query: Query, limit: int) -> bytes:
        try:
            return await self.answer_later(query, limit)
        except Exception:
            log.exception("no answer for %s", query.name)
            return failure(query)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One TCP connection: questions one after the other."""
        task = asyncio.current_task()
        if task is None or len(self._talks) >= MAX_CONNECTIONS:
            writer.close()
            return
        self._talks.add(task)
        try:
            while True:
                async with asyncio.timeout(IDLE_S):
                    (size,) = struct.unpack(">H", await reader.readexactly(2))
                    data = await reader.readexactly(size)
                body = await self._answer_stream(data)
                if body is None:
                    return
                writer.write(struct.pack(">H", len(body)) + body)
                async with asyncio.timeout(IDLE_S):
                    await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass
        finally:
            self._talks.discard(task)
            writer.close()

    async def _answer_stream(self, data: bytes) -> bytes | None:
        began, kind = self.metrics.begin(), 0
        try:
            query = parse_query(data)
            if query is None:
                return None
            kind = query.kind
            body = self._answer_at_once(query, _STREAM_BYTES)
            if body is None:
                body = await self._answer_safely(query, _STREAM_BYTES)
        except Malformed as error:
            body = error.response()
        self.metrics.note("tcp", kind, len(data), body, began)
        return body


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: _Address) -> None:
        if self._transport is not None:
            self._server.datagram(data, self._transport, address)


def respond_truncated(query: Query) -> bytes:
    """Nothing but "ask again over TCP"."""
    body = respond(query, Sections(), MOST_BYTES, authoritative=False)
    return body[:2] + bytes([body[2] | 0x02]) + body[3:]


def _bound(config: DnsConfig, kind: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((config.host, config.port))
    except OSError as error:
        sock.close()
        raise OSError(
            error.errno, f"DNS cannot listen on {config.host}:{config.port}: {error.strerror}"
        ) from error
    return sock
