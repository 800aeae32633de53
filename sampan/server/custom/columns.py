"""Columns of a custom resource's tables (apiextensions-apiserver registry/customresource/
tableconvertor)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sampan.api.descriptor import Column
from sampan.api.errors import Object
from sampan.api.kinds.printing import human_duration
from sampan.api.structural.jsonpath import JSONPath, PathError, parse, shown
from sampan.api.times import TimeError, parse_time

from ..table import AGE_TEXT, NAME_TEXT

NAME = Column("Name", "string", NAME_TEXT, "name")
AGE_PATH = ".metadata.creationTimestamp"
AGE: Object = {"name": "Age", "type": "date", "description": AGE_TEXT, "jsonPath": AGE_PATH}
"""What is shown when a version has no columns of its own."""

Cells = Callable[[Object, float], list[Any]]


def columns_of(version: Object) -> tuple[Column, ...]:
    """The columns of a version, the name first."""
    return (NAME, *map(_column, version.get("additionalPrinterColumns") or (AGE,)))


def _column(raw: Object) -> Column:
    path = raw.get("jsonPath", "")
    text = raw.get("description") or (
        f"Custom resource definition column (in JSONPath format): {path}"
    )
    return Column(raw["name"], raw["type"], text, raw.get("format") or "", raw.get("priority") or 0)


def cells_of(version: Object) -> Cells:
    """Makes a row's cells; paths are parsed when the first row is printed."""
    parsed: list[tuple[JSONPath | None, str]] = []

    def cells(obj: Object, now_s: float) -> list[Any]:
        if not parsed:
            parsed.extend(_parsed(version.get("additionalPrinterColumns") or (AGE,)))
        row: list[Any] = [obj["metadata"].get("name", "")]
        for path, kind in parsed:
            found = path.find(obj) if path is not None else ()
            row.append(_cell(found[0], kind, now_s) if found else None)
        return row

    return cells


def _parsed(columns: Sequence[Object]) -> list[tuple[JSONPath | None, str]]:
    out: list[tuple[JSONPath | None, str]] = []
    for column in columns:
        try:
            out.append((parse(column.get("jsonPath", "")), column["type"]))
        except PathError:
            # Accepted by an older server: the column stays empty.
            out.append((None, column["type"]))
    return out


def _cell(value: Any, kind: str, now_s: float) -> Any:
    if kind == "string":
        return shown(value)
    if kind == "date":
        return _age(value, now_s)
    if kind == "boolean":
        return value if isinstance(value, bool) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if kind == "integer" else float(value)


def _age(value: Any, now_s: float) -> str | None:
    if not isinstance(value, str):
        return None
    try:
        return human_duration(now_s - parse_time(value))
    except TimeError:
        return "<invalid>"
