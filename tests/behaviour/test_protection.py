"""Claims and volumes stay while they are in use."""

from __future__ import annotations

from typing import Any

from sampan.api.resources import resource
from tests.behaviour.workload_kit import world

CLAIMS = resource("persistentvolumeclaims")
VOLUMES = resource("persistentvolumes")
PODS = resource("pods")
SIZE = {"storage": "1Gi"}


def claim(name: str = "data") -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": SIZE}},
    }


def pod(name: str, of: str) -> dict[str, Any]:
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": of}}]
    containers = [{"name": "c", "image": "i"}]
    return {"metadata": {"name": name}, "spec": {"volumes": volumes, "containers": containers}}


async def test_a_claim_in_use_goes_with_its_last_pod() -> None:
    async with world() as there:
        claims, pods = there.cache("persistentvolumeclaims"), there.cache("pods")
        made = await there.client.create(CLAIMS, claim(), "default")
        assert made["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]
        await there.until(lambda: there.informers.informer(resource("serviceaccounts")).list())
        await there.client.create(PODS, pod("p", "data"), "default")
        await there.until(
            lambda: (pods.get("default", "p") or {"spec": {}})["spec"].get("nodeName")
        )
        await there.client.create(CLAIMS, claim("free"), "default")
        await there.client.delete(CLAIMS, "data", "default")
        await there.client.delete(CLAIMS, "free", "default")
        await there.until(lambda: not claims.get("default", "free"))
        kept = await there.client.get(CLAIMS, "data", "default")
        assert kept["metadata"]["deletionTimestamp"]
        await there.client.delete(PODS, "p", "default")
        await there.until(lambda: not claims.get("default", "data"))


async def test_a_volume_goes_when_it_is_not_bound() -> None:
    async with world() as there:
        volumes = there.cache("persistentvolumes")
        body = {
            "metadata": {"name": "disk"},
            "spec": {"accessModes": ["ReadWriteOnce"], "capacity": SIZE,
                     "hostPath": {"path": "/tmp"}},
        }  # fmt: skip
        made = await there.client.create(VOLUMES, body)
        assert made["metadata"]["finalizers"] == ["kubernetes.io/pv-protection"]
        made["status"] = {"phase": "Bound"}
        await there.client.update(VOLUMES, made, "status")
        await there.client.delete(VOLUMES, "disk")
        held = await there.until(
            lambda: (
                (found := volumes.get("", "disk"))
                and found["metadata"].get("deletionTimestamp")
                and found
            )
        )
        # Without a version: the binder writes to it too.
        meta = {**held["metadata"], "resourceVersion": ""}
        released = {**held, "metadata": meta, "status": {"phase": "Released"}}
        await there.client.update(VOLUMES, released, "status")
        await there.until(lambda: not volumes.get("", "disk"))


async def test_an_attributes_class_goes_when_no_claim_or_volume_names_it() -> None:
    kind = resource("volumeattributesclasses", "storage.k8s.io")
    async with world() as there:
        classes = there.cache("volumeattributesclasses", "storage.k8s.io")
        for name in ("free", "used"):
            body = {"metadata": {"name": name}, "driverName": "d", "parameters": {"iops": "1"}}
            made = await there.client.create(kind, body)
            assert made["metadata"]["finalizers"] == ["kubernetes.io/vac-protection"]
        wanted = claim()
        wanted["spec"]["volumeAttributesClassName"] = "used"
        await there.client.create(CLAIMS, wanted, "default")
        for name in ("used", "free"):
            await there.client.delete(kind, name)
        await there.until(lambda: not classes.get("", "free"))
        assert (await there.client.get(kind, "used"))["metadata"]["deletionTimestamp"]
        await there.client.delete(CLAIMS, "data", "default")
        await there.until(lambda: not classes.get("", "used"))
