"""Whether the machine goes down: systemd is asked, if it is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from sampan.linux import power


def test_who_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power, "SYSTEMD", tmp_path)
    assert power.is_going_down(("echo", "stopping"))
    assert not power.is_going_down(("echo", "running"))
    assert not power.is_going_down(("/no/such/program",))
    monkeypatch.setattr(power, "SYSTEMD", tmp_path / "none")
    assert not power.is_going_down(("echo", "stopping"))
