"""Variables from files that a pod has written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sampan.node.envfile import value_of
from tests.kit.onenode import Node, no_server

TEXT = "# first\n\n  A='one' # why\nB=\nC= 'x'\nD='two\nlines'\nE='it''"


@pytest.mark.parametrize(
    ("key", "value"),
    [("A", "one"), ("B", ""), ("C", ""), ("D", "two\nlines"), ("Z", None)],
)
def test_values(key: str, value: str | None) -> None:
    assert value_of(TEXT.rpartition("\n")[0], key) == value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("A", "line 1: missing '='"),
        ("\n='x'", "line 2: empty variable name"),
        ("A ='x'", "line 1: whitespace before '='"),
        ("A=x", "line 1: value must be enclosed in single quotes"),
        ("B='1\n2'\nA='x", "line 3: unclosed"),
        ("A='x'y", "line 1: unexpected"),
    ],
)
def test_faults(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        value_of(text, "Z")


async def test_a_container_gets_them_and_no_link_leads_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_server(monkeypatch)
    node = Node(tmp_path)
    ref = {"volumeName": "v", "path": "f", "key": "A"}
    secret = tmp_path / "secret"
    secret.write_text("A='of the host'")
    folder = tmp_path / "data/pods/uid-p/volumes/kubernetes.io~empty-dir/v"
    async with node.running():
        node.bind(
            volumes=[{"name": "v", "emptyDir": {}}],
            container={"env": [{"name": "X", "valueFrom": {"fileKeyRef": ref}}]},
        )
        await node.until(lambda: "not found" in str(node.pod()["status"]))
        waiting = node.container()["state"]["waiting"]
        assert waiting == {"reason": "CreateContainerConfigError", "message": 'file "f" not found'}
        os.symlink(secret, folder / "f")
        await node.clock.advance(11)
        assert not node.runtime.running()
        (folder / "f").unlink()
        (folder / "f").write_text("A='mine'")
        await node.clock.advance(11)
        await node.until(lambda: node.runtime.running())
        assert ("X", "mine") in node.runtime.specs[node.runtime.only().id].env
