"""The proxy of one node: watches Services, EndpointSlices and the host ports of its own pods, keeps
the kernel's tables true, one of each address family that pods have.

Task: `run`, under the daemon's supervisor. Queue: the set of services that changed while a
transaction was being applied, at most one entry per service; they become one transaction. Nothing
polls: the informers wake it, and the kernel does when somebody else's transaction removed a
table, which is then made anew. A transaction the kernel refuses is followed by the whole table; if
that fails as well, `run` raises and the supervisor starts it again with backoff.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from ipaddress import ip_network
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from sampan.api.errors import Object
from sampan.api.resources import api_resource
from sampan.client.events import WARNING, EventRecorder
from sampan.client.informer import Informer, Informers
from sampan.linux.conntrack import Flow, forget
from sampan.linux.nft import Nft, NftError
from sampan.linux.nftwatch import TransactionWatch, table_handle

from .apply import Key, Table
from .endpoints import Place, has_zone_hints
from .families import family_of
from .flows import stale_flows
from .health import EVERYWHERE, EVERYWHERE_6, Health, HealthPorts, health_of
from .hostports import PREFIX, has_host_ports, host_rules_of
from .metrics import Metrics
from .ranges import Ranges
from .restoring import say_refused, say_restored
from .rules import NOTHING, SERVICE_LABEL, Rules, Scope, rules_of

if TYPE_CHECKING:
    from .loopback import Door, Doors

log = logging.getLogger("sampan.proxy")

_INDEX = "proxy-service"
_ZONE = "topology.kubernetes.io/zone"


class ProxyConfig(Struct, frozen=True):
    """`pod_cidr` is this node's share; `service_cidr` may be "" (see `apply.Table`). Those of the
    other family are "" unless the cluster has both."""

    cluster: str
    node_name: str
    pod_cidr: str
    service_cidr: str = ""
    other_pod_cidr: str = ""
    other_service_cidr: str = ""


class _Side(Struct):
    """One family: what is planned, and the number of the table that holds it in the kernel."""

    table: Table
    scope: Scope
    handle: int = 0

    def is_ours(self) -> bool:
        return bool(self.handle) and self.find() == self.handle

    def find(self) -> int:
        return table_handle(self.table.name, self.table.family.word)


class Proxy:
    """Use it from one event loop. `ready` is set once the first table is in the kernel."""

    def __init__(
        self,
        informers: Informers,
        config: ProxyConfig,
        nft: Nft | None = None,
        recorder: EventRecorder | None = None,
    ) -> None:
        self._informers = informers
        self._config = config
        self._recorder = recorder
        self._services: Informer = informers.informer(api_resource("services"))
        self._slices: Informer = informers.informer(
            api_resource("endpointslices", "discovery.k8s.io")
        )
        self._slices.add_index(_INDEX, _service_of)
        fields = f"spec.nodeName={config.node_name}"
        self._pods: Informer = informers.informer(api_resource("pods"), fields=fields)
        self._node: Informer | None = None
        self._place = Place(config.node_name)
        self._sides = [*_sides(config, self._place)]
        self.metrics = Metrics([side.table.family.name for side in self._sides])
        self._nft = nft or Nft()
        self._changed: set[Key] = set()
        self._wake = asyncio.Event()
        self._stale: set[Flow] = set()
        hosts = (EVERYWHERE, EVERYWHERE_6)[: len(self._sides)]
        self._health = HealthPorts(self._say_no_health_port, hosts)
        self._asked: dict[Key, Health] = {}
        self._checks: dict[Key, Health | None] = {}
        self._doors: Doors | None = None
        self._without_sctp: set[Key] = set()
        own = (config.service_cidr, config.other_service_cidr)
        self._ranges = Ranges(
            informers, [*map(ip_network, filter(None, own))],
            [side.scope.pod_network for side in self._sides], self._wake.set,
        )  # fmt: skip
        self.route: Callable[[Sequence[str]], Awaitable[None]] | None = None
        """Told the networks of services besides the cluster's own, when they have changed: the
        node needs routes to them, too."""
        self.ready = asyncio.Event()
        self.rebuilds = 0
        """How often a whole table was made: once per family in a quiet life."""

    async def run(self) -> None:
        """Follow the cluster until cancelled. The rules stay in the kernel then."""
        unsubscribe = self._subscribe()
        watch = TransactionWatch()
        loop = asyncio.get_running_loop()
        loop.add_reader(watch.fileno(), self._hear, watch)
        try:
            await self._services.synced()
            await self._slices.synced()
            await self._pods.synced()
            # After a failure: services that went away meanwhile are known to the table alone.
            for side in self._sides:
                self._changed |= side.table.rules.keys()
            await self._frame_anew()
            self._plan()
            await self._rebuild(*self._sides)
            await self._forget_flows()
            await self._settle_ports()
            self.metrics.settled()
            self.ready.set()
            while True:
                await self._wake.wait()
                self._wake.clear()
                await self._turn()
        finally:
            loop.remove_reader(watch.fileno())
            watch.close()
            self._health.close()
            if self._doors is not None:
                self._doors.close()
            self._asked.clear()
            for undo in unsubscribe:
                undo()

    async def purge(self) -> None:
        """Remove the tables; `run` must have ended. Raises NftError."""
        for side in self._sides:
            await self._nft.apply(side.table.remove())

    def scopes(self) -> Iterable[Scope]:
        """One for each family."""
        return [side.scope for side in self._sides]

    def services(self) -> Iterable[Object]:
        """As they are known now."""
        return self._services.list()

    def slices_of(self, service: Object) -> Iterable[Object]:
        """Its EndpointSlices."""
        meta = service["metadata"]
        return self._slices.by_index(_INDEX, f"{meta['namespace']}/{meta['name']}")

    def _subscribe(self) -> list[Callable[[], None]]:
        return [
            self._services.on_change(self._service_changed),
            self._slices.on_change(self._slice_changed),
            self._pods.on_change(self._pod_changed),
        ]

    def _service_changed(self, old: Object | None, new: Object | None) -> None:
        meta = (new or old or {})["metadata"]
        self._ranges.see(new)
        self.metrics.service_changed()
        self._mark((meta["namespace"], meta["name"]))

    def _slice_changed(self, old: Object | None, new: Object | None) -> None:
        self.metrics.slice_changed(new)
        for item in (old, new):
            for key in _service_of(item) if item is not None else ():
                namespace, _, name = key.partition("/")
                self._mark((namespace, name))
        if new is not None and self._node is None and has_zone_hints(new):
            # The first of zones: from now on it matters where this node is.
            fields = f"metadata.name={self._config.node_name}"
            self._node = self._informers.informer(api_resource("nodes"), fields=fields)
            self._node.on_change(self._node_changed)

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        labels = (new or {}).get("metadata", {}).get("labels") or {}
        place = replace(self._place, zone=labels.get(_ZONE) or "")
        if place == self._place:
            return
        self._place = place
        for side in self._sides:
            side.scope = replace(side.scope, place=place)
        for item in self._slices.list():
            if has_zone_hints(item):
                self._slice_changed(None, item)

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        """Pods matter for their host ports alone; few have any."""
        seen = [pod for pod in (old, new) if pod is not None and has_host_ports(pod)]
        if seen and (len(seen) < 2 or self._host_rules(seen[0]) != self._host_rules(seen[1])):
            meta = seen[0]["metadata"]
            self._mark((meta["namespace"], PREFIX + meta["name"]))

    def _host_rules(self, pod: Object) -> list[Rules]:
        return [host_rules_of(pod, side.table.family) for side in self._sides]

    def _mark(self, key: Key) -> None:
        self._changed.add(key)
        self._wake.set()

    def _hear(self, watch: TransactionWatch) -> None:
        watch.drain()
        self._wake.set()

    def _plan(self) -> list[str]:
        """The transaction of each side for what has changed since the last one."""
        keys, self._changed = self._changed, set()
        self.metrics.planned()
        scripts = []
        for side in self._sides:
            table, version = side.table, side.scope.pod_network.version
            wanted = {key: self._rules(key, side) for key in keys}
            touched = keys | table.contested
            for key, new in wanted.items():
                self._stale |= stale_flows(table.rules.get(key, NOTHING), new, version)
            scripts.append(table.change(wanted))
            for key in touched:
                self._open_doors(key, table.rules.get(key, NOTHING), version)
            self._tell_lost(table)
        for key in keys:
            self._check(key)
        return scripts

    def _rules(self, key: Key, side: _Side) -> Rules:
        if key[1].startswith(PREFIX):
            pod = self._pods.get(key[0], key[1].removeprefix(PREFIX))
            return host_rules_of(pod, side.table.family) if pod is not None else NOTHING
        service = self._services.get(*key)
        if service is None:
            return NOTHING
        try:
            slices = self._slices.by_index(_INDEX, f"{key[0]}/{key[1]}")
            return rules_of(service, slices, side.scope)
        except (AttributeError, KeyError, TypeError, ValueError):
            log.exception("service %s/%s is not proxied: it makes no sense", *key)
            return NOTHING

    def _check(self, key: Key) -> None:
        """Few services have a port for health checks; those that changed are settled together."""
        service = self._services.get(*key)
        health = None
        if service is not None:
            slices = self._slices.by_index(_INDEX, f"{key[0]}/{key[1]}")
            health = health_of(service, slices, self._config.node_name)
        self._check_protocols(key, service)
        if self._asked.get(key) != health:
            self._checks[key] = health
            if health is None:
                del self._asked[key]
            else:
                self._asked[key] = health

    def _open_doors(self, key: Key, rules: Rules, version: int) -> None:
        """Node ports at loopback. Host ports at 127.0.0.1 are the kernel's, which knows no such way
        for IPv6. Imported with the first."""
        if self._doors is None:
            if not rules.nodeports:
                return
            from .loopback import Doors

            networks = [side.scope.pod_network for side in self._sides]
            gateways: dict[int, str] = {item.version: str(item[1]) for item in networks}
            self._doors = Doors(gateways, self._say_taken)
        if version == 6 or not key[1].startswith(PREFIX):
            self._doors.want(key, version, rules)

    async def _settle_ports(self) -> None:
        checks, self._checks = self._checks, {}
        await self._health.settle(checks)
        if self._doors is not None:
            await self._doors.settle()

    async def _turn(self) -> None:
        framed = await self._frame_anew()
        for side, script in zip(self._sides, self._plan(), strict=True):
            if side in framed:
                await self._rebuild(side)
            elif not side.is_ours():
                log.warning("table %s was changed by somebody else; making it anew",
                            side.table.name)  # fmt: skip
                await self._rebuild(side)
                self._say_restored(side)
            elif script:
                began = time.perf_counter()
                try:
                    await self._nft.apply(script)
                except NftError as error:
                    log.warning("making table %s anew: %s", side.table.name, error)
                    self.metrics.failed(side.table.family.name)
                    await self._rebuild(side)
                else:
                    self._count(began, side)
                if side.table.has_stale_chains:
                    self._wake.set()
        await self._forget_flows()
        await self._settle_ports()
        self.metrics.settled()

    def _check_protocols(self, key: Key, service: Object | None) -> None:
        """The rules for SCTP are made whether or not the kernel has it for pods; said once."""
        ports = ((service or {}).get("spec") or {}).get("ports") or ()
        found = [port for port in ports if port.get("protocol") == "SCTP"]
        if not found:
            self._without_sctp.discard(key)
        elif key not in self._without_sctp:
            from sampan.linux.sctp import has_sctp

            if not has_sctp():
                self._without_sctp.add(key)
                text = f"node {self._config.node_name} has no SCTP in its kernel"
                self._say_of(key, "SCTPUnavailable", f"{text}: its pods cannot serve port "
                             f"{found[0].get('port')}")  # fmt: skip

    async def _frame_anew(self) -> list[_Side]:
        """The sides whose networks of services have changed."""
        networks = self._ranges.networks()
        framed = [
            side for side in self._sides
            if side.table.refuse(
                str(item) for item in networks if item.version == side.scope.pod_network.version
            )
        ]  # fmt: skip
        if framed and self.route is not None:
            try:
                await self.route([*map(str, networks)])
            except OSError as error:
                log.warning("no routes to the networks of services: %s", error)
        return framed

    async def _forget_flows(self) -> None:
        """After the rules have changed: a flow forgotten earlier would come back as it was."""
        stale, self._stale = self._stale, set()
        if stale:
            began = time.perf_counter()
            try:
                count = await asyncio.to_thread(forget, stale)
                self.metrics.forgot(count, time.perf_counter() - began)
            except OSError as error:
                log.warning("old UDP flows stay until they end by themselves: %s", error)

    async def _rebuild(self, *sides: _Side) -> None:
        """In one transaction, and by one process."""
        self.rebuilds += len(sides)
        began = time.perf_counter()
        try:
            await self._nft.apply("".join(side.table.whole() for side in sides))
        except NftError as error:
            for side in sides:
                self.metrics.failed(side.table.family.name)
            say_refused(self._recorder, self._config.node_name, "ServiceRulesRefused", error)
            raise
        for side in sides:
            side.handle = side.find()
        self._count(began, *sides, whole=True)

    def _count(self, began: float, *sides: _Side, whole: bool = False) -> None:
        for side in sides:
            self.metrics.synced(side.table.family.name, time.perf_counter() - began, whole=whole)

    def _say_restored(self, side: _Side) -> None:
        table = f"{side.table.family.word} {side.table.name}"
        say_restored(self._recorder, self._config.node_name, "ServiceRulesRestored", table)

    def _tell_lost(self, table: Table) -> None:
        """Two services want the same address and port: the first has it."""
        lost, table.lost = table.lost, {}
        for key, other in lost.items():
            log.warning("%s/%s shares an address or port with %s/%s", *key, *other)
            text = f"an address and port of it are those of {other[0]}/{other[1]}, which had"
            self._say_of(key, "PortConflict", f"{text} them first and keeps them")

    def _say_taken(self, key: Key, door: Door, error: OSError) -> None:
        name, number = self._config.node_name, f"{door.port}/{door.protocol.upper()}"
        text = f"node {name} cannot open node port {number} at {door.address}"
        self._say_of(key, "NodePortUnavailable", f"{text}: {error.strerror}")

    def _say_no_health_port(self, health: Health, error: OSError) -> None:
        key = health.namespace, health.name
        name = f"{health.namespace}/{health.name}"
        text = f"node {self._config.node_name} failed to start healthcheck {name!r}"
        text = f"{text} on port {health.port}: {error}"
        self._say_of(key, "FailedToStartServiceHealthcheck", text)

    def _say_of(self, key: Key, reason: str, text: str) -> None:
        """A warning about a service, if it is there."""
        service = self._services.get(*key)
        if service is not None and self._recorder is not None:
            about = service | {"kind": "Service", "apiVersion": "v1"}
            self._recorder.event(about, WARNING, reason, text)


def _sides(config: ProxyConfig, place: Place) -> Iterable[_Side]:
    """One for each family that the node's pods have."""
    for pods, services in (
        (config.pod_cidr, config.service_cidr),
        (config.other_pod_cidr, config.other_service_cidr),
    ):
        if pods:
            family = family_of(pods)
            table = Table(config.cluster, services, family)
            yield _Side(table, Scope(place, ip_network(pods), family))


def _service_of(item: Object) -> Iterable[str]:
    """The service an EndpointSlice belongs to, as "namespace/name"."""
    meta = item["metadata"]
    name = (meta.get("labels") or {}).get(SERVICE_LABEL)
    return (f"{meta['namespace']}/{name}",) if name else ()
