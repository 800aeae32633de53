"""Files and lines of the tables hold together: one file and one line for each thing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2] / "sampan"


def modules(folder: str, *others: str) -> set[str]:
    names = {path.stem for path in (ROOT / folder).glob("*.py")}
    return names - {"__init__", *others}


def test_scheduler_plugins() -> None:
    text = (ROOT / "scheduler/plugins/__init__.py").read_text()
    for name in modules("scheduler/plugins"):
        assert re.search(rf"\b{name}\.(reasons|points)\b", text), name


@pytest.mark.parametrize("folder", [
    "server/admission", "server/admission/optional", "server/subresources",
])  # fmt: skip
def test_every_file_is_in_its_table(folder: str) -> None:
    text = (ROOT / folder / "__init__.py").read_text()
    sources = {name: (ROOT / folder / f"{name}.py").read_text() for name in modules(folder)}
    for name in sources:
        used = name in text or any(
            re.search(rf"from \.{name} import|import {name}\b|\b{name},", other)
            for key, other in sources.items()
            if key != name
        )
        assert used, f"{folder}/{name}.py is in no table and nobody uses it"


def test_commands() -> None:
    text = (ROOT / "cli/main.py").read_text()
    shared = ("main", "options", "progress", "supervisor", "api", "objects", "charts", "programs")
    for name in modules("cli", *shared):
        assert re.search(rf"\b{name}\.", text), name
