"""PriorityClass (scheduling.k8s.io/v1)."""

from __future__ import annotations

from typing import Any

from ... import fields
from ...descriptor import Column, Kind
from ...errors import Cause, Object
from ..formats import check_supported
from ..printing import AGE, NAME, age, name

HIGHEST = 1_000_000_000
SYSTEM = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}
POLICIES = ("PreemptLowerPriority", "Never")


def default(obj: Object) -> None:
    if obj.get("preemptionPolicy") is None:
        obj["preemptionPolicy"] = "PreemptLowerPriority"
    obj.setdefault("value", 0)


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    own_name, value = obj["metadata"].get("name") or "", obj.get("value") or 0
    policy = obj.get("preemptionPolicy")
    if old is not None:
        if value != (old.get("value") or 0):
            out.append(fields.forbidden("value", "may not be changed in an update."))
        out += fields.unchanged("preemptionPolicy", policy, old.get("preemptionPolicy"))
        return out
    if own_name.startswith("system-"):
        problem = _system_problem(own_name, value, bool(obj.get("globalDefault")))
        if problem:
            why = "priority class names with 'system-' prefix are reserved for system use only. "
            out.append(fields.forbidden("metadata.name", f"{why}error: {problem}"))
    elif value > HIGHEST:
        why = f"maximum allowed value of a user defined priority is {HIGHEST}"
        out.append(fields.forbidden("value", why))
    check_supported(policy, POLICIES, "preemptionPolicy", out)
    return out


def _system_problem(name: str, value: int, is_default: bool) -> str:
    """Why a class that is named as the system's own is none of them; "" when it is."""
    known = SYSTEM.get(name)
    if known is None:
        return f"{name} is not a known system priority class"
    if value != known:
        return f"value of {name} PriorityClass must be {known}"
    return f"globalDefault of {name} PriorityClass must be false" if is_default else ""


def cells(obj: Object, now_s: float) -> list[Any]:
    return [
        name(obj),
        obj.get("value") or 0,
        bool(obj.get("globalDefault")),
        age(obj, now_s),
        obj.get("preemptionPolicy") or "",
    ]


def never_grows(new: Object, old: Object) -> bool:
    """Upstream leaves it at 1: what a class means cannot change."""
    return False


KIND = Kind(
    group="scheduling.k8s.io",
    version="v1",
    kind="PriorityClass",
    short_names=("pc",),
    storage="priorityclasses",
    generation=True,
    default=default,
    validate=validate,
    columns=(
        NAME,
        Column("Value", "integer", "The priority of its pods."),
        Column("Global-Default", "boolean", "For pods that name no class."),
        AGE,
        Column("PreemptionPolicy", "string", "May its pods push others out?", ""),
    ),
    cells=cells,
    grows=never_grows,
)
