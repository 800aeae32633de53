"""What caches keep of an object: less than the server sent, and equal parts once.

Cached objects are never changed, so two that are equal in a part may share it: pods made from one
template have the same containers, volumes and tolerations. managedFields are left out, as in
upstream's controllers (their informers' transform): none looks at them, they are more than half of
a decoded pod, and a write without them keeps those that are stored.

Bounds: `PARTS` parts are remembered, the oldest are forgotten first; what is forgotten is still
shared by those who have it.
"""

from __future__ import annotations

from typing import Any

from orjson import OPT_SORT_KEYS, dumps

from sampan.api.errors import Object

PARTS = 2_048
"""Different parts remembered: those of a few hundred templates."""
LEAST_BYTES = 48
"""Smaller parts cost less than remembering them."""


class Sharing:
    """Makes slim objects that share their equal parts. Used from one event loop."""

    def __init__(self) -> None:
        self._parts: dict[bytes, Any] = {}

    def slim(self, obj: Object, old: Object | None = None) -> Object:
        """The object as it is to be kept. What it was made of is not changed. `old` is what was
        kept of it before: most of a pod stays as it was, which is seen sooner than sought."""
        metadata = obj["metadata"]
        if "managedFields" in metadata:
            kept = {name: value for name, value in metadata.items() if name != "managedFields"}
            obj = {**obj, "metadata": kept}
        if obj.get("kind") == "Pod" and (spec := obj.get("spec")):
            was = (old.get("spec") or {}) if old is not None else {}
            shared = {name: self._shared(value, was.get(name)) for name, value in spec.items()}
            obj = {**obj, "spec": shared}
        return obj

    def _shared(self, value: Any, was: Any) -> Any:
        if not value or type(value) not in (list, dict):
            return value
        if was == value:
            return was
        made = dumps(value, option=OPT_SORT_KEYS)
        if len(made) < LEAST_BYTES:
            return value
        found = self._parts.get(made)
        if found is None:
            if len(self._parts) >= PARTS:
                del self._parts[next(iter(self._parts))]
            # The encoder's result keeps its whole buffer; a copy is as long as it says.
            found = self._parts[bytes(memoryview(made))] = value
        return found
