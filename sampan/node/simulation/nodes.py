"""The simulated nodes of one process: registration, Leases, and the pods bound to them.

Tasks: `run` (registers, then renews every Lease in turn), `run_timer` (looks at pods whose time has
come), one recorder of events, and one short task per pod that is being let go. Memory: one entry
per pod of these nodes; one appointment per pod in the timer's heap, and stale ones until they are
due.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any

from sampan.aio.backoff import Backoff
from sampan.aio.clock import Clock
from sampan.aio.tasks import Supervisor
from sampan.api.errors import AlreadyExists, Conflict, NotFound, Object, StatusError
from sampan.api.resources import resource
from sampan.client.api import Client
from sampan.client.events import NORMAL, EventRecorder
from sampan.client.informer import Informers
from sampan.version import GIT_VERSION

from ..narration import Narrator
from ..registration import LEASE_NAMESPACE, LEASE_S, READY, RENEW_S
from ..reports import Reports
from ..status import rfc3339
from .outcome import Match, Outcome, Rule, Script
from .pod import SimulatedPod
from .usage import summary

log = logging.getLogger("sampan.node.simulation")

CAPACITY: Mapping[str, str] = {
    "cpu": "8",
    "memory": "32Gi",
    "ephemeral-storage": "100Gi",
    "pods": "110",
}
COMPONENT = "kubelet"


@dataclass(frozen=True, slots=True)
class Shape:
    """How simulated nodes present themselves."""

    names: Sequence[str] = ("node-0",)
    pod_cidr: str = "10.244.0.0/16"
    capacity: Mapping[str, str] = field(default_factory=lambda: CAPACITY)
    labels: Mapping[str, str] = field(default_factory=dict)
    address: str = "127.0.0.1"
    port: int = 0
    """Where the API server reaches the nodes' own server (logs); 0: there is none."""


class _Addresses:
    """The pod addresses of one node's share, the longest free first."""

    def __init__(self, share: str) -> None:
        network = ip_network(share)
        self._free = [str(network[number]) for number in range(network.num_addresses - 2, 1, -1)]

    def take(self) -> str:
        return self._free.pop() if self._free else ""

    def give_back(self, address: str) -> None:
        if address:
            self._free.insert(0, address)


@dataclass(slots=True)
class _Entry:
    pod: Object
    simulated: SimulatedPod
    addresses: _Addresses
    narrator: Narrator
    due: float = 0.0
    said: Object | None = None
    leaving: bool = False


class SimulatedNodes:
    """Made by whoever simulates; `start` them under a supervisor."""

    def __init__(
        self, client: Client, informers: Informers, clock: Clock, shape: Shape | None = None
    ) -> None:
        self.script = Script()
        self.shape = shape or Shape()
        self._client = client
        self._clock = clock
        self._reports = Reports(client, clock)
        self._events = EventRecorder(client, COMPONENT, clock=clock)
        self._pods = informers.informer(resource("pods"))
        shares = ip_network(self.shape.pod_cidr).subnets(new_prefix=24)
        self._shares = {
            name: str(share) for name, share in zip(self.shape.names, shares, strict=False)
        }
        self._addresses = {name: _Addresses(share) for name, share in self._shares.items()}
        self._silent: set[str] = set()
        self._back: set[str] = set()
        self._revived = asyncio.Event()
        self._entries: dict[str, _Entry] = {}
        self._timer: list[tuple[float, str]] = []
        self._sooner = asyncio.Event()
        self._leaving: set[asyncio.Task[None]] = set()

    def start(self, supervisor: Supervisor) -> None:
        """Register and behave, until the supervisor stops."""
        supervisor.start("simulated nodes", self.run)
        supervisor.start("simulated time", self.run_timer)
        supervisor.start("simulated events", self._events.run)

    # What tests say

    def decide(self, match: Match, outcome: Outcome, container: str = "") -> None:
        """From now on, and for pods that exist, `outcome` is what becomes of those that match."""
        self.script.add(Rule(match, outcome, container))
        for uid, entry in tuple(self._entries.items()):
            if match(entry.pod):
                entry.simulated.rescript(self.script)
                self._look(uid, entry)

    def silence(self, name: str) -> None:
        """The node's agent dies: no Lease is renewed, no pod of it changes any more."""
        self._silent.add(name)

    def revive(self, name: str) -> None:
        """It comes back, and catches up."""
        self._silent.discard(name)
        self._back.add(name)
        self._revived.set()
        for uid, entry in tuple(self._entries.items()):
            if entry.pod["spec"]["nodeName"] == name:
                self._look(uid, entry)

    def find(self, namespace: str, name: str) -> Object | None:
        """The pod as its node knows it."""
        for entry in self._entries.values():
            meta = entry.pod["metadata"]
            if (meta["namespace"], meta["name"]) == (namespace, name):
                return entry.pod
        return None

    def summary(self, node: str) -> Object:
        """What a node says that it and its pods use."""
        pods = [
            {**entry.pod, "status": entry.said or {}}
            for entry in self._entries.values()
            if entry.pod["spec"]["nodeName"] == node
        ]
        return summary(pods, self.script, self._clock.now())

    # Nodes

    async def run(self) -> None:
        """Register every node, then renew the Leases in turn, for ever."""
        for name in self.shape.names:
            await self._register(name)
        await self._pods.synced()
        stop = self._pods.on_change(self._on_pod)
        try:
            while True:
                self._revived.clear()
                while self._back:
                    await self._register(self._back.pop())
                for name in self.shape.names:
                    if name not in self._silent:
                        await self._renew(name)
                await self._rest(RENEW_S, self._revived)
        finally:
            stop()
            for task in tuple(self._leaving):
                task.cancel()
            await self._reports.close()

    async def _register(self, name: str) -> None:
        now = self._clock.now()
        body = node_object(name, self._shares[name], self.shape, now)
        try:
            await self._client.create(resource("nodes"), body)
        except AlreadyExists:
            status = {"status": body["status"]}
            await self._client.patch(resource("nodes"), name, status, subresource="status")

    async def _renew(self, name: str) -> None:
        leases = resource("leases", "coordination.k8s.io")
        now = self._clock.now()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06d}Z"
        spec = {"holderIdentity": name, "leaseDurationSeconds": LEASE_S, "renewTime": stamp}
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name, "namespace": LEASE_NAMESPACE},
            "spec": spec,
        }
        try:
            await self._client.patch(leases, name, {"spec": spec}, LEASE_NAMESPACE)
        except NotFound:
            await self._client.create(leases, body, LEASE_NAMESPACE)

    # Pods

    def _on_pod(self, old: Object | None, new: Object | None) -> None:
        pod = new if new is not None else old
        assert pod is not None
        uid = pod["metadata"]["uid"]
        if new is None:
            self._forget(uid)
            return
        node = new["spec"].get("nodeName")
        if node not in self._addresses:
            return
        entry = self._entries.get(uid)
        if entry is None:
            entry = self._entries[uid] = self._admit(new, node)
        entry.pod = new
        self._look(uid, entry)

    def _admit(self, pod: Object, node: str) -> _Entry:
        addresses = self._addresses[node]
        ip = (pod.get("status") or {}).get("podIP") or addresses.take()
        simulated = SimulatedPod(pod, ip, self._clock.now())
        return _Entry(pod, simulated, addresses, Narrator(self._events, pod))

    def _forget(self, uid: str) -> None:
        entry = self._entries.pop(uid, None)
        if entry is not None:
            entry.addresses.give_back(entry.simulated.state.ip)
            self._reports.forget(uid)

    def _look(self, uid: str, entry: _Entry) -> None:
        if entry.leaving or entry.pod["spec"]["nodeName"] in self._silent:
            return
        before = _runs(entry.simulated)
        step = entry.simulated.step(entry.pod, self.script, self._clock.now())
        self._narrate(entry, before)
        if step.status != entry.said:
            entry.said = step.status
            self._reports.put(entry.pod, step.status)
        entry.due = step.wake_at
        if step.gone:
            entry.leaving = True
            task = asyncio.create_task(self._let_go(entry.pod), name=f"let go {uid}")
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)
        elif step.wake_at:
            heapq.heappush(self._timer, (step.wake_at, uid))
            if self._timer[0][1] == uid:
                self._sooner.set()

    def _narrate(self, entry: _Entry, before: Mapping[str, int]) -> None:
        """Tell of containers that have started, as kubelet's events do."""
        after = _runs(entry.simulated)
        if before == after:
            return
        spec = entry.pod["spec"]
        for container in (*(spec.get("initContainers") or ()), *spec["containers"]):
            name = container["name"]
            if after.get(name, -1) > before.get(name, -1):
                image = container.get("image", "")
                text = f'Container image "{image}" already present on machine'
                entry.narrator.container(container, NORMAL, "Pulled", text)
                entry.narrator.container(container, NORMAL, "Created", "Container created")
                entry.narrator.container(container, NORMAL, "Started", "Container started")

    async def _let_go(self, pod: Object) -> None:
        """Take the object of a stopped pod away."""
        meta = pod["metadata"]
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": meta["uid"]}}
        backoff = Backoff(initial_s=0.1, cap_s=10.0)
        await self._reports.flushed(meta["uid"])
        while True:
            try:
                await self._client.delete(
                    resource("pods"), meta["name"], meta["namespace"], options
                )
                return
            except (NotFound, Conflict):
                return
            except (StatusError, OSError) as error:
                log.info("pod %s/%s: delete: %s", meta["namespace"], meta["name"], error)
            await self._clock.sleep(backoff.next_s())

    async def run_timer(self) -> None:
        """Look at pods when their time has come, for ever."""
        while True:
            self._sooner.clear()
            if not self._timer:
                await self._sooner.wait()
                continue
            due, uid = self._timer[0]
            left = due - self._clock.now()
            if left > 0:
                await self._rest(left, self._sooner)
                continue
            heapq.heappop(self._timer)
            entry = self._entries.get(uid)
            if entry is not None and entry.due == due:
                self._look(uid, entry)

    async def _rest(self, seconds: float, sooner: asyncio.Event) -> None:
        tasks = [
            asyncio.ensure_future(self._clock.sleep(seconds)),
            asyncio.ensure_future(sooner.wait()),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()


def _runs(simulated: SimulatedPod) -> dict[str, int]:
    return {name: runs[-1].restart_count for name, runs in simulated.state.attempts.items() if runs}


def node_object(name: str, share: str, shape: Shape, now: float) -> Object:
    """A Node as kubelet registers it."""
    stamp = rfc3339(now)
    fine: Sequence[tuple[str, str, str, str]] = (
        ("MemoryPressure", "False", "KubeletHasSufficientMemory",
         "kubelet has sufficient memory available"),
        ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ("PIDPressure", "False", "KubeletHasSufficientPID",
         "kubelet has sufficient PID available"),
        ("Ready", "True", *READY),
    )  # fmt: skip
    conditions: list[Any] = [
        {
            "type": kind,
            "status": status,
            "lastHeartbeatTime": stamp,
            "lastTransitionTime": stamp,
            "reason": reason,
            "message": message,
        }
        for kind, status, reason, message in fine
    ]
    machine = name.encode().hex()
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/arch": "amd64",
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                **shape.labels,
            },
        },
        "spec": {"podCIDR": share, "podCIDRs": [share]},
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": shape.address},
                {"type": "Hostname", "address": name},
            ],
            "capacity": dict(shape.capacity),
            "allocatable": dict(shape.capacity),
            "conditions": conditions,
            "daemonEndpoints": {"kubeletEndpoint": {"Port": shape.port}},
            "nodeInfo": {
                "architecture": "amd64",
                "bootID": machine,
                "containerRuntimeVersion": "simulated://1",
                "kernelVersion": "simulated",
                "kubeProxyVersion": "",
                "kubeletVersion": GIT_VERSION,
                "machineID": machine,
                "operatingSystem": "linux",
                "osImage": "simulated",
                "systemUUID": machine,
            },
        },
    }
