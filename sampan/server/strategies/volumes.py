"""Persistent volumes: since when one is in its phase (KEP-3762)."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from sampan.api.errors import Object

from .interface import Strategy

if TYPE_CHECKING:
    from sampan.server.app import Server


class VolumeStrategy(Strategy):
    """Reserves nothing: it notes the time, which pure functions of a kind do not have."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def reserve(
        self, obj: Object, old: Object | None, dry_run: bool
    ) -> AbstractContextManager[None]:
        status, before = obj.get("status") or {}, (old or {}).get("status") or {}
        if status.get("phase") != before.get("phase"):
            given = status.get("lastPhaseTransitionTime")
            if given is None or given == before.get("lastPhaseTransitionTime"):
                obj["status"] = {
                    **status, "lastPhaseTransitionTime": self._server.timestamp()
                }  # fmt: skip
        return super().reserve(obj, old, dry_run)
