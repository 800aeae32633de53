"""Claims find volumes, keep them, and let them go, as upstream's binder has it."""

from __future__ import annotations

import asyncio
from typing import Any

from sampan.api.errors import InternalError
from sampan.api.resources import resource
from sampan.testing.clock import VirtualClock
from tests.behaviour.workload_kit import NODES, PODS, World, world

CLAIMS = resource("persistentvolumeclaims")
VOLUMES = resource("persistentvolumes")
CLASSES = resource("storageclasses", "storage.k8s.io")
RWO = ["ReadWriteOnce"]


def claim(name: str, size: str = "1Gi", **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "spec": {
            "accessModes": RWO,
            "resources": {"requests": {"storage": size}},
            "storageClassName": "",
        }
        | spec,
    }


def volume(name: str, size: str = "1Gi", **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": {"name": name}},
        "spec": {"accessModes": RWO, "capacity": {"storage": size}, "hostPath": {"path": "/tmp/x"}}
        | spec,
    }


def pod(name: str, **source: Any) -> dict[str, Any]:
    volumes = [{"name": "v", **source}]
    return {
        "metadata": {"name": name},
        "spec": {"volumes": volumes, "containers": [{"name": "c", "image": "i"}]},
    }


async def phase(there: World, plural: str, name: str, wanted: str) -> Any:
    """Wait until the object is in the phase."""
    cache = there.cache(plural)
    namespace = "default" if plural == "persistentvolumeclaims" else ""

    def look() -> Any:
        found = cache.get(namespace, name)
        return found if found and found["status"].get("phase") == wanted else None

    return await there.until(look)


async def event(there: World, part: str) -> str:
    """Wait for an event that begins so."""
    cache = there.cache("events")

    def look() -> str:
        for item in cache.list("default"):
            text = f"{item['reason']}: {item['message']}"
            if text.startswith(part):
                return text
        return ""

    found: str = await there.until(look)
    return found


async def test_the_smallest_volume_that_satisfies() -> None:
    async with world() as there:
        await there.client.create(VOLUMES, volume("large", "10Gi"))
        await there.client.create(VOLUMES, volume("small", "500Mi"))
        await there.client.create(VOLUMES, volume("other", "2Gi", storageClassName="fast"))
        await there.client.create(VOLUMES, volume("shared", "2Gi", accessModes=["ReadWriteMany"]))
        for name in ("large", "small", "other", "shared"):
            await phase(there, "persistentvolumes", name, "Available")
        await there.client.create(VOLUMES, volume("fits", "3Gi"))
        await phase(there, "persistentvolumes", "fits", "Available")
        await there.client.create(CLAIMS, claim("data", "1Gi"), "default")
        bound = await phase(there, "persistentvolumeclaims", "data", "Bound")
        assert bound["spec"]["volumeName"] == "fits"
        assert bound["status"]["capacity"] == {"storage": "3Gi"}
        assert bound["status"]["accessModes"] == RWO
        assert bound["metadata"]["annotations"] == {
            "pv.kubernetes.io/bind-completed": "yes",
            "pv.kubernetes.io/bound-by-controller": "yes",
        }
        kept = await phase(there, "persistentvolumes", "fits", "Bound")
        assert kept["spec"]["claimRef"]["uid"] == bound["metadata"]["uid"]
        assert kept["metadata"]["annotations"] == {"pv.kubernetes.io/bound-by-controller": "yes"}


async def test_a_claim_waits_for_a_volume_its_selector_takes() -> None:
    async with world() as there:
        wish = claim("data", selector={"matchLabels": {"name": "right"}})
        await there.client.create(CLAIMS, wish, "default")
        await event(there, "FailedBinding: no persistent volumes available for this claim and no")
        await there.client.create(VOLUMES, volume("wrong"))
        await phase(there, "persistentvolumes", "wrong", "Available")
        await there.client.create(VOLUMES, volume("right"))
        bound = await phase(there, "persistentvolumeclaims", "data", "Bound")
        assert bound["spec"]["volumeName"] == "right"


async def test_named_by_the_volume_and_named_by_the_claim() -> None:
    async with world() as there:
        reference = {"namespace": "default", "name": "data"}
        await there.client.create(VOLUMES, volume("kept", "5Gi", claimRef=reference))
        await phase(there, "persistentvolumes", "kept", "Available")
        await there.client.create(VOLUMES, volume("better", "1Gi"))
        await there.client.create(CLAIMS, claim("data"), "default")
        bound = await phase(there, "persistentvolumeclaims", "data", "Bound")
        assert bound["spec"]["volumeName"] == "kept"
        await there.client.create(CLAIMS, claim("small", "8Gi", volumeName="better"), "default")
        await event(there, 'VolumeMismatch: Cannot bind to requested volume "better": requested PV')
        await there.client.create(CLAIMS, claim("thief", volumeName="kept"), "default")
        await event(there, 'FailedBinding: volume "kept" already bound to a different claim.')
        await there.client.create(CLAIMS, claim("named", volumeName="better"), "default")
        named = await phase(there, "persistentvolumeclaims", "named", "Bound")
        # The claim's own choice is not the controller's.
        assert "pv.kubernetes.io/bound-by-controller" not in named["metadata"]["annotations"]


async def test_released_and_lost() -> None:
    async with world() as there:
        await there.client.create(VOLUMES, volume("disk"))
        await there.client.create(CLAIMS, claim("data"), "default")
        await phase(there, "persistentvolumeclaims", "data", "Bound")
        await phase(there, "persistentvolumes", "disk", "Bound")
        await there.client.delete(CLAIMS, "data", "default")
        released = await phase(there, "persistentvolumes", "disk", "Released")
        # Nobody else gets what another has written, until an administrator says so.
        await there.client.create(CLAIMS, claim("data"), "default")
        await phase(there, "persistentvolumeclaims", "data", "Pending")
        spec = {key: item for key, item in released["spec"].items() if key != "claimRef"}
        await there.client.update(VOLUMES, {**released, "spec": spec})
        await phase(there, "persistentvolumeclaims", "data", "Bound")
        found = await phase(there, "persistentvolumes", "disk", "Bound")
        await there.client.delete(VOLUMES, "disk")
        meta = (await there.client.get(VOLUMES, "disk"))["metadata"]
        await there.client.update(VOLUMES, {**found, "metadata": {**meta, "finalizers": []}})
        await phase(there, "persistentvolumeclaims", "data", "Lost")
        await event(there, "ClaimLost: Bound claim has lost its PersistentVolume. Data on")


async def test_what_cannot_be_reclaimed_fails() -> None:
    async with world() as there:
        policy = {"persistentVolumeReclaimPolicy": "Delete"}
        await there.client.create(VOLUMES, volume("disk", **policy))
        await there.client.create(CLAIMS, claim("data"), "default")
        await phase(there, "persistentvolumes", "disk", "Bound")
        await there.client.delete(CLAIMS, "data", "default")
        failed = await phase(there, "persistentvolumes", "disk", "Failed")
        assert failed["status"]["message"].endswith("no deletable volume plugin matched")


async def test_classes_that_cannot_provision() -> None:
    async with world() as there:
        kind = {
            "metadata": {"name": "hand"},
            "provisioner": "kubernetes.io/no-provisioner",
            "volumeBindingMode": "WaitForFirstConsumer",
        }
        await there.client.create(CLASSES, kind)
        await there.client.create(CLASSES, {"metadata": {"name": "csi"}, "provisioner": "a.io/b"})
        await there.client.create(CLAIMS, claim("late", storageClassName="hand"), "default")
        await event(there, "WaitForFirstConsumer: waiting for first consumer to be created before")
        await there.client.create(CLAIMS, claim("lost", storageClassName="none"), "default")
        text = 'ProvisioningFailed: storageclass.storage.k8s.io "none" not found'
        assert await event(there, "ProvisioningFailed") == text
        await there.client.create(CLAIMS, claim("far", storageClassName="csi"), "default")
        await event(there, "ExternalProvisioning: Waiting for a volume to be created either by")
        asked = there.cache("persistentvolumeclaims").get("default", "far")
        key = "volume.kubernetes.io/storage-provisioner"
        assert asked
        assert asked["metadata"]["annotations"][key] == "a.io/b"
        # A class that is made later helps those that wait for it.
        await there.client.create(VOLUMES, volume("made", storageClassName="none"))
        await phase(there, "persistentvolumeclaims", "lost", "Bound")


async def test_a_default_class_that_comes_late() -> None:
    async with world() as there:
        classes = there.cache("storageclasses", "storage.k8s.io")
        standard = await there.until(lambda: classes.get("", "standard"))
        mark = {"storageclass.kubernetes.io/is-default-class": "false"}
        await there.client.update(
            CLASSES, {**standard, "metadata": {**standard["metadata"], "annotations": mark}}
        )
        body = claim("data")
        del body["spec"]["storageClassName"]
        made = await there.client.create(CLAIMS, body, "default")
        assert "storageClassName" not in made["spec"]
        await event(there, "FailedBinding")
        mark = {"storageclass.kubernetes.io/is-default-class": "true"}
        fresh = {"metadata": {"name": "late", "annotations": mark}, "provisioner": "a.io/b"}
        await there.client.create(CLASSES, fresh)
        cache = there.cache("persistentvolumeclaims")
        await there.until(
            lambda: cache.get("default", "data")["spec"].get("storageClassName") == "late"  # type: ignore[index]
        )


async def test_class_standard_gives_what_a_node_has_room_for_and_takes_it_away() -> None:
    calls: list[tuple[str, str, str]] = []

    async def node_call(node: str, method: str, path: str) -> tuple[int, str]:
        calls.append((node, method, path))
        return 200, '{"path": "/data' + path.partition("?")[0] + '"}'

    async with world(node_call=node_call) as there:
        await there.client.create(NODES, {"metadata": {"name": "n1"}})
        body = claim("data")
        del body["spec"]["storageClassName"]
        made = await there.client.create(CLAIMS, body, "default")
        assert made["spec"]["storageClassName"] == "standard"
        await event(there, "WaitForFirstConsumer")
        mark = {"volume.kubernetes.io/selected-node": "n1"}
        patch = {"metadata": {"annotations": mark}}
        await there.client.patch(CLAIMS, "data", patch, "default")
        bound = await phase(there, "persistentvolumeclaims", "data", "Bound")
        uid = made["metadata"]["uid"]
        assert bound["spec"]["volumeName"] == f"pvc-{uid}"
        assert calls == [("n1", "PUT", f"/volumes/pvc-{uid}?size={1 << 30}")]
        await event(there, f"ProvisioningSucceeded: Successfully provisioned volume pvc-{uid}")
        disk = await phase(there, "persistentvolumes", f"pvc-{uid}", "Bound")
        assert disk["spec"]["local"] == {"path": f"/data/volumes/pvc-{uid}"}
        term = disk["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"][0]
        assert term["matchExpressions"][0]["values"] == ["n1"]
        # It grows when it is asked to.
        more = {"spec": {"resources": {"requests": {"storage": "3Gi"}}}}
        await there.client.patch(CLAIMS, "data", more, "default")
        cache, volumes = there.cache("persistentvolumeclaims"), there.cache("persistentvolumes")
        await there.until(
            lambda: cache.get("default", "data")["status"]["capacity"] == {"storage": "3Gi"}  # type: ignore[index]
        )
        await event(there, "VolumeResizeSuccessful: Resize volume succeeded")
        # A volume deleted by hand stays while it is bound, and goes with its claim.
        await there.client.delete(VOLUMES, f"pvc-{uid}")
        await there.client.delete(CLAIMS, "data", "default")
        await there.until(lambda: volumes.get("", f"pvc-{uid}") is None)
        assert calls[1:] == [
            ("n1", "PUT", f"/volumes/pvc-{uid}?size={3 << 30}"),
            ("n1", "DELETE", f"/volumes/pvc-{uid}"),
        ]


async def test_a_claim_may_begin_with_what_another_holds() -> None:
    calls: list[tuple[str, str]] = []

    async def node_call(node: str, method: str, path: str) -> tuple[int, str]:
        calls.append((node, path))
        return 200, '{"path": "/x"}'

    async with world(node_call=node_call) as there:
        for name in ("n1", "n2"):
            await there.client.create(NODES, {"metadata": {"name": name}})

        async def create(name: str, node: str, **spec: Any) -> str:
            body = claim(name, storageClassName="standard", **spec)
            body["metadata"]["annotations"] = {"volume.kubernetes.io/selected-node": node}
            made = await there.client.create(CLAIMS, body, "default")
            return f"pvc-{made['metadata']['uid']}"

        first = await create("data", "n1")
        await phase(there, "persistentvolumeclaims", "data", "Bound")
        source = {"dataSource": {"kind": "PersistentVolumeClaim", "name": "data"}}
        copy = await create("copy", "n1", **source)
        await phase(there, "persistentvolumeclaims", "copy", "Bound")
        assert calls[1:] == [("n1", f"/volumes/{copy}?size={1 << 30}&from={first}")]
        # Data is where it is: a pod that was put elsewhere is to follow.
        far = await create("far", "n2", **source)
        await event(
            there,
            'ProvisioningFailed: failed to provision volume with StorageClass "standard": '
            "the data of claim data is on node n1",
        )
        bound = await phase(there, "persistentvolumeclaims", "far", "Bound")
        assert bound["metadata"]["annotations"]["volume.kubernetes.io/selected-node"] == "n1"
        assert calls[2:] == [("n1", f"/volumes/{far}?size={1 << 30}&from={first}")]


async def test_a_node_that_cannot_is_asked_again() -> None:
    answers = [(500, "No space left on device"), (200, '{"path": "/x"}')]

    async def node_call(node: str, method: str, path: str) -> tuple[int, str]:
        return answers.pop(0)

    async with world(node_call=node_call) as there:
        await there.client.create(NODES, {"metadata": {"name": "n1"}})
        body = claim("data", storageClassName="standard")
        body["metadata"]["annotations"] = {"volume.kubernetes.io/selected-node": "n1"}
        await there.client.create(CLAIMS, body, "default")
        await event(
            there,
            "ProvisioningFailed: failed to provision volume with StorageClass"
            ' "standard": No space left on device',
        )
        await phase(there, "persistentvolumeclaims", "data", "Bound")


async def test_a_node_that_was_away_is_asked_when_it_is_back() -> None:
    away = True
    tried = asyncio.Event()

    async def node_call(node: str, method: str, path: str) -> tuple[int, str]:
        if away:
            tried.set()
            raise InternalError("no route")
        return 200, '{"path": "/x"}'

    clock = VirtualClock(1.8e9)
    async with world(clock=clock, node_call=node_call) as there:
        await there.client.create(NODES, {"metadata": {"name": "n1"}})
        body = claim("data", storageClassName="standard")
        body["metadata"]["annotations"] = {"volume.kubernetes.io/selected-node": "n1"}
        await there.client.create(CLAIMS, body, "default")
        await tried.wait()
        away = False
        # Time stands still: no back-off ends.
        ready = {"type": "Ready", "status": "True"}
        patch = {"status": {"conditions": [ready]}}
        await there.client.patch(NODES, "n1", patch, subresource="status")
        await phase(there, "persistentvolumeclaims", "data", "Bound")


async def test_a_node_that_is_gone_takes_its_volumes_along() -> None:
    calls: list[str] = []

    async def node_call(node: str, method: str, path: str) -> tuple[int, str]:
        calls.append(method)
        return 200, '{"path": "/x"}'

    async with world(node_call=node_call) as there:
        await there.client.create(NODES, {"metadata": {"name": "n1"}})
        body = claim("data", storageClassName="standard")
        body["metadata"]["annotations"] = {"volume.kubernetes.io/selected-node": "n1"}
        await there.client.create(CLAIMS, body, "default")
        await phase(there, "persistentvolumeclaims", "data", "Bound")
        await there.client.delete(NODES, "n1")
        await there.client.delete(CLAIMS, "data", "default")
        volumes = there.cache("persistentvolumes")
        await there.until(lambda: not volumes.list())
        assert calls == ["PUT"]
        # A claim that was promised to it is to be promised to another.
        body["metadata"]["name"] = "late"
        await there.client.create(CLAIMS, body, "default")
        cache = there.cache("persistentvolumeclaims")
        key = "volume.kubernetes.io/selected-node"
        await there.until(
            lambda: (
                (found := cache.get("default", "late"))
                and "volume.kubernetes.io/storage-provisioner" in found["metadata"]["annotations"]
                and key not in found["metadata"]["annotations"]
            )
        )


async def test_a_claim_for_a_pods_own_volume() -> None:
    async with world() as there:
        template = {"metadata": {"labels": {"a": "b"}}, "spec": claim("x")["spec"]}
        own = {"ephemeral": {"volumeClaimTemplate": template}}
        await there.until(there.cache("serviceaccounts").list)
        await there.client.create(CLAIMS, claim("q-v"), "default")
        made = await there.client.create(PODS, pod("p", **own), "default")
        claims = there.cache("persistentvolumeclaims")
        mine = await there.until(lambda: claims.get("default", "p-v"))
        owner = mine["metadata"]["ownerReferences"][0]
        assert (owner["kind"], owner["uid"]) == ("Pod", made["metadata"]["uid"])
        assert (owner["controller"], owner["blockOwnerDeletion"]) == (True, True)
        assert mine["metadata"]["labels"] == {"a": "b"}
        await there.client.create(PODS, pod("q", **own), "default")
        await event(
            there,
            "FailedBinding: ephemeral volume v: PVC default/q-v was not created for pod "
            "default/q (pod is not owner)",
        )
        await there.client.delete(PODS, "p", "default")
        await there.until(lambda: claims.get("default", "p-v") is None)


async def test_who_populates_a_claim_is_left_to_it() -> None:
    """No volume is made for it, and nothing is said: a populator gives it one (KEP-1495)."""
    calls: list[str] = []

    async def node_call(node: str, method: str, path: str) -> tuple[int, str]:
        calls.append(path)
        return 200, '{"path": "/x"}'

    async with world(node_call=node_call) as there:
        await there.client.create(NODES, {"metadata": {"name": "n1"}})
        marks = {"annotations": {"volume.kubernetes.io/selected-node": "n1"}}
        source = {"apiGroup": "example.com", "kind": "Bucket", "name": "b"}
        for name, spec in (("filled", {"dataSourceRef": source}), ("plain", {})):
            body = claim(name, storageClassName="standard", **spec)
            body["metadata"] |= marks
            await there.client.create(CLAIMS, body, "default")
        await phase(there, "persistentvolumeclaims", "plain", "Bound")
        assert len(calls) == 1
        assert "ProvisioningFailed" not in str(await there.events())
