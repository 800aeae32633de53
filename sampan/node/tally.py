"""What the agent counts for its /metrics: one object per node, plain additions on the way."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence

from msgspec import Struct, field

# pkg/kubelet/metrics: podStartupDurationBuckets; client_golang's DefBuckets.
START_BUCKETS = (
    0.5, 1, 2, 3, 4, 5, 6, 8, 10, 20, 30, 45, 60, 120, 180, 240, 300, 360, 480, 600, 900, 1200,
    1800, 2700, 3600,
)  # fmt: skip
# pkg/volume/util: storageOperationMetric.
STORAGE_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 25, 50, 120, 300, 600)
DEFAULT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Histogram(Struct):
    bounds: Sequence[float]
    counts: list[int] = field(default_factory=list)
    total: float = 0.0

    def observe(self, value: float) -> None:
        if not self.counts:
            self.counts = [0] * (len(self.bounds) + 1)
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def rows(self) -> Iterator[tuple[str, str, float]]:
        """(suffix, value of `le` or "", figure), cumulative as Prometheus wants them."""
        seen = 0
        for bound, count in zip(self.bounds, self.counts or [0] * len(self.bounds), strict=False):
            seen += count
            yield "_bucket", f"{bound:g}", seen
        number = sum(self.counts)
        yield "_bucket", "+Inf", number
        yield "_sum", "", self.total
        yield "_count", "", number


class Tally(Struct):
    containers: Counter[str] = field(default_factory=Counter)
    """Started, by kind (container, init_container, ephemeral_container)."""
    failed: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Not started, by kind and reason."""
    pods: int = 0
    """Pods whose sandbox was made."""
    failed_pods: int = 0
    restarts: int = 0
    probes: Counter[tuple[str, str, str, str, str, str]] = field(default_factory=Counter)
    """Looks, by kind, result, container, pod, namespace and uid; of pods that are there."""
    operations: dict[str, Histogram] = field(default_factory=dict)
    """Of the container runtime, in seconds."""
    errors: Counter[str] = field(default_factory=Counter)
    """Of its operations."""
    starts: Histogram = field(default_factory=lambda: Histogram(START_BUCKETS))
    """From a pod's first sight to its containers' start, in seconds."""

    storage: dict[tuple[str, str, str], Histogram] = field(default_factory=dict)
    """Of volumes, in seconds, by plugin, operation and how it ended."""

    def store(self, plugin: str, operation: str, seconds: float, good: bool) -> None:
        """A volume was mounted, mapped or taken away."""
        key = plugin, operation, "success" if good else "fail-unknown"
        found = self.storage.get(key)
        if found is None:
            found = self.storage[key] = Histogram(STORAGE_BUCKETS)
        found.observe(seconds)

    def operation(self, name: str, seconds: float, *, failed: bool = False) -> None:
        found = self.operations.get(name)
        if found is None:
            found = self.operations[name] = Histogram(DEFAULT_BUCKETS)
        found.observe(seconds)
        if failed:
            self.errors[name] += 1

    def forget(self, uid: str) -> None:
        """A pod is gone, and its probes' figures with it."""
        for key in [key for key in self.probes if key[-1] == uid]:
            del self.probes[key]
