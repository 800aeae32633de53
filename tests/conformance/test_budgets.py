"""Disruption budgets (as upstream's test/e2e/apps/disruption.go)."""

from __future__ import annotations

from typing import Any

from sampan.api.errors import Object

from .bench import PODS, Bench, pod

BUDGETS = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"


def budget(name: str = "b", **spec: Any) -> Object:
    selector = {"matchLabels": {"app": "w"}}
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "labels": {"e2e": "yes"}},
        "spec": {"selector": selector, **spec},
    }


def observed(obj: Object) -> bool:
    said = obj.get("status") or {}
    return bool(said.get("observedGeneration") == obj["metadata"]["generation"])


def allows(count: int) -> Any:
    return lambda obj: observed(obj) and obj["status"]["disruptionsAllowed"] == count


async def test_the_life_of_a_budget(bench: Bench) -> None:
    path = f"{BUDGETS}/b"
    await bench.create(BUDGETS, budget(minAvailable=1))
    read = await bench.state(path, observed)
    assert read["spec"]["minAvailable"] == 1
    read["spec"]["minAvailable"] = 2
    updated = await bench.put(path, read)
    assert updated["spec"]["minAvailable"] == 2
    patched = await bench.patch(path, {"spec": {"minAvailable": "50%"}})
    assert patched["spec"]["minAvailable"] == "50%"
    assert patched["metadata"]["generation"] == 3
    await bench.state(path, observed)
    await bench.delete(path)
    await bench.expect(404, "GET", path)


async def test_budgets_are_listed_everywhere_and_deleted_together(bench: Bench) -> None:
    for name in ("one", "two", "three"):
        await bench.create(BUDGETS, budget(name, minAvailable=1))
    other = "/apis/policy/v1/namespaces/kube-public/poddisruptionbudgets"
    await bench.create(other, budget("else", minAvailable=1))
    everywhere = "/apis/policy/v1/poddisruptionbudgets?labelSelector=e2e%3Dyes"
    assert sorted(await bench.names(everywhere)) == ["else", "one", "three", "two"]
    await bench.delete(f"{BUDGETS}?labelSelector=e2e%3Dyes")
    assert await bench.names(everywhere) == ["else"]


async def test_the_status_of_a_budget(bench: Bench) -> None:
    path = f"{BUDGETS}/b"
    await bench.create(BUDGETS, budget(minAvailable=1))
    await bench.state(path, observed)
    promised = {"old": "2026-01-02T03:04:05Z", "now": "2999-01-01T00:00:00Z"}
    read = await bench.get(f"{path}/status")
    read["status"]["disruptedPods"] = promised
    updated = await bench.put(f"{path}/status", read)
    assert updated["status"]["disruptedPods"] == promised
    changed = {"status": {"disruptedPods": {"now": None, "old": promised["old"]}}}
    patched = await bench.patch(f"{path}/status", changed)
    assert patched["status"]["disruptedPods"] == {"old": promised["old"]}


async def test_an_eviction_is_blocked_until_the_budget_allows_it(bench: Bench) -> None:
    path = f"{BUDGETS}/b"
    for name in ("p-0", "p-1", "p-2"):
        await bench.create(PODS, pod(name, {"app": "w"}))
    await bench.create(BUDGETS, budget(minAvailable=3))
    await bench.state(path, allows(0))
    await bench.listed(
        PODS, lambda items: [item["status"]["phase"] for item in items] == ["Running"] * 3
    )
    meta = {"name": "p-0"}
    body: Object = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": meta}
    answer = await bench.refused(429, "POST", f"{PODS}/p-0/eviction", body)
    assert answer.json["details"]["causes"][0]["reason"] == "DisruptionBudget"
    await bench.patch(path, {"spec": {"minAvailable": 2}})
    await bench.state(path, allows(1))
    await bench.create(f"{PODS}/p-0/eviction", body)
    await bench.gone(f"{PODS}/p-0")
    await bench.patch(path, {"spec": {"minAvailable": 2, "maxUnavailable": None}})
    await bench.state(path, allows(0))
    body["metadata"]["name"] = "p-1"
    await bench.refused(429, "POST", f"{PODS}/p-1/eviction", body)
    await bench.delete(path)
    await bench.create(f"{PODS}/p-1/eviction", body)
    await bench.gone(f"{PODS}/p-1")
