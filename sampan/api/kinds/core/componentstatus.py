"""ComponentStatus."""

from __future__ import annotations

from ...descriptor import Kind

KIND = Kind(
    group="",
    version="v1",
    kind="ComponentStatus",
    short_names=("cs",),
    storage="componentstatuses",
)
