"""Which nodes come and go for a wish, and how long tokens are good."""

from __future__ import annotations

import json
import socket
import warnings
from pathlib import Path
from typing import Any

import pytest

from sampan.paths import cluster_paths

with warnings.catch_warnings():
    # typer is of before click's newest.
    warnings.simplefilter("ignore", DeprecationWarning)
    import typer

    from sampan.cli import nodes
    from sampan.cli.nodes import finish_partings, node_numbers, resize
    from sampan.cli.tokens import seconds_of


def status(*parts: str) -> dict[str, Any]:
    return {"parts": {name: {"state": "ready", "error": "", "url": ""} for name in parts}}


def test_the_first_node_has_no_number_in_its_name() -> None:
    assert node_numbers(status("control", "node", "node-3", "node-12")) == [1, 3, 12]


@pytest.mark.parametrize(
    ("have", "count", "said"),
    [
        (("node",), 3, "add 2\nadd 3\n"),
        (("node", "node-3"), 3, "add 2\n"),
        (("node", "node-2", "node-7"), 1, "remove 2\nremove 7\n"),
        (("node", "node-2", "node-7"), 2, "remove 7\n"),
    ],
)
def test_free_numbers_are_taken_and_the_highest_go(
    have: tuple[str, ...], count: int, said: str, tmp_path: Path
) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        before = status("control", *have)
        numbers = {2, 3} if "add" in said else set()
        gone = {line.split()[1] for line in said.splitlines() if line.startswith("remove")}
        left = [name for name in have if name.rpartition("-")[2] not in gone]
        after = status("control", *left, *(f"node-{number}" for number in numbers))
        theirs.sendall(json.dumps(after).encode() + b"\n")
        resize(cluster_paths("test", tmp_path), ours, before, count)
        assert theirs.recv(4096).decode() == said


def test_the_api_forgets_nodes_whose_removal_was_cut_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = cluster_paths("test", tmp_path)
    paths.members.mkdir()
    for number, name in ((2, "host-2"), (3, "host-3"), (4, "")):
        paths.parting(number).write_text(name)
    forgotten: list[str] = []
    monkeypatch.setattr(nodes, "_forget", lambda _, __, name: forgotten.append(name))
    finish_partings(paths, status("control", "node", "node-3"))
    assert forgotten == ["host-2"]
    assert paths.partings() == [3]


def test_a_tokens_life_is_told_as_go_tells_it() -> None:
    assert [seconds_of(text) for text in ("24h", "90m", "1h30m", "5s", "0")] == [
        86400, 5400, 5400, 5, 0,
    ]  # fmt: skip
    for text in ("", "1d", "h", "-1h", "0s", "1h1h", "99999h"):
        with pytest.raises(typer.Exit):
            seconds_of(text)
