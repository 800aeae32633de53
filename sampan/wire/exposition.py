"""Figures in Prometheus' text format, version 0.0.4. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from math import inf

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Buckets:
    """One histogram."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float, times: int = 1) -> None:
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times

    def rows(self) -> Iterator[tuple[str, str, float]]:
        """(suffix, value of `le` or "", figure), cumulative as Prometheus wants them."""
        seen = 0
        for bound, count in zip((*self.bounds, inf), self.counts, strict=True):
            seen += count
            yield "_bucket", "+Inf" if bound == inf else f"{bound:g}", seen
        yield "_sum", "", self.total
        yield "_count", "", seen

    def lines(self, name: str, labels: str = "") -> Iterator[str]:
        """`labels` as they are written, of all of its lines."""
        for suffix, bound, figure in self.rows():
            parts = (labels, f'le="{bound}"' if bound else "")
            told = ",".join(part for part in parts if part)
            yield f"{name}{suffix}{f'{{{told}}}' if told else ''} {figure:.12g}"
