"""How full the volumes behind claims are."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sampan.node import claimstats
from sampan.node.claimstats import ClaimStats, families
from sampan.node.exposition import lines_of
from sampan.node.facts import Disk
from tests.kit.clock import FakeClock

DISK = Disk(100, 40, 10, 7)


def agent(clock: FakeClock, **paths: Path) -> Any:
    """With two pods that share a claim, and a third volume that is none."""
    volumes = [
        {"name": "v", "persistentVolumeClaim": {"claimName": "c"}},
        {"name": "e", "emptyDir": {}},
    ]
    workers = {}
    for name, path in paths.items():
        pod = {"metadata": {"name": name, "namespace": "ns", "uid": f"uid-{name}"}}
        state = SimpleNamespace(pod=pod, spec={"volumes": volumes}, stopped=False)
        held = {"v": path, "e": path}
        workers[name] = SimpleNamespace(state=state, sandbox=SimpleNamespace(volumes=held))
    return SimpleNamespace(workers=workers, parts=SimpleNamespace(clock=clock))


async def test_each_claim_counts_once_and_figures_are_kept_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked: list[Path] = []

    def look(path: Path) -> Disk:
        looked.append(path)
        return DISK

    monkeypatch.setattr(claimstats, "read_disk", look)
    clock = FakeClock()
    stats = ClaimStats(agent(clock, p=Path("/a"), q=Path("/a")))
    found = await stats.read()
    assert [(item.uid, item.volume, item.claim) for item in found] == [
        ("uid-p", "v", "c"),
        ("uid-q", "v", "c"),
    ]
    assert await stats.read() == found
    assert looked == [Path("/a")]
    await clock.advance(61)
    await stats.read()
    assert len(looked) == 2
    lines = [line for family in families(found) for line in lines_of(family)]
    labels = '{namespace="ns",persistentvolumeclaim="c"}'
    assert [line for line in lines if not line.startswith("#")] == [
        f"kubelet_volume_stats_capacity_bytes{labels} 100",
        f"kubelet_volume_stats_available_bytes{labels} 40",
        f"kubelet_volume_stats_used_bytes{labels} 60",
        f"kubelet_volume_stats_inodes{labels} 10",
        f"kubelet_volume_stats_inodes_free{labels} 7",
        f"kubelet_volume_stats_inodes_used{labels} 3",
    ]


async def test_a_silent_file_server_keeps_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    answered, asked = threading.Event(), []

    def look(path: Path) -> Disk:
        asked.append(path)
        if path == Path("/silent"):
            answered.wait(10)
        return DISK

    monkeypatch.setattr(claimstats, "read_disk", look)
    monkeypatch.setattr(claimstats, "WAIT_S", 0.01)
    stats = ClaimStats(agent(FakeClock(), p=Path("/silent"), q=Path("/well")))
    for _ in range(3):
        await stats.read()
    # The other one is known, however long the first one takes.
    async with asyncio.timeout(5):
        while [item.uid for item in await stats.read()] != ["uid-q"]:
            pass
    assert asked.count(Path("/silent")) == 1
    answered.set()
    async with asyncio.timeout(5):
        while len(await stats.read()) != 2:
            pass
