"""Deployment (apps/v1)."""

from __future__ import annotations

from typing import Any

from ... import fields
from ...descriptor import Column, Kind
from ...errors import BadRequest, Cause, Object
from ...meta import annotations_of
from ...selectors import from_label_selector
from ..core.podspec.template import check_selected_template, default_template
from ..core.podspec.warnings import warn_workload
from ..formats import check_count_or_percent, check_nonnegative, check_not_over_100, percent_of
from ..printing import AGE, CONTAINERS, IMAGES, NAME, SELECTOR, age, container_cells, name

STRATEGIES = ("Recreate", "RollingUpdate")


def default(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("progressDeadlineSeconds", 600)
    strategy = spec.setdefault("strategy", {})
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        rolling = strategy.get("rollingUpdate")
        if rolling is None:
            rolling = strategy["rollingUpdate"] = {}
        rolling.setdefault("maxUnavailable", "25%")
        rolling.setdefault("maxSurge", "25%")
    default_template(spec)
    obj.setdefault("status", {})


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    spec = obj["spec"]
    if old is not None and spec == old.get("spec"):
        return out
    check_nonnegative(spec.get("replicas"), "spec.replicas", out)
    check_selected_template(spec, "spec", "ReplicaSet", out)
    _check_strategy(spec["strategy"], "spec.strategy", out)
    for field in ("minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"):
        check_nonnegative(spec.get(field), f"spec.{field}", out)
    deadline = spec.get("progressDeadlineSeconds")
    if deadline is not None and deadline <= (spec.get("minReadySeconds") or 0):
        why = "must be greater than minReadySeconds"
        out.append(fields.invalid("spec.progressDeadlineSeconds", deadline, why))
    if old is not None:
        out += fields.unchanged("spec.selector", spec.get("selector"), old["spec"].get("selector"))
    return out


def _check_strategy(strategy: Object, path: str, out: list[Cause]) -> None:
    kind, rolling = strategy.get("type"), strategy.get("rollingUpdate")
    if kind == "Recreate":
        if rolling is not None:
            why = "may not be specified when strategy `type` is 'Recreate'"
            out.append(fields.forbidden(f"{path}.rollingUpdate", why))
    elif kind == "RollingUpdate":
        if rolling is None:
            why = "this should be defaulted and never be nil"
            out.append(fields.required(f"{path}.rollingUpdate", why))
            return
        where = f"{path}.rollingUpdate"
        unavailable, surge = rolling.get("maxUnavailable"), rolling.get("maxSurge")
        check_count_or_percent(unavailable, f"{where}.maxUnavailable", out)
        check_count_or_percent(surge, f"{where}.maxSurge", out)
        if _number(unavailable) == 0 and _number(surge) == 0:
            why = "may not be 0 when `maxSurge` is 0"
            out.append(fields.invalid(f"{where}.maxUnavailable", unavailable, why))
        check_not_over_100(unavailable, f"{where}.maxUnavailable", out)
    else:
        out.append(fields.not_supported(path, strategy, STRATEGIES))


def _number(value: Any) -> int:
    """The number of an IntOrString, whichever it is."""
    if isinstance(value, str):
        return percent_of(value) or 0
    return value or 0


def grows(new: Object, old: Object) -> bool:
    """Annotations count too: they are copied to the replica sets."""
    return new.get("spec") != old.get("spec") or annotations_of(new) != annotations_of(old)


def validate_status(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    status = obj.get("status") or {}
    for field in (
        "observedGeneration", "replicas", "updatedReplicas", "readyReplicas",
        "availableReplicas", "unavailableReplicas", "terminatingReplicas", "collisionCount",
    ):  # fmt: skip
        check_nonnegative(status.get(field), f"status.{field}", out)
    get = status.get
    for field, other in (
        ("updatedReplicas", "replicas"),
        ("readyReplicas", "replicas"),
        ("availableReplicas", "replicas"),
        ("availableReplicas", "readyReplicas"),
    ):
        if (get(field) or 0) > (get(other) or 0):
            shown = "status.replicas" if other == "replicas" else other
            why = f"cannot be greater than {shown}"
            out.append(fields.invalid(f"status.{field}", get(field), why))
    return out


def cells(obj: Object, now_s: float) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    try:
        selector = str(from_label_selector(spec.get("selector")))
    except BadRequest:
        selector = "<invalid>"
    return [
        name(obj),
        f"{status.get('readyReplicas') or 0}/{spec.get('replicas') or 0}",
        status.get("updatedReplicas") or 0,
        status.get("availableReplicas") or 0,
        age(obj, now_s),
        *container_cells(spec.get("template")),
        selector,
    ]


KIND = Kind(
    group="apps",
    version="v1",
    kind="Deployment",
    short_names=("deploy",),
    categories=("all",),
    storage="deployments",
    default=default,
    validate=validate,
    warnings=warn_workload,
    validate_status=validate_status,
    columns=(
        NAME,
        Column("Ready", "string", "Number of the pod with ready state"),
        Column("Up-to-date", "string", "Pods that have the current template."),
        Column("Available", "string", "Pods that have been ready for minReadySeconds."),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ),
    cells=cells,
    status_keeps=("labels",),
    grows=grows,
)
