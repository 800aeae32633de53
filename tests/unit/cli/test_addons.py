"""What is kept of add-ons, so that all of them can be taken away again."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from sampan.paths import cluster_paths

with warnings.catch_warnings():
    # typer is of before click's newest.
    warnings.simplefilter("ignore", DeprecationWarning)
    import typer

    from sampan.cli import addons


def test_a_note_that_cannot_be_read_is_not_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it names beside the newer version's would stay for ever."""
    written: list[Any] = []

    def busy(*_: object) -> None:
        raise OSError("429: too many requests")

    monkeypatch.setattr(addons, "running_url", lambda _: "https://127.0.0.1:1")
    monkeypatch.setattr(addons.api, "get", busy)
    monkeypatch.setattr(addons.api, "apply", lambda *words: written.append(words))
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "all.yaml").write_text("kind: List\napiVersion: v1\nitems: []\n")
    with pytest.raises(typer.Exit):
        addons.enable(str(folder), name="c", data=tmp_path / "d")
    with pytest.raises(typer.Exit):
        addons.disable("own", name="c", data=tmp_path / "d")
    assert "too many requests" in capsys.readouterr().err
    assert not written


def test_addons_are_listed_while_nobody_knows_what_is_enabled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def away(*_: object) -> None:
        raise ConnectionRefusedError

    paths = cluster_paths("c", tmp_path)
    paths.config.write_text("{}")
    monkeypatch.setattr(addons, "running_url", lambda _: "https://127.0.0.1:1")
    monkeypatch.setattr(addons.api, "get", away)
    addons.list_addons(name="c", data=tmp_path)
    assert "ingress" in capsys.readouterr().out
