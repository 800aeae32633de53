"""ReplicationController."""

from __future__ import annotations

from ...descriptor import Kind

KIND = Kind(
    group="",
    version="v1",
    kind="ReplicationController",
    short_names=("rc",),
    categories=("all",),
    storage="controllers",
)
