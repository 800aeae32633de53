"""The node agent with real containers and a real network; the API server is a dict."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sampan.linux import cgroups
from sampan.linux.namespaces import remove_node_namespace

pytestmark = pytest.mark.root
ROOT = Path(__file__).resolve().parents[2]


# Each scene holds over containerd too; CI plays there the two with the most in them.
SCENES = [(scene, "crun") for scene in ("lifecycle", "restart", "together")]
SCENES += [(scene, "containerd") for scene in ("restart", "together")]


@pytest.mark.parametrize(("scene", "runtime"), SCENES)
def test_scene(scene: str, runtime: str, tmp_path: Path) -> None:
    cluster = f"sampan-t{os.getpid()}"
    try:
        done = subprocess.run(
            (sys.executable, "-m", "tests.system.node_scenes", scene, tmp_path, cluster, runtime),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    finally:
        cgroups.kill(cluster)
        cgroups.remove_when_empty(cluster)
        remove_node_namespace(tmp_path / "run")
