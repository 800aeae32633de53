"""StatefulSet (apps/v1)."""

from __future__ import annotations

from ...descriptor import Kind

KIND = Kind(
    group="apps",
    version="v1",
    kind="StatefulSet",
    short_names=("sts",),
    categories=("all",),
    storage="statefulsets",
    name_rule="label",
)
