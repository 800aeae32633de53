"""Endpoints."""

from __future__ import annotations

from ...descriptor import Kind

KIND = Kind(
    group="",
    version="v1",
    kind="Endpoints",
    short_names=("ep",),
    storage="services/endpoints",
)
