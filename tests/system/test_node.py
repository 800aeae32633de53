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


@pytest.mark.parametrize("scene", ["lifecycle", "restart", "together"])
def test_scene(scene: str, tmp_path: Path) -> None:
    cluster = f"sampan-t{os.getpid()}"
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tests.system.node_scenes", scene, str(tmp_path), cluster],
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
