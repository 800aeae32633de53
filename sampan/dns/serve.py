"""The DNS server of one node: UDP and TCP on the node's gateway address.

Tasks: `run`, under the daemon's supervisor; one per forwarded question (bounded in `forward`) and
one per TCP connection (at most `MAX_CONNECTIONS`, idle ones end after `IDLE_S`). The cluster's own
names are answered in the turn of the loop in which they are asked, most of them from answers made
before (`datagrams.Ready`), which go when what they are about changes. Until the first list is
there, the cluster's names get SERVFAIL, which resolvers try again, rather than a false "no such
name".
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from sampan.aio.clock import Clock
from sampan.aio.pages import Pages, bind_early, serve_pages
from sampan.aio.tasks import Supervisor
from sampan.api.errors import Object
from sampan.api.resources import api_resource
from sampan.client.api import Client
from sampan.client.informer import Informer, Informers

from . import routes
from .answer import TTL_S, Answer, Zone
from .cluster import InformedCluster, service_of
from .datagrams import TURNS, Address, Answered, Port, Ready
from .forward import Forwarder, failure
from .message import (
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
    truncate,
)
from .metrics import Kept, Metrics, Note
from .publish import Place, Publisher
from .routes import Server
from .search import KINDS, candidates

log = logging.getLogger("sampan.dns")

# Enough for a busy node's resolvers; each question over TCP is rare and short.
MAX_CONNECTIONS = 200
IDLE_S = 10.0
# Forwarded questions whose askers wait; the rest is told to come back.
MAX_WAITING = 2000
# A search that takes longer is the client's own affair: it asks again after 5 s.
SEARCH_S = 2.0
_BY_ADDRESS = "dns-pod"
_STREAM_BYTES = 65535
# No service has this name.
NOT_KEPT = "-"
HOST_TOO = "ClusterFirstWithHostNet"


class DnsConfig(Struct, frozen=True):
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
        self._services = informers.informer(api_resource("services"))
        self._slices = informers.informer(api_resource("endpointslices", "discovery.k8s.io"))
        # The agent's own cache: whose question is it?
        fields = f"spec.nodeName={config.node_name}"
        self._pods = informers.informer(api_resource("pods"), fields=fields)
        self._pods.add_index(_BY_ADDRESS, _pod_addresses)
        # Read where it is, or is put later; nothing waits for it.
        self._settings = informers.informer(
            api_resource("configmaps"), routes.NAMESPACE, fields=f"metadata.name={routes.NAME}"
        )
        self._informers = informers
        cluster = InformedCluster(self._services, self._slices, self._watch_namespaces)
        self._zone = Zone(cluster, config.domain, config.service_ip)
        place = Place(
            config.service_ip, config.node_name, config.host, config.port, config.metrics_port
        )
        self._publisher = Publisher(client, self._services, self._slices, place)
        own = (config.host, config.service_ip)
        self._own = own
        self._forwarder = Forwarder(own, config.resolv_conf, clock)
        self._ready = Ready()
        self._service_names = f".svc.{config.domain}"
        self._waiting: set[asyncio.Task[None]] = set()
        self._talks: set[asyncio.Task[None]] = set()
        self._clock = clock
        self.complain: Callable[[Object, str], None] | None = None
        """Told of a ConfigMap that makes no sense, and why; what was before it goes on."""
        self.metrics = Metrics(self._kept)
        self._forwarder.answered = self._forwarded
        self.ready = asyncio.Event()

    async def run(self) -> None:
        """Serve until cancelled. Raises OSError when the address is taken."""
        stop = [
            self._services.on_change(self._service_changed),
            self._slices.on_change(self._slice_changed),
            self._settings.on_change(self._set),
        ]
        port = Port(
            _bound(self._config, socket.SOCK_DGRAM), self._ready, self.metrics, self.datagram
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
            port.close()
            self._ready.clear()
            await supervisor.stop()
            await self._forwarder.close()
            tasks = [*self._waiting, *self._talks]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _kept(self) -> Kept:
        forwarder = self._forwarder
        return Kept(forwarder.kept(), forwarder.hits, forwarder.misses)

    def _forwarded(self, server: Server, code: int, seconds: float) -> None:
        self.metrics.forwarded(f"{server[0]}:{server[1] or 53}", code, seconds)

    def _set(self, old: Object | None, new: Object | None) -> None:
        """Stub domains and name servers; nonsense leaves those that were."""
        if (new or old or {})["metadata"]["name"] != routes.NAME:
            return
        try:
            data = (new or {}).get("data") or {}
            self._forwarder.route(routes.parse_routes(data, self._own))
        except ValueError as error:
            log.warning("ConfigMap %s/%s: %s", routes.NAMESPACE, routes.NAME, error)
            if new is not None and self.complain is not None:
                self.complain({**new, "kind": "ConfigMap", "apiVersion": "v1"}, str(error))

    @asynccontextmanager
    async def _measured(self) -> AsyncIterator[None]:
        """With the metrics' port open; names are answered also where it is somebody else's."""
        if not self._config.metrics_port:
            yield
            return
        try:
            listener = bind_early(self._config.host, self._config.metrics_port)
        except OSError as error:
            log.error(
                "no metrics at %s:%d: %s", self._config.host, self._config.metrics_port, error
            )
            yield
            return
        [server] = await serve_pages(Pages(self.metrics.page), [listener])
        async with server:
            yield

    def _service_changed(self, old: Object | None, new: Object | None) -> None:
        meta = (new or old or {})["metadata"]
        self._ready.forget(f"{meta['namespace']}/{meta['name']}")

    def _watch_namespaces(self) -> Informer:
        """Names of pods depend on them."""
        namespaces = self._informers.informer(api_resource("namespaces"))
        namespaces.on_change(self._namespace_changed)
        return namespaces

    def _namespace_changed(self, old: Object | None, new: Object | None) -> None:
        if old is None or new is None:
            self._ready.forget("")

    def _slice_changed(self, old: Object | None, new: Object | None) -> None:
        for item in (old, new):
            for owner in service_of(item) if item is not None else ():
                self._ready.forget(owner)

    def answer_now(self, query: Query, limit: int, asker: str = "") -> tuple[list[bytes], str]:
        """The responses there are to choose from, if they can be given without asking anybody
        else, and the service they are about (see `Ready`; `NOT_KEPT` for those of the moment)."""
        found = self._look_up(query.name, query.kind)
        if found is None:
            body = self._forwarder.cached(query)
            return [] if body is None else [body], NOT_KEPT
        if found.sections.code == Code.NO_NAME and self._meant(query, asker):
            return [], NOT_KEPT
        if found.alias and query.flags & RD:
            return [], NOT_KEPT
        owner = NOT_KEPT
        if found.sections.code == Code.OK and not found.alias:
            owner = self._owner(query.name, found.sections)
        return self._turns(query, found, limit), owner

    def _owner(self, name: str, sections: Sections) -> str:
        """The service that an answer is about; "" for one about more than that."""
        labels = name.removesuffix(self._service_names).split(".")
        if not name.endswith(self._service_names) or len(labels) < 2:
            return ""
        if any(record.kind == Kind.CNAME for record in sections.answers):
            return ""
        return f"{labels[-1]}/{labels[-2]}"

    def _turns(self, query: Query, found: Answer, limit: int) -> list[bytes]:
        """The responses, of which clients get one after the other: they take the first address."""
        sections = found.sections
        count = len(sections.answers)
        if count < 2 or sections.answers[0].kind == Kind.CNAME:
            return [respond(query, sections, limit)]
        return [
            respond(
                query, replace(sections, answers=sections.answers[n:] + sections.answers[:n]), limit
            )
            for n in range(min(count, TURNS))
        ]

    def _look_up(self, name: str, kind: int) -> Answer | None:
        found = self._zone.answer(name, kind)
        if not (self._services.has_synced and self._slices.has_synced):
            return None if found is None else Answer(Sections(Code.SERVER_FAILURE))
        return found

    def _meant(self, query: Query, asker: str) -> list[str]:
        """What a pod tries next when it is told that there is no such name (see `search`)."""
        if query.kind not in KINDS or not query.flags & RD:
            return []
        for pod in self._pods.by_index(_BY_ADDRESS, asker):
            namespace, spec = pod["metadata"]["namespace"], pod["spec"]
            if spec.get("dnsPolicy", "ClusterFirst") not in ("ClusterFirst", HOST_TOO):
                # Its search list is all its own.
                return []
            own = (spec.get("dnsConfig") or {}).get("searches") or ()
            host = (*self._forwarder.search, *(item.rstrip(".").lower() for item in own))
            return candidates(query.name, namespace, self._config.domain, host)
        return []

    def _answer_at_once(self, query: Query, limit: int, asker: str = "") -> tuple[list[bytes], str]:
        try:
            return self.answer_now(query, limit, asker)
        except Exception:
            log.exception("no answer for %s", query.name)
            self.metrics.panics += 1
            return [failure(query)], NOT_KEPT

    async def answer_later(self, query: Query, limit: int, asker: str = "") -> bytes:
        """The response, after asking the host's name servers."""
        found = self._look_up(query.name, query.kind)
        if found is None:
            body = await self._forwarder.ask(query)
            return fitting(query, body, limit)
        if found.sections.code == Code.NO_NAME:
            try:
                async with asyncio.timeout(SEARCH_S):
                    sections = await self._search(query, self._meant(query, asker))
            except TimeoutError:
                sections = None
            return respond(query, sections or found.sections, limit)
        sections = await self._resolve_alias(query, found)
        if sections.code == Code.NO_NAME:
            # The service's own name is there, wherever it leads; so says CoreDNS.
            sections = replace(sections, code=Code.OK)
        return respond(query, sections, limit)

    async def _search(self, query: Query, names: list[str]) -> Sections | None:
        """The first of these names that exists, behind a CNAME; None if none does, or if that
        cannot be found out: the client goes on by itself then."""
        for name in names:
            try:
                alias = Record(query.name, Kind.CNAME, TTL_S, encode_name(name))
            except ValueError:
                return None
            found = self._look_up(name, query.kind)
            if found is None or found.alias:
                start = Answer(Sections(answers=(alias,)), name)
                if found is not None:
                    start = Answer(Sections(answers=(alias, *found.sections.answers)), found.alias)
                sections = await self._resolve_alias(query, start)
                if sections.code == Code.OK:
                    self.metrics.searched += 1
                    return sections
                if sections.code != Code.NO_NAME:
                    return None
            elif found.sections.code == Code.OK:
                self.metrics.searched += 1
                if not found.sections.answers:
                    return found.sections
                return Sections(answers=(alias, *found.sections.answers))
        return None

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
        code = body[3] & 15
        known = Code(code) if code in (Code.OK, Code.NO_NAME) else Code.SERVER_FAILURE
        return Sections(known, (*found.sections.answers, *more))

    def datagram(self, port: Port, data: bytes, asker: Address) -> None:
        """A datagram that is not one of those before: answered at once, or by a task of its own."""
        began = self.metrics.begin()
        try:
            query = parse_query(data)
        except Malformed as error:
            body = error.response()
            port.send(body, asker)
            self.metrics.note("udp", 0, len(data), body, began)
            return
        if query is None:
            return
        limit = query.datagram_bytes
        bodies, owner = self._answer_at_once(query, limit, asker[0])
        if not bodies and len(self._waiting) >= MAX_WAITING:
            self.metrics.rejected += 1
            bodies = [failure(query)]
        if bodies:
            found = fitting(query, random.choice(bodies), limit)
            if owner != NOT_KEPT:
                note = Note("udp", query.kind, len(data), found)
                self._ready.keep(data[2:], owner, Answered(bodies, note))
            port.send(found, asker)
            self.metrics.note("udp", query.kind, len(data), found, began)
            return

        async def send_later() -> None:
            body = await self._answer_safely(query, limit, asker[0])
            port.send(body, asker)
            self.metrics.note("udp", query.kind, len(data), body, began)

        task = asyncio.create_task(send_later(), name="dns answer")
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def _answer_safely(self, query: Query, limit: int, asker: str = "") -> bytes:
        try:
            return await self.answer_later(query, limit, asker)
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
            bodies, _ = self._answer_at_once(query, _STREAM_BYTES)
            if bodies:
                body = random.choice(bodies)
            else:
                body = await self._answer_safely(query, _STREAM_BYTES)
        except Malformed as error:
            body = error.response()
        self.metrics.note("tcp", kind, len(data), body, began)
        return body


def _pod_addresses(pod: Object) -> tuple[str, ...]:
    """The pod's own address; of pods on the node's network nobody can tell which one asks."""
    address = (pod.get("status") or {}).get("podIP")
    return (address,) if address and not pod["spec"].get("hostNetwork") else ()


def fitting(query: Query, body: bytes, limit: int) -> bytes:
    """A response within the limit, if need be with an invitation to ask again over TCP (TC)."""
    if len(body) <= limit:
        return body
    try:
        return truncate(body, limit)
    except (ValueError, IndexError, struct.error):
        return failure(query)


def _bound(config: DnsConfig, kind: int) -> socket.socket:
    try:
        return bind_early(config.host, config.port, kind)
    except OSError as error:
        raise OSError(
            error.errno, f"DNS cannot listen on {config.host}:{config.port}: {error.strerror}"
        ) from error
