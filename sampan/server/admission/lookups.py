"""What plugins look up at every pod, kept ready by events instead of listed each time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sampan.api.errors import Object
from sampan.api.resources import resource

if TYPE_CHECKING:
    from ..app import Server


class Lookups:
    """Limit ranges by namespace, and the default priority class."""

    def __init__(self) -> None:
        self.default_priority: Object | None = None
        """The class marked as the default; of several, the lowest."""
        self._defaults: dict[str, Object] = {}
        self._ranges: dict[str, dict[str, Object]] = {}

    def start(self, server: Server) -> None:
        server.observe(resource("limitranges"), self._limit_range_changed)
        server.observe(
            resource("priorityclasses", "scheduling.k8s.io"), self._priority_class_changed
        )

    def limits(self, namespace: str) -> Sequence[Object]:
        """Every limit of the limit ranges of a namespace."""
        ranges = self._ranges.get(namespace)
        if not ranges:
            return ()
        return [item for obj in ranges.values() for item in obj["spec"].get("limits") or ()]

    def _limit_range_changed(self, event: str, obj: Object, old: Object | None) -> None:
        meta = obj["metadata"]
        ranges = self._ranges.setdefault(meta["namespace"], {})
        if event == "DELETED":
            ranges.pop(meta["name"], None)
            if not ranges:
                del self._ranges[meta["namespace"]]
        else:
            ranges[meta["name"]] = obj

    def _priority_class_changed(self, event: str, obj: Object, old: Object | None) -> None:
        name = obj["metadata"]["name"]
        if event != "DELETED" and obj.get("globalDefault"):
            self._defaults[name] = obj
        else:
            self._defaults.pop(name, None)
        lowest = min(self._defaults.values(), key=lambda item: int(item["value"]), default=None)
        self.default_priority = lowest
