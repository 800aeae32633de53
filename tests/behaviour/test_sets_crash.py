"""StatefulSets and DaemonSets whose controllers are killed after every single write: the end is
always the same, and there are never two live pods of one identity."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from sampan.aio.tasks import Supervisor
from sampan.api.descriptor import Descriptor
from sampan.api.errors import Object
from sampan.client.informer import Informers
from sampan.controllers.daemonset_nodes import node_of
from sampan.controllers.statefulset_pods import ordinal
from tests.kit.cluster import Cluster, api_cluster
from tests.kit.mortal import Mortal

from .statefulset_kit import (
    CLAIMS,
    DAEMON_SETS,
    REVISIONS,
    STATEFUL_SETS,
    claim_template,
    daemon_set,
    stateful_set,
)
from .test_workloads_crash import Life
from .workload_kit import NODES, PODS, PretendNode

Steps = list[tuple[Object, Object]]
"""What is patched ({}: the set is created), and what there is in the end."""
NAMES = ("n0", "n1")
KINDS = (STATEFUL_SETS, DAEMON_SETS, PODS, CLAIMS, REVISIONS)


class PinnedNode(PretendNode):
    """Binds pods to the node they are pinned to, as the scheduler would."""

    async def _advance(self, pod: Object, namespace: str, name: str) -> None:
        if pod["spec"].get("nodeName") or not node_of(pod):
            await super()._advance(pod, namespace, name)
            return
        target = {"kind": "Node", "name": node_of(pod)}
        meta = {"name": name, "namespace": namespace}
        body = {"apiVersion": "v1", "kind": "Binding", "metadata": meta, "target": target}
        await self.client.create(PODS, body, namespace, name, "binding")


class Drill:
    """One set of a kind, made, rolled out, scaled or undone, and deleted, with one crash."""

    def __init__(self, cluster: Cluster, informers: Informers) -> None:
        self.cluster = cluster
        self.client = cluster.client
        self.caches = {kind: informers.informer(kind) for kind in KINDS}
        self.changed = asyncio.Event()
        self.problems: list[str] = []
        for cache in self.caches.values():
            cache.on_change(lambda old, new: self.changed.set())
        self.caches[PODS].on_change(self._check)

    def _check(self, old: Object | None, new: Object | None) -> None:
        """No two live pods of one place."""
        for owner in self.caches[STATEFUL_SETS].list():
            places = Counter(ordinal(owner, pod) for pod in self.caches[PODS].list())
            if any(count > 1 for place, count in places.items() if place >= 0):
                self.problems.append(f"two of one identity: {places}")
        for _ in self.caches[DAEMON_SETS].list():
            nodes = Counter(map(node_of, self.caches[PODS].list()))
            if any(count > 1 for count in nodes.values()):
                self.problems.append(f"two on one node: {nodes}")

    async def run(self, kind: Descriptor, body: Object, steps: Steps, at: int) -> bool:
        """Create, then for each step patch and wait for its end state; False if all was done
        before the crash came."""
        life = Life(Mortal(self.cluster.client.transport, at))
        await life.start()
        crashed, name = False, body["metadata"]["name"]
        for patch, end in steps:
            if patch:
                await self.client.patch(kind, name, patch, "default")
            else:
                await self.client.create(kind, body, "default")
            life, died = await self._reach(life, end)
            crashed = crashed or died
        await self.client.delete(kind, name, "default")
        life, died = await self._reach(life, {})
        await life.end()
        assert not self.problems
        return crashed or died

    async def _reach(self, life: Life, end: Object) -> tuple[Life, bool]:
        """Wait for the state; controllers that die on the way are started anew."""
        if not await self._until(life, end):
            return life, False
        await life.end()
        new = Life(Mortal(self.cluster.client.transport, 0))
        await new.start()
        await self._until(new, end)
        return new, True

    async def _until(self, life: Life, end: Object) -> bool:
        """Wait for this state; True if the controllers died before."""
        return await life.until(lambda: self.state() == end, self.changed, self.state)

    def state(self) -> Object:
        """What there is of everything; {} if there is nothing left."""
        sets = [*self.caches[STATEFUL_SETS].list(), *self.caches[DAEMON_SETS].list()]
        if not sets and not any(map(len, self.caches.values())):
            return {}
        return {
            "status": [self._status(item) for item in sets],
            "pods": sorted(
                f"{node_of(pod)} {pod['spec']['containers'][0]['image']} {pod['status']['phase']}"
                for pod in self.caches[PODS].list()
            ),
            "claims": {
                item["metadata"]["name"]: len(item["metadata"].get("ownerReferences") or ())
                for item in self.caches[CLAIMS].list()
            },
            "revisions": sorted(item["revision"] for item in self.caches[REVISIONS].list()),
        }

    def _status(self, item: Object) -> Object:
        said, meta = item.get("status") or {}, item["metadata"]
        keys = (
            "replicas", "readyReplicas", "availableReplicas", "updatedReplicas", "currentReplicas",
            "desiredNumberScheduled", "numberAvailable", "updatedNumberScheduled",
        )  # fmt: skip
        return {
            "observed": said.get("observedGeneration") == meta["generation"],
            "settled": said.get("currentRevision") == said.get("updateRevision"),
            **{key: said[key] for key in keys if said.get(key)},
        }


def image(name: str) -> Object:
    return {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": name}]}}}}


def stateful(count: int, name: str, revisions: list[int]) -> Object:
    keys = ("replicas", "readyReplicas", "availableReplicas", "updatedReplicas", "currentReplicas")
    return {
        "status": [{"observed": True, "settled": True} | dict.fromkeys(keys, count)],
        "pods": [f"n1 {name} Running"] * count,
        "claims": {f"data-db-{place}": 1 for place in range(count)},
        "revisions": revisions,
    }


def daemon(name: str, revisions: list[int]) -> Object:
    keys = ("desiredNumberScheduled", "numberAvailable", "updatedNumberScheduled")
    return {
        "status": [{"observed": True, "settled": True} | dict.fromkeys(keys, len(NAMES))],
        "pods": [f"{node} {name} Running" for node in NAMES],
        "claims": {},
        "revisions": revisions,
    }


STEPS: dict[str, Steps] = {
    "statefulset": [
        ({}, stateful(2, "db:1", [1])),
        (image("db:2"), stateful(2, "db:2", [1, 2])),
        ({"spec": {"replicas": 1}}, stateful(1, "db:2", [1, 2])),
        (image("db:1"), stateful(1, "db:1", [2, 3])),
        (image("db:3"), stateful(1, "db:3", [3, 4])),
    ],
    "daemonset": [
        ({}, daemon("agent:1", [1])),
        (image("agent:2"), daemon("agent:2", [1, 2])),
        (image("agent:1"), daemon("agent:1", [2, 3])),
        (image("agent:3"), daemon("agent:3", [3, 4])),
    ],
}


@pytest.mark.trust
@pytest.mark.parametrize(("what", "least"), [("statefulset", 40), ("daemonset", 30)])
async def test_a_crash_after_every_write_changes_nothing_in_the_end(what: str, least: int) -> None:
    keep = {"whenDeleted": "Delete", "whenScaled": "Delete"}
    bodies = {
        "statefulset": stateful_set(
            replicas=2,
            revisionHistoryLimit=1,
            volumeClaimTemplates=[claim_template()],
            persistentVolumeClaimRetentionPolicy=keep,
        ),
        "daemonset": daemon_set(revisionHistoryLimit=1),
    }
    kind = {"statefulset": STATEFUL_SETS, "daemonset": DAEMON_SETS}[what]
    async with api_cluster() as cluster:
        supervisor = Supervisor()
        informers = Informers(cluster.client, supervisor)
        node = PinnedNode(cluster.client, informers.informer(PODS))
        supervisor.start("node", node.run)
        if what == "daemonset":
            for name in NAMES:
                body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}
                await cluster.client.create(NODES, body)
        drill = Drill(cluster, informers)
        await informers.synced()
        writes = 1
        while await drill.run(kind, bodies[what], STEPS[what], writes):
            writes += 1
        await supervisor.stop()
        # Revisions, claims, pods, statuses, deletions, numbers: all were tried.
        assert writes > least
