"""Event (events.k8s.io/v1)."""

from __future__ import annotations

from ...descriptor import Kind

KIND = Kind(
    group="events.k8s.io",
    version="v1",
    kind="Event",
    short_names=("ev",),
    storage="events",
)
