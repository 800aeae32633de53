"""The index of conformance behaviours holds: none of upstream's is missing, each points to a test
that exists, and no conformance test proves nothing."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "tests/conformance"
FIELDS = {"codename", "release", "demands", "proof"}


def entries() -> list[tuple[str, dict[str, Any]]]:
    """(group, entry) of every behaviour in the index."""
    index = yaml.safe_load((HERE / "behaviours.yaml").read_text())
    return [(group, entry) for group, listed in index.items() for entry in listed]


def demanded() -> list[tuple[str, str]]:
    """(codename, release) of upstream's list."""
    lines = (HERE / "upstream.txt").read_text().splitlines()
    pairs = [line.split(" | ", 1) for line in lines if not line.startswith("#")]
    return [(name, release) for release, name in pairs]


@cache
def names_in(path: Path) -> set[str]:
    """Names of a module's tests."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {
        item.name
        for item in ast.parse(path.read_text()).body
        if isinstance(item, kinds) and item.name.startswith("test_")
    }


def test_the_index_has_all_of_upstreams_behaviours_and_no_other() -> None:
    indexed = [(f"[{group}] {entry['codename']}", entry["release"]) for group, entry in entries()]
    assert indexed == demanded()
    assert len(set(indexed)) == len(indexed)
    assert all(entry.keys() == FIELDS and entry["demands"] for _, entry in entries())


def test_every_behaviour_points_to_a_test_that_exists() -> None:
    for _, entry in entries():
        path, _, name = entry["proof"].partition("::")
        assert name in names_in(ROOT / path), entry["proof"]


def test_every_conformance_test_proves_a_behaviour() -> None:
    proofs = {entry["proof"] for _, entry in entries()}
    made = {
        f"{path.relative_to(ROOT)}::{name}"
        for path in (*HERE.glob("test_*.py"), ROOT / "tests/clients/test_conformance.py")
        for name in names_in(path)
    }
    assert made <= proofs, made - proofs
