"""What a work queue counts, under upstream's names (k8s.io/component-base metrics workqueue)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct, field

from sampan.wire.exposition import Buckets

# prometheus.ExponentialBuckets(10e-9, 10, 10): from 10 ns to 10 s.
BUCKETS_S = tuple(1e-8 * 10**power for power in range(10))


def _buckets() -> Buckets:
    return Buckets(BUCKETS_S)


class QueueMetrics(Struct):
    """Counters of one queue."""

    adds: int = 0
    retries: int = 0
    failures: int = 0
    """Reconciles that raised something other than a conflict."""
    conflicts: int = 0
    waited: Buckets = field(default_factory=_buckets)
    worked: Buckets = field(default_factory=_buckets)


class Reading(Struct):
    """One queue at the moment of a scrape."""

    name: str
    metrics: QueueMetrics
    depth: int
    running_s: list[float]
    """How long each reconcile that is under way has been running."""


class Counters:
    """Counts of one controller, by labels, under the names upstream gives them."""

    def __init__(self, labels: Mapping[str, tuple[str, ...]]) -> None:
        """Per metric the names of its labels."""
        self._labels = labels
        self._values: dict[str, dict[tuple[str, ...], float]] = {metric: {} for metric in labels}

    def add(self, metric: str, *values: str, count: float = 1) -> None:
        """Count; `values` are those of the labels, in their order."""
        known = self._values[metric]
        known[values] = known.get(values, 0) + count

    def exposition(self) -> str:
        """Prometheus text; what was never counted is not told."""
        out: list[str] = []
        for metric, rows in self._values.items():
            if rows:
                out.append(f"# TYPE {metric} counter")
            for values, count in rows.items():
                pairs = zip(self._labels[metric], values, strict=True)
                labels = ",".join(f'{name}="{value}"' for name, value in pairs)
                out.append(f"{metric}{{{labels}}} {count:g}")
        return "".join(f"{line}\n" for line in out)


def exposition(readings: Iterable[Reading]) -> str:
    """Prometheus text of all queues."""
    rows = [*readings]
    out: list[str] = []

    def plain(metric: str, kind: str, values: Iterable[tuple[str, float]]) -> None:
        out.append(f"# TYPE {metric} {kind}")
        out.extend(f'{metric}{{name="{name}"}} {value:g}' for name, value in values)

    plain("workqueue_depth", "gauge", ((row.name, row.depth) for row in rows))
    plain("workqueue_adds_total", "counter", ((row.name, row.metrics.adds) for row in rows))
    plain("workqueue_retries_total", "counter", ((row.name, row.metrics.retries) for row in rows))
    for metric in ("queue", "work"):
        title = f"workqueue_{metric}_duration_seconds"
        out.append(f"# TYPE {title} histogram")
        for row in rows:
            histogram = row.metrics.waited if metric == "queue" else row.metrics.worked
            out.extend(histogram.lines(title, f'name="{row.name}"'))
    plain(
        "workqueue_unfinished_work_seconds",
        "gauge",
        ((row.name, sum(row.running_s)) for row in rows),
    )
    plain(
        "workqueue_longest_running_processor_seconds",
        "gauge",
        ((row.name, max(row.running_s, default=0.0)) for row in rows),
    )
    plain(
        "sampan_controller_failures_total",
        "counter",
        ((row.name, row.metrics.failures) for row in rows),
    )
    plain(
        "sampan_controller_conflicts_total",
        "counter",
        ((row.name, row.metrics.conflicts) for row in rows),
    )
    return "\n".join(out) + "\n"
