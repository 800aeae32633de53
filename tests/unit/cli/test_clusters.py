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
from sampan.cli.main import ORDER, app
from sampan.cli.parts import hold
from sampan.cli.simulate import simulate
from sampan.paths import ClusterPaths


def test_only_folders_of_clusters_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "one" / "cluster.json").write_text("{}")

    def paths(name: str) -> ClusterPaths:
        return ClusterPaths(name, tmp_path / name, tmp_path / "run" / name)

    monkeypatch.setattr(sampan.cli.clusters, "cluster_names", lambda: ["one", "two"])
    monkeypatch.setattr(sampan.cli.clusters, "cluster_paths", paths)
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
