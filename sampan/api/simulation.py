"""What `sampan up --simulate` and `sampan simulate` say: how many nodes, and how they behave. Pure.

The text is a list of `name=value`, as in `nodes=500,start=0.2s-1s,fail=1%`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from msgspec import Struct
from msgspec.structs import fields, replace

from sampan.wire import quantity

NODES_MAX = 16_384
"""The nodes for which there is a /24 each in 100.64.0.0/10."""
SECONDS_MAX = 86_400.0
DURATION = re.compile(r"^(\d+(?:\.\d+)?)(ms|s|m|)$")
UNIT_S = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0}
PREFIX = re.compile(r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$")


class Span(Struct, frozen=True):
    """Between these many seconds, each pod its own."""

    least_s: float = 0.0
    most_s: float = 0.0


class Simulation(Struct, frozen=True):
    """The nodes of one simulation. `help` of each is what the command says."""

    nodes: int = 0
    """how many"""
    start: Span = Span()
    """from a pod's binding until its containers run"""
    ready: Span = Span()
    """from running to ready"""
    stop: Span = Span()
    """from a pod's deletion until it is gone (its grace period at most)"""
    fail: float = 0.0
    """share of the pods whose containers crash, again and again"""
    pull: float = 0.0
    """share of the pods whose image cannot be pulled"""
    lost: float = 0.0
    """share of the nodes that fall silent as soon as they are there"""
    zones: int = 0
    """in how many zones the nodes stand, in turn"""
    cpu: str = "8"
    memory: str = "32Gi"
    pods: str = "110"
    lease: float = 40.0
    """life of a Lease; it is renewed four times in it"""
    name: str = "sim"
    """what the nodes' names begin with"""

    @property
    def names(self) -> list[str]:
        return [f"{self.name}-{number}" for number in range(self.nodes)]


def parse(text: str) -> Simulation:
    """Raises ValueError, in words for who typed it."""
    values: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, found, value = part.partition("=")
        if not found:
            raise ValueError(f"{part!r}: use name=value, for example nodes=500,start=0.2s,fail=1%")
        read = READERS.get(key)
        if read is None:
            raise ValueError(f"{key!r} is none of {', '.join(READERS)}")
        try:
            values[key] = read(value)
        except ValueError as error:
            raise ValueError(f"{key}={value}: {error}") from None
    return replace(Simulation(), **values)


def _count(most: int) -> Callable[[str], int]:
    def read(value: str) -> int:
        if not value.isascii() or not value.isdigit() or len(value) > 6 or int(value) > most:
            raise ValueError(f"use a number up to {most}")
        return int(value)

    return read


def _seconds(value: str) -> float:
    found = DURATION.match(value)
    seconds = float(found[1]) * UNIT_S[found[2]] if found else SECONDS_MAX + 1
    if seconds > SECONDS_MAX:
        raise ValueError("use a duration like 200ms, 0.2s or 1m")
    return seconds


def _span(value: str) -> Span:
    least, _, most = value.partition("-")
    span = Span(_seconds(least), _seconds(most or least))
    if span.most_s < span.least_s:
        raise ValueError("the first duration is the shorter one")
    return span


def _lease(value: str) -> float:
    seconds = _seconds(value)
    if seconds < 4:
        raise ValueError("use 4s or more")
    return seconds


def _share(value: str) -> float:
    found = re.match(r"^(\d{1,3}(?:\.\d+)?)(%?)$", value)
    share = float(found[1]) / (100 if found[2] else 1) if found else 2.0
    if share > 1:
        raise ValueError("use a share like 1% or 0.01")
    return share


def _amount(value: str) -> str:
    quantity.milli(value)
    return value


def _name(value: str) -> str:
    if not PREFIX.match(value):
        raise ValueError("use up to 32 of a-z, 0-9 and '-'")
    return value


READERS: dict[str, Callable[[str], Any]] = {
    "nodes": _count(NODES_MAX),
    "start": _span,
    "ready": _span,
    "stop": _span,
    "fail": _share,
    "pull": _share,
    "lost": _share,
    "zones": _count(1000),
    "cpu": _amount,
    "memory": _amount,
    "pods": _amount,
    "lease": _lease,
    "name": _name,
}
assert READERS.keys() == {item.name for item in fields(Simulation)}
