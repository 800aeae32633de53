"""Counters and histograms by labels, and their text form (Prometheus exposition).

Memory: one entry per name and labels seen; who counts must keep the number of labels bounded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sampan.wire.exposition import Buckets

Labels = tuple[tuple[str, str], ...]

DEFAULT_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Those of Prometheus' client, for histograms that name none."""


class Histogram(Buckets):
    """Of one metric and its labels."""

    __slots__ = ("first",)

    def __init__(self, bounds: Sequence[float]) -> None:
        super().__init__(bounds)
        self.first = bounds[0]

    def add(self, value: float, times: int = 1) -> None:
        """Most are in the first bucket, and need no search."""
        if value <= self.first:
            self.counts[0] += times
            self.total += value * times
        else:
            super().add(value, times)


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
                yield from item.lines(name, _inside(labels))


def _text(labels: Labels) -> str:
    return f"{{{_inside(labels)}}}" if labels else ""


def _inside(labels: Labels) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
