"""Readable transcripts as tests: what a machine did, line by line, held against a text file.

`pytest --rewrite` writes the files anew; the change is then read in the diff.
"""

from __future__ import annotations

from pathlib import Path

import pytest


def hold(request: pytest.FixtureRequest, name: str, text: str) -> None:
    """Compare `text` with testdata/NAME.txt beside the test."""
    path = Path(request.path).parent / "testdata" / f"{name}.txt"
    if request.config.getoption("--rewrite"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert path.exists(), f"{path} is missing; run pytest --rewrite and read it"
    assert text == path.read_text()
