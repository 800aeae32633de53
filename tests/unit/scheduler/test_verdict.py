"""Why a pod fits nowhere, in upstream's words; and what a pod asks for."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.api.placement import tolerates
from sampan.scheduler.demand import requests_of
from sampan.scheduler.failing import Failing
from sampan.scheduler.guest import guest_of
from sampan.scheduler.nodes import Nodes
from sampan.scheduler.plugins.node_affinity import selects
from sampan.scheduler.preemption import Surroundings


def node(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": {"disk": "ssd", "cores": "8"}},
        "spec": spec,
        "status": {"allocatable": {"cpu": "1", "memory": "1Gi", "pods": "10"}},
    }


def nodes_of(*items: dict[str, Any]) -> Nodes:
    nodes = Nodes()
    for item in items:
        nodes.set_node(item)
    return nodes


def container(**requests: str) -> dict[str, Any]:
    return {"resources": {"requests": requests}}


def why(spec: dict[str, Any], *items: dict[str, Any]) -> str:
    failing = Failing(nodes_of(*items), Surroundings)
    return failing.look(guest_of({"metadata": {}, "spec": spec})).text


BIG = {"containers": [container(cpu="2", memory="4Gi")]}
NEVER = "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."


@pytest.mark.parametrize(
    ("spec", "items", "expected"),
    [
        (BIG, [], "no nodes available to schedule pods"),
        (
            BIG,
            [node("a")],
            "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory. "
            "no new claims to deallocate, preemption: 0/1 nodes are available: "
            "1 No preemption victims found for incoming pod.",
        ),
        (
            BIG,
            [node("a"), node("b", unschedulable=True)],
            "0/2 nodes are available: 1 Insufficient cpu, 1 Insufficient memory, "
            "1 node(s) were unschedulable. no new claims to deallocate, preemption: "
            "0/2 nodes are available: 1 No preemption victims found for incoming pod, "
            "1 Preemption is not helpful for scheduling.",
        ),
        (
            BIG,
            [node("a", taints=[{"key": "k", "effect": "NoSchedule"}])],
            "0/1 nodes are available: 1 node(s) had untolerated taint(s). "
            f"no new claims to deallocate, {NEVER}",
        ),
        (
            {"containers": [{}], "nodeSelector": {"disk": "hdd"}},
            [node("a")],
            "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. "
            f"no new claims to deallocate, {NEVER}",
        ),
    ],
)
def test_messages(spec: dict[str, Any], items: list[dict[str, Any]], expected: str) -> None:
    assert why(spec, *items) == expected


def test_requests_count_init_containers_and_sidecars() -> None:
    spec = {
        "initContainers": [
            container(cpu="3"),
            container(cpu="1") | {"restartPolicy": "Always"},
            container(cpu="500m", memory="1Gi"),
        ],
        "containers": [container(cpu="500m"), container(cpu="250m")],
        "overhead": {"cpu": "10m"},
    }
    assert requests_of(spec) == {"cpu": 3010, "memory": 1 << 30}


@pytest.mark.parametrize(
    ("toleration", "expected"),
    [
        ({"operator": "Exists"}, True),
        ({"key": "k", "operator": "Exists"}, True),
        ({"key": "k", "value": "v"}, True),
        ({"key": "k", "value": "w"}, False),
        ({"key": "k", "value": "v", "effect": "NoExecute"}, False),
        ({"value": "v"}, False),
    ],
)
def test_tolerations(toleration: dict[str, Any], expected: bool) -> None:
    assert tolerates(toleration, {"key": "k", "value": "v", "effect": "NoSchedule"}) is expected


@pytest.mark.parametrize(
    ("operator", "key", "values", "expected"),
    [
        ("In", "disk", ["ssd", "nvme"], True),
        ("NotIn", "disk", ["ssd"], False),
        ("NotIn", "none", ["x"], True),
        ("Exists", "disk", [], True),
        ("DoesNotExist", "disk", [], False),
        ("Gt", "cores", ["4"], True),
        ("Lt", "cores", ["4"], False),
        ("Gt", "disk", ["4"], False),
    ],
)
def test_affinity(operator: str, key: str, values: list[str], expected: bool) -> None:
    term = {"matchExpressions": [{"key": key, "operator": operator, "values": values}]}
    affinity = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    assert selects({}, affinity, "n", {"disk": "ssd", "cores": "8"}) is expected
