"""What flow control counts, under upstream's names (util/flowcontrol/metrics)."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .fairness import Fairness

PREFIX = "apiserver_flowcontrol_"
BUCKETS_S = (0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0)

Series = list[tuple[str, float]]


class FairnessMetrics:
    """Counters of what was refused and how long requests waited; the rest is read off levels."""

    def __init__(self) -> None:
        self._rejected: Counter[tuple[str, str, str]] = Counter()
        self._waits: dict[tuple[str, str], tuple[list[int], list[float]]] = {}

    def reject(self, schema: str, level: str, reason: str) -> None:
        self._rejected[schema, level, reason] += 1

    def refused(self, level: str) -> tuple[int, int, int]:
        """Requests of a level that were rejected, timed out, and cancelled."""
        found: Counter[str] = Counter()
        for (_, name, reason), count in self._rejected.items():
            if name == level:
                found[reason] += count
        late, gone = found.pop("time-out", 0), found.pop("cancelled", 0)
        return found.total(), late, gone

    def waited(self, schema: str, level: str, seconds: float) -> None:
        counts, total = self._waits.setdefault((schema, level), ([0] * (len(BUCKETS_S) + 1), [0.0]))
        counts[bisect_left(BUCKETS_S, seconds)] += 1
        total[0] += seconds

    def exposition(self, fairness: Fairness) -> str:
        """As Prometheus text."""
        lines: list[str] = []

        def put(name: str, kind: str, series: Series) -> None:
            lines.append(f"# TYPE {PREFIX}{name} {kind}")
            lines.extend(f"{PREFIX}{name}{{{labels}}} {value}" for labels, value in series)

        put("dispatched_requests_total", "counter", [
            (f'flow_schema="{schema}",priority_level="{level}"', count)
            for (schema, level), count in sorted(fairness.dispatched().items())
        ])  # fmt: skip
        put("rejected_requests_total", "counter", [
            (f'flow_schema="{schema}",priority_level="{level}",reason="{reason}"', count)
            for (schema, level, reason), count in sorted(self._rejected.items())
        ])  # fmt: skip
        levels = sorted(fairness.levels.values(), key=lambda item: item.name)
        for name, by_schema in (
            ("current_inqueue_requests", {level.name: level.queued() for level in levels}),
            ("current_executing_requests", {level.name: level.running for level in levels}),
        ):
            put(name, "gauge", [
                (f'flow_schema="{schema}",priority_level="{level}"', count)
                for level, found in by_schema.items() for schema, count in sorted(found.items())
            ])  # fmt: skip
        for name, field in (
            ("current_executing_seats", "seats"),
            ("nominal_limit_seats", "nominal"),
            ("lower_limit_seats", "least"),
            ("upper_limit_seats", "upper"),
        ):
            put(name, "gauge", [
                (f'priority_level="{level.name}"', getattr(level, field)) for level in levels
            ])  # fmt: skip
        # There are no adjustment periods here, whose figures upstream shows besides: what a level
        # may use now follows from what the others use.
        put("current_limit_seats", "gauge", [
            (f'priority_level="{level.name}"', fairness.pool.limit(level)) for level in levels
        ])  # fmt: skip
        lines.extend(self._histogram())
        return "".join(f"{line}\n" for line in lines)

    def _histogram(self) -> list[str]:
        name = f"{PREFIX}request_wait_duration_seconds"
        lines = [f"# TYPE {name} histogram"] if self._waits else []
        for (schema, level), (counts, total) in sorted(self._waits.items()):
            labels = f'execute="true",flow_schema="{schema}",priority_level="{level}"'
            seen = 0
            for bound, count in zip((*BUCKETS_S, "+Inf"), counts, strict=True):
                seen += count
                lines.append(f'{name}_bucket{{{labels},le="{bound}"}} {seen}')
            lines.append(f"{name}_sum{{{labels}}} {round(total[0], 6)}")
            lines.append(f"{name}_count{{{labels}}} {seen}")
        return lines
