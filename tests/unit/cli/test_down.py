"""What `down` says of a cluster that never was, and what it never removes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import typer

from sampan.cli import down
from sampan.cli.build import registry_host
from sampan.cli.down import remove
from sampan.cli.image import runtime_of
from sampan.cli.options import listening, make_data, settings_of
from sampan.daemon import cleanup, config
from sampan.paths import ClusterPaths, cluster_paths


def test_no_data_is_not_promised(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sampan", "down", "--name", "never-was"]
    command += ["--data", str(tmp_path / "none")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.startswith("there is no cluster never-was")


def test_a_folder_in_use_is_neither_taken_nor_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = cluster_paths("mine", tmp_path)
    (tmp_path / "hosts").write_text("127.0.0.1 localhost")
    with pytest.raises(typer.Exit):
        make_data(paths)
    paths.pki.mkdir()
    paths.config.write_text("{}")
    with pytest.raises(typer.Exit):
        remove(paths)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cluster.json", "hosts", "pki"]
    assert "(hosts); nothing was removed" in capsys.readouterr().err


def test_what_a_cluster_made_is_removed(tmp_path: Path) -> None:
    paths = cluster_paths("mine", tmp_path / "data")
    make_data(paths)
    for folder in (paths.pki, paths.logs, paths.node, paths.images, paths.settings, paths.members):
        folder.mkdir()
    for name in ("cluster.json", "state.db", "state.db-wal", "merged.path", "agent.token"):
        (paths.data / name).write_text("")
    remove(paths)
    assert not paths.data.exists()


def test_data_of_another_cluster_is_left_alone(tmp_path: Path) -> None:
    paths = cluster_paths("mine", tmp_path)
    paths.config.write_text('{"name": "mine"}')
    command = [sys.executable, "-m", "sampan", "down", "--name", "yours", "--purge"]
    done = subprocess.run([*command, "--data", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 1
    assert "sampan down --name mine" in done.stderr
    assert paths.config.exists()


def test_what_cannot_be_stopped_keeps_its_data_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the data and the run folders nobody could say what to stop."""
    paths = ClusterPaths("stuck", tmp_path / "data", tmp_path / "run/stuck")
    nodes = (paths, paths.member(2))
    for node in nodes:
        node.run.mkdir(parents=True)
        node.data.mkdir(parents=True)
    monkeypatch.setattr(cleanup, "cluster_paths", lambda *_: paths)
    monkeypatch.setattr(down, "paths_of", lambda *_: paths)

    def clean_up(_: list[str], check: bool) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([], cleanup.main(["--name", "stuck", "--data", "x"]))

    monkeypatch.setattr(subprocess, "run", clean_up)
    for stuck in nodes:

        def clean(node: ClusterPaths, _: object, stuck: ClusterPaths = stuck) -> None:
            if node == stuck:
                raise OSError(16, "busy")

        monkeypatch.setattr(cleanup, "clean", clean)
        with pytest.raises(typer.Exit):
            down.down("stuck", None, purge=True)
        assert all(node.run.exists() and node.data.exists() for node in nodes)
    monkeypatch.setattr(cleanup, "clean", lambda *_: None)
    down.down("stuck", None)
    assert not any(node.run.exists() for node in nodes)


@pytest.mark.parametrize("content", [b"", b"[1]", b'{"name": ', b"\xff", None])
def test_a_damaged_configuration_ends_commands_with_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    paths = cluster_paths("hurt", tmp_path)
    if content is None:
        paths.config.mkdir()
    else:
        paths.config.write_bytes(content)
    for ask in (settings_of, listening, runtime_of, registry_host):
        with pytest.raises(typer.Exit):
            ask(paths)
        said = capsys.readouterr().err
        assert said.startswith(f"sampan: {paths.config}")
        assert said.count("\n") == 1
    with pytest.raises(ValueError, match=str(paths.config)):
        config.read(paths)


def test_a_cluster_is_stopped_by_what_it_ran_with_where_its_data_are_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    paths = ClusterPaths("hurt", tmp_path / "data", tmp_path / "run/hurt")
    config.write(paths, config.create(paths, "127.0.0.1:17001", []))
    known = config.read(paths)
    paths.run.mkdir(parents=True)
    copy = paths.run / "cluster.json"
    paths.config.rename(copy)
    paths.config.write_text("{")
    asked = []
    monkeypatch.setattr(cleanup, "clean", lambda *given: asked.append(given))
    cleanup.finish(paths)
    assert asked == [(paths, known)]
    # Neither says what to stop: then nothing is taken for stopped.
    copy.unlink()
    monkeypatch.setattr(cleanup, "cluster_paths", lambda *_: paths)
    assert cleanup.main(["--name", "hurt", "--data", "x"]) == 1
    assert paths.run.exists()
    said = capfd.readouterr().err
    assert said.startswith(f"sampan: {paths.config} is damaged")
    assert "Traceback" not in said
