"""FlowSchema (flowcontrol.apiserver.k8s.io/v1)."""

from __future__ import annotations

from typing import Any

from ... import fields
from ...descriptor import STATUS_ALONE, Column, Kind
from ...errors import Cause, Object
from ..core.podspec.equality import same
from ..formats import check_subdomain
from ..printing import AGE, NAME, NONE, age, condition_status, name
from .mandatory import MANDATORY_SCHEMAS, check_conditions
from .rules import check_rules

MAX_PRECEDENCE = 10_000
METHODS = ("ByNamespace", "ByUser")


def default(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    if not spec.get("matchingPrecedence"):
        spec["matchingPrecedence"] = 1000
    obj.setdefault("status", {})


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    spec, own_name = obj["spec"], obj["metadata"].get("name") or ""
    precedence = spec.get("matchingPrecedence") or 0
    path = "spec.matchingPrecedence"
    if precedence <= 0:
        out.append(fields.invalid(path, precedence, "must be a positive value"))
    if precedence > MAX_PRECEDENCE:
        why = f"must not be greater than {MAX_PRECEDENCE}"
        out.append(fields.invalid(path, precedence, why))
    if precedence == 1 and own_name != "exempt":
        why = "only the schema named 'exempt' may have matchingPrecedence 1"
        out.append(fields.invalid(path, precedence, why))
    method = spec.get("distinguisherMethod")
    if method is not None and method.get("type") not in METHODS:
        # Upstream shows the method here, not its type.
        out.append(fields.not_supported("spec.distinguisherMethod.type", method, METHODS))
    level = (spec.get("priorityLevelConfiguration") or {}).get("name") or ""
    if not level:
        path = "spec.priorityLevelConfiguration.name"
        out.append(fields.required(path, "must reference a priority level"))
    else:
        check_subdomain(level, "spec.priorityLevelConfiguration.name", out)
    for position, rule in enumerate(spec.get("rules") or ()):
        check_rules(rule, f"spec.rules[{position}]", out)
    if own_name in MANDATORY_SCHEMAS and not same(spec, MANDATORY_SCHEMAS[own_name]):
        why = f"spec of '{own_name}' must equal the fixed value"
        out.append(fields.invalid("spec", spec, why))
    check_conditions(obj, out)
    return out


def validate_status(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    check_conditions(obj, out)
    return out


def cells(obj: Object, now_s: float) -> list[Any]:
    spec = obj.get("spec") or {}
    return [
        name(obj),
        (spec.get("priorityLevelConfiguration") or {}).get("name") or "",
        spec.get("matchingPrecedence") or 0,
        (spec.get("distinguisherMethod") or {}).get("type") or NONE,
        age(obj, now_s),
        condition_status(obj, "Dangling") or "?",
    ]


KIND = Kind(
    group="flowcontrol.apiserver.k8s.io",
    version="v1",
    kind="FlowSchema",
    storage="flowschemas",
    default=default,
    validate=validate,
    validate_status=validate_status,
    columns=(
        NAME,
        Column("PriorityLevel", "string", "The level it sends requests to."),
        Column("MatchingPrecedence", "string", "Lower numbers are tried first."),
        Column("DistinguisherMethod", "string", "What separates its flows."),
        AGE,
        Column(
            "MissingPL",
            "string",
            "references a broken or non-existent PriorityLevelConfiguration",
        ),
    ),
    cells=cells,
    status_keeps=STATUS_ALONE,
)
