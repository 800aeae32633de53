"""The parent of a cluster's processes."""

from __future__ import annotations

import os
import selectors
import sys
from pathlib import Path

import pytest

from sampan.daemon import supervise
from sampan.daemon.supervise import BACKOFF_S, STEADY_S, Cluster
from sampan.paths import cluster_paths


class Full:
    """What a log on a full disk is."""

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")

    def flush(self) -> None: ...


def test_a_full_disk_does_not_end_the_supervisor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is then that parts end and have to be started again."""
    cluster = Cluster(cluster_paths("c", tmp_path))
    part = cluster.parts["node"]
    part.go = os.open(tmp_path, os.O_RDONLY)
    monkeypatch.setattr(sys, "stderr", Full())
    cluster._ended(part, 1)
    assert part.state == "restarting"
    assert part.restart_at > 0


@pytest.mark.parametrize(
    ("code", "held_s", "delays"),
    [
        # It ends by itself as soon as it is ready: what is wrong is still wrong.
        (1, 1.0, BACKOFF_S[:3]),
        (1, STEADY_S, (BACKOFF_S[0],) * 3),
        # Somebody kills it.
        (-9, 1.0, (BACKOFF_S[0],) * 3),
    ],
)
def test_a_part_that_does_not_hold_is_started_less_and_less_often(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    held_s: float,
    delays: tuple[float, ...],
) -> None:
    cluster = Cluster(cluster_paths("c", tmp_path))
    part = cluster.parts["control"]
    now = [100.0]
    monkeypatch.setattr(supervise.time, "monotonic", lambda: now[0])
    for delay in delays:
        part.go = os.open(tmp_path, os.O_RDONLY)
        part.state = "starting"
        part.pipe, said = os.pipe()
        os.write(said, b'{"state": "ready"}\n')
        os.close(said)
        cluster._hear(part)
        now[0] += held_s
        cluster.selector.register(part.pipe, selectors.EVENT_READ)
        cluster._ended(part, code)
        assert part.restart_at == now[0] + delay


def test_a_part_that_cannot_be_started_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine may be out of processes or disk for a moment: the other parts go on."""

    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    paths = cluster_paths("c", tmp_path)
    paths.logs.mkdir(parents=True)
    cluster = Cluster(paths)
    part = cluster.parts["node"]
    monkeypatch.setattr(supervise.subprocess, "Popen", refuse)
    before = len(os.listdir("/proc/self/fd"))
    cluster._start(part)
    assert (part.process, part.go, part.state) == (None, -1, "restarting")
    assert "unavailable" in part.error
    assert part.restart_at > 0
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_clean_up_that_fails_is_tried_again_less_and_less_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = cluster_paths("c", tmp_path)
    paths.member(2).data.mkdir(parents=True)
    cluster = Cluster(paths)
    part = cluster.parts["node-2"]
    part.leaving, part.state = True, "leaving"
    monkeypatch.setattr(supervise.time, "monotonic", lambda: 100.0)
    for delay in BACKOFF_S[:3]:
        part.go = os.open(tmp_path, os.O_RDONLY)
        cluster._ended(part, 1)
        assert part.restart_at == 100.0 + delay
    paths.member(2).data.rmdir()
    part.go = os.open(tmp_path, os.O_RDONLY)
    cluster._ended(part, 0)
    assert "node-2" not in cluster.parts


def test_a_node_without_a_folder_fails_alone(tmp_path: Path) -> None:
    paths = cluster_paths("c", tmp_path)
    nodes = paths.member(2).data.parent
    nodes.parent.mkdir(parents=True, exist_ok=True)
    cluster = Cluster(paths)
    nodes.write_text("in the way")
    cluster._add(2)
    assert cluster.parts["node-2"].state == "failed"
    assert cluster.parts["node-2"].error


def test_a_node_that_was_leaving_when_the_supervisor_was_killed_goes_on_leaving(
    tmp_path: Path,
) -> None:
    paths = cluster_paths("c", tmp_path)
    for number in (2, 3):
        paths.make_member(number)
    cluster = Cluster(paths)
    gone = cluster.parts["node-2"]
    gone.detail = {"node": "host-2"}
    gone.process = Ending()  # type: ignore[assignment]
    cluster._remove(2)
    assert paths.parting(2).read_text() == "host-2"
    again = Cluster(paths)
    assert [name for name, part in again.parts.items() if part.leaving] == ["node-2"]
    paths.make_member(2)
    assert Cluster(paths).parts["node-2"].leaving
    # A new node of its number is another one.
    paths.member(2).data.rmdir()
    paths.make_member(2)
    assert not Cluster(paths).parts["node-2"].leaving


class Ending:
    """A process that takes its time."""

    pid = 0

    def terminate(self) -> None: ...
