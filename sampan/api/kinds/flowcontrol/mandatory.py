"""What the server itself relies on, and nobody may change: the objects named exempt and catch-all;
and the conditions of both kinds."""

from __future__ import annotations

from typing import Any, Final

from sampan.api.principals import EVERYBODY, MASTERS

from ... import fields
from ...errors import Cause, Object


def _everything(*groups: str) -> list[Object]:
    everywhere: Object = {
        "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": True,
        "namespaces": ["*"],
    }  # fmt: skip
    return [
        {
            "subjects": [{"kind": "Group", "group": {"name": name}} for name in groups],
            "resourceRules": [everywhere],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
        }
    ]


MANDATORY_SCHEMAS: Final[dict[str, Object]] = {
    "exempt": {
        "priorityLevelConfiguration": {"name": "exempt"},
        "matchingPrecedence": 1,
        "rules": _everything(MASTERS),
    },
    "catch-all": {
        "priorityLevelConfiguration": {"name": "catch-all"},
        "matchingPrecedence": 10_000,
        "distinguisherMethod": {"type": "ByUser"},
        "rules": _everything(*EVERYBODY),
    },
}
FREE: Final = ("nominalConcurrencyShares", "lendablePercent")
"""What may be changed of the exempt level."""
CATCH_ALL_LEVEL: Final[Object] = {
    "type": "Limited",
    "limited": {
        "nominalConcurrencyShares": 5,
        "lendablePercent": 0,
        "limitResponse": {"type": "Reject"},
    },
}


def check_conditions(obj: Object, out: list[Cause]) -> None:
    seen: set[Any] = set()
    for position, item in enumerate((obj.get("status") or {}).get("conditions") or ()):
        path, kind = f"status.conditions[{position}].type", item.get("type") or ""
        if kind in seen:
            out.append(fields.duplicate(path, kind))
        seen.add(kind)
        if not kind:
            out.append(fields.required(path, "must not be empty"))
