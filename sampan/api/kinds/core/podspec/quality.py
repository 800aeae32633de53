"""A pod's quality-of-service class (pkg/apis/core/helper/qos)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sampan.wire.quantity import QuantityError, parse

GUARANTEED, BURSTABLE, BEST_EFFORT = "Guaranteed", "Burstable", "BestEffort"
_COMPUTE = ("cpu", "memory")


def qos_class(spec: Mapping[str, Any]) -> str:
    """A request that is not given counts as the limit, as defaults will have it."""
    own = spec.get("resources")
    if own and (own.get("requests") or own.get("limits")):
        owners = [own]
    else:
        owners = [
            container.get("resources") or {}
            for name in ("containers", "initContainers")
            for container in spec.get(name) or ()
        ]
    requests: dict[str, int] = {}
    limits: dict[str, int] = {}
    guaranteed = True
    for resources in owners:
        caps = resources.get("limits") or {}
        capped = _sum(caps, limits)
        _sum({**caps, **(resources.get("requests") or {})} if caps else
             resources.get("requests") or {}, requests)  # fmt: skip
        guaranteed = guaranteed and capped == len(_COMPUTE)
    if not requests and not limits:
        return BEST_EFFORT
    return GUARANTEED if guaranteed and requests == limits else BURSTABLE


def _sum(amounts: Mapping[str, Any], total: dict[str, int]) -> int:
    """Add CPU and memory; how many of the two there were."""
    found = 0
    for name in _COMPUTE:
        if name in amounts:
            try:
                nanos = parse(amounts[name]).nanos
            except QuantityError:
                continue
            if nanos > 0:
                found += 1
                total[name] = total.get(name, 0) + nanos
    return found
