"""Job (batch/v1)."""

from __future__ import annotations

from ...descriptor import Kind

KIND = Kind(
    group="batch",
    version="v1",
    kind="Job",
    categories=("all",),
    storage="jobs",
)
