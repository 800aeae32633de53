"""What cgroups of either kind tell of disks."""

from __future__ import annotations

from pathlib import Path

import pytest

from sampan.linux import blockio, cgroups
from sampan.linux.blockio import transfers

NULL = "/dev/vda"


@pytest.mark.parametrize("v2", [False, True])
def test_what_was_read_and_written(
    v2: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = cgroups.Hierarchies(v2, {} if v2 else {"blkio": tmp_path})
    monkeypatch.setattr(cgroups, "hierarchies", lambda: table)
    monkeypatch.setattr(cgroups, "ROOT", tmp_path)
    monkeypatch.setattr(blockio, "device", {"254:0": NULL}.__getitem__)
    folder = tmp_path / "pods/c"
    assert transfers("pods/c") == blockio.Transfers()
    folder.mkdir(parents=True)
    (folder / "io.stat").write_text("254:0 rbytes=4096 wbytes=512 rios=3 wios=1 dbytes=0 dios=0\n")
    for name, read, written in (("io_service_bytes", 4096, 512), ("io_serviced", 3, 1)):
        text = f"254:0 Read {read}\n254:0 Write {written}\n254:0 Sync 0\nTotal {read + written}\n"
        (folder / f"blkio.throttle.{name}_recursive").write_text(text)
    found = transfers("/pods/c")
    assert found.bytes == {(NULL, "Read"): 4096, (NULL, "Write"): 512}
    assert found.count == {(NULL, "Read"): 3, (NULL, "Write"): 1}
