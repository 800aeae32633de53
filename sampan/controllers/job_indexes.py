"""Sets of completion indexes as ordered intervals, and their text in a status ("0,2-5"). Pure.

An Indexed job may have 100,000 of them: no operation here is longer than the intervals and pods
it is given.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from sampan.api.errors import Object

INDEX = "batch.kubernetes.io/job-completion-index"
"""Annotation and label of the pods of an Indexed job."""

Intervals = tuple[tuple[int, int], ...]
"""Ordered, apart from one another, both ends included."""


def index_of(pod: Object) -> int | None:
    """The pod's completion index; None if it has none that makes sense."""
    text = (pod["metadata"].get("annotations") or {}).get(INDEX)
    return int(text) if text and text.isascii() and text.isdigit() else None


def valid_index(pod: Object, completions: int) -> int | None:
    """The pod's index, if the job (still) has it."""
    found = index_of(pod)
    return found if found is not None and found < completions else None


def parse(text: str | None, completions: int) -> Intervals:
    """What a status says, cut at the job's end; parts that are no numbers are passed over."""
    out: list[tuple[int, int]] = []
    for part in text.split(",") if text else ():
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            continue
        if int(first) >= completions:
            break
        out.append((int(first), min(int(last) if dash else int(first), completions - 1)))
    return merge(out)


def text_of(intervals: Intervals) -> str:
    """As a status has it; two neighbours are a list, more are a range."""
    parts = []
    for first, last in intervals:
        joint = "," if last == first + 1 else "-"
        parts.append(str(first) if first == last else f"{first}{joint}{last}")
    return ",".join(parts)


def merge(*sets: Iterable[tuple[int, int]]) -> Intervals:
    """The union."""
    out: list[tuple[int, int]] = []
    for first, last in sorted(item for found in sets for item in found):
        if out and first <= out[-1][1] + 1:
            out[-1] = (out[-1][0], max(out[-1][1], last))
        else:
            out.append((first, last))
    return tuple(out)


def with_indexes(intervals: Intervals, indexes: Iterable[int]) -> Intervals:
    return merge(intervals, ((index, index) for index in indexes))


def total(intervals: Intervals) -> int:
    return sum(last - first + 1 for first, last in intervals)


def holds(intervals: Intervals, index: int) -> bool:
    position = bisect_right(intervals, index, key=lambda item: item[0]) - 1
    return position >= 0 and intervals[position][1] >= index


def missing(intervals: Intervals, count: int, completions: int) -> list[int]:
    """The first `count` indexes below `completions` that are not in the set."""
    out: list[int] = []
    candidate = 0
    for first, last in (*intervals, (completions, completions)):
        out += range(candidate, min(first, completions, candidate + count - len(out)))
        candidate = last + 1
        if len(out) >= count:
            break
    return out


def shared(one: Sequence[tuple[int, int]], other: Sequence[tuple[int, int]]) -> int:
    """How many indexes are in both."""
    count = left = right = 0
    while left < len(one) and right < len(other):
        low = max(one[left][0], other[right][0])
        high = min(one[left][1], other[right][1])
        count += max(0, high - low + 1)
        if one[left][1] <= other[right][1]:
            left += 1
        else:
            right += 1
    return count
