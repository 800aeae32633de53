"""Namespace."""

from __future__ import annotations

from ...descriptor import Kind

KIND = Kind(
    group="",
    version="v1",
    kind="Namespace",
    short_names=("ns",),
    storage="namespaces",
    name_rule="label",
    generation=False,
)
