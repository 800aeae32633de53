"""Namespaces (as upstream's test/e2e/apimachinery/namespace.go)."""

from __future__ import annotations

from .bench import CORE, JSON_PATCH, Bench, Obj, config, pod

NAMESPACES = f"{CORE}/namespaces"
HERE = f"{NAMESPACES}/nsdeletetest"
BODY = {"metadata": {"name": "nsdeletetest"}}


async def begun(bench: Bench) -> None:
    """A namespace whose default service account is there."""
    await bench.create(NAMESPACES, BODY)
    await bench.state(f"{HERE}/serviceaccounts/default", lambda obj: True)


def running(obj: Obj) -> bool:
    return bool(obj["status"].get("phase") == "Running")


async def ended(bench: Bench) -> None:
    """Delete it, wait until it is gone, and make it anew."""
    await bench.delete(HERE)
    await bench.gone(HERE)
    await bench.create(NAMESPACES, BODY)


async def test_pods_go_with_their_namespace(bench: Bench) -> None:
    await begun(bench)
    await bench.create(f"{HERE}/pods", pod("test-pod"))
    await bench.state(f"{HERE}/pods/test-pod", running)
    await ended(bench)
    assert await bench.names(f"{HERE}/pods") == []


async def test_services_go_with_their_namespace(bench: Bench) -> None:
    await begun(bench)
    service = {"metadata": {"name": "test-service"}, "spec": {"ports": [{"port": 80}]}}
    await bench.create(f"{HERE}/services", service)
    await ended(bench)
    assert await bench.names(f"{HERE}/services") == []


async def test_pods_go_before_everything_else(bench: Bench) -> None:
    await begun(bench)
    held = pod("pod-with-finalizer")
    held["metadata"]["finalizers"] = ["e2e.example.com/finalizer"]
    await bench.create(f"{HERE}/pods", held)
    await bench.create(f"{HERE}/configmaps", config("test-configmap"))
    await bench.delete(HERE)
    await bench.state(
        f"{HERE}/pods/pod-with-finalizer", lambda obj: obj["metadata"].get("deletionTimestamp")
    )
    await bench.cluster.settle()
    assert (await bench.get(HERE))["status"]["phase"] == "Terminating"
    left = await bench.get(f"{HERE}/configmaps/test-configmap")
    assert "deletionTimestamp" not in left["metadata"]
    free = [{"op": "remove", "path": "/metadata/finalizers"}]
    await bench.patch(f"{HERE}/pods/pod-with-finalizer", free, JSON_PATCH)
    await bench.gone(HERE)
    await bench.expect(404, "GET", f"{HERE}/configmaps/test-configmap")


async def test_a_patch(bench: Bench) -> None:
    await bench.create(NAMESPACES, BODY)
    patch = {"metadata": {"labels": {"testLabel": "testValue"}}}
    await bench.patch(HERE, patch, "application/strategic-merge-patch+json")
    assert (await bench.get(HERE))["metadata"]["labels"]["testLabel"] == "testValue"


async def test_an_update(bench: Bench) -> None:
    made = await bench.create(NAMESPACES, BODY)
    made["metadata"]["labels"]["nsdeletetest"] = "updated"
    updated = await bench.put(HERE, made)
    assert updated["metadata"]["labels"]["nsdeletetest"] == "updated"


async def test_its_status(bench: Bench) -> None:
    await bench.create(NAMESPACES, BODY)
    assert (await bench.get(f"{HERE}/status"))["status"] == {"phase": "Active"}
    condition = {"type": "StatusPatch", "status": "True", "reason": "E2E", "message": "Set"}
    patch = {"metadata": {"annotations": {"e2e-patched": "true"}},
             "status": {"conditions": [condition]}}  # fmt: skip
    patched = await bench.patch(f"{HERE}/status", patch)
    assert patched["metadata"]["annotations"] == {"e2e-patched": "true"}
    (found,) = patched["status"]["conditions"]
    assert (found["type"], found["status"]) == ("StatusPatch", "True")
    patched["status"]["conditions"] += [{**condition, "type": "StatusUpdate"}]
    updated = await bench.put(f"{HERE}/status", patched)
    assert [item["type"] for item in updated["status"]["conditions"]] == [
        "StatusPatch", "StatusUpdate",
    ]  # fmt: skip
    assert (await bench.get(HERE))["status"] == updated["status"]


async def test_its_finalizers(bench: Bench) -> None:
    own = "e2e.example.com/fakeFinalizer"
    made = await bench.create(NAMESPACES, BODY)
    assert made["spec"]["finalizers"] == ["kubernetes"]
    made["spec"]["finalizers"].append(own)
    updated = await bench.put(f"{HERE}/finalize", made)
    assert own in updated["spec"]["finalizers"]
    updated["spec"]["finalizers"].remove(own)
    updated = await bench.put(f"{HERE}/finalize", updated)
    assert updated["spec"]["finalizers"] == ["kubernetes"]
