"""Which names of a definition are accepted, and the conditions that say so (apiextensions-apiserver
pkg/controller/status, /establish and /apiapproval). Pure: the time is an input.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from sampan.api.errors import Object, aggregate
from sampan.api.kinds.apiextensions.customresourcedefinition import (
    APPROVED,
    approval,
    is_protected,
)
from sampan.api.meta import with_condition
from sampan.api.times import format_time

FINALIZER = "customresourcecleanup.apiextensions.k8s.io"
NAME_FIELDS = ("plural", "singular", "shortNames", "kind", "listKind")


def condition_is(definition: Object, kind: str) -> bool:
    """Is a condition of the definition True?"""
    for item in (definition.get("status") or {}).get("conditions") or ():
        if item.get("type") == kind:
            return bool(item.get("status") == "True")
    return False


def resources_in(names: Object) -> set[str]:
    """The resource names that accepted names take."""
    return {names.get("plural", ""), names.get("singular", ""), *(names.get("shortNames") or ())}


def kinds_in(names: Object) -> set[str]:
    return {names.get("kind", ""), names.get("listKind", "")}


def status_with_names(
    definition: Object, resources: Set[str], kinds: Set[str], now_s: float
) -> Object:
    """The definition's status with names and conditions as they must be, given the resource names
    and kinds that other definitions of its group have been granted."""
    status: Object = dict(definition.get("status") or {})
    wanted = definition["spec"].get("names") or {}
    had = status.get("acceptedNames") or {}
    names, reason, message = _accepted(wanted, had, resources, kinds)
    status["acceptedNames"] = names
    if reason:
        accepted = _condition("NamesAccepted", "False", reason, message)
    else:
        accepted = _condition("NamesAccepted", "True", "NoConflicts", "no conflicts found")
    established = condition_is(definition, "Established")
    new = [accepted]
    if not established and reason:
        text = "not all names are accepted"
        new.append(_condition("Established", "False", "NotAccepted", text))
    elif not established:
        text = "the initial names have been accepted"
        new.append(_condition("Established", "True", "InitialNamesAccepted", text))
    approval = _approval(definition)
    if approval is not None:
        new.append(approval)
    conditions: list[Object] = status.get("conditions") or []
    for item in new:
        if not _said(conditions, item):
            item["lastTransitionTime"] = format_time(now_s)
            conditions = with_condition(conditions, _ordered(item))
    status["conditions"] = conditions
    return status


def mark_definition(definition: Object, now_s: float) -> None:
    """The first deletion: its objects are to go before it does."""
    meta = definition["metadata"]
    meta["finalizers"] = [
        *(item for item in meta.get("finalizers") or () if item != FINALIZER), FINALIZER,
    ]  # fmt: skip
    status = definition.setdefault("status", {})
    message = (
        "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon"
    )
    item = _condition("Terminating", "True", "InstanceDeletionPending", message)
    item["lastTransitionTime"] = format_time(now_s)
    status["conditions"] = with_condition(status.get("conditions") or (), _ordered(item))


def _condition(kind: str, state: str, reason: str, message: str) -> Object:
    return {"type": kind, "status": state, "reason": reason, "message": message}


def _ordered(item: Object) -> Object:
    order = ("lastTransitionTime", "message", "reason", "status", "type")
    return {name: item[name] for name in order}


def _said(conditions: list[Object], item: Object) -> bool:
    return any(
        all(known.get(name) == value for name, value in item.items()) for known in conditions
    )


def _accepted(
    wanted: Object, had: Object, resources: Set[str], kinds: Set[str]
) -> tuple[Object, str, str]:
    """(names, reason, message): names that are taken by others keep what was granted before."""
    out: dict[str, Any] = {}
    reason = message = ""
    for field in NAME_FIELDS:
        asked, granted = wanted.get(field), had.get(field)
        taken = kinds if field in ("kind", "listKind") else resources
        names = asked if isinstance(asked, list) else [asked] if asked else []
        own = set(granted if isinstance(granted, list) else [granted] if granted else ())
        problems = [f'"{name}" is already in use' for name in names
                    if name not in own and name in taken]  # fmt: skip
        if problems:
            reason = f"{field[0].upper()}{field[1:]}Conflict"
            message = aggregate(problems)
            asked = granted
        if asked or field in ("plural", "kind"):
            out[field] = asked or ""
    if wanted.get("categories"):
        out["categories"] = wanted["categories"]
    return out, reason, message


def _approval(definition: Object) -> Object | None:
    """For protected groups: was the definition approved?"""
    if not is_protected(definition["spec"].get("group", "")):
        return None
    value = (definition["metadata"].get("annotations") or {}).get(APPROVED, "")
    state, why = approval(value)
    conforms = "True" if state == "Approved" else "False"
    return _condition("KubernetesAPIApprovalPolicyConformant", conforms, f"{state}Annotation", why)
