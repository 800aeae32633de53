"""What a node tells of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from sampan.node.tidings import of_start, of_status
from tests.kit.onenode import Node, no_server


def conditions(ready: str, disk: str = "False") -> dict[str, Any]:
    kinds = {"MemoryPressure": "False", "DiskPressure": disk, "PIDPressure": "False"}
    listed = [{"type": kind, "status": value} for kind, value in kinds.items()]
    return {
        "conditions": [*listed, {"type": "Ready", "status": ready}],
        "nodeInfo": {"bootID": "b1"},
    }


def test_only_what_changes_is_told() -> None:
    assert list(of_status("n", conditions("True"), conditions("True"))) == []
    told = list(of_status("n", conditions("True"), conditions("False", disk="True")))
    assert told == [
        ("Normal", "NodeHasDiskPressure", "Node n status is now: NodeHasDiskPressure"),
        ("Normal", "NodeNotReady", "Node n status is now: NodeNotReady"),
    ]


def test_a_machine_that_was_started_anew() -> None:
    old = {"status": {**conditions("True"), "nodeInfo": {"bootID": "b0"}}}
    *scarce, told = of_start("n", old, conditions("True"))
    assert told == ("Warning", "Rebooted", "Node n has been rebooted, boot id: b1")
    assert [item.reason for item in scarce] == [
        "NodeHasSufficientMemory", "NodeHasNoDiskPressure", "NodeHasSufficientPID",
    ]  # fmt: skip


async def test_an_agent_that_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_server(monkeypatch)
    node = Node(tmp_path)
    first = [
        "Starting", "NodeHasSufficientMemory", "NodeHasNoDiskPressure", "NodeHasSufficientPID",
        "NodeAllocatableEnforced",
    ]  # fmt: skip
    async with node.running() as agent:
        await node.until(lambda: sorted(node.reasons()) == sorted([*first, "NodeReady"]))
        agent.registration.facts = replace(agent.registration.facts, boot_id="another")
        agent.registration.tell_trouble("container runtime is down")
        await node.until(lambda: node.reasons()[-1] == "NodeNotReady")
