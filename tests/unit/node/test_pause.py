"""The process that holds a pod's PID namespace."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from sampan.node import pause
from sampan.runtime.interface import Image
from tests.kit.runtime import BUSYBOX
from tests.unit.node.test_agent import PODS, Node, node

__all__ = ["node"]


def test_the_program_is_a_whole_elf_file() -> None:
    data = pause.program()
    assert data[:5] == b"\x7fELF\x02"
    entry, offset = struct.unpack_from("<QQ", data, 24)
    kind, _, at, base, _, size, _, _ = struct.unpack_from("<IIQQQQQQ", data, offset)
    assert (kind, at, size) == (1, 0, len(data))
    assert data[entry - base :] == pause.PROGRAM


async def test_it_is_there_before_the_containers_and_goes_after_them(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[Path] = []

    async def load(archive: Path) -> list[Image]:
        loaded.append(archive)
        node.images.here[pause.IMAGE] = BUSYBOX
        return [BUSYBOX]

    monkeypatch.setattr(node.images, "load", load)
    monkeypatch.setattr(pause, "machine", lambda: "amd64")
    async with node.running():
        node.bind(shareProcessNamespace=True)
        await node.until(lambda: node.container().get("ready"))
        holder, container = node.runtime.running()
        assert node.runtime.specs[holder.id].args == ("/pause",)
        assert pause.holds_namespace(holder)
        assert not pause.holds_namespace(container)
        assert len(node.pod()["status"]["containerStatuses"]) == 1
    async with node.running():
        # The next agent finds it, and does not take it for a container of the pod.
        node.bind("q", shareProcessNamespace=True)
        await node.until(lambda: node.container("q").get("ready"))
        assert holder.id in node.runtime.containers
        assert len(loaded) == 1
        # With it all others end; both are made anew.
        node.runtime.exit(holder.id, 137)
        node.runtime.exit(container.id, 137)
        await node.until(lambda: node.container()["restartCount"] == 1)
        assert len(node.runtime.running()) == 4
        for name in ("p", "q"):
            node.api.remove(f"{PODS}/{name}")
        await node.until(lambda: not node.runtime.containers)
