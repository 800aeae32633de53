"""Who ends for a critical pod (pkg/kubelet/preemption's tables), and that they do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sampan.node.preemption import victims
from tests.kit.onenode import PODS, Node, no_server

LITTLE, MUCH = {"cpu": "100m", "memory": "100Mi"}, {"cpu": "200m", "memory": "200Mi"}
MI = 2**20


def pod(name: str, requests: Any = None, *, limits: bool = False, priority: int = 0) -> Any:
    resources = {"requests": requests} if requests else {}
    if limits:
        resources["limits"] = requests
    containers = [{"name": "c", "resources": resources}]
    return {"metadata": {"name": name}, "spec": {"containers": containers, "priority": priority}}


CRITICAL = pod("critical", {"cpu": "100m"}, priority=2_000_000_000)
PODS_HERE = {
    item["metadata"]["name"]: item
    for item in (
        pod("best1"), pod("best2"),
        pod("bit", LITTLE), pod("bit2", LITTLE), pod("lot", MUCH),
        pod("sure", LITTLE, limits=True), pod("surer", MUCH, limits=True),
    )
}  # fmt: skip


@pytest.mark.parametrize(
    ("here", "missing", "ending"),
    [
        ("best1", {"pods": 1}, "best1"),
        ("bit sure", {"pods": 1}, "bit"),
        ("bit lot sure", {"memory": 150 * MI}, "lot"),
        ("bit lot sure", {"memory": 100 * MI}, "bit"),
        ("bit sure surer", {"memory": 250 * MI}, "bit surer"),
        ("bit bit2 lot", {"memory": 200 * MI}, "lot"),
        ("best1 bit lot sure", {"memory": 300 * MI, "cpu": 100}, "bit lot"),
        ("best1 sure", {"cpu": 50}, "sure"),
    ],
)
def test_as_few_as_will_do(here: str, missing: dict[str, int], ending: str) -> None:
    found = victims(CRITICAL, [PODS_HERE[name] for name in here.split()], missing)
    assert sorted(item["metadata"]["name"] for item in found) == sorted(ending.split())


def test_nobody_ends_in_vain() -> None:
    both = [PODS_HERE["bit"], pod("also", MUCH, priority=2_000_000_000)]
    with pytest.raises(LookupError) as refused:
        victims(CRITICAL, both, {"cpu": 300, "memory": 50 * MI})
    why = "no set of running pods found to reclaim resources: [(res: cpu, q: 200), ]"
    assert str(refused.value) == why
    higher = pod("higher", {"cpu": "1"}, priority=2_000_001_000)
    assert victims(higher, both, {"cpu": 150}) == [both[1]]


async def test_a_critical_pod_gets_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_server(monkeypatch)
    node = Node(tmp_path)
    async with node.running() as agent:
        agent.parts.allocatable = {"cpu": "1", "memory": "1Gi", "pods": "9"}
        node.bind("bit", container={"resources": {"requests": {"cpu": "600m"}}})
        node.bind("best")
        await node.until(lambda: node.container("bit")["ready"] and node.container("best")["ready"])
        wants = {"resources": {"requests": {"cpu": "700m"}}}
        node.bind("plain", container=wants)
        await node.until(lambda: node.pod("plain")["status"].get("reason") == "OutOfcpu")
        node.bind("critical", container=wants, priority=2_000_001_000)
        await node.until(lambda: node.container("critical")["ready"])
        await node.until(lambda: node.pod("bit")["status"]["phase"] == "Failed")
        status = node.pod("bit")["status"]
        assert status["reason"] == "Preempting"
        assert status["message"] == "Preempted in order to admit critical pod"
        (told,) = (item for item in status["conditions"] if item["type"] == "DisruptionTarget")
        assert told["message"] == (
            "Pod was preempted by Kubelet to accommodate a critical pod."
        )  # fmt: skip
        assert agent.parts.tally.preemptions == {"cpu": 1}
        assert node.pod("best")["status"]["phase"] == "Running"
        node.bind("second", container=wants, priority=2_000_000_000)
        await node.until(
            lambda: node.pod("second")["status"].get("reason") == "UnexpectedAdmissionError"
        )
        assert node.api.objects[f"{PODS}/critical"]["status"]["phase"] == "Running"
