"""What the machine or the API server refuses is told in a line."""

from __future__ import annotations

import email.message
import io
import subprocess
import sys
import urllib.error
from pathlib import Path

import pytest

from sampan.cli.main import told

HEADERS = email.message.Message()
REFUSED = ConnectionRefusedError(111, "Connection refused")


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (OSError(28, "No space left on device", "/data/log"), "/data/log: No space left on device"),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        (urllib.error.URLError(REFUSED), "the API server does not answer: Connection refused;"),
        (
            urllib.error.HTTPError(
                "https://a", 403, "Forbidden", HEADERS, io.BytesIO(b'{"message": "no secrets"}')
            ),
            "no secrets",
        ),
    ],
)
def test_what_is_refused_is_a_line(error: OSError, word: str) -> None:
    assert told(error).startswith(word)
    assert "\n" not in told(error)


def test_a_file_that_cannot_be_read_ends_the_command_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "admin.kubeconfig").mkdir()
    command = [sys.executable, "-m", "sampan", "kubeconfig", "--name", "hurt"]
    done = subprocess.run([*command, "--data", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == f"sampan: {tmp_path}/admin.kubeconfig: Is a directory\n"
