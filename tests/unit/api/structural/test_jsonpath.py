from __future__ import annotations

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
