"""Pods and what is configured beside them, at the API (as upstream's test/e2e/node and
test/e2e/common/node); what containers do is proven in tests/system/test_pods.py."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from .bench import (
    CORE,
    JSON_PATCH,
    MAPS,
    NS,
    PODS,
    STRATEGIC,
    Bench,
    Obj,
    config,
    die,
    discovered,
    live_through,
    pod,
)

SECRETS = f"{NS}/secrets"
TEMPLATES = f"{NS}/podtemplates"
CLASSES = "/apis/node.k8s.io/v1/runtimeclasses"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
DEVICES = "/apis/resource.k8s.io/v1"
ANYWHERE = f"{CORE}/configmaps?labelSelector=test-configmap-static%3Dtrue"


def running(obj: Obj) -> bool:
    return (obj.get("status") or {}).get("phase") == "Running"


# Configuration


async def test_config_maps_live_through_their_verbs(bench: Bench) -> None:
    labels = {"test-configmap-static": "true"}
    await bench.create(MAPS, config("c", labels, valueName="value"))
    change = {"metadata": {"labels": {"test-configmap": "patched"}}, "data": {"valueName": "v1"}}
    await bench.patch(f"{MAPS}/c", change, STRATEGIC)
    found = await bench.get(f"{MAPS}/c")
    assert (found["data"]["valueName"], found["metadata"]["labels"]["test-configmap"]) == (
        "v1", "patched",
    )  # fmt: skip
    (listed,) = (await bench.get(ANYWHERE))["items"]
    assert listed["data"] == {"valueName": "v1"}
    async with bench.watching(ANYWHERE) as seen:
        await bench.delete(f"{MAPS}?labelSelector=test-configmap-static%3Dtrue")
        await seen.until(lambda events: "DELETED" in [item["type"] for item in events])
    assert await bench.names(ANYWHERE) == []


async def test_a_config_map_is_updated(bench: Bench) -> None:
    made = await bench.create(MAPS, config("c", {"a": "b"}, key="value"))
    made["data"] = {"key": "other"}
    await bench.put(f"{MAPS}/c", made)
    assert (await bench.get(f"{MAPS}/c"))["data"] == {"key": "other"}


@pytest.mark.parametrize("path", [MAPS, SECRETS])
async def test_a_key_is_not_empty(bench: Bench, path: str) -> None:
    answer = await bench.refused(
        422, "POST", path, {"metadata": {"name": "c"}, "data": {"": "dGc="}}
    )
    assert "Invalid value" in answer.json["message"]


async def test_a_secret_is_patched(bench: Bench) -> None:
    made = {"metadata": {"name": "s", "labels": {"testsecret-constant": "true"}},
            "data": {"key": "dmFsdWU="}}  # fmt: skip
    await bench.create(SECRETS, made)
    everywhere = f"{CORE}/secrets?labelSelector=testsecret-constant%3Dtrue"
    assert await bench.names(everywhere) == ["s"]
    change = {"metadata": {"labels": {"testsecret": "true"}}, "data": {"key": "dmFsdWUx"}}
    await bench.patch(f"{SECRETS}/s", change, STRATEGIC)
    chosen = f"{CORE}/secrets?labelSelector=testsecret-constant%3Dtrue,testsecret%3Dtrue"
    (found,) = (await bench.get(chosen))["items"]
    assert found["data"] == {"key": "dmFsdWUx"}
    await bench.delete(f"{SECRETS}?labelSelector=testsecret%3Dtrue")
    assert await bench.names(everywhere) == []


async def test_leases(bench: Bench) -> None:
    spec = {"holderIdentity": "holder", "leaseDurationSeconds": 30, "leaseTransitions": 0,
            "acquireTime": "2026-01-01T00:00:00.000000Z",
            "renewTime": "2026-01-01T00:00:05.000000Z"}  # fmt: skip
    made = await bench.create(LEASES, {"metadata": {"name": "lease"}, "spec": spec})
    assert (await bench.get(f"{LEASES}/lease"))["spec"] == spec
    made["spec"] = {**spec, "holderIdentity": "holder2", "leaseTransitions": 1}
    await bench.put(f"{LEASES}/lease", made)
    assert (await bench.get(f"{LEASES}/lease"))["spec"] == made["spec"]
    change = {"spec": {"leaseTransitions": 2, "leaseDurationSeconds": 60}}
    await bench.patch(f"{LEASES}/lease", change)
    assert (await bench.get(f"{LEASES}/lease"))["spec"] == {**made["spec"], **change["spec"]}
    label = {"name": "lease2", "labels": {"deletecollection": "true"}}
    await bench.create(LEASES, {"metadata": label, "spec": spec})
    assert await bench.names(LEASES) == ["lease", "lease2"]
    await bench.delete(f"{LEASES}?labelSelector=deletecollection%3Dtrue")
    assert await bench.names(LEASES) == ["lease"]
    await bench.delete(f"{LEASES}/lease")
    await bench.expect(404, "GET", f"{LEASES}/lease")


async def test_a_node_lives_through_its_verbs(bench: Bench) -> None:
    nodes = f"{CORE}/nodes"
    body = {"metadata": {"name": "e2e-fake-node"}, "status": {"phase": "Pending"}}
    await bench.create(nodes, body)
    assert (await bench.get(f"{nodes}/e2e-fake-node"))["metadata"]["name"] == "e2e-fake-node"
    change = {"metadata": {"labels": {"e2e-fake-node": "patched"}}}
    found = await bench.patch(f"{nodes}/e2e-fake-node", change, STRATEGIC)
    chosen = f"{nodes}?labelSelector=e2e-fake-node%3Dpatched"
    assert await bench.names(chosen) == ["e2e-fake-node"]
    found = await bench.get(f"{nodes}/e2e-fake-node")
    found["metadata"]["labels"]["e2e-fake-node"] = "updated"
    updated = await bench.put(f"{nodes}/e2e-fake-node", found)
    assert updated["metadata"]["labels"]["e2e-fake-node"] == "updated"
    await bench.delete(f"{nodes}/e2e-fake-node")
    await bench.expect(404, "GET", f"{nodes}/e2e-fake-node")


def pod_template(name: str, **labels: str) -> Obj:
    spec = {"containers": [{"name": "nginx", "image": "nginx:1"}]}
    return {"metadata": {"name": name, "labels": labels}, "template": {"spec": spec}}


async def test_pod_templates(bench: Bench) -> None:
    await bench.create(TEMPLATES, pod_template("t", static="true"))
    change = {"metadata": {"labels": {"podtemplate": "patched"}}}
    await bench.patch(f"{TEMPLATES}/t", change)
    found = await bench.get(f"{TEMPLATES}/t")
    assert found["metadata"]["labels"] == {"static": "true", "podtemplate": "patched"}
    assert await bench.names(f"{CORE}/podtemplates?labelSelector=static%3Dtrue") == ["t"]
    found["metadata"]["annotations"] = {"updated": "true"}
    await bench.put(f"{TEMPLATES}/t", found)
    assert (await bench.get(f"{TEMPLATES}/t"))["metadata"]["annotations"] == {"updated": "true"}
    await bench.delete(f"{TEMPLATES}/t")
    assert await bench.names(TEMPLATES) == []


async def test_pod_templates_are_deleted_as_a_collection(bench: Bench) -> None:
    for number in range(3):
        await bench.create(TEMPLATES, pod_template(f"t{number}", of="set"))
    chosen = f"{TEMPLATES}?labelSelector=of%3Dset"
    assert len(await bench.names(chosen)) == 3
    await bench.delete(chosen)
    assert await bench.names(chosen) == []


# Pods


async def test_pods_are_deleted_as_a_collection(bench: Bench) -> None:
    for number in range(3):
        await bench.create(PODS, pod(f"p{number}", {"type": "Testing"}))
    chosen = f"{PODS}?labelSelector=type%3DTesting"
    assert len(await bench.names(chosen)) == 3
    await bench.delete(chosen)
    await bench.listed(chosen, lambda items: not items)


async def test_a_pods_status_is_patched(bench: Bench) -> None:
    await bench.create(PODS, pod("p"))
    await bench.state(f"{PODS}/p", running)
    change = {"status": {"message": "Patched by e2e test", "reason": "E2E"}}
    found = await bench.patch(f"{PODS}/p/status", change, STRATEGIC)
    assert (found["status"]["message"], found["status"]["reason"]) == ("Patched by e2e test", "E2E")


async def test_a_pod_and_its_status_live_through_their_verbs(bench: Bench) -> None:
    await bench.create(PODS, pod("p", {"test-pod-static": "true"}))
    chosen = f"{PODS}?labelSelector=test-pod-static%3Dtrue"
    async with bench.watching(chosen) as seen:
        await bench.state(f"{PODS}/p", running)
        change = {"metadata": {"labels": {"test-pod": "patched"}},
                  "spec": {"containers": [{"name": "c", "image": "web:2"}]}}  # fmt: skip
        found = await bench.patch(f"{PODS}/p", change, STRATEGIC)
        assert found["metadata"]["labels"]["test-pod"] == "patched"
        assert found["spec"]["containers"][0]["image"] == "web:2"
        found = await bench.get(f"{PODS}/p/status")
        for condition in found["status"]["conditions"]:
            condition["status"] = "False" if condition["type"] == "Ready" else condition["status"]
        await bench.put(f"{PODS}/p/status", found)
        await bench.delete(f"{chosen}&gracePeriodSeconds=1")
        await seen.until(lambda events: "DELETED" in [item["type"] for item in events])
    assert {"MODIFIED", "DELETED"} <= set(seen.types)


async def test_quality_of_service_is_told(bench: Bench) -> None:
    amounts = {"cpu": "100m", "memory": "100Mi"}
    await bench.create(PODS, pod("p", resources={"requests": amounts, "limits": amounts}))
    assert (await bench.get(f"{PODS}/p"))["status"]["qosClass"] == "Guaranteed"


async def test_generations_count_changes_of_the_spec(bench: Bench) -> None:
    made = await bench.create(PODS, pod("p"))
    assert made["metadata"]["generation"] == 1
    await bench.state(f"{PODS}/p", lambda it: it["status"].get("observedGeneration") == 1)
    changes: list[tuple[Any, int]] = [
        ([{"op": "replace", "path": "/spec/containers/0/image", "value": "web:2"}], 2),
        ([{"op": "add", "path": "/metadata/labels/later", "value": "yes"}], 2),
        ([{"op": "add", "path": "/spec/activeDeadlineSeconds", "value": 5000}], 3),
    ]
    for change, generation in changes:
        found = await bench.patch(f"{PODS}/p", change, JSON_PATCH)
        assert found["metadata"]["generation"] == generation
    await bench.state(f"{PODS}/p", lambda it: it["status"].get("observedGeneration") == 3)


async def test_generations_converge_after_many_changes(bench: Bench) -> None:
    await bench.create(PODS, pod("p"))
    for number in range(500):
        change = {"spec": {"activeDeadlineSeconds": 5000 - number}}
        await bench.patch(f"{PODS}/p", change)
    assert (await bench.get(f"{PODS}/p"))["metadata"]["generation"] == 501
    await bench.state(f"{PODS}/p", lambda it: it["status"].get("observedGeneration") == 501)


async def test_a_generation_of_ones_own_counts_for_nothing(bench: Bench) -> None:
    body = pod("p")
    body["metadata"] |= {"generation": 100, "finalizers": ["example.com/keep"]}
    made = await bench.create(PODS, body)
    assert made["metadata"]["generation"] == 1
    await bench.delete(f"{PODS}/p", gracePeriodSeconds=30)
    # That it is to be deleted is a change of what is wanted.
    assert (await bench.get(f"{PODS}/p"))["metadata"]["generation"] == 2
    release = [{"op": "remove", "path": "/metadata/finalizers"}]
    await bench.patch(f"{PODS}/p", release, JSON_PATCH)
    await bench.gone(f"{PODS}/p")


# Runtime classes


def runtime_class(name: str, **more: Any) -> Obj:
    return {"metadata": {"name": name}, "handler": "crun", **more}


def of_class(name: str) -> Obj:
    body = pod("p")
    body["spec"]["runtimeClassName"] = name
    return body


async def test_a_missing_runtime_class_is_refused(bench: Bench) -> None:
    answer = await bench.refused(403, "POST", PODS, of_class("absent"))
    assert 'RuntimeClass "absent" not found' in answer.json["message"]
    await bench.create(CLASSES, runtime_class("brief"))
    await bench.delete(f"{CLASSES}/brief")
    answer = await bench.refused(403, "POST", PODS, of_class("brief"))
    assert 'RuntimeClass "brief" not found' in answer.json["message"]


@pytest.mark.parametrize("overhead", [None, {"cpu": "10m", "memory": "1Mi"}])
async def test_a_pod_of_a_runtime_class_is_scheduled(bench: Bench, overhead: Obj | None) -> None:
    more = {"overhead": {"podFixed": overhead}} if overhead else {}
    await bench.create(CLASSES, runtime_class("r", **more))
    made = await bench.create(PODS, of_class("r"))
    assert made["spec"].get("overhead") == overhead
    await bench.state(f"{PODS}/p", lambda it: it["spec"].get("nodeName"))


async def test_runtime_classes_live_through_their_verbs(bench: Bench) -> None:
    await discovered(bench, "node.k8s.io", "v1", "runtimeclasses")
    await die(bench, CLASSES, await live_through(bench, CLASSES, {"handler": "crun"}, {}, {}))


# Devices


DEVICE_KINDS: dict[str, Obj] = {
    "deviceclasses": {"spec": {}},
    "namespaces/default/resourceclaims": {"spec": {}},
    "namespaces/default/resourceclaimtemplates": {"spec": {"spec": {}}},
    "resourceslices": {
        "spec": {
            "driver": "dra.example.com", "nodeName": "n",
            "pool": {"name": "n", "generation": 1, "resourceSliceCount": 1},
        }
    },
}  # fmt: skip


@pytest.mark.parametrize("where", DEVICE_KINDS)
async def test_devices_live_through_their_verbs(bench: Bench, where: str) -> None:
    await discovered(bench, "resource.k8s.io", "v1", where.rpartition("/")[2])
    path = f"{DEVICES}/{where}"
    await die(bench, path, await live_through(bench, path, DEVICE_KINDS[where], {}, {}))


# Taints that evict


TAINT = {"key": "kubernetes.io/e2e-evict-taint-key", "value": "evictTaintVal",
         "effect": "NoExecute"}  # fmt: skip


def tolerant(name: str, seconds: int) -> Obj:
    body = pod(name)
    known = {"key": TAINT["key"], "operator": "Equal", "value": TAINT["value"]}
    body["spec"]["tolerations"] = [{**known, "effect": "NoExecute", "tolerationSeconds": seconds}]
    return body


async def test_pods_leave_a_tainted_node_when_their_time_is_up(bench: Bench) -> None:
    for name, seconds in (("short", 1), ("long", 600)):
        await bench.create(PODS, tolerant(name, seconds))
        await bench.state(f"{PODS}/{name}", running)
    await taint(bench, [TAINT])
    await bench.gone(f"{PODS}/short")
    assert await bench.names(PODS) == ["long"]


async def test_a_taint_that_is_taken_away_evicts_nobody(bench: Bench) -> None:
    await bench.create(PODS, tolerant("p", 1))
    await bench.state(f"{PODS}/p", running)
    await taint(bench, [TAINT])
    await taint(bench, [])
    await asyncio.sleep(1.2)
    found = await bench.get(f"{PODS}/p")
    assert "deletionTimestamp" not in found["metadata"]


async def taint(bench: Bench, taints: list[Obj]) -> None:
    for name in await bench.names(f"{CORE}/nodes"):
        await bench.patch(f"{CORE}/nodes/{name}", {"spec": {"taints": taints}})
