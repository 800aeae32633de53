"""Pod networks of this node: a namespace, an address and a route per pod.

Each pod hangs off the node by a veth pair of its own and everything it sends is routed, also to a
pod next door; so the node's service rules see every packet, whatever the machine's bridge filters
(br_netfilter) do, and a pod can take no other's address. The gateway address all pods share lives
on the cluster's bridge, which is there before the first pod and has no ports of its own. Both ends
know each other's hardware address beforehand: no ARP, no waiting. See docs/designs/001-network.md.

Task: one worker thread; kernel calls run there in the order they were asked for, and the event loop
never waits. Its queue is as long as the number of pods being started or stopped (`max_pods`), and
one look at our table: what is heard of nftables meanwhile is looked at once more after it.
Addresses are on disk (`addresses.py`), all else is in the kernel: an agent that starts again asks
for each pod once more and gets the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Network, IPv6Network
from typing import TypeVar

from sampan.linux.nftwatch import TransactionWatch

from .config import NodeConfig
from .interface import PodAddress
from .ipv6 import Ipv6
from .plumbing import Networks, Plumbing

T = TypeVar("T")


class BridgeNetwork:
    """The `PodNetwork` of one node. `close` or `purge` it when done.

    `cluster_cidr` is the pod network of the whole cluster: what goes there keeps its sender's
    address, anything else that leaves the node is masqueraded. Default: this node's share.
    `service_cidr` gets a route, so that the node itself reaches services also while it has no
    default route; "" leaves that out. `ipv6` are the networks of pods' second addresses.
    """

    def __init__(
        self,
        config: NodeConfig,
        cluster: str,
        cluster_cidr: str = "",
        service_cidr: str = "",
        *,
        ipv6: tuple[str, str] = ("", ""),
    ) -> None:
        """`ipv6`: the cluster's pod network and services' network, where the node has a share."""
        networks = Networks(
            IPv4Network(config.pod_cidr),
            IPv4Network(cluster_cidr or config.pod_cidr),
            IPv4Network(service_cidr) if service_cidr else None,
            _second(config, *ipv6),
        )
        self._plumbing = _plumbing(config, cluster, networks)
        self.admit: Callable[[str, str, str], Awaitable[None]] | None = None
        """Asked (uid, addresses of both families) before a pod may use them: network policies."""
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="network")
        self._ready: dict[str, PodAddress] = {}
        self._watch: TransactionWatch | None = None
        self._healing: asyncio.Task[None] | None = None
        self._heard = False
        self.restored: Callable[[str], None] | None = None
        """Told the name of a table that somebody else removed, once it is there again."""

    @property
    def gateway(self) -> str:
        """The node's own address in the pod network."""
        return self._plumbing.gateway

    async def open(self) -> None:
        await self._run(self._plumbing.open)
        if self._watch is None:
            self._watch = TransactionWatch()
            asyncio.get_running_loop().add_reader(self._watch.fileno(), self._hear)

    async def attach(self, pod_uid: str) -> PodAddress:
        """Raises ValueError for a uid that cannot name a file, AddressesExhausted, OSError, and
        what `admit` raises: the pod has no network then, and may be attached again."""
        found = self._ready.get(pod_uid)
        if found is None:
            found = await self._run(lambda: self._plumbing.attach(pod_uid))
            if self.admit is not None:
                await self.admit(pod_uid, found.ip, found.other_ip)
            self._ready[pod_uid] = found
        return found

    async def detach(self, pod_uid: str) -> None:
        self._ready.pop(pod_uid, None)
        await self._run(lambda: self._plumbing.detach(pod_uid))

    async def retain(self, pod_uids: set[str]) -> None:
        keep = frozenset(pod_uids)
        for uid in self._ready.keys() - keep:
            del self._ready[uid]
        await self._run(lambda: self._plumbing.retain(keep))

    async def close(self) -> None:
        self._stop_watching()
        await self._run(self._plumbing.close)
        self._worker.shutdown()

    async def route_services(self, networks: Sequence[str]) -> None:
        """Networks of services besides the one it was made with; these and no others."""
        await self._run(lambda: self._plumbing.route_services(networks))

    async def purge(self) -> None:
        """Also without `open` before; the network is closed afterwards. The proxy's table goes
        too. Pods keep their addresses: those are records of the node's data."""
        self._ready.clear()
        self._stop_watching()
        await self._run(self._plumbing.purge)
        await self.close()

    def _stop_watching(self) -> None:
        if self._watch is not None:
            asyncio.get_running_loop().remove_reader(self._watch.fileno())
            self._watch.close()
            self._watch = None
        if self._healing is not None:
            self._healing.cancel()
            self._healing = None

    def _hear(self) -> None:
        """Somebody changed nftables: look after our table, which takes some 50 us."""
        if self._watch is not None:
            self._watch.drain()
            self._heard = True
            if self._healing is None or self._healing.done():
                self._healing = asyncio.create_task(self._heal(), name="pods' table")

    async def _heal(self) -> None:
        while self._heard:
            self._heard = False
            table = await self._run(self._plumbing.heal)
            if table and self.restored is not None:
                self.restored(table)

    async def _run(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, call)


def _second(config: NodeConfig, cluster: str, services: str) -> Ipv6 | None:
    if not config.pod_cidr6:
        return None
    return Ipv6(
        IPv6Network(config.pod_cidr6),
        IPv6Network(cluster or config.pod_cidr6),
        IPv6Network(services) if services else None,
        IPv4Network(config.pod_cidr),
    )


def _plumbing(config: NodeConfig, cluster: str, networks: Networks) -> Plumbing:
    """Ours, or the administrator's plugins where they are configured. Raises ValueError."""
    if config.cni is None or not config.cni.is_dir():
        return Plumbing(config, cluster, networks)
    from .cni import CniPlumbing, read_chain

    chain = read_chain(config.cni, config.pod_cidr)
    if chain is None:
        return Plumbing(config, cluster, networks)
    return CniPlumbing(config, cluster, networks, chain)
