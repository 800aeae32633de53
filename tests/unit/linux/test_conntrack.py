"""Limits of connection tracking are raised, never lowered."""

from __future__ import annotations

from pathlib import Path

from sampan.linux.conntrack import raise_limits


def test_limits_are_raised_and_never_lowered(tmp_path: Path) -> None:
    wait, most = tmp_path / "nf_conntrack_tcp_timeout_close_wait", tmp_path / "nf_conntrack_max"
    for before, processors, after in (
        (("60\n", "65536\n"), 2, ("3600", "131072")),
        (("60\n", "65536\n"), 8, ("3600", "262144")),
        (("7200\n", "999999\n"), 8, ("7200", "999999")),
    ):
        wait.write_text(before[0])
        most.write_text(before[1])
        raise_limits(tmp_path, processors)
        assert (wait.read_text().strip(), most.read_text().strip()) == after
    raise_limits(tmp_path / "absent")
