"""RuntimeClass (node.k8s.io/v1)."""

from __future__ import annotations

from typing import Any

from ... import fields
from ...descriptor import Column, Kind
from ...errors import Cause, Object
from ..core.podspec.resources import check_requirements
from ..core.podspec.scheduling import check_tolerations
from ..doubts import NODE_LABELS
from ..formats import check_label, check_labels
from ..printing import AGE, NAME, age, name


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    handler = obj.get("handler") or ""
    if old is not None:
        # Upstream looks at nothing else then.
        return fields.unchanged("handler", handler, old.get("handler"))
    check_label(handler, "handler", out)
    overhead = (obj.get("overhead") or {}).get("podFixed")
    if overhead:
        check_requirements({"limits": overhead}, "overhead", out)
    scheduling = obj.get("scheduling") or {}
    check_labels(scheduling.get("nodeSelector"), "scheduling.nodeSelector", out)
    if scheduling.get("tolerations"):
        check_tolerations(scheduling["tolerations"], "scheduling.tolerations", out)
    return out


def warnings(obj: Object, old: Object | None) -> list[str]:
    labels = (obj.get("scheduling") or {}).get("nodeSelector") or ()
    return [f"scheduling.nodeSelector: {NODE_LABELS[key]}" for key in labels if key in NODE_LABELS]


def cells(obj: Object, now_s: float) -> list[Any]:
    return [name(obj), obj.get("handler") or "", age(obj, now_s)]


KIND = Kind(
    group="node.k8s.io",
    version="v1",
    kind="RuntimeClass",
    storage="runtimeclasses",
    validate=validate,
    warnings=warnings,
    columns=(NAME, Column("Handler", "string", "The runtime configuration it names."), AGE),
    cells=cells,
)
