"""What `down` says of a cluster that never was."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_no_data_is_not_promised(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sampan", "down", "--name", "never-was"]
    command += ["--data", str(tmp_path / "none")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.startswith("there is no cluster never-was")
