"""An extension API server behind this one (as upstream's test/e2e/apimachinery/aggregator.go, whose
sample API server is played here by one of the test's own)."""

from __future__ import annotations

from typing import Any

from tests.kit.hooks import Call, Reply, hook_server

from .bench import NS, Bench, Obj

APISERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"
GROUP, VERSION = "wardle.example.com", "v1alpha1"
NAME = f"{APISERVICES}/{VERSION}.{GROUP}"
BASE = f"/apis/{GROUP}/{VERSION}"
FLUNDERS = f"{BASE}/namespaces/default/flunders"


class Sample:
    """Keeps flunders, and says what it serves."""

    def __init__(self) -> None:
        self.flunders: dict[str, Obj] = {}

    async def answer(self, call: Call) -> Reply:
        path = call.target.partition("?")[0]
        if path == BASE:
            flunder = {"name": "flunders", "singularName": "flunder", "namespaced": True,
                       "kind": "Flunder", "verbs": ["create", "delete", "get", "list"]}  # fmt: skip
            served = {"kind": "APIResourceList", "groupVersion": f"{GROUP}/{VERSION}"}
            return Reply({**served, "resources": [flunder]})
        name = path.removeprefix(FLUNDERS).strip("/")
        if call.method == "POST":
            made = call.json
            self.flunders[made["metadata"]["name"]] = made
            return Reply(made, 201)
        if not name:
            listed = {"kind": "FlunderList", "apiVersion": f"{GROUP}/{VERSION}"}
            return Reply({**listed, "metadata": {}, "items": [*self.flunders.values()]})
        if call.method == "DELETE":
            return Reply(self.flunders.pop(name))
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404,
                  "reason": "NotFound", "message": "not found"}  # fmt: skip
        return Reply(self.flunders[name]) if name in self.flunders else Reply(status, 404)


def available(obj: Obj) -> bool:
    conditions = obj.get("status", {}).get("conditions") or ()
    return any(item["type"] == "Available" and item["status"] == "True" for item in conditions)


async def test_a_sample_api_server(bench: Bench) -> None:
    hosts = ("sample-api.default.svc",)
    async with hook_server(Sample().answer, names=hosts) as server:
        service = {"metadata": {"name": "sample-api"},
                   "spec": {"type": "ExternalName", "externalName": "localhost"}}  # fmt: skip
        await bench.create(f"{NS}/services", service)
        spec: dict[str, Any] = {
            "group": GROUP, "version": VERSION, "groupPriorityMinimum": 2000,
            "versionPriority": 200, "caBundle": server.bundle,
            "service": {"namespace": "default", "name": "sample-api", "port": server.port},
        }  # fmt: skip
        metadata = {"name": f"{VERSION}.{GROUP}", "labels": {"e2e": "sample"}}
        await bench.create(APISERVICES, {"metadata": metadata, "spec": spec})
        await bench.state(NAME, available)
        await flunders(bench)
        await registration(bench)


async def flunders(bench: Bench) -> None:
    """Its objects are made, listed and deleted, and its group is discovered."""
    body = {"apiVersion": f"{GROUP}/{VERSION}", "kind": "Flunder", "metadata": {"name": "f"}}
    await bench.create(FLUNDERS, body)
    assert await bench.names(FLUNDERS) == ["f"]
    assert (await bench.get(f"{FLUNDERS}/f"))["kind"] == "Flunder"
    await bench.delete(f"{FLUNDERS}/f")
    await bench.expect(404, "GET", f"{FLUNDERS}/f")
    assert await bench.names(FLUNDERS) == []
    assert GROUP in [item["name"] for item in (await bench.get("/apis"))["groups"]]


async def registration(bench: Bench) -> None:
    """The APIService's status is read and changed, it is updated, patched and deleted."""
    read = await bench.get(f"{NAME}/status")
    assert available(read)
    condition = {"type": "StatusUpdated", "status": "True", "reason": "E2E", "message": "Set"}
    read["status"]["conditions"].append(condition)
    updated = await bench.put(f"{NAME}/status", read)
    assert updated["status"]["conditions"][-1]["type"] == "StatusUpdated"
    patched = await bench.patch(f"{NAME}/status", {"status": {"conditions": [condition]}})
    assert [item["type"] for item in patched["status"]["conditions"]] == ["StatusUpdated"]
    patched = await bench.patch(NAME, {"spec": {"versionPriority": 400}})
    assert patched["spec"]["versionPriority"] == 400
    found = await bench.get(NAME)
    found["metadata"]["labels"]["e2e"] = "updated"
    updated = await bench.put(NAME, found)
    assert updated["metadata"]["labels"]["e2e"] == "updated"
    assert await bench.names(f"{APISERVICES}?labelSelector=e2e%3Dupdated") == [f"{VERSION}.{GROUP}"]
    await bench.delete(f"{APISERVICES}?labelSelector=e2e%3Dupdated")
    await bench.expect(404, "GET", NAME)
    await bench.expect(404, "GET", FLUNDERS)
