"""Encoded pages of collections that did not change: what many clients list again and again.

A page is remembered by what was asked, and good for as long as its collection has no new write.
Bounded by `PAGES_BYTES`; the least recently used goes.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

PAGES_BYTES = 8 << 20
"""A few large lists. They are dropped at the next list after a change, or for others."""
LEAST_BYTES = 16 << 10
"""Smaller pages are made faster than they are looked after."""


class Asked(NamedTuple):
    """What a list is of."""

    prefix: str
    after: str
    limit: int


class Made(NamedTuple):
    changed: int
    """The collection's last change when it was made."""
    items: bytes
    last_key: str
    """Key the next page begins behind, "" when there is none."""
    remaining: int


class Pages:
    def __init__(self) -> None:
        self._made: OrderedDict[Asked, Made] = OrderedDict()
        self._bytes = 0

    def find(self, asked: Asked, changed: int) -> Made | None:
        """The page, if its collection is as it was."""
        made = self._made.get(asked)
        if made is None:
            return None
        if made.changed != changed:
            self._drop(asked)
            return None
        self._made.move_to_end(asked)
        return made

    def keep(self, asked: Asked, made: Made) -> None:
        if not LEAST_BYTES <= len(made.items) <= PAGES_BYTES // 2:
            return
        self._drop(asked)
        self._made[asked] = made
        self._bytes += len(made.items)
        while self._bytes > PAGES_BYTES:
            self._drop(next(iter(self._made)))

    def _drop(self, asked: Asked) -> None:
        made = self._made.pop(asked, None)
        if made is not None:
            self._bytes -= len(made.items)
