"""Validation of a slice's devices: their attributes, capacities, counters and nodes."""

from __future__ import annotations

import re
from typing import Any

from ... import fields
from ...errors import Cause, Object
from ..core.podspec.scheduling import check_node_selector
from ..formats import check_label, check_subdomain
from .capacity import check_capacity
from .claimstatus import check_binding
from .names import check_attribute_name, check_items, check_map
from .taints import check_taint

MAX_TRAITS = 32
"""Attributes and capacities of a device together."""
MAX_VALUE = 64
MAX_TAINTS = 16
MAX_CONSUMPTIONS = 2
MAX_COUNTERS = 32
VALUES = ("bool", "int", "string", "version")
_NUMBER = r"(0|[1-9]\d*)"
_PART = r"(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)"
_BUILD = r"[0-9a-zA-Z-]+"
_SEMVER = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(-{_PART}(\.{_PART})*)?(\+{_BUILD}(\.{_BUILD})*)?"
)
PLACES = ("nodeName", "nodeSelector", "allNodes")
ONE_PLACE = (
    "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when "
    "`perDeviceNodeSelection` is set to true in the ResourceSlice spec"
)
NO_PLACE = (
    "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set "
    "to true in the ResourceSlice spec"
)


def check_device(device: Object, path: str, out: list[Cause], *, placed: bool) -> None:
    """`placed`: does each device of the slice say which nodes have it?"""
    check_label(device.get("name") or "", f"{path}.name", out)
    attributes, capacity = device.get("attributes") or {}, device.get("capacity") or {}
    traits = len(attributes) + len(capacity)
    if traits > MAX_TRAITS:
        why = f"the total number of attributes and capacities must not exceed {MAX_TRAITS}"
        out.append(fields.invalid(path, traits, why))
    where = f"{path}.attributes"
    check_map(attributes, check_attribute_name, _check_attribute, where, out)
    several = bool(device.get("allowMultipleAllocations"))

    def check_amount(item: Object, place: str, out: list[Cause]) -> None:
        check_capacity(item, place, out, several=several)

    check_map(capacity, check_attribute_name, check_amount, f"{path}.capacity", out)
    check_items(device.get("taints"), MAX_TAINTS, check_taint, f"{path}.taints", out)
    consumed, where = device.get("consumesCounters"), f"{path}.consumesCounters"
    check_items(consumed, MAX_CONSUMPTIONS, _check_consumption, where, out, key=_counter_set)
    if placed:
        _check_place(device, path, out)
    elif any(device.get(field) is not None for field in PLACES):
        out.append(fields.invalid(path, None, NO_PLACE))
    check_binding(device, path, out)


def _check_attribute(item: Object, path: str, out: list[Cause]) -> None:
    text, version = item.get("string"), item.get("version")
    if text is not None and len(text.encode()) > MAX_VALUE:
        out.append(fields.too_long(f"{path}.string", "", MAX_VALUE))
    if version is not None:
        if not _SEMVER.fullmatch(version[:MAX_VALUE]):
            why = "must be a string compatible with semver.org spec 2.0.0"
            out.append(fields.invalid(f"{path}.version", version, why))
        if len(version) > MAX_VALUE:
            out.append(fields.too_long(f"{path}.version", "", MAX_VALUE))
    given = sum(item.get(field) is not None for field in VALUES)
    if given != 1:
        value: Any = item if given else ""
        out.append(fields.invalid(path, value, "exactly one value must be specified"))


def _counter_set(item: Object) -> str:
    return str(item.get("counterSet") or "")


def _check_consumption(item: Object, path: str, out: list[Cause]) -> None:
    if not item.get("counterSet"):
        out.append(fields.required(f"{path}.counterSet"))
    else:
        check_label(item["counterSet"], f"{path}.counterSet", out)
    check_counters(item.get("counters") or {}, f"{path}.counters", out)


def check_counter_set(item: Object, path: str, out: list[Cause]) -> None:
    if not item.get("name"):
        out.append(fields.required(f"{path}.name"))
    else:
        check_label(item["name"], f"{path}.name", out)
    check_counters(item.get("counters") or {}, f"{path}.counters", out)


def check_counters(counters: Object, path: str, out: list[Cause]) -> None:
    if not counters:
        out.append(fields.required(path))
    elif len(counters) > MAX_COUNTERS:
        out.append(fields.too_many(path, len(counters), MAX_COUNTERS))
    else:
        check_map(counters, check_label, _check_nothing, path, out)


def _check_nothing(item: Any, path: str, out: list[Cause]) -> None:
    """Any quantity that could be read is good."""


def _check_place(device: Object, path: str, out: list[Cause]) -> None:
    given = []
    name, selector, everywhere = (device.get(field) for field in PLACES)
    if name:
        given.append("`nodeName`")
        check_subdomain(name, f"{path}.nodeName", out)
    elif name is not None:
        out.append(fields.invalid(f"{path}.nodeName", name, "must not be empty"))
    if selector is not None:
        given.append("`nodeSelector`")
        check_node_selector(selector, f"{path}.nodeSelector", out)
    if everywhere:
        given.append("`allNodes`")
    elif everywhere is not None:
        why = "must be either unset or set to true"
        out.append(fields.invalid(f"{path}.allNodes", everywhere, why))
    if not given:
        out.append(fields.required(path, ONE_PLACE))
    elif len(given) > 1:
        out.append(fields.invalid(path, f"{{{', '.join(given)}}}", ONE_PLACE))
