"""Files of the administrator: what is wrong in one is told, and nothing of a secret one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sampan.server import documents
from sampan.server.documents import BadDocument


def parse(raw: Any) -> str:
    top = documents.versioned(raw, ("g/v2", "g/v1"), "K", ("name", "list", "open", "after"))
    assert documents.items(top.get("list"), "list") is not None
    assert documents.flag(top, "open", "top", True)
    if top.get("after"):
        documents.duration_s(top["after"], "after")
    return documents.text(top, "name", "top")


HEAD = "apiVersion: g/v1\nkind: K\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "the file: must be an object"),
        ("kind: K", "apiVersion and kind must be g/v2 and K"),
        (f"{HEAD}odd: 1", "unknown field odd"),
        (f"{HEAD}name: 7", "top.name: Required value"),
        (f"{HEAD}list: {{}}", "list: must be a list"),
        (f"{HEAD}open: 1", "top.open: must be true or false"),
        (f"{HEAD}after: soon", "after: Invalid value: not a duration: soon"),
        (f"{HEAD}after: 0s", 'after: Invalid value: "0s": must be > 0s'),
        (f"{HEAD}kind: K", 'key "kind" already set in map'),
        ("{", "not YAML: yaml: "),
        ("#" * (documents.MAX_BYTES + 1), "larger than"),
        ("name: \x00", "not YAML"),
    ],
)
def test_what_is_wrong_is_told_with_the_file_and_the_field(
    text: str, why: str, tmp_path: Path
) -> None:
    path = tmp_path / "k.yaml"
    path.write_text(text)
    with pytest.raises(BadDocument) as caught:
        documents.load(path, parse)
    assert str(caught.value).startswith(f"{path}: ")
    assert why in str(caught.value)


def test_a_file_that_is_right_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "k.yaml"
    assert documents.load(path, parse) is None
    path.write_text(f"{HEAD}name: y1\nopen: yes\nafter: 1m30s")
    assert documents.load(path, parse) == "y1"
    with pytest.raises(BadDocument, match="Is a directory"):
        documents.load(tmp_path, parse)


@pytest.mark.parametrize("text", ["key: *hunter2", "hunter2: 1\nhunter2: 2"])
def test_nothing_is_shown_of_a_secret_file(text: str, tmp_path: Path) -> None:
    path = tmp_path / "k.yaml"
    path.write_text(text)
    for secret in (True, False):
        with pytest.raises(BadDocument) as caught:
            documents.load(path, parse, secret=secret)
        assert ("hunter2" in str(caught.value)) is not secret
