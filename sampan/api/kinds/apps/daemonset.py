"""DaemonSet (apps/v1)."""

from __future__ import annotations

from typing import Any

from ... import fields
from ...descriptor import Column, Kind
from ...errors import Cause, Object
from ..core.podspec.equality import same
from ..core.podspec.template import check_selected_template, default_template
from ..core.podspec.warnings import warn_template
from ..formats import check_count_or_percent, check_nonnegative, check_not_over_100
from ..printing import (
    AGE,
    CONTAINERS,
    IMAGES,
    NAME,
    SELECTOR,
    age,
    container_cells,
    labels_text,
    name,
    selector_text,
)

COUNTERS = (
    "currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady",
)  # fmt: skip

GENERATION = "deprecated.daemonset.template.generation"
"""The annotation in which apps/v1 keeps what was spec.templateGeneration: pods carry it."""


def prepare(obj: Object, old: Object | None) -> None:
    """Count the template's changes; nobody else may."""
    annotations = obj["metadata"].get("annotations") or {}
    if old is None:
        generation = max(1, _number(annotations.get(GENERATION)))
    else:
        default(obj)
        generation = _number((old["metadata"].get("annotations") or {}).get(GENERATION))
        generation += not same(obj["spec"].get("template"), old["spec"].get("template"))
    obj["metadata"]["annotations"] = {**annotations, GENERATION: str(generation)}


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isdecimal() and len(text) < 19 else 0


def default(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    strategy = spec.setdefault("updateStrategy", {})
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        rolling = strategy.get("rollingUpdate")
        if rolling is None:
            rolling = strategy["rollingUpdate"] = {}
        rolling.setdefault("maxUnavailable", 1)
        rolling.setdefault("maxSurge", 0)
    spec.setdefault("revisionHistoryLimit", 10)
    default_template(spec)
    status = obj.setdefault("status", {})
    for counter in COUNTERS:
        status.setdefault(counter, 0)


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    spec = obj["spec"]
    if old is not None and spec == old.get("spec"):
        return out
    check_selected_template(spec, "spec", "DaemonSet", out, empty="daemonset")
    check_nonnegative(spec.get("minReadySeconds"), "spec.minReadySeconds", out)
    _check_strategy(spec["updateStrategy"], "spec.updateStrategy", out)
    check_nonnegative(spec.get("revisionHistoryLimit"), "spec.revisionHistoryLimit", out)
    if old is not None:
        out += fields.unchanged("spec.selector", spec.get("selector"), old["spec"].get("selector"))
    return out


def _check_strategy(strategy: Object, path: str, out: list[Cause]) -> None:
    kind, rolling = strategy.get("type"), strategy.get("rollingUpdate")
    if kind == "OnDelete":
        return
    if kind != "RollingUpdate":
        out.append(fields.not_supported(path, strategy, ("RollingUpdate", "OnDelete")))
        return
    if rolling is None:
        out.append(fields.required(f"{path}.rollingUpdate"))
        return
    unavailable, surge = rolling.get("maxUnavailable") or 0, rolling.get("maxSurge") or 0
    where = f"{path}.rollingUpdate"
    check_count_or_percent(unavailable, f"{where}.maxUnavailable", out)
    check_not_over_100(unavailable, f"{where}.maxUnavailable", out)
    check_count_or_percent(surge, f"{where}.maxSurge", out)
    check_not_over_100(surge, f"{where}.maxSurge", out)
    has_unavailable, has_surge = unavailable not in (0, "0%"), surge not in (0, "0%")
    if has_unavailable and has_surge:
        why = "may not be set when maxUnavailable is non-zero"
        out.append(fields.invalid(f"{where}.maxSurge", surge, why))
    elif not has_unavailable and not has_surge:
        why = "cannot be 0 when maxSurge is 0"
        out.append(fields.required(f"{where}.maxUnavailable", why))


def validate_status(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    status = obj.get("status") or {}
    for field in (
        *COUNTERS, "observedGeneration", "updatedNumberScheduled", "numberAvailable",
        "numberUnavailable", "collisionCount",
    ):  # fmt: skip
        check_nonnegative(status.get(field), f"status.{field}", out)
    return out


def warnings(obj: Object, old: Object | None) -> list[str]:
    changed = old is None or obj["spec"] != old.get("spec")
    return warn_template(obj["spec"]) if changed else []


def cells(obj: Object, now_s: float) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    template = spec.get("template") or {}
    return [
        name(obj),
        *(
            status.get(field) or 0
            for field in (
                "desiredNumberScheduled", "currentNumberScheduled", "numberReady",
                "updatedNumberScheduled", "numberAvailable",
            )
        ),
        labels_text((template.get("spec") or {}).get("nodeSelector")),
        age(obj, now_s),
        *container_cells(template),
        selector_text(spec.get("selector")),
    ]  # fmt: skip


KIND = Kind(
    group="apps",
    version="v1",
    kind="DaemonSet",
    short_names=("ds",),
    categories=("all",),
    storage="daemonsets",
    prepare=prepare,
    default=default,
    validate=validate,
    warnings=warnings,
    validate_status=validate_status,
    columns=(
        NAME,
        Column("Desired", "integer", "Nodes that should run a pod."),
        Column("Current", "integer", "Nodes that run a pod and should."),
        Column("Ready", "integer", "Nodes whose pod is ready."),
        Column("Up-to-date", "integer", "Nodes whose pod has the current template."),
        Column("Available", "integer", "Nodes whose pod is available."),
        Column("Node Selector", "string", "Labels a node must have."),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ),
    cells=cells,
)
