"""The clock tests turn: that of `sampan.testing`, under the name it has here."""

from __future__ import annotations

from sampan.testing.clock import VirtualClock as FakeClock
from sampan.testing.clock import settle

__all__ = ["FakeClock", "settle"]
