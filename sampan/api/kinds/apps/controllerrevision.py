"""ControllerRevision (apps/v1)."""

from __future__ import annotations

from ...descriptor import Kind

KIND = Kind(
    group="apps",
    version="v1",
    kind="ControllerRevision",
    storage="controllerrevisions",
)
