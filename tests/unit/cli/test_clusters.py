"""What `ls` lists, what `simulate` refuses, and that one name has one cluster on a machine."""

from __future__ import annotations

import fcntl
import json
import os
import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import sampan.cli.clusters
from sampan.cli import options
from sampan.cli.image import list_images
from sampan.cli.main import ORDER, app
from sampan.cli.options import not_running, paths_of
from sampan.cli.parts import hold
from sampan.cli.simulate import simulate
from sampan.cli.up import check_choices
from sampan.paths import ClusterPaths, cluster_paths


def test_only_folders_of_clusters_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "one" / "cluster.json").write_text("{}")

    def paths(name: str, _data: None) -> ClusterPaths:
        return ClusterPaths(name, tmp_path / name, tmp_path / "run" / name)

    monkeypatch.setattr(sampan.cli.clusters, "cluster_names", lambda: ["one", "two"])
    monkeypatch.setattr(sampan.cli.clusters, "paths_of", paths)
    sampan.cli.clusters.ls(json_output=True)
    (one,) = json.loads(capsys.readouterr().out)
    assert (one["name"], one["status"], one["data"]) == ("one", "stopped", str(tmp_path / "one"))


def test_nothing_is_simulated_where_there_is_no_cluster(tmp_path: Path) -> None:
    data = tmp_path / "none"
    with pytest.raises(typer.Exit):
        simulate("nodes=1", "never-was", data)
    assert not data.exists()


def test_a_part_by_itself_does_not_run_beside_a_cluster_or_its_like(tmp_path: Path) -> None:
    paths = ClusterPaths("mine", tmp_path / "data", tmp_path / "run")
    paths.run.mkdir()
    with (paths.run / "lock").open("w") as supervisor:
        fcntl.flock(supervisor, fcntl.LOCK_EX)
        with pytest.raises(typer.Exit):
            hold(paths, "node-process")
    held = hold(paths, "control"), hold(paths, "node-process")
    try:
        with pytest.raises(typer.Exit):
            hold(paths, "node-process")
    finally:
        for locks in held:
            for lock in locks:
                os.close(lock)


def test_help_lists_every_command_in_its_order_and_says_what_arguments_are() -> None:
    said = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).stdout
    shown = re.findall(r"^│ ([a-z]+) ", said, re.MULTILINE)
    assert shown == list(ORDER)
    assert "The API server." in CliRunner().invoke(app, ["join", "--help"]).stdout


def test_a_cluster_that_runs_is_found_by_its_name_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def paths(name: str, data: Path | None = None) -> ClusterPaths:
        return ClusterPaths(name, data or tmp_path / "usual" / name, tmp_path / "run" / name)

    monkeypatch.setattr(options, "cluster_paths", paths)
    there = tmp_path / "elsewhere"
    running = paths("mine", there)
    running.run.mkdir(parents=True)
    running.keep_place()
    assert paths_of("mine", None).data == tmp_path / "usual" / "mine"
    there.mkdir()
    assert paths_of("mine", None).data == there
    assert paths_of("mine", tmp_path / "other").data == tmp_path / "other"


def test_what_does_not_run_is_told_with_the_command_that_starts_it(tmp_path: Path) -> None:
    said = not_running(cluster_paths("default", tmp_path / "none"))
    assert said.startswith("there is no cluster default; start it with: sampan up")
    said = not_running(cluster_paths("mine", tmp_path))
    assert "mine is not running; start it with: sampan up --name mine --data " in said


def test_images_are_not_kept_for_a_cluster_that_never_was(tmp_path: Path) -> None:
    with pytest.raises(typer.Exit):
        list_images("never-was", tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_running_cluster_is_not_told_to_listen_elsewhere(tmp_path: Path) -> None:
    paths = cluster_paths("mine", tmp_path)
    paths.config.write_text('{"listen_host": "127.0.0.1", "listen_port": 6443}')
    check_choices(paths, "localhost:6443", "crun")
    for listen, runtime in (("0.0.0.0:6443", ""), ("127.0.0.1:7443", ""), ("", "containerd")):
        with pytest.raises(typer.Exit):
            check_choices(paths, listen, runtime)
