"""Hooks, graces and the order of starts and stops, on an agent with a fake runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sampan.node.state import EXITED
from tests.kit.clock import settle
from tests.kit.onenode import PODS, Node, no_server

SIDE = {"name": "side", "image": "busybox", "restartPolicy": "Always"}
AFTER = {"name": "after", "image": "busybox"}


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    no_server(monkeypatch)
    return Node(tmp_path)


def names(node: Node) -> list[str]:
    """Of the running containers, as they were started."""
    key = "io.kubernetes.container.name"
    return [item.annotations[key] for item in node.runtime.running()]


def signals(node: Node) -> list[tuple[str, int]]:
    names = {key: spec.annotations for key, spec in node.runtime.specs.items()}
    field = "io.kubernetes.container.name"
    return [(names[key][field], number) for key, number in node.runtime.signals]


def more(*containers: Any, **first: Any) -> list[Any]:
    return [{"name": "c", "image": "busybox"} | first, *containers]


def hook(when: str, **action: Any) -> dict[str, Any]:
    return {"lifecycle": {when: action}}


async def test_post_start_holds_back_the_next_container_and_the_status(node: Node) -> None:
    async with node.running():
        node.bind(containers=more(AFTER, **hook("postStart", sleep={"seconds": 5})))
        await node.until(lambda: names(node) == ["c"])
        await node.clock.advance(4)
        assert names(node) == ["c"]
        assert node.container("p", "c")["state"] == {"waiting": {"reason": "ContainerCreating"}}
        assert not node.container("p", "c")["ready"]
        await node.clock.advance(1.1)
        await node.until(lambda: names(node) == ["c", "after"])
        await node.until(lambda: node.container("p", "c")["ready"])


async def test_failed_post_start_kills_and_tells(node: Node) -> None:
    node.runtime.exec_answer = lambda args: (b"secret", 1)
    async with node.running():
        node.bind(container=hook("postStart", exec={"command": ["x"]}), restartPolicy="Never")
        await node.until(lambda: node.pod()["status"]["phase"] == "Failed")
        events = node.api.events()
        assert ("Warning", "FailedPostStartHook", "PostStartHook failed") in events
        assert ("Normal", "Killing", "FailedPostStartHook") in events
        assert "secret" not in str(events)


async def test_deletion_does_not_wait_for_a_post_start_hook(node: Node) -> None:
    async with node.running():
        node.bind(container=hook("postStart", sleep={"seconds": 1000}))
        await node.until(lambda: names(node) == ["c"])
        await settle()
        node.delete("p", 30)
        await node.until(lambda: f"{PODS}/p" not in node.api.objects)


async def test_a_sidecar_s_post_start_holds_back_those_it_serves(node: Node) -> None:
    side = SIDE | hook("postStart", sleep={"seconds": 3})
    async with node.running():
        node.bind(initContainers=[side])
        await node.until(lambda: names(node) == ["side"])
        await node.clock.advance(2)
        assert names(node) == ["side"]
        await node.clock.advance(1.1)
        await node.until(lambda: names(node) == ["side", "c"])


async def test_pre_stop_runs_before_the_signal_and_within_the_grace(node: Node) -> None:
    async with node.running():
        node.bind(container=hook("preStop", sleep={"seconds": 100}))
        node.bind("q", container=hook("preStop", sleep={"seconds": 3}))
        await node.until(lambda: len(names(node)) == 2)
        await settle()
        node.delete("p", 10)
        node.delete("q", 10)
        await settle()
        await node.clock.advance(2.9)
        assert not node.runtime.signals
        await node.clock.advance(0.2)
        await node.until(lambda: f"{PODS}/q" not in node.api.objects)
        assert signals(node) == [("c", 15)]
        await node.clock.advance(7)
        await node.until(lambda: f"{PODS}/p" not in node.api.objects)
        assert ("Warning", "FailedPreStopHook", "PreStopHook failed") in node.api.events()


async def test_a_pre_stop_hook_ends_with_its_container(node: Node) -> None:
    async with node.running():
        node.bind(container=hook("preStop", sleep={"seconds": 100}))
        await node.until(lambda: names(node) == ["c"])
        await settle()
        node.delete("p", 200)
        await node.clock.advance(1)
        node.runtime.exit(node.runtime.only().id, 0)
        await node.until(lambda: f"{PODS}/p" not in node.api.objects)
        assert "FailedPreStopHook" not in node.reasons()


async def test_sidecars_stop_last_to_first_once_those_they_serve_have_ended(node: Node) -> None:
    """Their hooks do not wait, their signals do; when the grace is used up all are stopped."""
    node.runtime.obeys = lambda number: None
    sides = [SIDE | {"name": name} for name in ("one", "two")]
    async with node.running():
        node.bind(initContainers=sides, terminationGracePeriodSeconds=30)
        await node.until(lambda: names(node) == ["one", "two", "c"])
        await settle()
        node.delete("p", 30)
        await settle()
        assert signals(node) == [("c", 15)]
        for name in ("c", "two"):
            (run,) = [
                item
                for item in node.runtime.running()
                if item.annotations["io.kubernetes.container.name"] == name
            ]
            await node.clock.advance(1)
            node.runtime.exit(run.id, 0)
            await settle()
        assert signals(node) == [("c", 15), ("two", 15), ("one", 15)]
        await node.clock.advance(29)
        await node.until(lambda: f"{PODS}/p" not in node.api.objects)
        assert signals(node)[-1] == ("one", 9)


async def test_a_probe_may_have_a_grace_of_its_own(node: Node) -> None:
    node.runtime.obeys = lambda number: None
    node.runtime.exec_answer = lambda args: (b"", 1)
    probe = {
        "exec": {"command": ["x"]}, "periodSeconds": 1, "failureThreshold": 1,
        "terminationGracePeriodSeconds": 4,
    }  # fmt: skip
    async with node.running():
        node.bind(container={"livenessProbe": probe}, terminationGracePeriodSeconds=500)
        await node.until(lambda: names(node) == ["c"])
        await settle()
        await node.clock.advance(0.6)
        await settle()
        assert signals(node) == [("c", 15)]
        await node.clock.advance(3.8)
        assert signals(node) == [("c", 15)]
        await node.clock.advance(0.3)
        assert signals(node) == [("c", 15), ("c", 9)]


async def test_a_deadline_outlives_the_agent_and_is_told(node: Node) -> None:
    async with node.running() as agent:
        node.bind(activeDeadlineSeconds=30)
        await node.until(lambda: node.pod()["status"]["phase"] == "Running")
        assert agent.workers
    await node.clock.advance(20)
    async with node.running() as agent:
        await settle()
        await node.clock.advance(11)
        await node.until(lambda: node.pod()["status"]["phase"] == "Failed")
        assert node.pod()["status"]["reason"] == "DeadlineExceeded"
        run = agent.workers["uid-p"].state.last("c")
        assert run is not None
        assert run.state == EXITED
        text = "Pod was active on the node longer than the specified deadline"
        assert ("Normal", "DeadlineExceeded", text) in node.api.events()


async def test_a_pod_that_is_stopped_tells_who_is_ready_and_who_has_ended(node: Node) -> None:
    node.runtime.obeys = lambda number: None
    answers = {"r": 0, "l": 0}
    node.runtime.exec_answer = lambda args: (b"", answers[args[0]])
    probes = {
        f"{kind}Probe": {"exec": {"command": [kind[0]]}, "periodSeconds": 1, "failureThreshold": 1}
        for kind in ("readiness", "liveness")
    }
    async with node.running():
        node.bind(containers=more(AFTER, **probes))
        await node.until(lambda: node.container("p", "c")["ready"])
        await settle()
        node.delete("p", 30)
        await settle()
        answers |= {"r": 1, "l": 1}
        await node.clock.advance(1.1)
        assert not node.container("p", "c")["ready"]
        assert node.container("p", "c")["restartCount"] == 0
        (other,) = [
            item
            for item in node.runtime.running()
            if item.annotations["io.kubernetes.container.name"] == "after"
        ]
        node.runtime.exit(other.id, 3)
        await settle()
        assert node.container("p", "after")["state"]["terminated"]["exitCode"] == 3
        assert "running" in node.container("p", "c")["state"]
        assert [number for _, number in node.runtime.signals] == [15, 15]


async def test_one_exit_may_restart_all_from_the_first_init_container(node: Node) -> None:
    codes = {"operator": "In", "values": [88]}
    rules = {
        "restartPolicy": "Never",
        "restartPolicyRules": [{"action": "RestartAllContainers", "exitCodes": codes}],
    }

    def condition() -> Any:
        found = node.pod()["status"]["conditions"]
        return next(item for item in found if item["type"] == "AllContainersRestarting")

    def exit_of(name: str, code: int) -> None:
        key = "io.kubernetes.container.name"
        (run,) = [item for item in node.runtime.running() if item.annotations[key] == name]
        node.runtime.exit(run.id, code)

    async with node.running():
        init = {"name": "init", "image": "busybox"}
        node.bind(
            initContainers=[init],
            restartPolicy="Never",
            containers=more(AFTER, **rules, **hook("preStop", sleep={"seconds": 9})),
        )
        await node.until(lambda: names(node) == ["init"])
        exit_of("init", 0)
        await node.until(lambda: names(node) == ["c", "after"])
        await node.until(lambda: node.pod()["status"].get("phase") == "Running")
        assert condition()["status"] == "False"
        node.runtime.obeys = lambda number: None
        exit_of("c", 88)
        await settle()
        assert condition()["status"] == "True"
        assert condition()["reason"] == "RestartAllContainersStarted"
        assert signals(node) == [("after", 15)]
        await node.clock.advance(1.1)
        await node.until(lambda: names(node) == ["init"])
        exit_of("init", 0)
        await node.until(lambda: names(node) == ["c", "after"])
        await node.until(lambda: node.container("p", "after")["restartCount"] == 1)
        assert node.container("p", "c")["restartCount"] == 1
        assert condition()["status"] == "False"
        exit_of("c", 0)
        exit_of("after", 1)
        await node.until(lambda: node.pod()["status"]["phase"] == "Failed")
