from __future__ import annotations

import time
from typing import Any

import pytest

from sampan.api.structural.jsonpath import PathError, parse

OBJ: dict[str, Any] = {
    "metadata": {"annotations": {"a.b/c": "dotted"}},
    "spec": {"n": 3, "list": [{"name": "x"}, {"name": "y"}]},
    "status": {
        "conditions": [
            {"type": "Ready", "status": "True", "n": 1},
            {"type": "Other", "status": "False", "n": 2},
        ]
    },
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".spec.n", [3]),
        (".spec.none", []),
        (".spec.list[1].name", ["y"]),
        (".spec.list[-1].name", ["y"]),
        (".spec.list[*].name", ["x", "y"]),
        ('.status.conditions[?(@.type=="Ready")].status', ["True"]),
        (".status.conditions[?(@.type=='Other')].n", [2]),
        (".status.conditions[?(@.n>1)].type", ["Other"]),
        (r".metadata.annotations.a\.b/c", ["dotted"]),
        (".metadata.annotations['a.b/c']", ["dotted"]),
    ],
)
def test_paths(path: str, found: list[Any]) -> None:
    assert parse(path).find(OBJ) == found


@pytest.mark.parametrize("path", ["spec", ".spec[", ".spec.list[?(@.a ==)]", ".a..b["])
def test_what_is_no_path(path: str) -> None:
    with pytest.raises(PathError):
        parse(path)


def test_what_fails_fails_at_once() -> None:
    began = time.process_time()
    for path in ("[?(@" + "\\a" * 40 + "!", "[?(@" + "\\." * 40 + "=="):
        with pytest.raises(PathError):
            parse(path)
    assert time.process_time() - began < 5
    for path in (f".a[{'1' * 5000}]", f".a[:{'1' * 5000}]"):
        with pytest.raises(PathError, match="index"):
            parse(path)
    assert parse(".a[::0]").find({"a": [1]}) == []
