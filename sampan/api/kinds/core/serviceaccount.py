"""ServiceAccount."""

from __future__ import annotations

from ...descriptor import Kind

KIND = Kind(
    group="",
    version="v1",
    kind="ServiceAccount",
    short_names=("sa",),
    storage="serviceaccounts",
)
