"""Names of custom resource definitions are granted while the write is under way, so that a
definition is established, or refused its names, by the very write that stores it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sampan.api.errors import Object

from ..strategies.interface import Strategy
from .naming import kinds_in, resources_in, status_with_names

if TYPE_CHECKING:
    from ..app import Server


class DefinitionStrategy(Strategy):
    """Grants names. Two definitions written at once cannot be granted the same ones: what a
    write under way has been granted is taken until it is stored or has failed."""

    def __init__(self, server: Server) -> None:
        self._server = server

    @contextmanager
    def reserve(self, obj: Object, old: Object | None, dry_run: bool) -> Iterator[None]:
        group = str((obj.get("spec") or {}).get("group", ""))
        name = obj["metadata"].get("name", "")
        if not group:
            # Validation will say so.
            yield
            return
        resources, kinds = self._taken(group, name)
        obj["status"] = status_with_names(obj, resources, kinds, self._server.clock.now())
        pending = self._server.customs.pending
        mine = pending[name] = (group, obj["status"]["acceptedNames"])
        try:
            yield
        finally:
            if pending.get(name) is mine:
                del pending[name]

    def _taken(self, group: str, name: str) -> tuple[set[str], set[str]]:
        """The resource names and kinds that other definitions of a group hold."""
        granted = {**self._server.customs.granted(group)}
        granted |= {other: names for other, (where, names) in self._server.customs.pending.items()
                    if where == group}  # fmt: skip
        granted.pop(name, None)
        resources: set[str] = set()
        kinds: set[str] = set()
        for names in granted.values():
            resources |= resources_in(names)
            kinds |= kinds_in(names)
        return resources, kinds
