"""LimitRange."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sampan.wire.quantity import NANO, Quantity, QuantityError, parse

from ... import fields
from ...descriptor import Kind
from ...errors import Cause, Object
from ...meta import new_uid
from ...names import label_key_problems
from ..printing import CREATED_COLUMNS, created_cells
from .podspec.resources import (
    check_container_resource_name,
    check_resource_name,
    may_overcommit,
)

TYPES = ("Container", "PersistentVolumeClaim", "Pod")
BOUNDS = ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio")


def prepare(obj: Object, old: Object | None) -> None:
    """One without a name gets one, unlike any other kind."""
    metadata = obj["metadata"]
    if old is None and not metadata.get("name"):
        metadata["name"] = new_uid()


def default(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    for item in spec.get("limits") or ():
        if item.get("type") != "Container":
            continue
        limits = item.get("default") or {}
        for key, value in (item.get("max") or {}).items():
            limits.setdefault(key, value)
        requests = item.get("defaultRequest") or {}
        for source in (limits, item.get("min") or {}):
            for key, value in source.items():
                requests.setdefault(key, value)
        if limits:
            item["default"] = limits
        if requests:
            item["defaultRequest"] = requests


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    seen: set[str] = set()
    for position, item in enumerate(obj["spec"].get("limits") or ()):
        path = f"spec.limits[{position}]"
        kind = item.get("type") or ""
        problems = label_key_problems(kind)
        if problems:
            out += [fields.invalid(f"{path}.type", kind, why) for why in problems]
        elif "/" not in kind and kind not in TYPES:
            why = "must be a standard limit type or fully qualified"
            out.append(fields.invalid(f"{path}.type", kind, why))
        if kind in seen:
            out.append(fields.duplicate(f"{path}.type", kind))
        seen.add(kind)
        _check_item(item, kind, path, out)
    return out


def _check_item(item: Object, kind: str, path: str, out: list[Cause]) -> None:
    check_name = (
        check_container_resource_name if kind in ("Pod", "Container") else check_resource_name
    )
    amounts: dict[str, dict[str, Quantity]] = {}
    for bound in BOUNDS:
        given: Mapping[str, Any] = item.get(bound) or {}
        if kind == "Pod" and bound in ("default", "defaultRequest"):
            if given:
                why = "may not be specified when `type` is 'Pod'"
                out.append(fields.forbidden(f"{path}.{bound}", why))
            continue
        for key, value in given.items():
            where = f"{path}.{bound}[{key}]"
            check_name(key, where, out)
            try:
                amounts.setdefault(key, {})[bound] = parse(value)
            except QuantityError as error:
                out.append(fields.invalid(where, value, str(error)))
    if kind == "PersistentVolumeClaim" and not {"min", "max"} & amounts.get("storage", {}).keys():
        why = "either minimum or maximum storage value is required, but neither was provided"
        out.append(fields.required(f"{path}.limits", why))
    for key, bounds in amounts.items():
        _check_order(key, bounds, path, out)


# (smaller, larger, field of the error, shown value, text)
_ORDER = (
    ("min", "max", "min", "min", "min value {0} is greater than max value {1}"),
    ("min", "defaultRequest", "defaultRequest", "defaultRequest",
     "min value {0} is greater than default request value {1}"),
    ("defaultRequest", "max", "defaultRequest", "defaultRequest",
     "default request value {0} is greater than max value {1}"),
    ("defaultRequest", "default", "defaultRequest", "defaultRequest",
     "default request value {0} is greater than default limit value {1}"),
    ("min", "default", "default", "min", "min value {0} is greater than default value {1}"),
    ("default", "max", "default", "max", "default value {0} is greater than max value {1}"),
)  # fmt: skip


def _check_order(key: str, bounds: Mapping[str, Quantity], path: str, out: list[Cause]) -> None:
    for small, large, field, shown, text in _ORDER:
        if small in bounds and large in bounds and bounds[small].nanos > bounds[large].nanos:
            why = text.format(bounds[small], bounds[large])
            out.append(fields.invalid(f"{path}.{field}[{key}]", str(bounds[shown]), why))
    ratio = bounds.get("maxLimitRequestRatio")
    if ratio is not None:
        where = f"{path}.maxLimitRequestRatio[{key}]"
        if ratio.nanos < NANO:
            out.append(fields.invalid(where, str(ratio), f"ratio {ratio} is less than 1"))
        if "min" in bounds and "max" in bounds and bounds["min"].nanos:
            most = bounds["max"].nanos / bounds["min"].nanos
            if ratio.nanos / NANO > most:
                why = f"ratio {ratio} is greater than max/min = {most:f}"
                out.append(fields.invalid(where, str(ratio), why))
    limit, request = bounds.get("default"), bounds.get("defaultRequest")
    if limit and request and not may_overcommit(key) and limit.nanos != request.nanos:
        why = f"default value {limit} must equal to defaultRequest value {request} in {key}"
        out.append(fields.invalid(f"{path}.defaultRequest[{key}]", str(request), why))


KIND = Kind(
    group="",
    version="v1",
    kind="LimitRange",
    short_names=("limits",),
    storage="limitranges",
    default=default,
    prepare=prepare,
    validate=validate,
    columns=CREATED_COLUMNS,
    cells=created_cells,
)
