"""The rules of the house that no linter knows."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted((ROOT / "sampan").rglob("*.py"))
MODULE_LINES = 500
FUNCTION_LINES = 70
PARAMETERS = 5
VAGUE = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "managers"}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
    )
    return [ROOT / name for name in listed.stdout.split("\0") if name]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module_is_short_documented_and_well_named(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "a module says what it is for"
    assert text.count("\n") <= MODULE_LINES
    assert path.stem not in VAGUE
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= FUNCTION_LINES, f"{node.name} has {length} lines"
            positional = [a for a in node.args.args if a.arg not in ("self", "cls")]
            # A command's parameters are its options.
            if path.parent.name != "cli":
                assert len(positional) <= PARAMETERS, f"{node.name}: {len(positional)} parameters"
        if isinstance(node, ast.ClassDef):
            assert not node.name.endswith(("Manager", "Helper", "Util")), node.name


def test_processes_of_ours_import_nothing_from_where_they_are_started() -> None:
    """`python -m` looks there first: a folder's json.py would be run, and as root (-P: not so)."""
    for path in (ROOT / "sampan").rglob("*.py"):
        text = path.read_text()
        assert not re.search(r'executable,(?! "-P", "-m").{0,40}"sampan', text), name_of(path)


def test_every_package_says_what_may_live_there() -> None:
    for path in (ROOT / "sampan").rglob("__init__.py"):
        assert ast.get_docstring(ast.parse(path.read_text())), name_of(path)


def test_nothing_of_one_machine_is_committed() -> None:
    """No path of somebody's home or work place, and no host of a package mirror."""
    forbidden = re.compile(r"/root/|/home/(?!app\b)[a-z]|/work/|\bpypi-more\b|/opt/pypi")
    for path in tracked():
        if path == Path(__file__) or path.suffix in (".png", ".z"):
            continue
        found = forbidden.search(path.read_text(errors="replace"))
        assert found is None, f"{name_of(path)}: {found and found.group()}"


def test_generated_files_are_not_committed() -> None:
    names = {name_of(path) for path in tracked()}
    assert "sampan/api/schema.json" not in names
    assert not any(name.endswith((".pyc", ".tar", ".z", ".db")) for name in names)


def test_make_help_lists_every_target() -> None:
    text = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][a-z-]*):", text, re.M))
    described = set(re.findall(r"^([a-z][a-z-]*):.*## ", text, re.M))
    assert targets == described
