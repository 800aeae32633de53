"""ResourceSlice (resource.k8s.io/v1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ... import fields
from ...descriptor import Column, Kind
from ...errors import Cause, Object
from ..core.podspec.volumes import check_driver_name
from ..formats import check_label, check_subdomain
from ..printing import AGE, NAME, age, name

MAX_DEVICES = 128
PLACES = ("nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection")


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    spec = obj.get("spec") or {}
    check_driver_name(spec.get("driver") or "", "spec.driver", out)
    pool = spec.get("pool") or {}
    if not pool.get("name"):
        out.append(fields.required("spec.pool.name"))
    if (pool.get("resourceSliceCount") or 0) <= 0:
        value = pool.get("resourceSliceCount") or 0
        out.append(
            fields.invalid("spec.pool.resourceSliceCount", value, "must be greater than zero")
        )
    given = [place for place in PLACES if spec.get(place)]
    if len(given) != 1:
        names = ", ".join(f"`{place}`" for place in PLACES[:-1])
        why = f"exactly one of {names}, `{PLACES[-1]}` is required"
        many = "" if not given else f", but multiple fields are set: {given}"
        out.append(fields.required("spec", why) if not given
                   else fields.invalid("spec", None, why + many))  # fmt: skip
    if spec.get("nodeName"):
        check_subdomain(spec["nodeName"], "spec.nodeName", out)
    if old is not None:
        before = old.get("spec") or {}
        for field in ("nodeName", "driver"):
            out += fields.unchanged(f"spec.{field}", spec.get(field), before.get(field))
        was = (before.get("pool") or {}).get("name")
        out += fields.unchanged("spec.pool.name", pool.get("name"), was)
    _check_devices(spec.get("devices") or [], out)
    return out


def _check_devices(devices: list[Object], out: list[Cause]) -> None:
    if len(devices) > MAX_DEVICES:
        out.append(fields.too_many("spec.devices", len(devices), MAX_DEVICES))
    seen: set[str] = set()
    for position, device in enumerate(devices):
        own_name = device.get("name") or ""
        check_label(own_name, f"spec.devices[{position}].name", out)
        if own_name in seen:
            out.append(fields.duplicate(f"spec.devices[{position}].name", own_name))
        seen.add(own_name)


def selectable(obj: Object) -> Mapping[str, str]:
    spec = obj.get("spec") or {}
    return {
        "spec.nodeName": spec.get("nodeName") or "",
        "spec.driver": spec.get("driver") or "",
    }


def cells(obj: Object, now_s: float) -> list[Any]:
    spec = obj.get("spec") or {}
    return [
        name(obj),
        spec.get("nodeName") or "",
        spec.get("driver") or "",
        (spec.get("pool") or {}).get("name") or "",
        age(obj, now_s),
    ]


KIND = Kind(
    group="resource.k8s.io",
    version="v1",
    kind="ResourceSlice",
    storage="resourceslices",
    generation=True,
    validate=validate,
    fields=selectable,
    columns=(
        NAME,
        Column("Node", "string", "The node the devices are on."),
        Column("Driver", "string", "Who publishes them."),
        Column("Pool", "string", "The pool they are part of."),
        AGE,
    ),
    cells=cells,
)
