"""What the control plane finds where its database was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sampan.daemon.control import open_store
from sampan.paths import ClusterPaths
from sampan.store.interface import Damaged


@pytest.mark.parametrize(
    ("lose", "why"),
    [(Path.unlink, "is missing"), (lambda path: path.write_bytes(b""), "is empty")],
)
async def test_a_database_that_was_there_is_never_replaced_by_an_empty_one(
    lose: Callable[[Path], object], why: str, tmp_path: Path
) -> None:
    paths = ClusterPaths("x", tmp_path, tmp_path / "run")
    for _ in range(2):
        store, _ = open_store(paths)
        await store.close()
    lose(paths.database)
    with pytest.raises(Damaged, match=f"{why}.*Restore"):
        open_store(paths)
    assert not paths.database.exists() or paths.database.stat().st_size == 0
