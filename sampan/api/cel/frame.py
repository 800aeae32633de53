"""What one evaluation works on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Frame:
    """Variables by slot, and what is left of the budget."""

    __slots__ = ("left", "quick", "spared", "values")

    def __init__(self, values: dict[str, Any], left: int, quick: bool = False) -> None:
        self.values = values
        self.left = left
        self.quick = quick
        """Does the budget stand for time, and not for what upstream counts?"""
        self.spared = 0
        """What upstream counts for what takes next to no time, if `quick`."""


Step = Callable[[Frame], Any]
