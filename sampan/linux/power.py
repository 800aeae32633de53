"""Whether the machine is going down, as its init says."""

from __future__ import annotations

import subprocess
from pathlib import Path

SYSTEMD = Path("/run/systemd/system")
"""There when systemd is the machine's init (sd_booted(3))."""
ASK_S = 5.0


def is_going_down(command: tuple[str, ...] = ("systemctl", "is-system-running")) -> bool:
    """False where nobody can tell. Takes some milliseconds; only for a process that is ending."""
    if not SYSTEMD.is_dir():
        return False
    try:
        done = subprocess.run(command, capture_output=True, timeout=ASK_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.stdout.strip() == b"stopping"
