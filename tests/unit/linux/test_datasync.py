"""What is synced without waiting is told of, and so is what cannot be."""

from __future__ import annotations

import errno
import os
import select
from pathlib import Path

import pytest

from sampan.linux import datasync
from sampan.linux.datasync import DataSync


def _await(sync: DataSync) -> None:
    readable, _, _ = select.select([sync.fileno()], [], [], 30)
    assert readable


def test_a_file_is_synced_again_and_again(tmp_path: Path) -> None:
    with open(tmp_path / "log", "wb", buffering=0) as file:
        sync = DataSync(file.fileno())
        for part in (b"one", b"two"):
            file.write(part)
            sync.begin()
            _await(sync)
            sync.finish()
        assert not select.select([sync.fileno()], [], [], 0)[0]
        sync.close()


def test_what_cannot_be_synced_is_refused_at_once() -> None:
    reader, writer = os.pipe()
    sync = DataSync(reader)
    with pytest.raises(OSError) as refused:
        sync.begin()
    assert refused.value.errno == errno.EINVAL
    sync.close()
    os.close(reader)
    os.close(writer)


def test_an_unknown_machine_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasync, "_CALLS", {})
    with pytest.raises(OSError) as refused:
        DataSync(0)
    assert refused.value.errno == errno.ENOSYS
