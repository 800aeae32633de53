"""Snapshots of class `standard`: taken, begun with, taken away; with the kinds that the add-on
brings. Names, texts and finalizers are external-snapshotter's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml

from sampan import addons
from sampan.api.descriptor import ApiResource
from sampan.api.errors import Object
from sampan.client.informer import Informer
from sampan.controllers.runtime.custom import FILL_S, definitions_resource
from sampan.controllers.runtime.queue import Request, Requeue
from sampan.controllers.snapshots import SnapshotController
from sampan.controllers.snapshots_plan import CLASSES, CONTENTS, SNAPSHOTS
from tests.behaviour.test_volume_binder import CLAIMS, claim, event, phase
from tests.behaviour.workload_kit import NODES, World, world

FILES = sorted((Path(addons.__path__[0]) / "snapshots").glob("[12]*.yaml"))
SOURCE = {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "snap"}
HERE = {"volume.kubernetes.io/selected-node": "n1"}


class Node:
    """What an agent is asked, and what it answers."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.full = False

    async def call(self, node: str, method: str, path: str) -> tuple[int, str]:
        self.calls.append(f"{node} {method} {path}")
        if self.full:
            return 500, "No space left on device"
        return 200, '{"path": "/x"}'


@asynccontextmanager
async def cluster() -> AsyncIterator[tuple[World, Node, str]]:
    """With the add-on, a node, and a bound claim `data`, whose volume's name comes last."""
    node = Node()
    async with world(node_call=node.call) as there:
        for path in FILES:
            body = yaml.safe_load(path.read_text())
            kind = CLASSES if body["kind"] == CLASSES.kind else definitions_resource()
            await there.client.create(kind, body)
        await there.client.create(NODES, {"metadata": {"name": "n1"}})
        uid = await make(there, "data")
        node.calls.clear()
        yield there, node, f"pvc-{uid}"


async def make(there: World, name: str, **spec: Any) -> str:
    body = claim(name, storageClassName="standard", **spec)
    body["metadata"]["annotations"] = HERE
    made = await there.client.create(CLAIMS, body, "default")
    await phase(there, "persistentvolumeclaims", name, "Bound")
    return str(made["metadata"]["uid"])


def snapshot(name: str = "snap", claim: str = "data", **spec: Any) -> Object:
    source = spec.pop("source", {"persistentVolumeClaimName": claim})
    return {
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshot",
        "metadata": {"name": name},
        "spec": {"source": source, **spec},
    }


def cache(there: World, kind: ApiResource) -> Informer:
    """The controllers' own of a custom resource; its changes wake `until`."""
    informer = next(item for item in there.informers.all() if item.resource.path() == kind.path())
    informer.on_change(lambda old, new: there.changed.set())
    return informer


async def state(there: World, name: str, ready: bool = True) -> Object:
    """A snapshot, once it says so."""
    snapshots = cache(there, SNAPSHOTS)

    def look() -> Object | None:
        found = snapshots.get("default", name)
        return found if found and (found.get("status") or {}).get("readyToUse") is ready else None

    found: Object = await there.until(look)
    return found


async def away(there: World, kind: ApiResource, name: str, namespace: str = "") -> None:
    known = cache(there, kind)
    await known.synced()
    await there.until(lambda: known.get(namespace, name) is None)


async def test_a_snapshot_is_taken_begun_with_and_taken_away() -> None:
    async with cluster() as (there, node, volume):
        made = await there.client.create(SNAPSHOTS, snapshot(), "default")
        uid = made["metadata"]["uid"]
        found = await state(there, "snap")
        assert node.calls == [f"n1 PUT /volumes/snapshot-{uid}?from={volume}"]
        assert found["status"]["boundVolumeSnapshotContentName"] == f"snapcontent-{uid}"
        assert found["status"]["restoreSize"] == "1Gi"
        assert found["spec"]["volumeSnapshotClassName"] == "standard"
        assert len(found["metadata"]["finalizers"]) == 2
        content = await there.client.get(CONTENTS, f"snapcontent-{uid}")
        assert content["status"]["snapshotHandle"] == f"n1/snapshot-{uid}"
        assert content["spec"]["source"] == {"volumeHandle": volume}
        await event(there, "SnapshotReady: Snapshot default/snap is ready to use.")

        copy = await make(there, "copy", dataSource=SOURCE)
        size = 1 << 30
        assert node.calls[1:] == [f"n1 PUT /volumes/pvc-{copy}?size={size}&from=snapshot-{uid}"]

        await there.client.delete(SNAPSHOTS, "snap", "default")
        await away(there, SNAPSHOTS, "snap", "default")
        await away(there, CONTENTS, f"snapcontent-{uid}")
        assert node.calls[2:] == [f"n1 DELETE /volumes/snapshot-{uid}"]


async def test_what_is_kept_can_be_had_again_under_another_name() -> None:
    async with cluster() as (there, node, _):
        kept = {"metadata": {"name": "kept"}, "driver": "sampan.dev/local"}
        await there.client.create(CLASSES, {**kept, "deletionPolicy": "Retain"})
        body = snapshot(volumeSnapshotClassName="kept")
        uid = (await there.client.create(SNAPSHOTS, body, "default"))["metadata"]["uid"]
        await state(there, "snap")
        await there.client.delete(SNAPSHOTS, "snap", "default")
        await away(there, SNAPSHOTS, "snap", "default")
        content = await there.client.get(CONTENTS, f"snapcontent-{uid}")
        handle = content["status"]["snapshotHandle"]
        again = {
            "metadata": {"name": "again"},
            "spec": {
                "deletionPolicy": "Retain", "driver": "sampan.dev/local",
                "source": {"snapshotHandle": handle},
                "volumeSnapshotRef": {"namespace": "default", "name": "back"},
            },
        }  # fmt: skip
        await there.client.create(CONTENTS, again)
        source = {"volumeSnapshotContentName": "again"}
        back = await there.client.create(SNAPSHOTS, snapshot("back", source=source), "default")
        await state(there, "back")
        bound = await there.client.get(CONTENTS, "again")
        assert bound["spec"]["volumeSnapshotRef"]["uid"] == back["metadata"]["uid"]
        copy = await make(there, "copy", dataSourceRef={**SOURCE, "name": "back"})
        assert node.calls[-1].endswith(f"/pvc-{copy}?size={1 << 30}&from=snapshot-{uid}")


async def test_what_cannot_be_taken_says_why_and_is_tried_again() -> None:
    async with cluster() as (there, node, _):
        await there.client.create(SNAPSHOTS, snapshot("early", "later"), "default")
        early = await state(there, "early", ready=False)
        assert early["status"]["error"]["message"] == (
            "Failed to create snapshot content with error failed to get PVC later: "
            'persistentvolumeclaim "later" not found'
        )
        await make(there, "later")
        assert "error" not in (await state(there, "early"))["status"]
        node.full = True
        await there.client.create(SNAPSHOTS, snapshot(), "default")
        snapshots = cache(there, SNAPSHOTS)
        await there.until(
            lambda: "No space left" in str((snapshots.get("default", "snap") or {}).get("status"))
        )
        node.full = False
        await state(there, "snap")
        # Too small a claim, and a snapshot that is not there.
        body = claim("small", "1Mi", storageClassName="standard", dataSource=SOURCE)
        body["metadata"]["annotations"] = HERE
        await there.client.create(CLAIMS, body, "default")
        start = 'ProvisioningFailed: failed to provision volume with StorageClass "standard": '
        await event(there, f"{start}requested volume size {1 << 20} is less than the size")


async def test_snapshots_of_other_drivers_are_left_to_them() -> None:
    async with cluster() as (there, node, _):
        other = {"metadata": {"name": "csi"}, "driver": "csi.example.com"}
        await there.client.create(CLASSES, {**other, "deletionPolicy": "Delete"})
        body = snapshot(volumeSnapshotClassName="csi")
        await there.client.create(SNAPSHOTS, body, "default")
        await there.client.create(SNAPSHOTS, snapshot("ours"), "default")
        await state(there, "ours")
        left = await there.client.get(SNAPSHOTS, "snap", "default")
        assert "status" not in left
        assert len(node.calls) == 1


async def test_the_kinds_can_be_taken_away_again() -> None:
    async with cluster() as (there, node, _):
        await there.client.create(SNAPSHOTS, snapshot(), "default")
        await state(there, "snap")
        for path in reversed(FILES):
            body = yaml.safe_load(path.read_text())
            kind = CLASSES if body["kind"] == CLASSES.kind else definitions_resource()
            await there.client.delete(kind, body["metadata"]["name"])
        left = there.cache("customresourcedefinitions", "apiextensions.k8s.io")
        services = there.cache("apiservices", "apiregistration.k8s.io")
        await there.until(
            lambda: not left.list() and not services.get("", "v1.snapshot.storage.k8s.io")
        )
        assert "DELETE" in node.calls[-1]


async def test_kinds_that_go_before_they_are_listed_hold_nobody_up() -> None:
    controller = object.__new__(SnapshotController)
    client: Any = None
    controller.kinds = {SNAPSHOTS.plural: Informer(client, SNAPSHOTS)}
    async with asyncio.timeout(1):
        assert await controller.reconcile(Request("default", "s")) == Requeue(FILL_S)
