"""Volumes of CSI drivers are attached where their pods are, and detached when that is safe."""

from __future__ import annotations

from typing import Any

from sampan.api.resources import resource
from sampan.api.volumes import csi_attachment, csi_unique_name
from sampan.controllers.attachdetach_plan import detach_at, with_attached
from tests.behaviour.workload_kit import World, world
from tests.kit.clock import settle

CLAIMS = resource("persistentvolumeclaims")
VOLUMES = resource("persistentvolumes")
ATTACHMENTS = resource("volumeattachments", "storage.k8s.io")
DRIVERS = resource("csidrivers", "storage.k8s.io")
NODES = resource("nodes")
PODS = resource("pods")
SIZE = {"storage": "1Gi"}
DRIVER = "csi.example.com"
UNIQUE = csi_unique_name(DRIVER, "h")


async def a_volume(there: World, *modes: str) -> None:
    spec = {"accessModes": [*modes], "storageClassName": ""}
    disk = {"driver": DRIVER, "volumeHandle": "h"}
    reference = {"namespace": "default", "name": "data"}
    body = {"capacity": SIZE, "csi": disk, "claimRef": reference} | spec
    await there.client.create(VOLUMES, {"metadata": {"name": "disk"}, "spec": body})
    claim = {"resources": {"requests": SIZE}} | spec
    await there.client.create(CLAIMS, {"metadata": {"name": "data"}, "spec": claim}, "default")
    cache = there.cache("persistentvolumeclaims")
    await there.until(
        lambda: ((cache.get("default", "data") or {}).get("status") or {}).get("phase") == "Bound"
    )


async def a_pod(there: World, name: str, node: str) -> None:
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]
    spec = {"nodeName": node, "volumes": volumes, "containers": [{"name": "c", "image": "i"}]}
    await there.until(lambda: there.informers.informer(resource("serviceaccounts")).list())
    await there.client.create(PODS, {"metadata": {"name": name}, "spec": spec}, "default")


async def nodes(there: World, *names: str) -> None:
    for name in names:
        ready = {"conditions": [{"type": "Ready", "status": "True"}]}
        await there.client.create(NODES, {"metadata": {"name": name}, "status": ready})


async def says(there: World, node: str, **status: Any) -> None:
    found = await there.client.get(NODES, node)
    await there.client.update(NODES, found | {"status": found["status"] | status}, "status")


async def attached(there: World, node: str) -> str:
    """An attacher does what it is asked."""
    name = csi_attachment("h", DRIVER, node)
    cache = there.cache("volumeattachments", "storage.k8s.io")
    await there.until(lambda: cache.get("", name))
    found = await there.client.get(ATTACHMENTS, name)
    await there.client.update(ATTACHMENTS, found | {"status": {"attached": True}}, "status")
    return name


async def test_attached_listed_and_detached_when_unmounted() -> None:
    async with world() as there:
        await nodes(there, "a")
        await a_volume(there, "ReadWriteOnce")
        await a_pod(there, "p", "a")
        cache = there.cache("nodes")
        name = await attached(there, "a")
        entry = {"name": UNIQUE, "devicePath": name}
        await there.until(lambda: cache.get("", "a")["status"].get("volumesAttached") == [entry])
        found = await there.client.get(ATTACHMENTS, name)
        assert found["spec"] == {
            "attacher": DRIVER, "nodeName": "a", "source": {"persistentVolumeName": "disk"},
        }  # fmt: skip
        await there.until(
            lambda: (
                "SuccessfulAttachVolume"
                in {item["reason"] for item in there.cache("events").list()}
            )
        )
        # The node has it mounted: it stays although the pod is gone.
        await says(there, "a", volumesInUse=[UNIQUE])
        await there.client.delete(PODS, "p", "default", {"gracePeriodSeconds": 0})
        await there.until(lambda: not there.cache("pods").list())
        await settle()
        assert there.cache("volumeattachments", "storage.k8s.io").get("", name)
        await says(there, "a", volumesInUse=[])
        await there.until(
            lambda: not there.cache("volumeattachments", "storage.k8s.io").get("", name)
        )
        assert not cache.get("", "a")["status"].get("volumesAttached")


async def test_an_exclusive_volume_is_not_attached_twice() -> None:
    async with world() as there:
        await nodes(there, "a", "b")
        await a_volume(there, "ReadWriteOnce")
        await a_pod(there, "p", "a")
        await attached(there, "a")
        await a_pod(there, "q", "b")
        text = 'Multi-Attach error for volume "disk" Volume is already used by pod(s) p'
        await there.until(
            lambda: text in {item["message"] for item in there.cache("events").list()}
        )
        assert len(there.cache("volumeattachments", "storage.k8s.io").list()) == 1
        # Another one on that node hears of it too.
        await there.client.delete(PODS, "q", "default", {"gracePeriodSeconds": 0})
        await there.until(lambda: len(there.cache("pods").list()) == 1)
        await a_pod(there, "q2", "b")
        await there.until(
            lambda: (
                {"q", "q2"}
                <= {
                    item["involvedObject"]["name"]
                    for item in there.cache("events").list()
                    if item["message"] == text
                }
            )
        )
        # The pod goes, and the node has it mounted still: then nobody is to blame.
        await says(there, "a", volumesInUse=[UNIQUE])
        await there.client.delete(PODS, "p", "default", {"gracePeriodSeconds": 0})
        await there.client.delete(PODS, "q2", "default", {"gracePeriodSeconds": 0})
        await there.until(lambda: not there.cache("pods").list())
        await nodes(there, "c")
        await a_pod(there, "r", "c")
        text = (
            'Multi-Attach error for volume "disk" Volume is already exclusively attached to one '
            "node and can't be attached to another"
        )
        await there.until(
            lambda: text in {item["message"] for item in there.cache("events").list()}
        )
        await says(there, "a", volumesInUse=[])
        await attached(there, "c")
        assert len(there.cache("volumeattachments", "storage.k8s.io").list()) == 1


async def test_drivers_that_attach_nothing_and_shared_volumes() -> None:
    async with world() as there:
        await nodes(there, "a", "b")
        await there.client.create(
            DRIVERS, {"metadata": {"name": DRIVER}, "spec": {"attachRequired": False}}
        )
        await a_volume(there, "ReadWriteMany")
        await a_pod(there, "p", "a")
        await a_pod(there, "q", "b")
        await settle()
        assert not there.cache("volumeattachments", "storage.k8s.io").list()
        await there.client.delete(DRIVERS, DRIVER)
        await attached(there, "a")
        await attached(there, "b")


def a_node(ready: str = "True", *in_use: str, **spec: Any) -> dict[str, Any]:
    status = {"conditions": [{"type": "Ready", "status": ready}], "volumesInUse": [*in_use]}
    return {"metadata": {"name": "a"}, "spec": spec, "status": status}


def test_when_a_volume_may_be_taken_away() -> None:
    assert detach_at(a_node(), UNIQUE, 5.0) == 5.0
    assert detach_at(a_node("True", UNIQUE), UNIQUE, 5.0) is None
    # A node that does not answer keeps it for six minutes; one that is out of service does not.
    assert detach_at(a_node("Unknown", UNIQUE), UNIQUE, 5.0) == 365.0
    taint = {"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}
    assert detach_at(a_node("Unknown", UNIQUE, taints=[taint]), UNIQUE, 5.0) == 5.0


def test_what_a_node_lists_is_written_once() -> None:
    node = a_node()
    entry = {"name": UNIQUE, "devicePath": "csi-1"}
    assert with_attached(node, UNIQUE, "csi-1") == [entry]
    node["status"]["volumesAttached"] = [entry]
    assert with_attached(node, UNIQUE, "csi-1") is None
    assert with_attached(node, UNIQUE, "") == []
    assert with_attached(a_node(), UNIQUE, "") is None
