"""Validation of a claim's status: what is allocated, to whom, and what drivers tell of it
(ValidateResourceClaimStatusUpdate)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ... import fields
from ...errors import Cause, Object
from ..conditions import check_conditions
from ..core.podspec.equality import same
from ..core.podspec.scheduling import check_node_selector
from ..core.podspec.volumes import check_driver_name
from ..formats import check_label, check_qualified
from .names import check_config, check_items, check_pool, check_raw, check_uid
from .requests import MAX_CONFIGS, MAX_REQUESTS, check_request_name, request_names

MAX_CONSUMERS = 256
MAX_RESULTS = 32
MAX_DEVICES = 1 << 30
"""No bound of its own: each is of an allocated device."""
MAX_DEVICE_CONDITIONS = 8
MAX_BINDING_CONDITIONS = 4
MAX_INTERFACE, MAX_HARDWARE, MAX_IPS = 256, 128, 16
SOURCES = ("FromClaim", "FromClass")


def check_status(obj: Object, old: Object, out: list[Cause]) -> None:
    status, before = obj.get("status") or {}, old.get("status") or {}
    path, allocation = "status", status.get("allocation")
    consumers = status.get("reservedFor") or []
    check_items(consumers, MAX_CONSUMERS, _check_consumer, f"{path}.reservedFor", out, key=_uid)
    results = ((allocation or {}).get("devices") or {}).get("results") or ()
    allocated = {device_id(item) for item in results}

    def check_device(item: Object, place: str, out: list[Cause]) -> None:
        _check_device(item, allocated, place, out)

    check_items(
        status.get("devices"), MAX_DEVICES, check_device, f"{path}.devices", out, key=device_id
    )
    if consumers and allocation is None:
        why = "may not be specified when `allocated` is not set"
        out.append(fields.forbidden(f"{path}.reservedFor", why))
    elif consumers and "deletionTimestamp" in obj["metadata"]:
        known = before.get("reservedFor") or ()
        if any(item not in known for item in consumers):
            why = (
                "new entries may not be added while `deallocationRequested` or `deletionTimestamp` "
                "are set"
            )
            out.append(fields.forbidden(f"{path}.reservedFor", why))
    if allocation is not None and before.get("allocation") is not None:
        if not same(allocation, before["allocation"]):
            out.append(fields.immutable(f"{path}.allocation", allocation))
    elif allocation is not None:
        names = request_names(obj.get("spec") or {})
        _check_allocation(allocation, names, f"{path}.allocation", out)


def _uid(item: Object) -> str:
    return str(item.get("uid") or "")


def device_id(item: Object) -> str:
    """A device as upstream names it: driver/pool/device, and which share of it."""
    text = "/".join(str(item.get(field) or "") for field in ("driver", "pool", "device"))
    return f"{text}/{item['shareID']}" if item.get("shareID") else text


def _check_consumer(item: Object, path: str, out: list[Cause]) -> None:
    for field in ("resource", "name", "uid"):
        if not item.get(field):
            out.append(fields.required(f"{path}.{field}"))


def _check_identity(item: Object, path: str, out: list[Cause]) -> None:
    check_driver_name(item.get("driver") or "", f"{path}.driver", out)
    check_pool(item.get("pool") or "", f"{path}.pool", out)
    check_label(item.get("device") or "", f"{path}.device", out)


def _check_device(item: Object, allocated: set[str], path: str, out: list[Cause]) -> None:
    _check_identity(item, path, out)
    if item.get("shareID") is not None:
        check_uid(item["shareID"], f"{path}.shareID", out)
    if device_id(item) not in allocated:
        why = "must be an allocated device in the claim"
        out.append(fields.invalid(path, device_id(item), why))
    conditions = item.get("conditions") or ()
    if len(conditions) > MAX_DEVICE_CONDITIONS:
        where = f"{path}.conditions"
        out.append(fields.too_many(where, len(conditions), MAX_DEVICE_CONDITIONS))
    check_conditions(conditions, f"{path}.conditions", out)
    if item.get("data") is not None:
        check_raw(item["data"], f"{path}.data", out)
    _check_network(item.get("networkData") or {}, f"{path}.networkData", out)


def _check_network(data: Object, path: str, out: list[Cause]) -> None:
    for field, most in (("interfaceName", MAX_INTERFACE), ("hardwareAddress", MAX_HARDWARE)):
        if len(data.get(field) or "") > most:
            out.append(fields.too_long(f"{path}.{field}", "", most))
    check_items(data.get("ips"), MAX_IPS, _check_address, f"{path}.ips", out, key=str)


def _check_address(address: str, path: str, out: list[Cause]) -> None:
    from ipaddress import ip_interface

    try:
        if "/" not in address:
            raise ValueError(address)
        ip_interface(address)
    except ValueError:
        why = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)"
        out.append(fields.invalid(path, address, why))


def _check_allocation(item: Object, names: frozenset[str], path: str, out: list[Cause]) -> None:
    devices, where = item.get("devices") or {}, f"{path}.devices"

    def check_reference(name: str, place: str, out: list[Cause]) -> None:
        check_request_name(name, names, place, out)

    def check_result(result: Object, place: str, out: list[Cause]) -> None:
        check_reference(result.get("request") or "", f"{place}.request", out)
        _check_identity(result, place, out)
        check_binding(result, place, out)
        if result.get("shareID") is not None:
            check_uid(result["shareID"], f"{place}.shareID", out)

    def check_one_config(config: Object, place: str, out: list[Cause]) -> None:
        source = config.get("source") or ""
        if not source:
            out.append(fields.required(f"{place}.source"))
        elif source not in SOURCES:
            out.append(fields.not_supported(f"{place}.source", source, SOURCES))
        wanted = config.get("requests")
        check_items(wanted, MAX_REQUESTS, check_reference, f"{place}.requests", out, key=str)
        check_config(config, place, out)

    check_items(devices.get("results"), MAX_RESULTS, check_result, f"{where}.results", out)
    # As many as the class and the claim may have together.
    check_items(devices.get("config"), 2 * MAX_CONFIGS, check_one_config, f"{where}.config", out)
    if item.get("nodeSelector") is not None:
        check_node_selector(item["nodeSelector"], f"{path}.nodeSelector", out)


def check_binding(item: Object, path: str, out: list[Cause]) -> None:
    """Conditions to wait for before a pod is bound, and those that say it fails (KEP-5007)."""
    wait: Sequence[Any] = item.get("bindingConditions") or []
    fail: Sequence[Any] = item.get("bindingFailureConditions") or []
    for field, conditions in (("bindingConditions", wait), ("bindingFailureConditions", fail)):
        where = f"{path}.{field}"
        check_items(conditions, MAX_BINDING_CONDITIONS, check_qualified, where, out)
    for field, conditions in (("bindingConditions", wait), ("bindingFailureConditions", fail)):
        for position, condition in enumerate(conditions):
            where = f"{path}.{field}[{position}]"
            if condition in conditions[:position]:
                out.append(fields.duplicate(where, condition))
            if conditions is fail and condition in wait:
                why = "bindingFailureConditions must not overlap with bindingConditions"
                out.append(fields.invalid(where, condition, why))
    if fail and not wait:
        why = "bindingConditions are required to use bindingFailureConditions"
        out.append(fields.invalid(f"{path}.bindingConditions", None, why))
    if wait and not fail:
        why = "bindingFailureConditions are required to use bindingConditions"
        out.append(fields.invalid(f"{path}.bindingFailureConditions", None, why))
