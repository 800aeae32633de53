"""Namespace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ... import fields
from ...descriptor import Column, Kind
from ...errors import Cause, Object
from ...meta import known_finalizer
from ..formats import check_qualified
from ..printing import AGE, NAME, age, name

FINALIZER = "kubernetes"
NAME_LABEL = "kubernetes.io/metadata.name"


def prepare(obj: Object, old: Object | None) -> None:
    """A namespace is emptied before it goes: the finalizer is there from the start, and leaves only
    by /finalize."""
    spec = obj.setdefault("spec", {})
    if old is None:
        finalizers = spec.setdefault("finalizers", [])
        if FINALIZER not in finalizers:
            finalizers.append(FINALIZER)
        obj["status"] = {"phase": "Active"}
    else:
        _put_back(spec, old)


def finalize(obj: Object, old: Object) -> None:
    """Of /finalize every finalizer is taken, before deletion as after it."""


def _put_back(spec: Object, old: Object) -> None:
    finalizers = (old.get("spec") or {}).get("finalizers")
    if finalizers:
        spec["finalizers"] = finalizers
    else:
        spec.pop("finalizers", None)


def default(obj: Object) -> None:
    metadata = obj["metadata"]
    own_name = metadata.get("name")
    if own_name:
        labels = metadata.get("labels")
        if labels is None:
            labels = metadata["labels"] = {}
        labels[NAME_LABEL] = own_name
    obj.setdefault("spec", {})
    status = obj.setdefault("status", {})
    if not status.get("phase"):
        status["phase"] = "Active"


def validate(obj: Object, old: Object | None) -> list[Cause]:
    # An update leaves the finalizers as they were.
    finalizers = obj["spec"].get("finalizers") if old is None else None
    return [cause for item in finalizers or () for cause in _finalizer(item, "spec.finalizers")]


def validate_finalize(obj: Object, old: Object | None) -> list[Cause]:
    return [
        cause
        for position, item in enumerate((obj.get("spec") or {}).get("finalizers") or ())
        for cause in _finalizer(item, f"spec.finalizers[{position}]")
    ]


def _finalizer(text: str, path: str) -> list[Cause]:
    out: list[Cause] = []
    check_qualified(text, path, out)
    return out + known_finalizer(text, path)


def validate_status(obj: Object, old: Object | None) -> list[Cause]:
    phase = (obj.get("status") or {}).get("phase") or ""
    if "deletionTimestamp" in obj["metadata"]:
        if phase != "Terminating":
            why = "may only be 'Terminating' if `deletionTimestamp` is not empty"
            return [fields.invalid("status.Phase", phase, why)]
    elif phase != "Active":
        why = "may only be 'Active' if `deletionTimestamp` is empty"
        return [fields.invalid("status.Phase", phase, why)]
    return []


def selectable(obj: Object) -> Mapping[str, str]:
    return {"status.phase": (obj.get("status") or {}).get("phase") or ""}


def cells(obj: Object, now_s: float) -> list[Any]:
    return [name(obj), (obj.get("status") or {}).get("phase") or "", age(obj, now_s)]


KIND = Kind(
    group="",
    version="v1",
    kind="Namespace",
    short_names=("ns",),
    storage="namespaces",
    name_rule="label",
    generation=False,
    default=default,
    defaults_metadata=True,
    prepare=prepare,
    prepare_parts={"finalize": finalize},
    validate=validate,
    validate_status=validate_status,
    validate_parts={"finalize": validate_finalize},
    fields=selectable,
    columns=(NAME, Column("Status", "string", "The status of the namespace"), AGE),
    cells=cells,
)
