"""Event."""

from __future__ import annotations

from ...descriptor import Kind

KIND = Kind(
    group="",
    version="v1",
    kind="Event",
    short_names=("ev",),
    storage="events",
)
