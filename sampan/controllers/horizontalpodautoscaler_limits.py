"""How fast an autoscaler may change its target, pure: windows, policies, bounds.

Upstream's behaviour (autoscaling/v2 HorizontalPodAutoscalerBehavior, KEP-853). Recommendations and
changes are kept in memory, as upstream: no longer than the longest window that asks for them, and
after a restart the replicas there are count as recommended.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from msgspec import Struct, field

from sampan.api.errors import Object

DOWN_WINDOW_S = 300.0
"""--horizontal-pod-autoscaler-downscale-stabilization."""
UP_FACTOR, UP_LEAST = 2.0, 4.0
"""Without behaviour: at most twice as many at once, or four."""


class Moment(NamedTuple):
    """A number, and when."""

    when_s: float
    number: int


class History(Struct):
    """What was recommended and done for one autoscaler."""

    recommended: list[Moment] = field(default_factory=list)
    added: list[Moment] = field(default_factory=list)
    removed: list[Moment] = field(default_factory=list)


class Told(NamedTuple):
    """A condition's status, reason and message."""

    holds: bool
    reason: str
    message: str


class Limited(NamedTuple):
    """The replicas it comes to, and why."""

    replicas: int
    able: Told
    limited: Told


class Asked(NamedTuple):
    """What is wanted of a target: `desired` by metrics, within `least` and `most`."""

    current: int
    desired: int
    least: int
    most: int


READY = Told(True, "ReadyForNewScale", "recommended size matches current size")
UP_HELD = Told(
    True,
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
)
DOWN_HELD = Told(
    True,
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent "
    "recommendation",
)
WITHIN = Told(False, "DesiredWithinRange", "the desired count is within the acceptable range")
TOO_MANY = Told(
    True, "TooManyReplicas", "the desired replica count is more than the maximum replica count"
)
TOO_FEW = Told(
    True, "TooFewReplicas", "the desired replica count is less than the minimum replica count"
)
TOO_FAST_UP = Told(
    True,
    "ScaleUpLimit",
    "the desired replica count is increasing faster than the maximum scale rate",
)
TOO_FAST_DOWN = Told(
    True,
    "ScaleDownLimit",
    "the desired replica count is decreasing faster than the maximum scale rate",
)


def limit(asked: Asked, behavior: Object | None, history: History, now_s: float) -> Limited:
    """What to scale to now. Notes the recommendation in `history`."""
    if behavior is None:
        return _limit_plainly(asked, history, now_s)
    up, down = behavior["scaleUp"], behavior["scaleDown"]
    up_s = _window_s(up, 0.0)
    down_s = _window_s(down, DOWN_WINDOW_S)
    since = [item for item in history.recommended if item.when_s > now_s - up_s]
    lowest = min([asked.desired, *(item.number for item in since)])
    since = [item for item in history.recommended if item.when_s > now_s - down_s]
    highest = max([asked.desired, *(item.number for item in since)])
    steady = min(max(asked.current, lowest), highest)
    _note(history, asked.desired, now_s, max(up_s, down_s))
    able = READY
    if steady != asked.desired:
        able = UP_HELD if asked.desired >= asked.current else DOWN_HELD
    replicas, why = _paced(asked._replace(desired=steady), behavior, history, now_s)
    return Limited(replicas, able, why if replicas != steady else WITHIN)


def _limit_plainly(asked: Asked, history: History, now_s: float) -> Limited:
    recent = [item for item in history.recommended if item.when_s >= now_s - DOWN_WINDOW_S]
    steady = max([asked.desired, *(item.number for item in recent)])
    _note(history, asked.desired, now_s, DOWN_WINDOW_S)
    able = DOWN_HELD if steady != asked.desired else READY
    fastest = int(max(UP_FACTOR * asked.current, UP_LEAST))
    most, why = (fastest, TOO_FAST_UP) if asked.most > fastest else (asked.most, TOO_MANY)
    if steady < asked.least:
        return Limited(asked.least, able, TOO_FEW)
    if steady > most:
        return Limited(most, able, why)
    return Limited(steady, able, WITHIN)


def _paced(asked: Asked, behavior: Object, history: History, now_s: float) -> tuple[int, Told]:
    """Within what the policies of the direction allow, and within the bounds."""
    if asked.desired > asked.current:
        top = max(asked.current, up_limit(asked.current, behavior["scaleUp"], history, now_s))
        most, why = (top, TOO_FAST_UP) if asked.most > top else (asked.most, TOO_MANY)
        return min(asked.desired, most), why
    if asked.desired < asked.current:
        floor = min(asked.current, down_limit(asked.current, behavior["scaleDown"], history, now_s))
        least, why = (floor, TOO_FAST_DOWN) if asked.least < floor else (asked.least, TOO_FEW)
        return max(asked.desired, least), why
    return asked.desired, WITHIN


def up_limit(current: int, rules: Object, history: History, now_s: float) -> int:
    """The most that the policies let it grow to."""
    choice = rules.get("selectPolicy")
    if choice == "Disabled":
        return current
    # Percents are rounded up: a small target would never grow otherwise.
    ends = _ends(current, rules, history, now_s, +1)
    if not ends:
        return current
    return min(ends) if choice == "Min" else max(ends)


def down_limit(current: int, rules: Object, history: History, now_s: float) -> int:
    """The least that the policies let it shrink to."""
    choice = rules.get("selectPolicy")
    if choice == "Disabled":
        return current
    ends = _ends(current, rules, history, now_s, -1)
    if not ends:
        return current
    return max(ends) if choice == "Min" else min(ends)


def _ends(current: int, rules: Object, history: History, now_s: float, sign: int) -> list[int]:
    """How far each policy lets it go."""
    ends: list[int] = []
    for policy in rules.get("policies") or ():
        start = _start(current, policy["periodSeconds"], history, now_s)
        if policy["type"] == "Pods":
            ends.append(start + sign * policy["value"])
        else:
            end = start * (1 + sign * policy["value"] / 100)
            ends.append(math.ceil(end) if sign > 0 else int(end))
    return ends


def _start(current: int, period_s: float, history: History, now_s: float) -> int:
    """The replicas there were when the period began."""
    since_s = now_s - period_s
    added = sum(item.number for item in history.added if item.when_s > since_s)
    removed = sum(item.number for item in history.removed if item.when_s > since_s)
    return current - added + removed


def begin(history: History, current: int, now_s: float) -> None:
    """What there is counts as recommended, until something is."""
    if not history.recommended:
        history.recommended.append(Moment(now_s, current))


def note_change(history: History, behavior: Object | None, change: int, now_s: float) -> None:
    """Note that replicas were added (or, negative, removed), for as long as a policy may ask."""
    if behavior is None:
        return
    periods = [
        policy["periodSeconds"]
        for direction in ("scaleUp", "scaleDown")
        for policy in behavior[direction].get("policies") or ()
    ]
    since_s = now_s - max(periods, default=0)
    for kept in (history.added, history.removed):
        kept[:] = [item for item in kept if item.when_s >= since_s]
    (history.added if change > 0 else history.removed).append(Moment(now_s, abs(change)))


def _note(history: History, desired: int, now_s: float, window_s: float) -> None:
    kept = [item for item in history.recommended if item.when_s >= now_s - window_s]
    history.recommended = [*kept, Moment(now_s, desired)]


def _window_s(rules: Object, default_s: float) -> float:
    found = rules.get("stabilizationWindowSeconds")
    return default_s if found is None else float(found)
