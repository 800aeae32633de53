"""NFS shares: mounted once, bound per pod, taken away with the last. The client is a fake."""

from __future__ import annotations

import asyncio
import errno
import threading
from pathlib import Path
from typing import Any

import pytest

from sampan.node.nfs import shares
from sampan.node.nfs.shares import Shares
from sampan.node.volumes.source import VolumeError
from tests.kit.runtime import FakeKernel

SOURCE = {"server": "fs.example.com", "path": "/data"}


@pytest.fixture
def mounted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, tuple[str, ...]]]:
    """What clients were asked for."""
    asked: list[tuple[str, tuple[str, ...]]] = []

    async def mount(what: str, target: Path, options: Any, home: int = -1) -> None:
        asked.append((what, (*options,)))
        if "refused" in what:
            raise OSError(errno.ECONNREFUSED, "Connection refused")
        kernel.points.append(target)

    kernel = FakeKernel()
    monkeypatch.setattr(shares, "has_client", lambda: False)
    monkeypatch.setattr(shares, "mount_by_fuse", mount)
    monkeypatch.setattr(FakeKernel, "shared", kernel, raising=False)
    return asked


def kernel() -> FakeKernel:
    found: FakeKernel = FakeKernel.shared  # type: ignore[attr-defined]
    return found


async def test_one_mount_for_all_pods_of_a_node(mounted: list[Any], tmp_path: Path) -> None:
    here = Shares(tmp_path, tmp_path, kernel())
    first = await here.publish("a", "v", SOURCE, [])
    second = await here.publish("b", "v", SOURCE, [])
    assert await here.publish("a", "v", SOURCE, []) == first
    assert mounted == [("fs.example.com:/data", ())]
    assert first == tmp_path / "pods/a/volumes/kubernetes.io~nfs/v"
    assert kernel().binds[first] == kernel().binds[second]
    # The next agent knows what the first one has made.
    later = Shares(tmp_path, tmp_path, kernel())
    await later.release("a")
    assert not first.exists()
    assert len(kernel().points) == 2
    await later.release("b")
    await later.release("b")
    assert kernel().points == []
    assert not [*(tmp_path / "plugins/kubernetes.io/nfs").iterdir()]


async def test_a_silent_server_holds_up_no_other_share(
    mounted: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, bind = threading.Event(), FakeKernel.bind

    def slow(self: FakeKernel, source: Path, target: Path) -> None:
        if target.name == "silent":
            go_on.wait(5)
        bind(self, source, target)

    monkeypatch.setattr(FakeKernel, "bind", slow)
    here = Shares(tmp_path, tmp_path, kernel())
    waiting = [
        asyncio.create_task(here.publish(f"p{number}", "silent", SOURCE, [])) for number in range(9)
    ]
    other = await here.publish("b", "v", SOURCE | {"server": "other"}, [])
    assert other in kernel().binds
    assert not any(task.done() for task in waiting)
    go_on.set()
    await asyncio.gather(*waiting)
    # A note that was being written when the power went says nothing.
    note = tmp_path / "pods/b/volumes/kubernetes.io~nfs/lost.share"
    note.touch()
    await here.release("b")
    assert not note.exists()


async def test_reading_is_another_share_and_addresses_have_brackets(
    mounted: list[Any], tmp_path: Path
) -> None:
    here = Shares(tmp_path, tmp_path, kernel())
    await here.publish("a", "w", SOURCE, ["nfsvers=4.1"])
    await here.publish("a", "r", SOURCE | {"readOnly": True}, ["nfsvers=4.1"])
    await here.publish("a", "six", SOURCE | {"server": "fd00::1"}, [])
    assert mounted == [
        ("fs.example.com:/data", ("nfsvers=4.1",)),
        ("fs.example.com:/data", ("nfsvers=4.1", "ro")),
        ("[fd00::1]:/data", ()),
    ]


async def test_a_refusal_is_told_in_mounts_words(mounted: list[Any], tmp_path: Path) -> None:
    here = Shares(tmp_path, tmp_path, kernel())
    with pytest.raises(VolumeError) as error:
        await here.publish("a", "v", SOURCE | {"path": "/refused"}, ["hard"])
    lines = str(error.value).splitlines()
    assert lines[:2] == ["mount failed: exit status 32", "Mounting command: mount"]
    assert lines[2].startswith("Mounting arguments: -t nfs -o hard fs.example.com:/refused ")
    assert lines[3] == "Output: mount.nfs: Connection refused"
    await here.release("a")
