"""Rules of one resource that need the server's state: what a kind's pure functions cannot do.

`STRATEGIES` is the whole table. A strategy reserves what a write takes (addresses, ports) before
the write is validated and stored, and gives it back when the write does not come about.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ..custom.strategy import DefinitionStrategy
from .interface import NONE, Strategy
from .services import ServiceStrategy
from .volumes import VolumeStrategy

if TYPE_CHECKING:
    from sampan.server.app import Server

STRATEGIES: Mapping[tuple[str, str], Callable[[Server], Strategy]] = {
    ("", "persistentvolumes"): VolumeStrategy,
    ("", "services"): ServiceStrategy,
    ("apiextensions.k8s.io", "customresourcedefinitions"): DefinitionStrategy,
}

__all__ = ["NONE", "STRATEGIES", "Strategy"]
