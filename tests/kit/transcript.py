"""Readable transcripts as tests: what a machine did, line by line, held against a text file.

`pytest --rewrite` writes the files anew; the change is then read in the diff.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from sampan.api.errors import Object


def hold(request: pytest.FixtureRequest, name: str, text: str) -> None:
    """Compare `text` with testdata/NAME.txt beside the test."""
    path = Path(request.path).parent / "testdata" / f"{name}.txt"
    if request.config.getoption("--rewrite"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert path.exists(), f"{path} is missing; run pytest --rewrite and read it"
    assert text == path.read_text()


class Told:
    """What happens to the owner of a model, line by line."""

    def __init__(self, owner: Object) -> None:
        self.owner = owner
        self.lines: list[str] = []

    def note(self, line: str) -> None:
        self.lines.append(line)

    def change(self, what: str, **spec: Any) -> None:
        """Change the owner's spec, as a user does."""
        self.owner = copy.deepcopy(self.owner)
        self.owner["spec"] |= spec
        self.owner["metadata"]["generation"] += 1
        self.note(f"-- {what}")

    def text(self) -> str:
        return "\n".join(self.lines) + "\n"
