"""Blobs that several processes of a machine fetch at once, into the same folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sampan.runtime import partials
from sampan.runtime.partials import Partials

DIGEST = "sha256:" + "a" * 64


async def test_who_is_done_first_leaves_the_other_one_his_file(tmp_path: Path) -> None:
    one, other = Partials(tmp_path), Partials(tmp_path)
    async with one.claim(DIGEST, tmp_path / "draft") as file:
        file.write_bytes(b"so far")
        async with other.claim(DIGEST, tmp_path / "other") as draft:
            assert draft == tmp_path / "other"
        other.forget([DIGEST])
        assert file.read_bytes() == b"so far"
    one.forget([DIGEST])
    assert not file.exists()


async def test_a_file_that_goes_before_it_is_locked_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else two would write to one file, each with a lock."""
    lock = partials._try_lock
    gone: list[int] = []

    def late(fd: int) -> bool:
        if not gone:
            gone.append(fd)
            os.unlink(f"{tmp_path}/{'a' * 64}")
        return lock(fd)

    monkeypatch.setattr(partials, "_try_lock", late)
    one, other = Partials(tmp_path), Partials(tmp_path)
    async with one.claim(DIGEST, tmp_path / "draft") as file:
        assert file.exists()
        async with other.claim(DIGEST, tmp_path / "other") as draft:
            assert draft == tmp_path / "other"
