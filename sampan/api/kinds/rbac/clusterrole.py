"""ClusterRole (rbac.authorization.k8s.io/v1)."""

from __future__ import annotations

from ... import fields
from ...descriptor import Kind
from ...errors import Cause, Object
from ...selectors import validate_label_selector
from ..printing import CREATED_COLUMNS, created_cells
from .rules import GROUP, check_rule


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    for position, rule in enumerate(obj.get("rules") or ()):
        check_rule(rule, f"rules[{position}]", False, out)
    aggregation = obj.get("aggregationRule")
    if aggregation is not None:
        path = "aggregationRule.clusterRoleSelectors"
        selectors = aggregation.get("clusterRoleSelectors")
        if not selectors:
            why = "at least one clusterRoleSelector required if aggregationRule is non-nil"
            out.append(fields.required(path, why))
        for position, selector in enumerate(selectors or ()):
            out += validate_label_selector(selector, f"{path}[{position}]")
    return out


KIND = Kind(
    group=GROUP,
    version="v1",
    kind="ClusterRole",
    storage="clusterroles",
    name_rule="path",
    validate=validate,
    columns=CREATED_COLUMNS,
    cells=created_cells,
)
