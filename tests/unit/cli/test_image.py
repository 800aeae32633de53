"""Archives that come through a pipe."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import typer

from sampan.cli.image import STDIN, seekable
from sampan.paths import cluster_paths


def test_what_a_pipe_gives_is_read_from_any_place(tmp_path: Path) -> None:
    paths = cluster_paths("mine", tmp_path)
    read, write = os.pipe()
    os.write(write, b"an archive")
    os.close(write)
    with seekable(paths, Path(f"/dev/fd/{read}")) as archive:
        assert archive.read_bytes() == b"an archive"
        assert not paths.strangers()
    os.close(read)
    # Nothing of it stays, and a file is taken where it is.
    assert not os.listdir(tmp_path)
    with seekable(paths, tmp_path / "app.tar") as archive:
        assert archive == tmp_path / "app.tar"


def test_nothing_is_kept_for_a_cluster_that_never_was(tmp_path: Path) -> None:
    paths = cluster_paths("never-was", tmp_path / "none")
    with pytest.raises(typer.Exit), seekable(paths, STDIN):
        pass
    assert not paths.data.exists()
