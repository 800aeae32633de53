"""StorageClass (storage.k8s.io/v1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ... import fields
from ...descriptor import Column, Kind
from ...errors import Cause, Object
from ..doubts import NODE_LABELS
from ..formats import check_qualified
from ..printing import AGE, NAME, age, name

DEFAULT_ANNOTATIONS = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)
RECLAIM = ("Delete", "Retain")
BINDING = ("Immediate", "WaitForFirstConsumer")
MAX_PARAMETERS = 512
MAX_PARAMETER_BYTES = 256 * 1024


def default(obj: Object) -> None:
    if obj.get("reclaimPolicy") is None:
        obj["reclaimPolicy"] = "Delete"
    if obj.get("volumeBindingMode") is None:
        obj["volumeBindingMode"] = "Immediate"


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    if old is not None:
        for field in ("parameters", "provisioner", "reclaimPolicy"):
            if (obj.get(field) or None) != (old.get(field) or None):
                out.append(fields.forbidden(field, f"updates to {field} are forbidden."))
        mode = obj.get("volumeBindingMode")
        out += fields.unchanged("volumeBindingMode", mode, old.get("volumeBindingMode"))
        return out
    provisioner = obj.get("provisioner") or ""
    if not provisioner:
        out.append(fields.required("provisioner"))
    else:
        before = len(out)
        check_qualified(provisioner.lower(), "provisioner", out)
        del out[before + 1 :]
    check_parameters(obj.get("parameters") or {}, "parameters", out)
    policy, mode = obj.get("reclaimPolicy"), obj.get("volumeBindingMode")
    if policy not in RECLAIM:
        out.append(fields.not_supported("reclaimPolicy", policy or "", RECLAIM))
    if mode not in BINDING:
        out.append(fields.not_supported("volumeBindingMode", mode or "", BINDING))
    _check_topologies(obj.get("allowedTopologies") or (), out)
    return out


def _check_topologies(terms: Sequence[Object], out: list[Cause]) -> None:
    seen: list[dict[str, set[str]]] = []
    for position, term in enumerate(terms):
        path = f"allowedTopologies[{position}].matchLabelExpressions"
        found: dict[str, set[str]] = {}
        for place, item in enumerate(term.get("matchLabelExpressions") or ()):
            where, key = f"{path}[{place}]", item.get("key") or ""
            values = item.get("values") or ()
            if not values:
                out.append(fields.required(f"{where}.values"))
            for index, value in enumerate(values):
                if value in values[:index]:
                    out.append(fields.duplicate(f"{where}.values[{index}]", value))
            check_qualified(key, f"{where}.key", out)
            if key in found:
                out.append(fields.duplicate(f"{where}.key", key))
            found[key] = set(values)
        if found in seen:
            out.append(fields.duplicate(path, ""))
        seen.append(found)


def check_parameters(parameters: dict[str, str], path: str, out: list[Cause]) -> None:
    if len(parameters) > MAX_PARAMETERS:
        out.append(fields.too_long(path, "", MAX_PARAMETERS))
        return
    if "" in parameters:
        out.append(fields.invalid(path, "", "field can not be empty."))
    if sum(len(key) + len(value) for key, value in parameters.items()) > MAX_PARAMETER_BYTES:
        out.append(fields.too_long(path, "", MAX_PARAMETER_BYTES))


def warnings(obj: Object, old: Object | None) -> list[str]:
    return [
        f"allowedTopologies[{position}].matchLabelExpressions[{place}].key: "
        f"{NODE_LABELS[item['key']]}"
        for position, topology in enumerate(obj.get("allowedTopologies") or ())
        for place, item in enumerate(topology.get("matchLabelExpressions") or ())
        if item.get("key") in NODE_LABELS
    ]


def cells(obj: Object, now_s: float) -> list[Any]:
    annotations = obj["metadata"].get("annotations") or {}
    chosen = any(annotations.get(key) == "true" for key in DEFAULT_ANNOTATIONS)
    return [
        f"{name(obj)} (default)" if chosen else name(obj),
        obj.get("provisioner") or "",
        obj.get("reclaimPolicy") or "Delete",
        obj.get("volumeBindingMode") or "Immediate",
        bool(obj.get("allowVolumeExpansion")),
        age(obj, now_s),
    ]


KIND = Kind(
    group="storage.k8s.io",
    version="v1",
    kind="StorageClass",
    short_names=("sc",),
    storage="storageclasses",
    default=default,
    validate=validate,
    warnings=warnings,
    columns=(
        NAME,
        Column("Provisioner", "string", "What makes its volumes."),
        Column("ReclaimPolicy", "string", "What becomes of released volumes."),
        Column("VolumeBindingMode", "string", "When volumes are bound."),
        Column("AllowVolumeExpansion", "string", "May volumes grow?"),
        AGE,
    ),
    cells=cells,
)
