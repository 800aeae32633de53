"""The resources this server serves, found by URL and by kind; custom resources come and go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from sampan.api.descriptor import Descriptor


class Registry:
    """Descriptors by (group, version, plural) and by (group, version, kind).

    `generation` grows with every change, so that discovery and OpenAPI know when to be made again.
    """

    def __init__(self, descriptors: Iterable[Descriptor] = ()) -> None:
        self._by_path: dict[tuple[str, str, str], Descriptor] = {}
        self._by_kind: dict[tuple[str, str, str], Descriptor] = {}
        self.generation = 0
        self.listeners: list[Callable[[], None]] = []
        """Called after each change."""
        self.stale: frozenset[tuple[str, str]] = frozenset()
        """Group versions of extension servers that are away: listed, and marked as such."""
        for descriptor in descriptors:
            self.add(descriptor)

    def __iter__(self) -> Iterator[Descriptor]:
        return iter(self._by_path.values())

    def add(self, descriptor: Descriptor) -> None:
        """Serve a resource, in the place of one of the same path if there is one."""
        item = descriptor
        self._by_path[item.group, item.version, item.plural] = item
        self._by_kind[item.group, item.version, item.kind] = item
        self._tell()

    def remove(self, descriptor: Descriptor) -> None:
        item = descriptor
        self._by_path.pop((item.group, item.version, item.plural), None)
        self._by_kind.pop((item.group, item.version, item.kind), None)
        self._tell()

    def _tell(self) -> None:
        self.generation += 1
        for listener in self.listeners:
            listener()

    def find(self, group: str, version: str, plural: str) -> Descriptor | None:
        return self._by_path.get((group, version, plural))

    def find_kind(self, group: str, version: str, kind: str) -> Descriptor | None:
        return self._by_kind.get((group, version, kind))
