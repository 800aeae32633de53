"""Kinds of storage, and volumes' sources that never change (as upstream's test/e2e/storage and the
API parts of test/e2e/common/storage)."""

from __future__ import annotations

from typing import Any

import pytest

from .bench import CORE, MAPS, NS, PODS, Bench, Obj, config, die, discovered, live_through, pod

STORAGE = "/apis/storage.k8s.io/v1"
VOLUMES = f"{CORE}/persistentvolumes"
CLAIMS = f"{NS}/persistentvolumeclaims"
ATTACHMENTS = f"{STORAGE}/volumeattachments"
SIZE = {"storage": "1Gi"}
DRIVER = "e2e-fake-csi-driver.example.com"
LABEL = {"metadata": {"labels": {"later": "yes"}}}


def volume(**metadata: Any) -> Obj:
    spec = {"capacity": SIZE, "accessModes": ["ReadWriteOnce"], "storageClassName": "none",
            "csi": {"driver": DRIVER, "volumeHandle": "h"}}  # fmt: skip
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": spec}


def claim(**metadata: Any) -> Obj:
    spec = {"accessModes": ["ReadWriteOnce"], "storageClassName": "none",
            "resources": {"requests": SIZE}}  # fmt: skip
    kind = "PersistentVolumeClaim"
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, "spec": spec}


def attachment(**metadata: Any) -> Obj:
    spec = {"attacher": DRIVER, "nodeName": "n1", "source": {"persistentVolumeName": "v"}}
    return {"kind": "VolumeAttachment", "metadata": metadata, "spec": spec}


KINDS: dict[str, Obj] = {
    "csidrivers": {"spec": {"attachRequired": False}},
    "csinodes": {"spec": {"drivers": []}},
    "storageclasses": {"provisioner": "e2e-fake-provisioner", "reclaimPolicy": "Delete"},
    "volumeattachments": attachment(),
    "volumeattributesclasses": {"driverName": DRIVER, "parameters": {"foo": "bar"}},
}


async def lives(bench: Bench, plural: str) -> None:
    await discovered(bench, "storage.k8s.io", "v1", plural)
    path = f"{STORAGE}/{plural}"
    await die(bench, path, await live_through(bench, path, KINDS[plural], {}, {}))


async def test_csi_drivers(bench: Bench) -> None:
    await lives(bench, "csidrivers")


async def test_csi_nodes(bench: Bench) -> None:
    await lives(bench, "csinodes")


async def test_storage_classes(bench: Bench) -> None:
    await lives(bench, "storageclasses")


async def test_volume_attachments(bench: Bench) -> None:
    await lives(bench, "volumeattachments")


async def test_volume_attributes_classes(bench: Bench) -> None:
    plural = "volumeattributesclasses"
    await discovered(bench, "storage.k8s.io", "v1", plural)
    path = f"{STORAGE}/{plural}"
    name = await live_through(bench, path, KINDS[plural], {}, {})
    # They are protected while they are used, and go when a controller has seen that they are not.
    await bench.delete(f"{path}/{name}")
    await bench.gone(f"{path}/{name}")
    assert len(await bench.names(path)) == 2
    await bench.delete(f"{path}?labelSelector={plural}%3Dconformance")
    await bench.listed(path, lambda items: not items)


async def test_capacities(bench: Bench) -> None:
    await discovered(bench, "storage.k8s.io", "v1", "csistoragecapacities")
    path = f"{STORAGE}/namespaces/default/csistoragecapacities"
    name = await live_through(bench, path, {"storageClassName": "c"}, {}, {})
    assert name in await bench.names(f"{STORAGE}/csistoragecapacities")
    await die(bench, path, name)


async def test_inline_volumes_of_pods(bench: Bench) -> None:
    source = {"driver": DRIVER, "volumeAttributes": {"a": "b"}}
    body = pod("inline", {"csi": "yes"})
    body["spec"]["volumes"] = [{"name": "v", "csi": source}]
    made = await bench.create(PODS, body)
    read = await bench.get(f"{PODS}/inline")
    kept = [item for item in read["spec"]["volumes"] if item["name"] == "v"]
    assert kept == [{"name": "v", "csi": source}]
    assert made["metadata"]["uid"] == read["metadata"]["uid"]
    assert await bench.names(f"{PODS}?labelSelector=csi%3Dyes") == ["inline"]
    patched = await bench.patch(f"{PODS}/inline", LABEL)
    assert patched["metadata"]["labels"]["later"] == "yes"
    await bench.delete(f"{PODS}/inline", gracePeriodSeconds=0)
    await bench.gone(f"{PODS}/inline")


async def test_the_status_of_an_attachment(bench: Bench) -> None:
    await bench.create(ATTACHMENTS, attachment(name="a"))
    path = f"{ATTACHMENTS}/a"
    patched = await bench.patch(path, LABEL)
    assert patched["metadata"]["labels"] == {"later": "yes"}
    read = await bench.get(f"{path}/status")
    assert read["status"] == {"attached": False}
    told = await bench.patch(f"{path}/status", {"status": {"attached": True}})
    assert told["status"]["attached"] is True
    back = await bench.put(f"{path}/status", {**told, "status": {"attached": False}})
    assert back["status"]["attached"] is False
    await bench.delete(path)
    await bench.expect(404, "GET", path)


async def test_volumes_and_claims(bench: Bench) -> None:
    label = {"labels": {"e2e": "yes"}}
    for path, make in ((VOLUMES, volume), (CLAIMS, claim)):
        chosen = f"{path}?labelSelector=e2e%3Dyes"
        made = await bench.create(path, make(name="one", **label))
        assert await bench.names(chosen) == ["one"]
        patched = await bench.patch(f"{path}/one", LABEL)
        assert patched["metadata"]["labels"]["later"] == "yes"
        read = await bench.get(f"{path}/one")
        assert read["metadata"]["uid"] == made["metadata"]["uid"]
    for path, make in ((CLAIMS, claim), (VOLUMES, volume)):
        chosen = f"{path}?labelSelector=e2e%3Dyes"
        await bench.delete(f"{path}/one")
        await bench.gone(f"{path}/one")
        await bench.create(path, make(name="two", **label))
        while True:
            read = await bench.get(f"{path}/two")
            read["metadata"]["labels"]["later"] = "again"
            answer = await bench.http("PUT", f"{path}/two", read)
            if answer.status != 409:
                break
        assert answer.json["metadata"]["labels"]["later"] == "again"
    for path in (CLAIMS, VOLUMES):
        await bench.delete(f"{path}?labelSelector=later%3Dagain")
        await bench.gone(f"{path}/two")


async def test_the_status_of_volumes_and_claims(bench: Bench) -> None:
    await bench.create(CLAIMS, claim(name="c"))
    await bench.state(f"{CLAIMS}/c", lambda obj: obj["status"].get("phase") == "Pending")
    await bench.create(VOLUMES, volume(name="v", labels={"e2e": "yes"}))
    for path in (f"{VOLUMES}/v", f"{CLAIMS}/c"):
        await bench.state(path, lambda obj: obj["status"].get("phase") == "Bound")
        assert (await bench.get(f"{path}/status"))["status"]["phase"] == "Bound"
    entry = {"type": "StatusPatched", "status": "True", "reason": "E2E", "message": "m"}
    told = await bench.patch(f"{CLAIMS}/c/status", {"status": {"conditions": [entry]}})
    assert told["status"]["conditions"][0]["reason"] == "E2E"
    told["status"]["conditions"][0]["type"] = "StatusUpdated"
    told = await bench.put(f"{CLAIMS}/c/status", told)
    assert told["status"]["conditions"][0]["type"] == "StatusUpdated"
    told = await bench.patch(f"{VOLUMES}/v/status", {"status": {"reason": "E2E", "message": "m"}})
    assert (told["status"]["reason"], told["status"]["message"]) == ("E2E", "m")
    told["status"]["message"] = "again"
    assert (await bench.put(f"{VOLUMES}/v/status", told))["status"]["message"] == "again"


def secret(name: str) -> Obj:
    return {"kind": "Secret", "metadata": {"name": name}, "stringData": {"data-1": "value-1"}}


@pytest.mark.parametrize("kind", ["configmap", "secret"])
async def test_what_is_immutable_stays(bench: Bench, kind: str) -> None:
    maps = kind == "configmap"
    path = MAPS if maps else f"{NS}/secrets"
    body = config("kept", **{"data-1": "value-1"}) if maps else secret("kept")
    field, other = ("data", "value-2") if maps else ("stringData", "value-2")
    await bench.create(path, body)
    where = f"{path}/kept"
    await bench.patch(where, {field: {"data-1": other}})
    await bench.patch(where, {"immutable": True})
    answer = await bench.refused(422, "PATCH", where, {field: {"data-1": "value-3"}},
                                 content_type="application/merge-patch+json")  # fmt: skip
    assert "field is immutable when `immutable` is set" in answer.json["message"]
    await bench.refused(422, "PATCH", where, {"immutable": False},
                        content_type="application/merge-patch+json")  # fmt: skip
    assert (await bench.patch(where, LABEL))["metadata"]["labels"] == {"later": "yes"}
    await bench.delete(where)
    await bench.expect(404, "GET", where)
