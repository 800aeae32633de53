"""Capacity of a device that several claims share (KEP-5075): what a request takes of it, and
whether that is still there. Pure; amounts are in billionths, as `sampan.wire.quantity.nanos` has
them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from sampan.api.errors import Object
from sampan.wire.quantity import nanos, parse, text_of

Amounts = Mapping[str, tuple[int, str]]
"""By the capacity's name: how much, and its text."""


def is_shared(device: Object) -> bool:
    return bool(device.get("allowMultipleAllocations"))


def taken_by(request: Object, device: Object) -> Amounts | None:
    """What a request takes of each capacity of a device; None if the device does not have what it
    asks for, or its policy does not allow so much."""
    capacity = device.get("capacity") or {}
    wanted = (request.get("capacity") or {}).get("requests") or {}
    if wanted.keys() - capacity.keys():
        return None
    out = {}
    for name, item in capacity.items():
        policy = item.get("requestPolicy") or {}
        text = _rounded(wanted.get(name), item["value"], policy)
        if _violates(nanos(text), policy) or nanos(text) > nanos(item["value"]):
            return None
        out[name] = nanos(text), text
    return out


def _rounded(wanted: str | None, value: str, policy: Object) -> str:
    """Up to what the policy allows; without a request, the default or everything."""
    if wanted is None:
        return str(policy.get("default") or value)
    bounds, options = policy.get("validRange") or {}, policy.get("validValues") or ()
    if bounds.get("min") is not None:
        low, amount = nanos(bounds["min"]), nanos(wanted)
        if amount < low:
            return str(bounds["min"])
        if bounds.get("step") is None:
            return str(wanted)
        step = nanos(bounds["step"])
        return text_of(low + -(-(amount - low) // step) * step, parse(bounds["step"]).format)
    return str(next((option for option in options if nanos(wanted) <= nanos(option)), wanted))


def _violates(amount: int, policy: Object) -> bool:
    if policy.get("default") is not None and amount == nanos(policy["default"]):
        return False
    bounds, options = policy.get("validRange"), policy.get("validValues") or ()
    if bounds:
        if bounds.get("max") is not None and amount > nanos(bounds["max"]):
            return True
        step = bounds.get("step")
        return step is not None and bool((amount - nanos(bounds["min"])) % nanos(step))
    return bool(options) and all(amount != nanos(option) for option in options)


def fits(device: Object, amounts: Amounts, used: Mapping[str, int], times: int = 1) -> bool:
    """Is so much left, `times` over?"""
    capacity = device.get("capacity") or {}
    return all(
        used.get(name, 0) + times * amount <= nanos(capacity[name]["value"])
        for name, (amount, _) in amounts.items()
    )


def consumed(result: Object) -> Counter[str]:
    """What a result of an allocation has taken of its device."""
    found = result.get("consumedCapacity") or {}
    return Counter({name: nanos(text) for name, text in found.items()})
