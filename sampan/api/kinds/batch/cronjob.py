"""CronJob (batch/v1)."""

from __future__ import annotations

from ...descriptor import Kind

KIND = Kind(
    group="batch",
    version="v1",
    kind="CronJob",
    short_names=("cj",),
    categories=("all",),
    storage="cronjobs",
)
