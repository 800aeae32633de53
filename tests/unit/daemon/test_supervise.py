"""The parent of a cluster's processes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from sampan.daemon.supervise import Cluster
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
