"""Silence, taints and evictions of nodes."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.api.errors import Object
from sampan.controllers.node_plan import eviction, silent_conditions, taints

NOW_S = 1_700_000_000.0
NOW = "2023-11-14T22:13:20Z"


def node(ready: str = "True", own: list[Object] | None = None, **conditions: str) -> Object:
    found = [{"type": "Ready", "status": ready, "lastHeartbeatTime": "then"}]
    found += [{"type": name, "status": value} for name, value in conditions.items()]
    return {
        "metadata": {"name": "n", "creationTimestamp": "born"},
        "spec": {"taints": own or []},
        "status": {"conditions": found},
    }


def keys(found: list[Object]) -> list[str]:
    return [f"{item['key'].removeprefix('node.kubernetes.io/')}:{item['effect']}" for item in found]


def test_a_silent_node_is_unknown() -> None:
    found = silent_conditions(node(MemoryPressure="False"), NOW_S)
    assert found[0] == {
        "type": "Ready", "status": "Unknown", "lastHeartbeatTime": "then",
        "lastTransitionTime": NOW, "reason": "NodeStatusUnknown",
        "message": "Kubelet stopped posting node status.",
    }  # fmt: skip
    assert found[2] == {
        "type": "DiskPressure", "status": "Unknown", "lastHeartbeatTime": "born",
        "lastTransitionTime": NOW, "reason": "NodeStatusNeverUpdated",
        "message": "Kubelet never posted node status.",
    }  # fmt: skip
    again = {**node(), "status": {"conditions": found}}
    assert silent_conditions(again, NOW_S + 60) == found


@pytest.mark.parametrize(
    ("found", "want"),
    [
        (node(), []),
        (node("False"), ["not-ready:NoSchedule", "not-ready:NoExecute"]),
        (node("Unknown"), ["unreachable:NoSchedule", "unreachable:NoExecute"]),
        (node(MemoryPressure="True"), ["memory-pressure:NoSchedule"]),
    ],
)
def test_taints_follow_conditions(found: Object, want: list[str]) -> None:
    assert keys(taints(found, NOW_S, evict=True)) == want
    weak = [item for item in want if not item.endswith("NoExecute")]
    assert keys(taints(found, NOW_S, evict=False)) == weak


def test_own_taints_go_and_others_stay() -> None:
    own = [
        {"key": "team", "value": "a", "effect": "NoSchedule"},
        {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"},
        {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute", "timeAdded": "then"},
        {"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"},
    ]
    found = taints(node("True", own), NOW_S, evict=True)
    assert keys(found) == ["team:NoSchedule", "out-of-service:NoExecute"]
    kept = taints(node("Unknown", own), NOW_S, evict=True)
    assert [item for item in kept if item.get("timeAdded") == "then"]


def test_cordoned_is_tainted() -> None:
    cordoned = node()
    cordoned["spec"]["unschedulable"] = True
    assert keys(taints(cordoned, NOW_S, evict=True)) == ["unschedulable:NoSchedule"]


UNREACHABLE = {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}
OTHER = {"key": "gpu", "value": "a", "effect": "NoExecute"}


@pytest.mark.parametrize(
    ("tolerations", "node_taints", "after_s"),
    [
        ([], [{"key": "x", "effect": "NoSchedule"}], None),
        ([], [UNREACHABLE], 0.0),
        ([{"operator": "Exists"}], [UNREACHABLE, OTHER], None),
        ([{"key": UNREACHABLE["key"], "operator": "Exists", "tolerationSeconds": 300}],
         [UNREACHABLE], 300.0),
        ([{"key": UNREACHABLE["key"], "operator": "Exists", "tolerationSeconds": 300}],
         [UNREACHABLE, OTHER], 0.0),
        ([{"key": "gpu", "value": "a", "tolerationSeconds": -5}], [OTHER], 0.0),
        ([{"key": "gpu", "value": "b"}], [OTHER], 0.0),
        ([{"operator": "Exists", "tolerationSeconds": 60},
          {"key": "gpu", "operator": "Equal", "value": "a", "tolerationSeconds": 9}],
         [UNREACHABLE, OTHER], 9.0),
    ],
)  # fmt: skip
def test_tolerations_buy_time(
    tolerations: list[Any], node_taints: list[Any], after_s: float | None
) -> None:
    found = eviction({"spec": {"tolerations": tolerations}}, node_taints)
    assert (found.after_s if found is not None else None) == after_s
