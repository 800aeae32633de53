"""ResourceQuota."""

from __future__ import annotations

from typing import Any

from sampan.wire.quantity import QuantityError, canonical

from ... import fields
from ...descriptor import Column, Kind
from ...errors import Cause, Object
from ..printing import AGE, NAME, age, name
from .podspec.resources import STANDARD, check_quantity, check_resource_name

SCOPES = frozenset({
    "Terminating", "NotTerminating", "BestEffort", "NotBestEffort", "PriorityClass",
    "CrossNamespacePodAffinity", "VolumeAttributesClass",
})  # fmt: skip
EXISTS_ONLY = SCOPES - {"PriorityClass", "VolumeAttributesClass"}
POD_RESOURCES = frozenset({
    "cpu", "memory", "pods", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory",
})  # fmt: skip
EXCLUSIVE = ({"BestEffort", "NotBestEffort"}, {"Terminating", "NotTerminating"})


def default(obj: Object) -> None:
    obj.setdefault("spec", {})
    obj.setdefault("status", {})


def _check_hard(hard: Object | None, path: str, out: list[Cause]) -> None:
    for resource, value in (hard or {}).items():
        where = f"{path}[{resource}]"
        check_resource_name(resource, where, out)
        if "/" not in resource and not _is_counted(resource):
            why = "must be a standard resource for quota"
            out.append(fields.invalid(where, resource, why))
        check_quantity(resource, value, where, out)


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    spec = obj["spec"]
    if old is not None and spec == old.get("spec"):
        return out
    hard = spec.get("hard") or {}
    _check_hard(hard, "spec.hard", out)
    scopes = spec.get("scopes") or []
    for scope in scopes:
        _check_scope(scope, hard, "spec.scopes", scopes, out)
    _check_exclusive(set(scopes), scopes, "spec.scopes", out)
    terms = (spec.get("scopeSelector") or {}).get("matchExpressions") or ()
    path = "spec.scopeSelector.matchExpressions"
    for term in terms:
        _check_term(term, hard, spec, path, out)
    _check_exclusive({term.get("scopeName") or "" for term in terms}, scopes, path, out)
    if old is not None and set(old["spec"].get("scopes") or ()) != set(scopes):
        out.append(fields.immutable("spec.scopes", scopes))
    return out


def _check_scope(scope: str, hard: Object, path: str, shown: Any, out: list[Cause]) -> None:
    if scope not in SCOPES:
        out.append(fields.invalid(path, shown, "unsupported scope"))
    for resource in sorted(hard):
        if _is_counted(resource) and not _suits(scope, resource):
            out.append(fields.invalid(path, shown, "unsupported scope applied to resource"))


def _suits(scope: str, resource: str) -> bool:
    if scope == "BestEffort":
        return resource == "pods"
    if scope == "VolumeAttributesClass":
        return resource in ("persistentvolumeclaims", "requests.storage")
    return scope not in SCOPES or resource in POD_RESOURCES


def _is_counted(resource: str) -> bool:
    """Does quota know it (IsStandardQuotaResourceName)? Claims' "storage" is requests.storage."""
    return (resource in STANDARD and resource != "storage") or resource.startswith(
        ("hugepages-", "requests.hugepages-")
    )


def _check_exclusive(found: set[str], shown: Any, path: str, out: list[Cause]) -> None:
    for pair in EXCLUSIVE:
        if pair <= found:
            out.append(fields.invalid(path, shown, "conflicting scopes"))


def _check_term(term: Object, hard: Object, spec: Object, path: str, out: list[Cause]) -> None:
    scope, operator = term.get("scopeName") or "", term.get("operator") or ""
    values = term.get("values") or []
    if scope not in SCOPES:
        out.append(fields.invalid(f"{path}.scopeName", scope, "unsupported scope"))
    for resource in sorted(hard):
        if _is_counted(resource) and not _suits(scope, resource):
            why = "unsupported scope applied to resource"
            out.append(fields.invalid(path, spec["scopeSelector"], why))
    if scope in EXISTS_ONLY and operator != "Exists":
        why = (
            "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, "
            "ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, "
            "ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"
        )
        out.append(fields.invalid(f"{path}.operator", operator, why))
    if operator in ("In", "NotIn"):
        if not values:
            why = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
            out.append(fields.required(f"{path}.values", why))
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            why = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"
            out.append(fields.invalid(f"{path}.values", values, why))
    else:
        why = "not a valid selector operator"
        out.append(fields.invalid(f"{path}.operator", operator, why))


def validate_status(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    status = obj.get("status") or {}
    _check_hard(status.get("hard"), "status.hard", out)
    _check_hard(status.get("used"), "status.used", out)
    return out


def cells(obj: Object, now_s: float) -> list[Any]:
    status = obj.get("status") or {}
    used = status.get("used") or {}
    requests: list[str] = []
    limits: list[str] = []
    for resource, hard in sorted((status.get("hard") or {}).items()):
        text = f"{resource}: {_text(used.get(resource, '0'))}/{_text(hard)}"
        (limits if resource.startswith("limits.") else requests).append(text)
    return [name(obj), ", ".join(requests), ", ".join(limits), age(obj, now_s)]


def _text(value: Any) -> str:
    try:
        return canonical(str(value))
    except QuantityError:
        return str(value)


KIND = Kind(
    group="",
    version="v1",
    kind="ResourceQuota",
    short_names=("quota",),
    storage="resourcequotas",
    generation=False,
    default=default,
    validate=validate,
    validate_status=validate_status,
    columns=(
        NAME,
        Column(
            "Request",
            "string",
            "Request represents a minimum amount of cpu/memory that a container may consume.",
        ),
        Column(
            "Limit",
            "string",
            "Limits control the maximum amount of cpu/memory that a container may use "
            "independent of contention on the node.",
        ),
        AGE,
    ),
    cells=cells,
)
