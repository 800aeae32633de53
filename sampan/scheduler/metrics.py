"""What the scheduler counts, under upstream's names (pkg/scheduler/metrics)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from time import perf_counter

from sampan.wire.exposition import Buckets


def doubling(first: float, count: int) -> tuple[float, ...]:
    """prometheus.ExponentialBuckets(first, 2, count)."""
    return tuple(first * 2**power for power in range(count))


ATTEMPT_S = doubling(0.001, 15)
SLI_S = doubling(0.01, 20)
ATTEMPTS = doubling(1, 5)
VICTIMS = doubling(1, 7)
POINT_S = doubling(0.0001, 12)
MOST_ATTEMPTS = 15
"""From here on the label `attempts` says "15+"."""

SCHEDULED, UNSCHEDULABLE, ERROR = "scheduled", "unschedulable", "error"


class Histogram:
    """One metric; a row per set of label values."""

    def __init__(self, name: str, buckets: tuple[float, ...], *labels: str) -> None:
        self._name, self._buckets, self._labels = name, buckets, labels
        self._rows: dict[tuple[str, ...], Buckets] = {}

    def observe(self, value: float, *labels: str) -> None:
        row = self._rows.get(labels)
        if row is None:
            row = self._rows[labels] = Buckets(self._buckets)
        row.add(value)

    def lines(self) -> Iterator[str]:
        yield f"# TYPE {self._name} histogram"
        for labels, row in self._rows.items():
            pairs = zip(self._labels, labels, strict=True)
            yield from row.lines(self._name, ",".join(f'{key}="{value}"' for key, value in pairs))


class Metrics:
    """All counters of one scheduler."""

    def __init__(self) -> None:
        self.attempts: Counter[tuple[str, str]] = Counter()
        """By profile and result."""
        self.preemptions = 0
        self.victims = Histogram("scheduler_preemption_victims", VICTIMS)
        self._deciding = Histogram("scheduler_scheduling_algorithm_duration_seconds", ATTEMPT_S)
        self._points = Histogram(
            "scheduler_framework_extension_point_duration_seconds",
            POINT_S,
            "extension_point",
            "status",
            "profile",
        )
        self.trying = Histogram(
            "scheduler_scheduling_attempt_duration_seconds", ATTEMPT_S, "profile", "result"
        )
        self.tries = Histogram("scheduler_pod_scheduling_attempts", ATTEMPTS)
        self.waiting = Histogram("scheduler_pod_scheduling_sli_duration_seconds", SLI_S, "attempts")

    def decided(self, profile: str, found: bool, seconds: float) -> None:
        """A node was looked for. Filters and scores of all nodes are one search here, told as
        Filter."""
        self._deciding.observe(seconds)
        self._points.observe(seconds, "Filter", "Success" if found else "Unschedulable", profile)

    def passed(self, point: str, profile: str, said: str, since: float) -> None:
        """An extension point was run through since then (by perf_counter)."""
        self._points.observe(perf_counter() - since, point, said, profile)

    def attempt(self, profile: str, result: str, seconds: float) -> None:
        """One pod was tried once."""
        self.attempts[profile, result] += 1
        self.trying.observe(seconds, profile, result)

    def placed(self, attempts: int, waited_s: float) -> None:
        """A pod is bound, at this try, so long after it came."""
        self.tries.observe(attempts)
        self.waiting.observe(waited_s, str(attempts) if attempts < MOST_ATTEMPTS else "15+")

    def total(self, result: str) -> int:
        """Attempts with this result, of all profiles."""
        return sum(count for (_, found), count in self.attempts.items() if found == result)

    def exposition(
        self, pending: Mapping[str, int], incoming: Mapping[tuple[str, str], int]
    ) -> str:
        """Prometheus text. `pending` is the number of pods by queue, `incoming` how many came to
        each and by what."""
        lines = ["# TYPE scheduler_pending_pods gauge"]
        lines += [f'scheduler_pending_pods{{queue="{key}"}} {n}' for key, n in pending.items()]
        lines.append("# TYPE scheduler_queue_incoming_pods_total counter")
        for (queue, event), count in incoming.items():
            labels = f'queue="{queue}",event="{event}"'
            lines.append(f"scheduler_queue_incoming_pods_total{{{labels}}} {count}")
        lines.append("# TYPE scheduler_schedule_attempts_total counter")
        for (profile, result), count in self.attempts.items():
            labels = f'profile="{profile}",result="{result}"'
            lines.append(f"scheduler_schedule_attempts_total{{{labels}}} {count}")
        lines.append("# TYPE scheduler_preemption_attempts_total counter")
        lines.append(f"scheduler_preemption_attempts_total {self.preemptions}")
        told = self.victims, self._deciding, self._points, self.trying, self.tries, self.waiting
        for item in told:
            lines += item.lines()
        return "\n".join(lines) + "\n"
