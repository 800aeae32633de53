"""What one evaluation works on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Frame:
    """Variables by slot, and what is left of the budget."""

    __slots__ = ("left", "values")

    def __init__(self, values: dict[str, Any], left: int) -> None:
        self.values = values
        self.left = left


Step = Callable[[Frame], Any]
