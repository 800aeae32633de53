"""Validation of how much of a device's capacity a claim may ask for (KEP-5075)."""

from __future__ import annotations

from typing import Any

from sampan.wire.quantity import NANO, Quantity, QuantityError, parse

from ... import fields
from ...errors import Cause, Object
from .names import check_items

MAX_OPTIONS = 10


def check_capacity(item: Object, path: str, out: list[Cause], *, several: bool) -> None:
    """A DeviceCapacity. `several`: may several claims share the device?"""
    policy, where = item.get("requestPolicy"), f"{path}.requestPolicy"
    if policy is None:
        return
    if not several:
        out.append(fields.forbidden(where, "allowMultipleAllocations must be true"))
        return
    options, bounds = policy.get("validValues"), policy.get("validRange")
    if options and bounds is not None:
        why = (
            'exactly one policy can be specified, cannot specify "validValues" and "validRange" '
            "at the same time"
        )
        out.append(fields.forbidden(where, why))
    elif options or bounds is not None:
        name = "validValues" if options else "validRange"
        if policy.get("default") is None:
            why = f"required when {name} is defined"
            out.append(fields.required(f"{where}.default", why))
            return
        most, usual = _amount(item.get("value")), _amount(policy["default"])
        if options:
            _check_options([_amount(text) for text in options], usual, most, where, out)
        else:
            _check_bounds(bounds, usual, most, f"{where}.validRange", out)


def _amount(value: Any) -> Quantity:
    """The quantity; what is none was refused when it was read."""
    try:
        return parse("0" if value is None else value)
    except QuantityError:
        return parse("0")


def _check_options(
    options: list[Quantity], usual: Quantity, most: Quantity, policy: str, out: list[Cause]
) -> None:
    path = f"{policy}.validValues"
    for position in range(1, len(options)):
        if options[position - 1].nanos > options[position].nanos:
            why = "values must be sorted in ascending order"
            out.append(fields.invalid(f"{path}[{position}]", str(options[position]), why))

    def check_option(option: Quantity, place: str, out: list[Cause]) -> None:
        if option.nanos > most.nanos:
            why = f"option is larger than capacity value: {most}"
            out.append(fields.invalid(place, str(option), why))

    check_items(options, MAX_OPTIONS, check_option, path, out, key=_whole_text)
    if all(option.nanos != usual.nanos for option in options):
        why = "default value is not valid according to the requestPolicy"
        out.append(fields.invalid(path, str(usual), why))


def _check_bounds(
    bounds: Object, usual: Quantity, most: Quantity, path: str, out: list[Cause]
) -> None:
    if bounds.get("min") is None:
        out.append(fields.required(f"{path}.min", "required when validRange is defined"))
        return
    low = _amount(bounds["min"])
    high = None if bounds.get("max") is None else _amount(bounds["max"])
    for bad, field, value, why in (
        (low.nanos > most.nanos, "min", low, f"min is larger than capacity value: {most}"),
        (usual.nanos < low.nanos, "min", usual, f"default is less than min: {low}"),
        (high and low.nanos > high.nanos, "max", low, f"min is larger than max: {high}"),
        (
            high and high.nanos > most.nanos,
            "max",
            high,
            f"max is larger than capacity value: {most}",
        ),
        (high and usual.nanos > high.nanos, "max", usual, f"default is more than max: {high}"),
    ):
        if bad:
            out.append(fields.invalid(f"{path}.{field}", str(value), why))
    if bounds.get("step") is not None:
        step = _amount(bounds["step"])
        added = Quantity(low.nanos + step.nanos, low.format)
        if added.nanos > most.nanos:
            why = f"one step {added} is larger than capacity value: {most}"
            out.append(fields.invalid(f"{path}.step", str(step), why))
        for value in (usual, high):
            if value is not None and _is_between_steps(value, low, step):
                why = f"value is not a multiple of a given step ({step}) from ({low})"
                out.append(fields.invalid(f"{path}.step", str(value), why))


def _is_between_steps(value: Quantity, low: Quantity, step: Quantity) -> bool:
    whole = _whole(step)
    return whole != 0 and (_whole(value) - _whole(low)) % whole != 0


def _whole(amount: Quantity) -> int:
    """Rounded up, as upstream's Quantity.Value."""
    return -(-amount.nanos // NANO)


def _whole_text(amount: Quantity) -> str:
    return str(_whole(amount))
