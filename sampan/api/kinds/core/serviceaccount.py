"""ServiceAccount."""

from __future__ import annotations

from typing import Any

from ...descriptor import Column, Kind
from ...errors import Object
from ...meta import annotations_of
from ..printing import AGE, NAME, age, name

MOUNTABLE = "kubernetes.io/enforce-mountable-secrets"
DOUBT = (
    f"metadata.annotations[{MOUNTABLE}]: deprecated in v1.32+; prefer separate namespaces to "
    "isolate access to mounted secrets"
)


def prepare(obj: Object, old: Object | None) -> None:
    """Of the secrets it may use only the names count."""
    if obj.get("secrets"):
        obj["secrets"] = [
            {"name": item["name"]} if item.get("name") else {} for item in obj["secrets"]
        ]


def warnings(obj: Object, old: Object | None) -> list[str]:
    known = old is not None and MOUNTABLE in annotations_of(old)
    return [DOUBT] if MOUNTABLE in annotations_of(obj) and not known else []


def cells(obj: Object, now_s: float) -> list[Any]:
    return [name(obj), len(obj.get("secrets") or ()), age(obj, now_s)]


KIND = Kind(
    group="",
    version="v1",
    kind="ServiceAccount",
    short_names=("sa",),
    storage="serviceaccounts",
    prepare=prepare,
    warnings=warnings,
    columns=(NAME, Column("Secrets", "string", "Secrets the account may use."), AGE),
    cells=cells,
)
