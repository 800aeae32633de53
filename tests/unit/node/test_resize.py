"""pods/resize on the node: granted, deferred, infeasible, carried out in place or by a restart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sampan.linux.cgroups import Usage
from sampan.node.allocation import Demand, Ledger, Waiter, demand_of, needs_restart
from tests.kit.onenode import PODS, Node, no_server

MIB = 1 << 20


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    no_server(monkeypatch)
    return Node(tmp_path)


def resources(cpu: str, memory: str) -> dict[str, Any]:
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu, "memory": memory}}


def resize(node: Node, wanted: dict[str, Any], generation: int = 2, name: str = "p") -> None:
    """As the API server does: the spec changes, and the generation with it."""
    pod = node.pod(name)
    (container,) = pod["spec"]["containers"]
    spec = {**pod["spec"], "containers": [{**container, "resources": wanted}]}
    node.api.put(
        f"{PODS}/{name}",
        {**pod, "spec": spec, "metadata": {**pod["metadata"], "generation": generation}},
    )


def condition(node: Node, kind: str, name: str = "p") -> Any:
    found = (item for item in node.pod(name)["status"]["conditions"] if item["type"] == kind)
    return next(found, None)


def said(node: Node, reason: str) -> list[str]:
    return [message for _, kind, message in node.api.events() if kind == reason]


async def test_a_resize_changes_limits_without_a_restart(node: Node) -> None:
    async with node.running():
        node.bind(container={"resources": resources("500m", "64Mi")})
        await node.until(lambda: node.container().get("ready"))
        assert node.container()["resources"] == resources("500m", "64Mi")
        before = node.container()["containerID"]
        resize(node, resources("1", "128Mi"))
        await node.until(lambda: node.container()["resources"] == resources("1", "128Mi"))
        assert node.container()["allocatedResources"] == {"cpu": "1", "memory": "128Mi"}
        assert node.container()["containerID"] == before
        for _, given in node.runtime.limits:
            assert (given.cpu_quota_us, given.cpu_shares) == (100_000, 1024)
            assert given.memory_limit_bytes == 128 * MIB
        run = before.removeprefix("crun://")
        # Its pod has room before it gets more, and less only after it has less (cgroup v1).
        assert [name for name, _ in node.runtime.limits] == ["kubepods/poduid-p", run]
        await node.until(lambda: said(node, "ResizeCompleted"))
        head, _, body = said(node, "ResizeCompleted")[0].partition(": ")
        assert head == "Pod resize completed"
        (told,) = json.loads(body)["containers"]
        assert told == {"name": "c", "resources": resources("1", "128Mi")}
        assert json.loads(body)["generation"] == 2
        assert said(node, "ResizeStarted")[0].startswith('Pod resize started: {"containers":[')
        assert condition(node, "PodResizeInProgress") is None
        node.runtime.limits.clear()
        resize(node, resources("500m", "64Mi"), 3)
        await node.until(lambda: node.container()["resources"] == resources("500m", "64Mi"))
        assert [name for name, _ in node.runtime.limits] == [run, "kubepods/poduid-p"]


async def test_an_init_container_that_runs_is_resized(node: Node) -> None:
    async with node.running():
        init = {"name": "i", "image": "busybox", "resources": resources("500m", "64Mi")}
        node.bind(initContainers=[init])

        def first() -> Any:
            (found,) = node.pod()["status"].get("initContainerStatuses") or ({},)
            return found

        await node.until(lambda: "running" in (first().get("state") or ()))
        pod, more = node.pod(), resources("1", "128Mi")
        spec = {**pod["spec"], "initContainers": [{**init, "resources": more}]}
        node.api.put(
            f"{PODS}/p", {**pod, "spec": spec, "metadata": {**pod["metadata"], "generation": 2}}
        )
        await node.until(lambda: first()["resources"] == more)
        _, (_, given) = node.runtime.limits
        assert given.memory_limit_bytes == 128 * MIB


async def test_a_pod_and_its_container_get_more_together(node: Node) -> None:
    """The pod's own cgroup never has less than the container's: cgroup v1 refuses that."""
    async with node.running() as agent:
        spec: dict[str, Any] = {"resources": resources("200m", "64Mi")}
        node.bind(**spec, container={"resources": resources("100m", "32Mi")})
        await node.until(lambda: node.container().get("ready"))
        more = resources("250m", "32Mi")
        pod = node.pod()
        spec = {**pod["spec"], "resources": resources("300m", "64Mi")}
        spec["containers"] = [{**spec["containers"][0], "resources": more}]
        node.api.put(
            f"{PODS}/p", {**pod, "spec": spec, "metadata": {**pod["metadata"], "generation": 2}}
        )
        await node.until(lambda: not agent.workers["uid-p"].state.resizing.under_way)
        await node.until(lambda: node.container()["resources"] == more)
        quotas = {"kubepods/poduid-p": 20_000, "": 10_000}
        for name, given in node.runtime.limits:
            quotas[name if name in quotas else ""] = given.cpu_quota_us
            assert quotas[""] <= quotas["kubepods/poduid-p"]
        assert quotas == {"kubepods/poduid-p": 30_000, "": 25_000}


async def test_what_will_never_fit_is_infeasible(node: Node) -> None:
    async with node.running() as agent:
        capacity = Ledger(agent.parts.allocatable)
        node.bind(container={"resources": resources("500m", "64Mi")})
        await node.until(lambda: node.container().get("ready"))
        resize(node, resources("1000", "64Mi"), 7)
        await node.until(lambda: condition(node, "PodResizePending"))
        pending = condition(node, "PodResizePending")
        refusal = capacity.refusal("u", Demand(1_000_000, 64 * MIB))
        assert refusal is not None
        assert (pending["reason"], pending["message"]) == refusal
        assert pending["observedGeneration"] == 7
        assert node.container()["resources"] == resources("500m", "64Mi")
        assert said(node, "ResizeInfeasible")[0].startswith("Pod resize Infeasible: {")
        assert node.runtime.limits == []
        # The wish is taken back.
        resize(node, resources("500m", "64Mi"), 8)
        await node.until(lambda: condition(node, "PodResizePending") is None)


async def test_a_deferred_resize_goes_on_when_another_pod_leaves(node: Node) -> None:
    async with node.running() as agent:
        agent.parts.ledger.allocatable = {"cpu": "2", "memory": "1Gi"}
        for name in ("p", "q"):
            node.bind(name, container={"resources": resources("1", "64Mi")})
        await node.until(lambda: node.container("q").get("ready"))
        resize(node, resources("1500m", "64Mi"))
        await node.until(lambda: condition(node, "PodResizePending"))
        pending = condition(node, "PodResizePending")
        text = "Node didn't have enough resource: cpu, requested: 1500, used: 1000, capacity: 2000"
        assert (pending["reason"], pending["message"]) == ("Deferred", text)
        node.api.remove(f"{PODS}/q")
        await node.until(lambda: node.container()["resources"] == resources("1500m", "64Mi"))
        assert condition(node, "PodResizePending") is None


@pytest.mark.parametrize("policy", ["Always", "OnFailure"])
async def test_a_policy_may_want_a_restart(node: Node, policy: str) -> None:
    node.runtime.obeys = lambda number: 0
    async with node.running():
        node.bind(
            restartPolicy=policy,
            container={
                "resources": resources("500m", "64Mi"),
                "resizePolicy": [{"resourceName": "memory", "restartPolicy": "RestartContainer"}],
            },
        )
        await node.until(lambda: node.container().get("ready"))
        resize(node, resources("1", "64Mi"))
        await node.until(lambda: said(node, "ResizeCompleted"))
        resize(node, resources("1", "128Mi"), 3)
        await node.until(lambda: node.container()["restartCount"] == 1)
        await node.until(lambda: len(said(node, "ResizeCompleted")) == 2)
        assert said(node, "Killing") == ["Container c resize requires restart"]
        spec = node.runtime.specs[node.runtime.only().id]
        assert spec.resources.memory_limit_bytes == 128 * MIB
        phases = [body["status"]["phase"] for path, body in node.api.patches if "/pods/" in path]
        assert "Succeeded" not in phases


async def test_memory_in_use_is_not_taken_away(node: Node) -> None:
    async with node.running():
        node.bind(container={"resources": resources("500m", "64Mi")})
        await node.until(lambda: node.container().get("ready"))
        run = node.runtime.only().id
        node.runtime.usages[run] = Usage(working_set_bytes=50 * MIB)
        resize(node, resources("500m", "32Mi"))
        await node.until(lambda: condition(node, "PodResizeInProgress"))
        held = condition(node, "PodResizeInProgress")
        text = f'attempting to set container "c" memory limit ({32 * MIB}) below current usage'
        assert held["reason"] == "Error"
        assert held["message"] == f"{text} ({50 * MIB})"
        assert len(said(node, "ResizeError")) == 1
        assert node.container()["resources"] == resources("500m", "64Mi")
        assert node.container()["allocatedResources"]["memory"] == "32Mi"
        node.runtime.usages[run] = Usage(working_set_bytes=MIB)
        await node.clock.advance(10)
        await node.until(lambda: node.container()["resources"] == resources("500m", "32Mi"))
        assert condition(node, "PodResizeInProgress") is None


async def test_a_pods_own_resources_are_its_cgroups(node: Node) -> None:
    async with node.running():
        node.bind(resources=resources("500m", "64Mi"))
        await node.until(lambda: node.container().get("ready"))
        (spec,) = node.runtime.specs.values()
        given = spec.group
        assert given is not None
        assert spec.cgroup_parent == "kubepods/poduid-p"
        assert (given.cpu_quota_us, given.memory_limit_bytes) == (50_000, 64 * MIB)
        pod = node.pod()
        wanted = {**pod["spec"], "resources": resources("1", "64Mi")}
        meta = {**pod["metadata"], "generation": 2}
        node.api.put(f"{PODS}/p", {**pod, "spec": wanted, "metadata": meta})
        await node.until(lambda: node.pod()["status"]["resources"] == resources("1", "64Mi"))
        assert node.pod()["status"]["allocatedResources"] == resources("1", "64Mi")["requests"]
        (group, changed), (run, own) = node.runtime.limits
        assert (group, changed.cpu_quota_us) == ("kubepods/poduid-p", 100_000)
        # A container without limits has its pod's.
        assert (run, own.cpu_quota_us) == (node.runtime.only().id, 100_000)
        await node.until(lambda: said(node, "ResizeCompleted"))
    async with node.running():
        assert len(node.runtime.limits) == 2


async def test_a_wish_made_while_no_agent_ran_is_found(node: Node) -> None:
    async with node.running():
        node.bind(container={"resources": resources("500m", "64Mi")})
        await node.until(lambda: node.container().get("ready"))
    resize(node, resources("1", "64Mi"))
    async with node.running():
        await node.until(lambda: node.container()["resources"] == resources("1", "64Mi"))
        assert node.container()["restartCount"] == 0
        assert len(node.runtime.limits) == 2


def test_the_ledger_asks_the_waiting_in_order() -> None:
    ledger = Ledger({"cpu": "2", "memory": "1Gi"})
    asked: list[str] = []
    ledger.hold("a", Demand(1500, 0))
    for uid, order in (("late", (0, 2)), ("first", (-10, 3)), ("early", (0, 1))):
        ledger.wait(uid, Waiter(order, lambda uid=uid: asked.append(uid)))  # type: ignore[misc]
    assert ledger.refusal("b", Demand(600, 0)) is not None
    ledger.hold("a", Demand(1600, 0))
    assert asked == []
    ledger.release("a")
    assert asked == ["first", "early", "late"]
    assert ledger.refusal("b", Demand(600, 0)) is None


def test_less_is_granted_on_a_node_that_promised_too_much() -> None:
    ledger = Ledger({"cpu": "1", "memory": "1Gi"})
    ledger.hold("a", Demand(900, 0))
    ledger.hold("b", Demand(900, 0))
    assert ledger.refusal("a", Demand(800, 0)) is None


def test_demand_counts_sidecars_and_overhead() -> None:
    side = {"name": "s", "restartPolicy": "Always", "resources": resources("100m", "1Mi")}
    spec = {
        "initContainers": [side],
        "containers": [{"name": "c", "resources": resources("200m", "2Mi")}],
        "overhead": {"cpu": "50m"},
    }
    assert demand_of(spec) == Demand(350, 3 * MIB)
    assert not needs_restart({"resizePolicy": []}, ["cpu"])
