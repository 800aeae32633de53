"""ResourceSlice (resource.k8s.io/v1)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ... import fields
from ...descriptor import Column, Kind
from ...errors import Cause, Object
from ...times import format_time
from ..core.podspec.scheduling import check_node_selector
from ..core.podspec.volumes import check_driver_name
from ..formats import check_subdomain
from ..printing import AGE, NAME, age, name
from .devices import check_counter_set, check_device
from .names import check_items, check_pool
from .requests import name_of

MAX_DEVICES = 128
MAX_HEAVY_DEVICES = 64
"""When some have taints or consume counters."""
MAX_COUNTER_SETS = 8
ONE_PLACE = (
    "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
)


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    spec = obj.get("spec") or {}
    pool = spec.get("pool") or {}
    check_driver_name(spec.get("driver") or "", "spec.driver", out)
    _check_pool(pool, "spec.pool", out)
    if old is not None:
        before = old.get("spec") or {}
        was = (before.get("pool") or {}).get("name")
        out += fields.unchanged("spec.pool.name", pool.get("name"), was)
        for field in ("driver", "nodeName"):
            out += fields.unchanged(f"spec.{field}", spec.get(field), before.get(field))
    _check_place(spec, "spec", out)
    devices, counters = spec.get("devices"), spec.get("sharedCounters")
    if devices is not None and counters is not None:
        why = "only one of `sharedCounters` or `devices` is allowed"
        out.append(fields.invalid("spec", "", why))
    heavy = any(item.get("taints") or item.get("consumesCounters") for item in devices or ())
    placed = bool(spec.get("perDeviceNodeSelection"))

    def check_one(device: Object, place: str, out: list[Cause]) -> None:
        check_device(device, place, out, placed=placed)

    most = MAX_HEAVY_DEVICES if heavy else MAX_DEVICES
    check_items(devices, most, check_one, "spec.devices", out, key=name_of)
    where = "spec.sharedCounters"
    check_items(counters, MAX_COUNTER_SETS, check_counter_set, where, out, key=name_of)
    return out


def _check_pool(pool: Object, path: str, out: list[Cause]) -> None:
    check_pool(pool.get("name") or "", f"{path}.name", out)
    count, generation = pool.get("resourceSliceCount") or 0, pool.get("generation") or 0
    if count <= 0:
        why = "must be greater than zero"
        out.append(fields.invalid(f"{path}.resourceSliceCount", count, why))
    if generation < 0:
        why = "must be greater than or equal to zero"
        out.append(fields.invalid(f"{path}.generation", generation, why))


def _check_place(spec: Object, path: str, out: list[Cause]) -> None:
    """Exactly one way of saying which nodes have the devices."""
    given = []
    node, selector = spec.get("nodeName"), spec.get("nodeSelector")
    if node:
        given.append("`nodeName`")
        check_subdomain(node, f"{path}.nodeName", out)
    elif node is not None:
        why = "must be either unset or set to a non-empty string"
        out.append(fields.invalid(f"{path}.nodeName", node, why))
    if selector is not None:
        given.append("`nodeSelector`")
        check_node_selector(selector, f"{path}.nodeSelector", out)
        terms = selector.get("nodeSelectorTerms") or []
        if len(terms) != 1:
            where = f"{path}.nodeSelector.nodeSelectorTerms"
            why = "must have exactly one node selector term"
            out.append(fields.invalid(where, terms or None, why))
    for field in ("allNodes", "perDeviceNodeSelection"):
        if spec.get(field):
            given.append(f"`{field}`")
        elif spec.get(field) is not None:
            why = "must be either unset or set to true"
            out.append(fields.invalid(f"{path}.{field}", spec[field], why))
    if not given:
        out.append(fields.required(path, ONE_PLACE))
    elif len(given) > 1:
        why = f"{ONE_PLACE}, but multiple fields are set"
        out.append(fields.invalid(path, f"{{{', '.join(given)}}}", why))


def prepare(obj: Object, _old: Object | None) -> None:
    """A taint that does not say since when it is there is there from now on."""
    for device in (obj.get("spec") or {}).get("devices") or ():
        for taint in device.get("taints") or ():
            if not taint.get("timeAdded"):
                taint["timeAdded"] = format_time(time.time())


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
    prepare=prepare,
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
