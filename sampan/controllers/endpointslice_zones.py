"""Endpoints shared out among zones by their processors (KEP-2433, topology-mode Auto). Pure.

Each zone is to have endpoints in proportion to the processors of its nodes; an endpoint is meant
for its own zone unless another needs it more. Where that cannot be done without giving some zone's
endpoints a fifth more than their part, there are no hints, and everybody serves everybody.
Sources: upstream's endpointslice/topologycache, whose messages these are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import ceil

from sampan.api.errors import Object
from sampan.api.meta import has_condition
from sampan.wire import quantity

from .endpoints_plan import ZONE_LABEL

OVERLOAD = 0.2
"""How much more than its part an endpoint may have to serve."""
_NO_NODES = (
    "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes"
)
_NO_ZONE = "One or more endpoints do not have a zone specified"
_FEW = "Insufficient number of endpoints"
_OVERLOADED = "Unable to allocate minimum required endpoints to each zone without exceeding"
_OVERLOADED += " overload threshold"
_APART = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")


def zone_shares(nodes: Iterable[Object]) -> dict[str, float]:
    """Zone -> its part of all processors of nodes that are ready; {} unless all are known, and
    two zones have some."""
    found: dict[str, int] = {}
    for node in nodes:
        labels = node["metadata"].get("labels") or {}
        status = node.get("status") or {}
        if any(label in labels for label in _APART) or not has_condition(node, "Ready"):
            continue
        text = (status.get("allocatable") or {}).get("cpu") or "0"
        zone, processors = labels.get(ZONE_LABEL), quantity.milli(text)
        if not zone or not processors:
            return {}
        found[zone] = found.get(zone, 0) + processors
    total = sum(found.values())
    return {zone: part / total for zone, part in found.items()} if len(found) > 1 else {}


def assign_zones(endpoints: Sequence[Object], shares: Mapping[str, float]) -> str:
    """Give each endpoint that is ready the zone it is meant for; entries are changed in place, and
    keep the zone they had where that is as good. Why there are no hints, "" if there are."""
    ready = [item for item in endpoints if item["conditions"]["ready"]]
    least = {zone: ceil(part * len(ready) / (1 + OVERLOAD)) for zone, part in shares.items()}
    why = _reason(ready, shares, sum(least.values()))
    if why:
        for item in endpoints:
            item.pop("hints", None)
        return why
    wanted = {zone: max(part * len(ready), float(least[zone])) for zone, part in shares.items()}
    meant = [_first_zone(item, shares) for item in ready]
    surplus = {zone: meant.count(zone) - wanted.get(zone, 0.0) for zone in {*meant, *wanted}}
    for number, zone in enumerate(meant):
        if surplus[zone] < 0.5:
            continue
        other = min(surplus, key=lambda name: surplus[name])
        # Half an endpoint more or less is not worth a move, nor is one in which nobody gains one.
        if surplus[other] > -0.5 or (surplus[zone] < 1 and surplus[other] > -1):
            continue
        surplus[zone] -= 1
        surplus[other] += 1
        meant[number] = other
    for item, zone in zip(ready, meant, strict=True):
        item["hints"] = {"forZones": [{"name": zone}]}
    return ""


def _reason(ready: Sequence[Object], shares: Mapping[str, float], least: int) -> str:
    counts = f"({len(ready)} endpoints, {len(shares)} zones)"
    if not shares:
        return _NO_NODES
    if len(shares) > len(ready):
        return f"{_FEW} {counts}"
    if least > len(ready):
        return f"{_OVERLOADED} {counts}"
    return "" if all(item.get("zone") for item in ready) else _NO_ZONE


def _first_zone(item: Object, shares: Mapping[str, float]) -> str:
    """The zone an endpoint was meant for before, or its own."""
    before = ((item.pop("hints", None) or {}).get("forZones") or [{}])[0].get("name")
    return str(before if before in shares else item["zone"])
