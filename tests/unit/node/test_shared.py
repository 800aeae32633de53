"""Who shares memory with whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sampan.node.volumes.shared import share_ipc, shares_ipc
from tests.kit.onenode import Node, no_server
from tests.kit.runtime import FakeKernel

OTHER = {"name": "i", "image": "busybox", "imagePullPolicy": "IfNotPresent"}


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    no_server(monkeypatch)
    return Node(tmp_path)


@pytest.mark.parametrize(
    ("spec", "shared"),
    [
        ({"containers": [1]}, False),
        ({"containers": [1, 2]}, True),
        ({"containers": [1], "initContainers": [2]}, True),
        ({"containers": [1, 2], "hostIPC": True}, False),
    ],
)
def test_a_lone_container_needs_no_mounts(spec: Any, shared: bool) -> None:
    assert shares_ipc({"spec": spec}) is shared


def test_what_is_mounted_is_found_again(tmp_path: Path) -> None:
    kernel = FakeKernel()
    shared = share_ipc(tmp_path, kernel)
    assert kernel.points == [shared.memory, shared.namespace]
    assert share_ipc(tmp_path, kernel) == shared
    assert len(kernel.points) == 2
    # After a reboot the directories are there, but no mounts.
    kernel.points.clear()
    assert share_ipc(tmp_path, kernel) == shared
    assert len(kernel.points) == 2


async def test_containers_of_a_pod_get_the_same_namespace(node: Node) -> None:
    async with node.running():
        node.bind(initContainers=[OTHER | {"restartPolicy": "Always"}])
        await node.until(lambda: len(node.runtime.running()) == 2)
        specs = list(node.runtime.specs.values())
        assert len({spec.ipc_namespace for spec in specs}) == 1
        assert specs[0].ipc_namespace.endswith("uid-p/ipc/namespace")
        for spec in specs:
            (memory,) = [item for item in spec.mounts if item.target == "/dev/shm"]
            assert memory.source.endswith("uid-p/ipc/shm")
        node.delete("p", 0)
        await node.until(lambda: not node.agent.workers)  # type: ignore[union-attr]
        assert not [point for point in node.kernel.points if "uid-p" in str(point)]
