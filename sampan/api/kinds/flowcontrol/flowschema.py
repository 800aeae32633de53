"""FlowSchema (flowcontrol.apiserver.k8s.io/v1)."""

from __future__ import annotations

from typing import Any

from ... import fields
from ...descriptor import STATUS_ALONE, Column, Kind
from ...errors import Cause, Object
from ..formats import check_subdomain
from ..printing import AGE, NAME, NONE, age, condition_status, name

MAX_PRECEDENCE = 10_000
METHODS = ("ByNamespace", "ByUser")
SUBJECTS = {"User": "user", "Group": "group", "ServiceAccount": "serviceAccount"}


def default(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    if not spec.get("matchingPrecedence"):
        spec["matchingPrecedence"] = 1000
    obj.setdefault("status", {})


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    spec = obj["spec"]
    precedence = spec.get("matchingPrecedence") or 0
    path = "spec.matchingPrecedence"
    if not 1 <= precedence <= MAX_PRECEDENCE:
        why = f"must be between 1 and {MAX_PRECEDENCE}, inclusive"
        out.append(fields.invalid(path, precedence, why))
    if precedence == 1 and obj["metadata"].get("name") != "exempt":
        why = "only the schema named 'exempt' may have matchingPrecedence 1"
        out.append(fields.invalid(path, precedence, why))
    level = (spec.get("priorityLevelConfiguration") or {}).get("name") or ""
    if not level:
        path = "spec.priorityLevelConfiguration.name"
        out.append(fields.required(path, "must reference a priority level"))
    else:
        check_subdomain(level, "spec.priorityLevelConfiguration.name", out)
    method = spec.get("distinguisherMethod")
    if method is not None and method.get("type") not in METHODS:
        value = method.get("type") or ""
        out.append(fields.not_supported("spec.distinguisherMethod.type", value, METHODS))
    for position, rule in enumerate(spec.get("rules") or ()):
        _check_rule(rule, f"spec.rules[{position}]", out)
    return out


def _check_rule(rule: Object, path: str, out: list[Cause]) -> None:
    if not rule.get("subjects"):
        why = "subjects must contain at least one value"
        out.append(fields.required(f"{path}.subjects", why))
    for position, subject in enumerate(rule.get("subjects") or ()):
        where, kind = f"{path}.subjects[{position}]", subject.get("kind") or ""
        if kind not in SUBJECTS:
            out.append(fields.not_supported(f"{where}.kind", kind, sorted(SUBJECTS)))
        elif subject.get(SUBJECTS[kind]) is None:
            why = f"{SUBJECTS[kind]} is required when subject kind is '{kind}'"
            out.append(fields.required(f"{where}.{SUBJECTS[kind]}", why))
    if not rule.get("resourceRules") and not rule.get("nonResourceRules"):
        why = "at least one of resourceRules and nonResourceRules has to be non-empty"
        out.append(fields.required(path, why))


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
