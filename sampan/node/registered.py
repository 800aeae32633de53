"""Drivers that have registered with the agent, by name: those of volumes and those of devices."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar


class Driver(Protocol):
    @property
    def name(self) -> str: ...

    def close(self) -> None: ...


Item = TypeVar("Item", bound=Driver)


class Registered(Generic[Item]):
    """One that registers again takes the place of what it was."""

    def __init__(self) -> None:
        self._known: dict[str, Item] = {}

    def add(self, driver: Item) -> None:
        self.remove(driver.name)
        self._known[driver.name] = driver

    def remove(self, name: str) -> None:
        old = self._known.pop(name, None)
        if old is not None:
            old.close()

    def close(self) -> None:
        for name in tuple(self._known):
            self.remove(name)
