"""What plugins look up at every pod, kept ready by events instead of listed each time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sampan.api.errors import Object
from sampan.api.resources import resource

if TYPE_CHECKING:
    from ..app import Server


DEFAULT_ACCOUNT = "default"
WAIT_S = 1.5
"""How long a new pod waits for its namespace's default service account, as upstream."""


class Lookups:
    """Limit ranges by namespace, the default priority class, and who waits for the default service
    account of a new namespace (a future for each such request)."""

    def __init__(self) -> None:
        self.default_priority: Object | None = None
        """The class marked as the default; of several, the lowest."""
        self._defaults: dict[str, Object] = {}
        self._ranges: dict[str, dict[str, Object]] = {}
        self.wait_s = WAIT_S
        self._waiting: dict[str, set[asyncio.Future[Object]]] = {}

    def start(self, server: Server) -> None:
        server.observe(resource("limitranges"), self._limit_range_changed)
        server.observe(resource("serviceaccounts"), self._account_changed)
        server.observe(
            resource("priorityclasses", "scheduling.k8s.io"), self._priority_class_changed
        )

    def limits(self, namespace: str) -> Sequence[Sequence[Object]]:
        """The limits of each limit range of a namespace."""
        ranges = self._ranges.get(namespace)
        if not ranges:
            return ()
        return [obj["spec"].get("limits") or () for obj in ranges.values()]

    async def default_account(self, namespace: str) -> Object | None:
        """The account that a controller is about to make, None if it does not come."""
        future: asyncio.Future[Object] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(namespace, set())
        waiting.add(future)
        try:
            async with asyncio.timeout(self.wait_s):
                return await future
        except TimeoutError:
            return None
        finally:
            waiting.discard(future)
            if not waiting and self._waiting.get(namespace) is waiting:
                del self._waiting[namespace]

    def _account_changed(self, event: str, obj: Object, old: Object | None) -> None:
        meta = obj["metadata"]
        if event == "DELETED" or meta["name"] != DEFAULT_ACCOUNT or not self._waiting:
            return
        for future in self._waiting.pop(meta["namespace"], ()):
            if not future.done():
                future.set_result(obj)

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
