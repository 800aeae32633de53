"""What the autoscaling controller counts, under upstream's names (podautoscaler/monitor)."""

from __future__ import annotations

from sampan.wire.exposition import Buckets

from .runtime.metrics import Counters

PREFIX = "horizontal_pod_autoscaler_controller_"
SYNCS, SYNC_S = f"{PREFIX}reconciliations_total", f"{PREFIX}reconciliation_duration_seconds"
METRICS = f"{PREFIX}metric_computation_total"
METRIC_S = f"{PREFIX}metric_computation_duration_seconds"
# prometheus.ExponentialBuckets(0.001, 2, 15)
BUCKETS_S = tuple(0.001 * 2**power for power in range(15))

UP, DOWN, NOTHING = "scale_up", "scale_down", "none"
# Whose fault it was.
SPEC, INTERNAL, NOBODY = "spec", "internal", "none"


class Tally:
    """Counts and times of syncs and of single metrics: some fifty rows at most."""

    def __init__(self) -> None:
        self._counts = Counters(
            {SYNCS: ("action", "error"), METRICS: ("action", "error", "metric_type")}
        )
        self._times: dict[str, dict[str, Buckets]] = {SYNC_S: {}, METRIC_S: {}}

    def note_sync(self, action: str, error: str, seconds: float) -> None:
        self._counts.add(SYNCS, action, error)
        self._observe(SYNC_S, f'action="{action}",error="{error}"', seconds)

    def note_metric(self, action: str, error: str, kind: str, seconds: float) -> None:
        self._counts.add(METRICS, action, error, kind)
        labels = f'action="{action}",error="{error}",metric_type="{kind}"'
        self._observe(METRIC_S, labels, seconds)

    def _observe(self, metric: str, labels: str, seconds: float) -> None:
        self._times[metric].setdefault(labels, Buckets(BUCKETS_S)).add(seconds)

    def exposition(self) -> str:
        """Prometheus text; "" before the first sync."""
        out = []
        for metric, known in self._times.items():
            if known:
                out.append(f"# TYPE {metric} histogram")
            for labels, histogram in known.items():
                out += histogram.lines(metric, labels)
        return self._counts.exposition() + "".join(f"{line}\n" for line in out)


def action_of(current: int, wanted: int) -> str:
    """What going from the one number of replicas to the other is called."""
    if wanted == current:
        return NOTHING
    return UP if wanted > current else DOWN
