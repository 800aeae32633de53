"""A machine that was started anew: what pods say of before, and what runs again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from sampan.node.translate import CONTAINER_NAME
from sampan.runtime.interface import State
from tests.kit.clock import settle
from tests.kit.onenode import Node, no_server

INITS = [
    {"name": "init", "image": "busybox"},
    {"name": "side", "image": "busybox", "restartPolicy": "Always"},
]


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    no_server(monkeypatch)
    return Node(tmp_path)


def reboot(node: Node) -> None:
    """As a runtime shows it: everything has ended, and of no exit it knows how."""
    node.network.given.clear()
    for container in node.runtime.containers.values():
        node.runtime.containers[container.id] = replace(
            container, state=State.EXITED, exit_code=255, reason="Unknown", rebooted=True,
            finished_at=node.clock.now(),
        )  # fmt: skip


def names(node: Node) -> list[str]:
    return sorted(item.annotations[CONTAINER_NAME] for item in node.runtime.running())


def init(node: Node, field: str, index: int) -> Any:
    return node.pod()["status"]["initContainerStatuses"][index][field]


async def end(node: Node, name: str, code: int = 0) -> None:
    await node.until(lambda: name in names(node))
    for item in node.runtime.running():
        if item.annotations[CONTAINER_NAME] == name:
            node.runtime.exit(item.id, code)


async def test_a_pod_starts_from_its_first_init_container(node: Node) -> None:
    """A sandbox that is gone (computePodActions): once each, in order, and all of it counted."""
    async with node.running():
        node.bind(initContainers=INITS)
        await end(node, "init")
        await node.until(lambda: node.container()["ready"])
    reboot(node)
    async with node.running():
        await node.until(lambda: names(node) == ["init"])
        await settle()
        assert names(node) == ["init"]
        await end(node, "init")
        await node.until(lambda: node.container()["restartCount"] == 1)
        await node.until(lambda: node.container()["ready"])
        assert names(node) == ["c", "side"]
        ended = node.container()["lastState"]["terminated"]
        assert (ended["reason"], ended["exitCode"]) == ("Unknown", 255)
        assert [init(node, "restartCount", index) for index in (0, 1)] == [1, 1]
        assert init(node, "state", 0)["terminated"]["reason"] == "Completed"
        assert init(node, "lastState", 0)["terminated"]["reason"] == "Completed"
        assert node.pod()["status"]["phase"] == "Running"
        assert "SandboxChanged" in node.reasons()
    async with node.running():
        # What ran before the reboot is still remembered, and no reason to begin again.
        await settle()
        assert names(node) == ["c", "side"]
        assert init(node, "restartCount", 0) == 1


async def test_an_agent_that_ends_on_the_way_back(node: Node) -> None:
    """The next one goes on where it was: what has run again is not run once more."""
    inits = [{"name": name, "image": "busybox"} for name in ("one", "two")]
    async with node.running():
        node.bind(initContainers=inits)
        await end(node, "one")
        await end(node, "two")
        await node.until(lambda: node.container()["ready"])
    reboot(node)
    async with node.running():
        await end(node, "one")
        await node.until(lambda: names(node) == ["two"])
    async with node.running():
        await end(node, "two")
        await node.until(lambda: node.container()["ready"])
        assert [init(node, "restartCount", index) for index in (0, 1)] == [1, 1]


async def test_what_was_over_stays_as_it_was(node: Node) -> None:
    async with node.running():
        node.bind("done", restartPolicy="Never")
        await end(node, "c")
        await node.until(lambda: node.pod("done")["status"]["phase"] == "Succeeded")
        node.bind("part", restartPolicy="OnFailure", containers=[
            {"name": "c", "image": "busybox"}, {"name": "d", "image": "busybox"},
        ])  # fmt: skip
        await end(node, "c")
        await node.until(lambda: "terminated" in node.container("part", "c")["state"])
        node.bind("never", restartPolicy="Never")
        await node.until(lambda: node.container("never")["ready"])
    reboot(node)
    async with node.running():
        await node.until(lambda: node.container("part", "d")["restartCount"] == 1)
        await node.until(lambda: node.pod("never")["status"]["phase"] == "Failed")
        await settle()
        assert names(node) == ["d"]
        for pod in ("done", "part"):
            ended = node.container(pod, "c")["state"]["terminated"]
            assert (ended["reason"], ended["exitCode"]) == ("Completed", 0)
        assert node.pod("done")["status"]["phase"] == "Succeeded"
        assert node.container("never")["state"]["terminated"]["reason"] == "Unknown"
