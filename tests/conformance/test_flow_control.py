"""Priority and fairness, as an API (upstream's test/e2e/apimachinery/flowcontrol.go)."""

from __future__ import annotations

from .bench import Bench, Obj, die, discovered, live_through

GROUP = "flowcontrol.apiserver.k8s.io"
FLOWS = f"/apis/{GROUP}/v1/flowschemas"
LEVELS = f"/apis/{GROUP}/v1/prioritylevelconfigurations"
FLOW = {
    "spec": {
        "matchingPrecedence": 10000,
        "priorityLevelConfiguration": {"name": "global-default"},
        "distinguisherMethod": {"type": "ByUser"},
        "rules": [{
            "subjects": [{"kind": "User", "user": {"name": "example-e2e-non-existent-user"}}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
        }],
    },
}  # fmt: skip
LEVEL = {
    "spec": {
        "type": "Limited",
        "limited": {"nominalConcurrencyShares": 2, "limitResponse": {"type": "Reject"}},
    },
}


async def statuses(bench: Bench, path: str) -> None:
    """get, patch and update of the status, with a condition of the test's own each."""
    read = await bench.get(f"{path}/status")
    condition = {"type": "PatchStatusFailed", "status": "False", "reason": "Patched",
                 "message": "by e2e", "lastTransitionTime": "2026-01-01T00:00:00Z"}  # fmt: skip
    patched = await bench.patch(f"{path}/status", {"status": {"conditions": [condition]}})
    assert condition in patched["status"]["conditions"]
    assert patched["metadata"]["uid"] == read["metadata"]["uid"]
    again = {**condition, "type": "UpdateStatusFailed"}
    patched["status"]["conditions"].append(again)
    updated = await bench.put(f"{path}/status", patched)
    assert again in updated["status"]["conditions"]
    assert updated["spec"] == read["spec"]


def precedence(value: int) -> Obj:
    return {"spec": {"matchingPrecedence": value}}


def shares(value: int) -> Obj:
    return {"spec": {"limited": {"nominalConcurrencyShares": value}}}


async def test_flow_schemas(bench: Bench) -> None:
    await discovered(bench, GROUP, "v1", "flowschemas", "flowschemas/status")
    name = await live_through(bench, FLOWS, FLOW, precedence(9999), precedence(10000))
    await statuses(bench, f"{FLOWS}/{name}")
    await die(bench, FLOWS, name)


async def test_priority_levels(bench: Bench) -> None:
    await discovered(
        bench, GROUP, "v1", "prioritylevelconfigurations", "prioritylevelconfigurations/status"
    )
    name = await live_through(bench, LEVELS, LEVEL, shares(4), shares(2))
    await statuses(bench, f"{LEVELS}/{name}")
    await die(bench, LEVELS, name)
