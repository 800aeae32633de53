"""Judges what watchers saw by what writers were told; shares no code with the server.

A `Truth` is one acknowledged write. A `Segment` is one watch: where it began, what it was sent.
`violations` says, in words, where the watch's promises (etcd's: ordered, unique, reliable, atomic,
resumable, bookmarked) were broken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Object = dict[str, Any]
Selects = Callable[[Object], bool]


class Truth(NamedTuple):
    revision: int
    key: str
    obj: Object | None
    """As the writer was answered; None for a deletion."""


class Seen(NamedTuple):
    kind: str
    revision: int
    obj: Object


@dataclass(slots=True)
class Segment:
    """One watch. `state` is what a list showed at `start`, None when it goes on from before."""

    start: int
    state: dict[str, Object] | None = None
    events: list[Seen] = field(default_factory=list)
    """Bookmarks among them."""


def state_at(log: Sequence[Truth], revision: int, selects: Selects) -> dict[str, Object]:
    state = {}
    for truth in log:
        if truth.revision > revision:
            break
        if truth.obj is not None and selects(truth.obj):
            state[truth.key] = truth.obj
        else:
            state.pop(truth.key, None)
    return state


def expected(log: Sequence[Truth], start: int, selects: Selects) -> Iterator[Seen]:
    """Every event a watch of `selects` from revision `start` is to be sent, in order."""
    before: dict[str, Object] = {}
    for truth in log:
        old = before.get(truth.key)
        if truth.obj is None:
            before.pop(truth.key, None)
        else:
            before[truth.key] = truth.obj
        if truth.revision <= start:
            continue
        was = old is not None and selects(old)
        is_now = truth.obj is not None and selects(truth.obj)
        if is_now and truth.obj is not None:
            yield Seen("MODIFIED" if was else "ADDED", truth.revision, truth.obj)
        elif was and old is not None:
            yield Seen("DELETED", truth.revision, at(old, truth.revision))


def at(obj: Object, revision: int) -> Object:
    """The object as of another revision: a deletion shows the last state at its own."""
    return {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(revision)}}


def violations(
    log: Sequence[Truth], segments: Sequence[Segment], selects: Selects, *, complete: bool = True
) -> list[str]:
    """What is wrong with one client's watches, in the order it made them. With `complete`, the
    last one was read until the end of the log."""
    found = []
    position = 0
    for segment in segments:
        if segment.state is not None:
            if segment.state != state_at(log, segment.start, selects):
                found.append(f"the list at {segment.start} is not that moment")
        elif segment.start != position:
            found.append(f"resumed at {segment.start}, was at {position}")
        position = segment.start
        wanted = expected(log, segment.start, selects)
        following = next(wanted, None)
        for seen in segment.events:
            if seen.kind == "BOOKMARK":
                if seen.revision < position:
                    found.append(f"the bookmark {seen.revision} is behind {position}")
                if following is not None and following.revision <= seen.revision:
                    found.append(f"the bookmark {seen.revision} hides {following.revision}")
            elif seen.revision <= position:
                found.append(f"{seen.revision} came again, or late, behind {position}")
            elif following is None or seen != following:
                where = "nothing" if following is None else f"{following[:2]}"
                found.append(f"{seen[:2]} came, and {where} was to come, or its object differs")
                return found
            else:
                following = next(wanted, None)
            position = max(position, seen.revision)
    if complete and segments:
        missing = next(expected(log, position, selects), None)
        if missing is not None:
            found.append(f"{missing[:2]} never came")
    return found
