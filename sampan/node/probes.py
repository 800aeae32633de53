"""Probe results to health: a pure machine per container (pkg/kubelet/prober).

Failures are counted once per period, as upstream. Between the start of a container and its first
success we look more often than that (`next_look`): after 10 ms, then at doubling distances up to
the period, so that a container is ready when it is, and not up to a period later. Those extra looks
count when they succeed (where one success is enough) and are ignored when they fail; that is the
one deviation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from .state import HEALTHY, Health

LIVENESS, READINESS, STARTUP = "liveness", "readiness", "startup"
FIELDS = {LIVENESS: "livenessProbe", READINESS: "readinessProbe", STARTUP: "startupProbe"}
FIRST_LOOK_S = 0.01
# The first look that counts comes this long after the start, as it does upstream, whose probes
# begin once the pod's status has been written: nobody is told that a server which has just been
# started does not answer yet.
FIRST_COUNT_S = 0.5
# Timers may wake a little early; that much still counts as on time.
EARLY_S = 0.001


class Timing(Struct, frozen=True):
    """The numbers of a probe, with the API's defaults."""

    initial_delay_s: float
    period_s: float
    timeout_s: float
    successes: int
    failures: int

    @classmethod
    def of(cls, probe: Mapping[str, Any]) -> Timing:
        return cls(
            float(probe.get("initialDelaySeconds") or 0),
            float(probe.get("periodSeconds") or 10),
            float(probe.get("timeoutSeconds") or 1),
            int(probe.get("successThreshold") or 1),
            int(probe.get("failureThreshold") or 3),
        )


class Watchfulness(Struct, frozen=True):
    """One probe of one attempt: its verdict and when to look next. Times are monotonic."""

    good: bool | None
    """None until there is a verdict (readiness and startup then count as not good)."""
    next_count_at: float
    """The next look that counts whatever its result."""
    next_look_at: float
    step_s: float
    run: int = 0
    """Equal results in a row."""
    run_good: bool = False


def begin(kind: str, timing: Timing, started_at: float) -> Watchfulness:
    """A liveness probe starts out good; the others have to earn it."""
    first = started_at + timing.initial_delay_s
    counted = first + min(FIRST_COUNT_S, timing.period_s / 2)
    if kind == LIVENESS:
        return Watchfulness(True, counted, counted, FIRST_LOOK_S)
    return Watchfulness(None, counted, first, FIRST_LOOK_S)


def observe(
    kind: str, timing: Timing, before: Watchfulness, good: bool, now: float
) -> Watchfulness:
    """The machine after a look at `now`."""
    counts = is_due(before, now)
    after = before
    if counts or (good and timing.successes == 1):
        run = before.run + 1 if before.run and before.run_good == good else 1
        enough = run >= (timing.successes if good else timing.failures)
        after = replace(after, run=run, run_good=good, good=good if enough else before.good)
    if counts:
        later = before.next_count_at + timing.period_s
        # A look that took longer than the period does not make up for those it missed.
        after = replace(after, next_count_at=max(later, now))
    eager = kind != LIVENESS and not after.good and before.good is None
    if eager:
        step = min(before.step_s * 2, timing.period_s)
        look = min(after.next_count_at, now + before.step_s)
        return replace(after, step_s=step, next_look_at=look)
    return replace(after, next_look_at=after.next_count_at)


def is_due(state: Watchfulness, now: float) -> bool:
    """Whether a look at `now` counts even when it fails."""
    return now >= state.next_count_at - EARLY_S


def initial_health(container: Mapping[str, Any]) -> Health:
    """What a container that has just started is taken for."""
    if not any(container.get(field) for field in FIELDS.values()):
        return HEALTHY
    return Health(
        started=not container.get("startupProbe"),
        ready=not container.get("readinessProbe"),
    )


def apply(health: Health, kind: str, good: bool) -> Health:
    """Health after a probe's verdict."""
    if kind == READINESS:
        return replace(health, ready=good)
    if not good:
        return replace(health, condemned=kind)
    return replace(health, started=True) if kind == STARTUP else health


def kinds_to_run(container: Mapping[str, Any], health: Health) -> list[str]:
    """Until the startup probe has succeeded the others wait."""
    if not health.started:
        return [STARTUP]
    return [kind for kind in (READINESS, LIVENESS) if container.get(FIELDS[kind])]
