"""The node's own object and Lease: made at start, kept alive.

Task: one (`keep_alive`), every `RENEW_S`: renews the Lease, looks at the machine's pressure, and
writes the node's status when it changed, else every `REPORT_S` (kubelet's figures). `node_object`
is pure.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from msgspec import Struct

from sampan.aio.backoff import Backoff
from sampan.aio.clock import Clock
from sampan.api.errors import AlreadyExists, NotFound, Object, StatusError
from sampan.api.resources import api_resource
from sampan.api.times import format_micro_time, format_time
from sampan.client.api import Client
from sampan.client.interface import STRATEGIC_PATCH
from sampan.runtime.interface import Image
from sampan.version import GIT_VERSION
from sampan.wire.quantity import milli, milli_text

from .config import NodeConfig
from .facts import MachineFacts, machine_facts, read_disk
from .handlers import HANDLERS
from .thresholds import MEMORY, NODE_DISK
from .tidings import STARTING, Tiding, of_start, of_status

log = logging.getLogger("sampan.node.registration")

LEASE_NAMESPACE = "kube-node-lease"
RENEW_S = 10.0
RETRY_S = 1.0
"""After a failure. A node that was cut off should not stay out for longer than it was."""
SILENCE_S = 25.0
"""Two renewals missed and a third late, before a Lease of `LEASE_S` is over."""
LEASE_S = 40
REPORT_S = 300.0
IMAGES_MAX = 50

# (type, when fine, when not): reason and message as kubelet's.
PRESSURES = (
    (
        "MemoryPressure",
        ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
    ),
    (
        "DiskPressure",
        ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ("KubeletHasDiskPressure", "kubelet has disk pressure"),
    ),
    (
        "PIDPressure",
        ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
    ),
)  # fmt: skip
READY = ("KubeletReady", "kubelet is posting ready status")
NOT_READY = "KubeletNotReady"


class NodeState(Struct, frozen=True):
    """What the status tells, besides constants."""

    port: int
    disk_bytes: int
    pressures: Sequence[str]
    """The conditions of scarcity that hold."""
    images: Sequence[Image]
    trouble: str = ""
    """Why the node is not ready; empty when it is."""
    in_use: Sequence[str] = ()
    """Attached volumes that must not be detached yet."""


def labels(config: NodeConfig, facts: MachineFacts) -> dict[str, str]:
    return {
        "beta.kubernetes.io/arch": facts.architecture,
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": facts.architecture,
        "kubernetes.io/hostname": config.name,
        "kubernetes.io/os": "linux",
    }


def node_object(
    config: NodeConfig, facts: MachineFacts, state: NodeState, old: Object | None, now: float
) -> Object:
    """The whole Node; conditions keep the transition times of `old`'s."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": _metadata(config, facts),
        "spec": {"podCIDR": config.pod_cidr, "podCIDRs": config.pod_cidrs},
        "status": node_status(config, facts, state, old, now),
    }


def _metadata(config: NodeConfig, facts: MachineFacts) -> Object:
    known: Object = {"name": config.name, "labels": labels(config, facts)}
    return known | {"annotations": dict(config.annotations)} if config.annotations else known


def node_status(
    config: NodeConfig, facts: MachineFacts, state: NodeState, old: Object | None, now: float
) -> Object:
    room = capacity(config, facts, state.disk_bytes)
    known = (old or {}).get("status") or {}
    before = {item["type"]: item for item in known.get("conditions") or ()}
    status: Object = {
        "addresses": [
            *({"type": "InternalIP", "address": ip} for ip in config.addresses),
            {"type": "Hostname", "address": config.name},
        ],
        "capacity": room,
        "allocatable": allocatable(config, facts, state.disk_bytes),
        "conditions": _conditions(state, before, now),
        "daemonEndpoints": {"kubeletEndpoint": {"Port": state.port}},
        "features": {"supplementalGroupsPolicy": True},
        "runtimeHandlers": [
            {"name": name, "features": {"recursiveReadOnlyMounts": True, "userNamespaces": True}}
            for name in ("", *HANDLERS)
        ],
        "images": _images(state.images),
        "nodeInfo": {
            "architecture": facts.architecture,
            "bootID": facts.boot_id,
            "containerRuntimeVersion": config.runtime_version,
            "kernelVersion": facts.kernel,
            "kubeProxyVersion": "",
            "kubeletVersion": GIT_VERSION,
            "machineID": facts.machine_id,
            "operatingSystem": "linux",
            "osImage": facts.os_image,
            "systemUUID": facts.system_uuid,
        },
    }
    if state.in_use or known.get("volumesInUse"):
        status["volumesInUse"] = list(state.in_use) or None
    return status


def capacity(config: NodeConfig, facts: MachineFacts, disk: int) -> dict[str, str]:
    return {
        "cpu": str(facts.cpus),
        "ephemeral-storage": f"{disk // 1024}Ki",
        **{name: str(size) for name, size in facts.hugepages.items()},
        "memory": f"{facts.memory_bytes // 1024}Ki",
        "pods": str(config.settings.max_pods),
    }


def allocatable(config: NodeConfig, facts: MachineFacts, disk: int) -> dict[str, str]:
    """The capacity without what is reserved, and without what hard thresholds keep free."""
    settings = config.settings
    kept = {
        item.signal: item.amount({MEMORY: facts.memory_bytes, NODE_DISK: disk}[item.signal])
        for item in settings.thresholds
        if item.signal in (MEMORY, NODE_DISK) and not item.grace_s
    }
    memory = facts.memory_bytes - settings.reserved("memory") - kept.get(MEMORY, 0)
    # Huge pages are taken from memory at the machine's start, used or not.
    memory -= sum(facts.hugepages.values())
    storage = disk - settings.reserved("ephemeral-storage") - kept.get(NODE_DISK, 0)
    cpu = facts.cpus * 1000 - settings.reserved("cpu", milli)
    return capacity(config, facts, disk) | {
        "cpu": milli_text(max(0, cpu)),
        "ephemeral-storage": str(max(0, storage)),
        "memory": f"{max(0, memory) // 1024}Ki",
    }


def _conditions(state: NodeState, before: dict[str, Object], now: float) -> list[Object]:
    verdicts = [
        (kind, kind in state.pressures, bad if kind in state.pressures else fine)
        for kind, fine, bad in PRESSURES
    ]
    verdicts.append(
        ("Ready", not state.trouble, (NOT_READY, state.trouble) if state.trouble else READY)
    )
    out = []
    for kind, holds, (reason, message) in verdicts:
        status = "True" if holds else "False"
        old = before.get(kind) or {}
        same = old.get("status") == status and old.get("lastTransitionTime")
        out.append(
            {
                "type": kind,
                "status": status,
                "lastHeartbeatTime": format_time(now),
                "lastTransitionTime": old["lastTransitionTime"] if same else format_time(now),
                "reason": reason,
                "message": message,
            }
        )
    return out


def _images(images: Sequence[Image]) -> list[Object]:
    """The largest ones, as upstream (which caps the list too)."""
    largest = sorted(images, key=lambda image: -image.size_bytes)[:IMAGES_MAX]
    return [
        {"names": [*image.digests, *image.tags], "sizeBytes": image.size_bytes} for image in largest
    ]


class Registration:
    """Writes the Node and its Lease. `trouble` is set by the agent."""

    def __init__(
        self,
        config: NodeConfig,
        client: Client,
        clock: Clock,
        images: Callable[[], Sequence[Image]],
    ) -> None:
        self._config = config
        self._client = client
        self._clock = clock
        self._images = images
        self.facts = machine_facts()
        self.port = config.listen_port
        self.trouble = ""
        self.pressures: Callable[[], Sequence[str]] = tuple
        """Looks what is scarce; the conditions that hold."""
        self.each_tick: Callable[[], object] = lambda: None
        """Called every `RENEW_S`: for what is worth a look now and then, without timers more."""
        self.in_use: Callable[[], Sequence[str]] = tuple
        """Names of the attached volumes that pods use."""
        self.hear: Callable[[Iterable[Tiding]], object] = list
        """Called with what is worth an event."""
        self._node: Object | None = None
        self._said: Any = None
        self._reported_at = 0.0
        self._heard_at = 0.0
        """When the server last took our word, by the monotonic clock."""
        self._look = asyncio.Event()

    @property
    def allocatable(self) -> dict[str, str]:
        return allocatable(self._config, self.facts, self._disk_bytes())

    def _disk_bytes(self) -> int:
        """Size of the file system that pods' files live on."""
        return read_disk(self._config.data).capacity_bytes

    def refresh(self) -> None:
        """Something that the status tells has changed: look before the next tick."""
        self._look.set()

    async def register(self) -> None:
        """Make the node's object, or bring an old one up to date; tries until it succeeds."""
        backoff = Backoff(initial_s=0.05, cap_s=5.0)
        self.hear(STARTING)
        while True:
            try:
                before = await self._register()
                status = self.node.get("status") or {}
                self.hear(of_start(self._config.name, before, status))
                return
            except (StatusError, OSError) as error:
                log.info("registering node %s: %s", self._config.name, error)
            await self._clock.sleep(backoff.next_s())

    async def _register(self) -> Object:
        """The node as it was before, {} for none."""
        nodes = api_resource("nodes")
        now = self._clock.now()
        state = self._state()
        body = node_object(self._config, self.facts, state, None, now)
        before: Object = {}
        try:
            self._node = await self._client.create(nodes, body)
        except AlreadyExists:
            before = old = await self._client.get(nodes, self._config.name)
            changes: Object = {}
            for part in ("labels", "annotations"):
                wanted = body["metadata"].get(part) or {}
                if wanted.items() - (old["metadata"].get(part) or {}).items():
                    changes.setdefault("metadata", {})[part] = wanted
            if not old["spec"].get("podCIDR"):
                changes["spec"] = body["spec"]
            if changes:
                old = await self._client.patch(
                    nodes, self._config.name, changes, content_type=STRATEGIC_PATCH
                )
            self._node = old
            await self._report(state, now)
        else:
            self._remember(state, now)
        return before

    async def keep_alive(self) -> None:
        """For ever: Lease and status."""
        while True:
            pause_s = RENEW_S
            # Before the look: what changes while it is written is told by the next.
            self._look.clear()
            try:
                async with asyncio.timeout(RENEW_S):
                    await self._beat()
            except (StatusError, OSError) as error:
                log.info("node %s: %s", self._config.name, str(error) or "the server is silent")
                pause_s = RETRY_S
            self.each_tick()
            await self._tick(pause_s)

    async def _beat(self) -> None:
        """After a silence that may have been taken for our end the status is said anew: who said
        that we are Unknown leaves it to us to deny it. The look at what is scarce needs nobody: a
        disk that is full may be what keeps the server from answering."""
        state, now = self._state(), self._clock.now()
        await self._renew()
        silent = self._clock.monotonic() - self._heard_at > SILENCE_S
        due = now - self._reported_at >= REPORT_S
        if silent or due or self._worth_saying(state) != self._said:
            await self._report(state, now)
        self._heard_at = self._clock.monotonic()

    async def tell(self) -> None:
        """Write the status now. Raises StatusError and OSError."""
        await self._report(self._state(), self._clock.now())

    def tell_trouble(self, trouble: str) -> None:
        """The node is not ready, for this reason, from now on."""
        self.trouble = trouble
        self._look.set()

    async def _tick(self, pause_s: float) -> None:
        waits = [
            asyncio.ensure_future(self._clock.sleep(pause_s)),
            asyncio.ensure_future(self._look.wait()),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()

    def _state(self) -> NodeState:
        return NodeState(
            port=self.port,
            disk_bytes=self._disk_bytes(),
            pressures=self.pressures(),
            images=self._images(),
            trouble=self.trouble,
            in_use=self.in_use(),
        )

    @staticmethod
    def _worth_saying(state: NodeState) -> Any:
        images = tuple(item.id for item in state.images)
        return state.port, state.pressures, state.trouble, images, tuple(state.in_use)

    def _remember(self, state: NodeState, now: float) -> None:
        self._said = self._worth_saying(state)
        self._reported_at = now
        self._heard_at = self._clock.monotonic()

    async def _report(self, state: NodeState, now: float) -> None:
        status = node_status(self._config, self.facts, state, self._node, now)
        # Addresses merge by type in a strategic patch; ours are the only ones.
        status["addresses"].append({"$patch": "replace"})
        before = self.node
        try:
            self._node = await self._client.patch(
                api_resource("nodes"),
                self._config.name,
                {"status": status},
                subresource="status",
                content_type=STRATEGIC_PATCH,
            )
        except NotFound:
            # Somebody deleted the node while its agent runs: it comes back.
            await self._register()
            return
        self.hear(of_status(self._config.name, before.get("status") or {}, status))
        self._remember(state, now)

    async def _renew(self) -> None:
        leases = api_resource("leases", "coordination.k8s.io")
        now = self._clock.now()
        stamp = format_micro_time(now)
        patch: Object = {"spec": {"renewTime": stamp}}
        name = self._config.name
        try:
            await self._client.patch(leases, name, patch, LEASE_NAMESPACE)
        except NotFound:
            # It goes with its Node, so that may be gone too: then it comes back, and owns this one.
            await self._report(self._state(), now)
            await self._client.create(leases, self._lease(stamp), LEASE_NAMESPACE)

    @property
    def node(self) -> Object:
        """As the API last showed it."""
        return self._node or {"metadata": {"name": self._config.name}}

    @property
    def uid(self) -> str:
        """The Node's; "" before it is registered."""
        return str(((self._node or {}).get("metadata") or {}).get("uid") or "")

    def _lease(self, stamp: str) -> Object:
        meta: Object = {"name": self._config.name, "namespace": LEASE_NAMESPACE}
        uid = self.uid
        if uid:
            meta["ownerReferences"] = [
                {"apiVersion": "v1", "kind": "Node", "name": self._config.name, "uid": uid}
            ]
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": meta,
            "spec": {
                "holderIdentity": self._config.name,
                "leaseDurationSeconds": LEASE_S,
                "renewTime": stamp,
            },
        }
