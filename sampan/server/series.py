"""Counters and histograms by labels, and their text form (Prometheus exposition).

Memory: one entry per name and labels seen; who counts must keep the number of labels bounded.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

Labels = tuple[tuple[str, str], ...]

DEFAULT_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Those of Prometheus' client, for histograms that name none."""


class Histogram:
    """How often values came to each bucket, and their sum."""

    __slots__ = ("bounds", "counts", "first", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.first = bounds[0]
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.total += value
        # Most are in the first bucket, and need no search.
        if value <= self.first:
            self.counts[0] += 1
        else:
            self.counts[bisect_left(self.bounds, value)] += 1


class Series:
    """The metrics of one part of the server."""

    def __init__(self) -> None:
        self._counters: dict[str, dict[Labels, int]] = {}
        self._histograms: dict[str, dict[Labels, Histogram]] = {}

    def count(self, name: str, labels: Labels) -> None:
        """Add one to a counter."""
        known = self._counters.setdefault(name, {})
        known[labels] = known.get(labels, 0) + 1

    def histogram(self, name: str, labels: Labels, bounds: Sequence[float]) -> Histogram:
        """A histogram, made when it is first asked for; who observes often keeps it."""
        known = self._histograms.setdefault(name, {})
        found = known.get(labels)
        if found is None:
            found = known[labels] = Histogram(bounds)
        return found

    def exposition(self) -> str:
        """As Prometheus text; histograms nothing was added to are left out."""
        return "".join(f"{line}\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        for name, counters in sorted(self._counters.items()):
            yield f"# TYPE {name} counter"
            for labels, count in counters.items():
                yield f"{name}{_text(labels)} {count}"
        for name, histograms in sorted(self._histograms.items()):
            used = [(labels, item) for labels, item in histograms.items() if any(item.counts)]
            if used:
                yield f"# TYPE {name} histogram"
            for labels, item in used:
                yield from _histogram(name, labels, item)


def _histogram(name: str, labels: Labels, item: Histogram) -> Iterator[str]:
    seen = 0
    bounds = [f"{bound:g}" for bound in item.bounds]
    for bound, count in zip((*bounds, "+Inf"), item.counts, strict=True):
        seen += count
        yield f"{name}_bucket{_text((*labels, ('le', bound)))} {seen}"
    yield f"{name}_sum{_text(labels)} {round(item.total, 9)}"
    yield f"{name}_count{_text(labels)} {seen}"


def _text(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
