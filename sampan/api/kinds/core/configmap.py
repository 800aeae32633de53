"""ConfigMap."""

from __future__ import annotations

from ...descriptor import Kind

KIND = Kind(
    group="",
    version="v1",
    kind="ConfigMap",
    short_names=("cm",),
    storage="configmaps",
)
