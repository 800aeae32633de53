"""ResourceQuota."""

from __future__ import annotations

from ...descriptor import Kind

KIND = Kind(
    group="",
    version="v1",
    kind="ResourceQuota",
    short_names=("quota",),
    storage="resourcequotas",
    generation=False,
)
