"""Judges what watchers saw by what writers were told; shares no code with the server.

A `Truth` is one acknowledged write. A `Segment` is one watch: where it began, what it was sent.
`violations` says, in words, where the watch's promises (etcd's: ordered, unique, reliable, atomic,
resumable, bookmarked) were broken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


class Tape:
    """What a watch of `selects` is to be sent, played forward once."""

    def __init__(self, log: Sequence[Truth], selects: Selects) -> None:
        self._log = log
        self._selects = selects
        self._place = 0
        self._following: Seen | None = None
        self.state: dict[str, Object] = {}
        """What is selected, as of the events taken."""

    def peek(self) -> Seen | None:
        """The next event, None at the end of the log."""
        while self._following is None and self._place < len(self._log):
            truth = self._log[self._place]
            self._place += 1
            old, obj = self.state.get(truth.key), truth.obj
            if obj is not None and self._selects(obj):
                self._following = Seen("ADDED" if old is None else "MODIFIED", truth.revision, obj)
            elif old is not None:
                self._following = Seen("DELETED", truth.revision, at(old, truth.revision))
        return self._following

    def take(self) -> None:
        seen = self._following
        assert seen is not None
        name = seen.obj["metadata"]["name"]
        if seen.kind == "DELETED":
            del self.state[name]
        else:
            self.state[name] = seen.obj
        self._following = None

    def skip(self, revision: int) -> None:
        """Take everything up to `revision`."""
        while (seen := self.peek()) is not None and seen.revision <= revision:
            self.take()


def at(obj: Object, revision: int) -> Object:
    """The object as of another revision: a deletion shows the last state at its own."""
    return {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(revision)}}


def violations(log: Sequence[Truth], segments: Sequence[Segment], selects: Selects) -> list[str]:
    """What is wrong with one client's watches, in the order it made them; the last one was read
    to the end of the log."""
    found: list[str] = []
    position = 0
    tape = Tape(log, selects)
    for segment in segments:
        if segment.state is not None:
            tape.skip(segment.start)
            if segment.state != tape.state:
                found.append(f"the list at {segment.start} is not that moment")
        elif segment.start != position:
            found.append(f"resumed at {segment.start}, was at {position}")
        position = segment.start
        for seen in segment.events:
            following = tape.peek()
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
                tape.take()
            position = max(position, seen.revision)
    missing = tape.peek()
    if missing is not None:
        found.append(f"{missing[:2]} never came")
    return found
