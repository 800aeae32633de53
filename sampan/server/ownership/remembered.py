"""A struct that many objects have alike, as the pods of one workload: what the maker of a new one
owns in it is found once.

Kept is a digest of the struct's JSON, and the set, which all sets share their parts with anyway.
Bounded by `KNOWN`; the oldest goes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from .fieldsets import digest_of
from .nodes import Difference, Fields, Node

KNOWN = 1_024
"""Workloads whose pods come at the same time, on one server."""


class Remembered(Fields):
    """`Fields` whose difference from nothing is remembered."""

    __slots__ = ("_known",)

    def __init__(
        self, properties: dict[str, Any], each: Callable[[], Node | None] | None, compile_shape: Any
    ) -> None:
        super().__init__(properties, each, compile_shape)
        self._known: dict[bytes, Difference] = {}

    def diff(self, old: Any, new: Any) -> Difference:
        if old:
            return super().diff(old, new)
        try:
            digest = digest_of(orjson.dumps(new))
        except orjson.JSONEncodeError:
            return super().diff(old, new)
        known = self._known.get(digest)
        if known is None:
            known = self._known[digest] = super().diff(old, new)
            if len(self._known) > KNOWN:
                del self._known[next(iter(self._known))]
        return known
