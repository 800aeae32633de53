"""Binding."""

from __future__ import annotations

from ...descriptor import Kind

KIND = Kind(
    group="",
    version="v1",
    kind="Binding",
    storage="bindings",
)
