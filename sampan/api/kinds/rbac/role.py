"""Role (rbac.authorization.k8s.io/v1)."""

from __future__ import annotations

from ...descriptor import Kind
from ...errors import Cause, Object
from ..printing import CREATED_COLUMNS, created_cells
from .rules import GROUP, check_rule


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    for position, rule in enumerate(obj.get("rules") or ()):
        check_rule(rule, f"rules[{position}]", True, out)
    return out


KIND = Kind(
    group=GROUP,
    version="v1",
    kind="Role",
    storage="roles",
    name_rule="path",
    validate=validate,
    columns=CREATED_COLUMNS,
    cells=created_cells,
)
