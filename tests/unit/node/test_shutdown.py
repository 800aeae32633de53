"""A machine that goes down: pods end first, critical ones last."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from sampan.node.shutdown import CRITICAL, shut_down
from tests.kit.clock import settle
from tests.kit.onenode import Node, no_server


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    no_server(monkeypatch)
    return Node(tmp_path)


def condition(node: Node, name: str, kind: str) -> Any:
    found = node.pod(name)["status"].get("conditions") or ()
    return next((item for item in found if item["type"] == kind), None)


async def test_pods_end_by_priority_and_within_their_share(node: Node) -> None:
    node.runtime.obeys = lambda number: None
    async with node.running() as agent:
        node.bind("plain")
        node.bind("vital", priority=CRITICAL)
        await node.until(lambda: len(node.runtime.running()) == 2)
        await settle()
        ending = asyncio.create_task(shut_down(agent, 30, 10))
        await settle()
        plain = node.runtime.specs[node.runtime.signals[0][0]]
        assert plain.annotations["io.kubernetes.pod.name"] == "plain"
        assert [number for _, number in node.runtime.signals] == [15]
        # What still runs has not failed yet, but is told to be about to.
        await node.until(lambda: condition(node, "plain", "DisruptionTarget"))
        assert node.pod("plain")["status"]["phase"] == "Running"
        await node.clock.advance(20.1)
        await node.until(lambda: node.pod("plain")["status"]["phase"] == "Failed")
        status = node.pod("plain")["status"]
        assert status["reason"] == "Terminated"
        text = "Pod was terminated in response to imminent node shutdown."
        assert status["message"] == text
        told = condition(node, "plain", "DisruptionTarget")
        assert (told["status"], told["reason"], told["message"]) == (
            "True",
            "TerminationByKubelet",
            text,
        )
        await settle()
        assert [number for _, number in node.runtime.signals] == [15, 9, 15]
        node.runtime.exit(node.runtime.only().id, 0)
        await node.until(ending.done)
        assert node.pod("vital")["status"]["phase"] == "Failed"
        (ready,) = [
            item
            for item in node.api.objects["/api/v1/nodes/n1"]["status"]["conditions"]
            if item["type"] == "Ready"
        ]
        assert (ready["status"], ready["message"]) == ("False", "node is shutting down")
        node.bind("late")
        await node.until(lambda: node.pod("late")["status"].get("reason") == "NodeShutdown")
        assert not node.runtime.running()
