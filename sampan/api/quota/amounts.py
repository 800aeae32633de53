"""Lists of resources as exact numbers (k8s.io/apiserver/pkg/quota/v1/resources)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sampan.wire.quantity import DECIMAL, Quantity, QuantityError, parse

Amounts = dict[str, Quantity]


def count(number: int) -> Quantity:
    """So many things."""
    return Quantity(number * 1_000_000_000, DECIMAL)


def read(texts: Mapping[str, Any] | None) -> Amounts:
    """The amounts of a resource list; what cannot be read counts as nothing."""
    out = {}
    for name, text in (texts or {}).items():
        try:
            out[name] = parse(text)
        except QuantityError:
            out[name] = count(0)
    return out


def texts(amounts: Amounts) -> dict[str, str]:
    return {name: str(amount) for name, amount in sorted(amounts.items())}


def _sum(left: Quantity, right: Quantity, sign: int = 1) -> Quantity:
    form = left.format if left.nanos else right.format
    return Quantity(left.nanos + sign * right.nanos, form)


ZERO = count(0)


def add(left: Amounts, right: Amounts) -> Amounts:
    return left | {name: _sum(left.get(name, ZERO), amount) for name, amount in right.items()}


def subtract(left: Amounts, right: Amounts) -> Amounts:
    return left | {name: _sum(left.get(name, ZERO), amount, -1) for name, amount in right.items()}


def largest(left: Amounts, right: Amounts) -> Amounts:
    more = {
        name: amount
        for name, amount in right.items()
        if name not in left or amount.nanos > left[name].nanos
    }
    return left | more


def mask(amounts: Amounts, names: Iterable[str]) -> Amounts:
    return {name: amounts[name] for name in names if name in amounts}


def changed(amounts: Amounts) -> Amounts:
    """Without zeros."""
    return {name: amount for name, amount in amounts.items() if amount.nanos}


def shown(amounts: Amounts) -> str:
    """`cpu=1,pods=2`, as error messages have it."""
    return ",".join(f"{name}={amount}" for name, amount in sorted(amounts.items()))
