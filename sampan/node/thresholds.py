"""When a node is short of something: eviction thresholds, and what crossing them means. Pure.

Signals, operators and rules are kubelet's (pkg/kubelet/eviction): a threshold that is crossed makes
its node condition hold at once and for `transition_s` after; pods are evicted for a hard one at
once, for a soft one when it has been crossed for its grace period; and it counts as crossed until
what is left exceeds it by the minimum that is to be reclaimed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct, field

from sampan.wire.quantity import BINARY, DECIMAL, QuantityError, whole, whole_text

MEMORY, ALLOCATABLE, PIDS = "memory.available", "allocatableMemory.available", "pid.available"
NODE_DISK, NODE_INODES = "nodefs.available", "nodefs.inodesFree"
IMAGE_DISK, IMAGE_INODES = "imagefs.available", "imagefs.inodesFree"
MEMORY_PRESSURE, DISK_PRESSURE, PID_PRESSURE = "MemoryPressure", "DiskPressure", "PIDPressure"

# What a node is short of, as events and statuses call it.
MEMORY_SHORT, PIDS_SHORT = "memory", "pids"
DISK_SHORT, INODES_SHORT = "ephemeral-storage", "inodes"


class Meaning(Struct, frozen=True):
    condition: str
    resource: str
    """What there is too little of, as events and statuses call it."""


SIGNALS: Mapping[str, Meaning] = {
    MEMORY: Meaning(MEMORY_PRESSURE, MEMORY_SHORT),
    ALLOCATABLE: Meaning(MEMORY_PRESSURE, MEMORY_SHORT),
    NODE_DISK: Meaning(DISK_PRESSURE, DISK_SHORT),
    NODE_INODES: Meaning(DISK_PRESSURE, INODES_SHORT),
    IMAGE_DISK: Meaning(DISK_PRESSURE, DISK_SHORT),
    IMAGE_INODES: Meaning(DISK_PRESSURE, INODES_SHORT),
    PIDS: Meaning(PID_PRESSURE, PIDS_SHORT),
}
COUNTED = (NODE_INODES, IMAGE_INODES, PIDS)
"""Signals that count things, not bytes."""

# kubelet's defaults (pkg/kubelet/apis/config/v1beta1).
HARD = {
    MEMORY: "100Mi",
    NODE_DISK: "10%",
    NODE_INODES: "5%",
    IMAGE_DISK: "15%",
    IMAGE_INODES: "5%",
}
TRANSITION_S = 300.0


class Observation(Struct, frozen=True):
    available: int
    capacity: int


Observations = Mapping[str, Observation]


class Threshold(Struct, frozen=True):
    signal: str
    value: str
    """A quantity, or a share of the capacity ("10%")."""
    grace_s: float = 0.0
    """0 for a hard one."""
    reclaim: str = ""
    """How much more than the value there has to be again."""

    def amount(self, capacity: int) -> int:
        return amount_of(self.value, capacity)

    def is_crossed(self, seen: Observation, *, reclaimed: bool = False) -> bool:
        """`reclaimed`: it has been crossed, and ends with its minimum reclaim only."""
        wanted = self.amount(seen.capacity)
        if reclaimed and self.reclaim:
            wanted += amount_of(self.reclaim, seen.capacity)
        return wanted > seen.available


def amount_of(value: str, capacity: int) -> int:
    if value.endswith("%"):
        return int(capacity * float(value[:-1]) / 100)
    return whole(value)


def check_value(signal: str, value: Any) -> str:
    """The value as text. Raises ValueError."""
    if signal not in SIGNALS or signal == ALLOCATABLE:
        raise ValueError(f"unsupported eviction signal {signal}")
    text = str(value)
    try:
        if text.endswith("%"):
            if not 0 <= float(text[:-1]) <= 100:
                raise ValueError
        elif whole(text) < 0:
            raise ValueError
    except (QuantityError, ValueError):
        raise ValueError(f"eviction threshold {signal} must be positive: {text}") from None
    return text


def thresholds_of(
    hard: Mapping[str, Any],
    soft: Mapping[str, Any],
    graces_s: Mapping[str, float],
    reclaims: Mapping[str, Any],
) -> tuple[Threshold, ...]:
    """Raises ValueError with kubelet's words."""
    for signal, text in reclaims.items():
        check_value(signal, text)
    out = []
    for signal, text in hard.items():
        out.append(Threshold(signal, check_value(signal, text), 0.0, str(reclaims.get(signal, ""))))
    for signal, text in soft.items():
        value = check_value(signal, text)
        if signal not in graces_s:
            raise ValueError(
                f"grace period must be specified for the soft eviction threshold {signal}"
            )
        out.append(Threshold(signal, value, graces_s[signal], str(reclaims.get(signal, ""))))
    for item in tuple(out):
        if item.signal == MEMORY and not item.grace_s:
            out.append(Threshold(ALLOCATABLE, item.value, 0.0, item.reclaim))
    return tuple(out)


DEFAULTS = thresholds_of(HARD, {}, {}, {})


class Watcher(Struct):
    """What was seen of the thresholds so far; `observe` is told of every look."""

    thresholds: Sequence[Threshold]
    transition_s: float = TRANSITION_S
    conditions: tuple[str, ...] = ()
    """Those that hold now, in the order of the table of signals."""
    _since: dict[Threshold, float] = field(default_factory=dict)
    _seen_at: dict[str, float] = field(default_factory=dict)
    _met: tuple[Threshold, ...] = ()

    def observe(self, seen: Observations, now: float) -> tuple[Threshold, ...]:
        """The thresholds for which pods have to go, the first to be dealt with first. `now` never
        goes back."""
        crossed = [
            item
            for item in self.thresholds
            if item.signal in seen
            and item.is_crossed(seen[item.signal], reclaimed=item in self._met)
        ]
        self._since = {item: self._since.get(item, now) for item in crossed}
        for item in crossed:
            self._seen_at[SIGNALS[item.signal].condition] = now
        self.conditions = tuple(
            kind
            for kind in (MEMORY_PRESSURE, DISK_PRESSURE, PID_PRESSURE)
            if kind in self._seen_at
            and (now - self._seen_at[kind] < self.transition_s or self._seen_at[kind] == now)
        )
        self._met = tuple(
            item for item, since in self._since.items() if now - since >= item.grace_s
        )
        # Memory first: without it nothing can be done about the rest (byEvictionPriority).
        return tuple(
            sorted(self._met, key=lambda item: SIGNALS[item.signal].condition != MEMORY_PRESSURE)
        )


def crossing_text(threshold: Threshold, seen: Observation) -> str:
    """How short the node is, for the evicted pod's message."""
    form = DECIMAL if threshold.signal in COUNTED else BINARY
    wanted = whole_text(threshold.amount(seen.capacity), form)
    return f"Threshold quantity: {wanted}, available: {_available(threshold, seen)}. "


def _available(threshold: Threshold, seen: Observation) -> str:
    """Bytes as upstream shows them: whole Ki where the number is one."""
    return whole_text(seen.available, DECIMAL if threshold.signal in COUNTED else BINARY)
