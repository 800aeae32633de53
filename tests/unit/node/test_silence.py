"""A node that was not heard for a while, and what others said of it and its pods meanwhile."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from tests.kit.clock import settle
from tests.kit.onenode import PODS, Node, no_server

NODE = "/api/v1/nodes/n1"


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    no_server(monkeypatch)
    return Node(tmp_path)


def ready(obj: Any) -> dict[str, str]:
    return next(item for item in obj["status"]["conditions"] if item["type"] == "Ready")


async def test_a_node_called_unknown_denies_it_when_it_is_heard_again(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with node.running():
        answer = node.api.request

        async def silence(*_: Any, **__: Any) -> Any:
            raise ConnectionError("no route to host")

        monkeypatch.setattr(node.api, "request", silence)
        await node.clock.advance(45)
        ready(node.api.objects[NODE])["status"] = "Unknown"
        monkeypatch.setattr(node.api, "request", answer)
        await node.clock.advance(2)
        assert ready(node.api.objects[NODE])["status"] == "True"


async def test_a_node_that_was_deleted_comes_back(node: Node) -> None:
    lease = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1"
    async with node.running():
        for path in (NODE, lease):
            node.api.remove(path)
        await node.clock.advance(10)
        assert ready(node.api.objects[NODE])["status"] == "True"
        assert lease in node.api.objects


async def test_a_pod_called_not_ready_for_its_nodes_silence_is_ready_again(node: Node) -> None:
    async with node.running():
        node.bind(container={"command": ["sleep", "1d"]})
        await node.until(lambda: node.pod()["status"]["phase"] == "Running")
        assert ready(node.pod())["status"] == "True"
        told = deepcopy(node.pod())
        ready(told)["status"] = "False"
        node.api.put(f"{PODS}/p", told)
        # The agent hears of it, waits, and says its own word.
        await settle(50)
        await node.clock.advance(1)
        await node.until(lambda: ready(node.pod())["status"] == "True")
