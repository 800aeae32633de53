"""ServiceAccount."""

from __future__ import annotations

from typing import Any

from ...descriptor import Column, Kind
from ...errors import Object
from ..printing import AGE, NAME, age, name


def cells(obj: Object, now_s: float) -> list[Any]:
    return [name(obj), len(obj.get("secrets") or ()), age(obj, now_s)]


KIND = Kind(
    group="",
    version="v1",
    kind="ServiceAccount",
    short_names=("sa",),
    storage="serviceaccounts",
    columns=(NAME, Column("Secrets", "string", "Secrets the account may use."), AGE),
    cells=cells,
)
