"""The proxy of one node: watches Services, EndpointSlices and the host ports of its own pods, keeps
the kernel's table true.

Task: `run`, under the daemon's supervisor. Queue: the set of services that changed while a
transaction was being applied, at most one entry per service; they become one transaction. Nothing
polls: the informers wake it, and the kernel does when somebody else's transaction removed the
table, which is then made anew. A transaction the kernel refuses is followed by the whole table; if
that fails as well, `run` raises and the supervisor starts it again with backoff.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network

from sampan.api.errors import Object
from sampan.api.resources import resource
from sampan.client.informer import Informer, Informers
from sampan.linux.conntrack import Flow, forget
from sampan.linux.nft import Nft, NftError
from sampan.linux.nftwatch import TransactionWatch, table_handle

from .apply import Key, Table
from .flows import stale_flows
from .health import Health, HealthPorts, health_of
from .hostports import PREFIX, has_host_ports, host_rules_of
from .rules import NOTHING, SERVICE_LABEL, Rules, Scope, rules_of

log = logging.getLogger("sampan.proxy")

_INDEX = "proxy-service"


@dataclass(frozen=True, slots=True)
class ProxyConfig:
    """`pod_cidr` is this node's share; `service_cidr` may be "" (see `apply.Table`)."""

    cluster: str
    node_name: str
    pod_cidr: str
    service_cidr: str = ""


class Proxy:
    """Use it from one event loop. `ready` is set once the first table is in the kernel."""

    def __init__(self, informers: Informers, config: ProxyConfig, nft: Nft | None = None) -> None:
        self._services: Informer = informers.informer(resource("services"))
        self._slices: Informer = informers.informer(resource("endpointslices", "discovery.k8s.io"))
        self._slices.add_index(_INDEX, _service_of)
        fields = f"spec.nodeName={config.node_name}"
        self._pods: Informer = informers.informer(resource("pods"), fields=fields)
        self._scope = Scope(config.node_name, IPv4Network(config.pod_cidr))
        self._table = Table(config.cluster, config.service_cidr)
        self._nft = nft or Nft()
        self._changed: set[Key] = set()
        self._wake = asyncio.Event()
        self._handle = 0
        self._stale: set[Flow] = set()
        self._health = HealthPorts()
        self._asked: dict[Key, Health] = {}
        self._checks: dict[Key, Health | None] = {}
        self.ready = asyncio.Event()
        self.rebuilds = 0
        """How often the whole table was made: 1 in a quiet life."""

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
            self._changed |= self._table.rules.keys()
            self._plan()
            await self._rebuild()
            await self._forget_flows()
            await self._settle_health()
            self.ready.set()
            while True:
                await self._wake.wait()
                self._wake.clear()
                await self._turn()
        finally:
            loop.remove_reader(watch.fileno())
            watch.close()
            self._health.close()
            self._asked.clear()
            for undo in unsubscribe:
                undo()

    async def purge(self) -> None:
        """Remove the table; `run` must have ended. Raises NftError."""
        await self._nft.apply(self._table.remove())

    def _subscribe(self) -> list[Callable[[], None]]:
        return [
            self._services.on_change(self._service_changed),
            self._slices.on_change(self._slice_changed),
            self._pods.on_change(self._pod_changed),
        ]

    def _service_changed(self, old: Object | None, new: Object | None) -> None:
        meta = (new or old or {})["metadata"]
        self._mark((meta["namespace"], meta["name"]))

    def _slice_changed(self, old: Object | None, new: Object | None) -> None:
        for item in (old, new):
            for key in _service_of(item) if item is not None else ():
                namespace, _, name = key.partition("/")
                self._mark((namespace, name))

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        """Pods matter for their host ports alone; few have any."""
        seen = [pod for pod in (old, new) if pod is not None and has_host_ports(pod)]
        if seen and (len(seen) < 2 or host_rules_of(seen[0]) != host_rules_of(seen[1])):
            meta = seen[0]["metadata"]
            self._mark((meta["namespace"], PREFIX + meta["name"]))

    def _mark(self, key: Key) -> None:
        self._changed.add(key)
        self._wake.set()

    def _hear(self, watch: TransactionWatch) -> None:
        watch.drain()
        self._wake.set()

    def _plan(self) -> str:
        """The transaction for what has changed since the last one."""
        keys, self._changed = self._changed, set()
        wanted = {key: self._rules(key) for key in keys}
        for key, new in wanted.items():
            self._stale |= stale_flows(self._table.rules.get(key, NOTHING), new)
        return self._table.change(wanted)

    def _rules(self, key: Key) -> Rules:
        if key[1].startswith(PREFIX):
            pod = self._pods.get(key[0], key[1].removeprefix(PREFIX))
            return host_rules_of(pod) if pod is not None else NOTHING
        service = self._services.get(*key)
        if service is None:
            self._check(key, None)
            return NOTHING
        try:
            slices = self._slices.by_index(_INDEX, f"{key[0]}/{key[1]}")
            self._check(key, health_of(service, slices, self._scope.node_name))
            return rules_of(service, slices, self._scope)
        except (AttributeError, KeyError, TypeError, ValueError):
            log.exception("service %s/%s is not proxied: it makes no sense", *key)
            return NOTHING

    def _check(self, key: Key, health: Health | None) -> None:
        """Few services have a port for health checks; those that changed are settled together."""
        if self._asked.get(key) != health:
            self._checks[key] = health
            if health is None:
                del self._asked[key]
            else:
                self._asked[key] = health

    async def _settle_health(self) -> None:
        checks, self._checks = self._checks, {}
        await self._health.settle(checks)

    async def _turn(self) -> None:
        script = self._plan()
        if not self._handle or table_handle(self._table.name) != self._handle:
            log.warning("table %s was changed by somebody else; making it anew", self._table.name)
            await self._rebuild()
        elif script:
            try:
                await self._nft.apply(script)
            except NftError as error:
                log.warning("making table %s anew: %s", self._table.name, error)
                await self._rebuild()
            if self._table.has_stale_chains:
                self._wake.set()
        await self._forget_flows()
        await self._settle_health()

    async def _forget_flows(self) -> None:
        """After the rules have changed: a flow forgotten earlier would come back as it was."""
        stale, self._stale = self._stale, set()
        if stale:
            try:
                await asyncio.to_thread(forget, stale)
            except OSError as error:
                log.warning("old UDP flows stay until they end by themselves: %s", error)

    async def _rebuild(self) -> None:
        self.rebuilds += 1
        await self._nft.apply(self._table.whole())
        self._handle = table_handle(self._table.name)


def _service_of(item: Object) -> Iterable[str]:
    """The service an EndpointSlice belongs to, as "namespace/name"."""
    meta = item["metadata"]
    name = (meta.get("labels") or {}).get(SERVICE_LABEL)
    return (f"{meta['namespace']}/{name}",) if name else ()
