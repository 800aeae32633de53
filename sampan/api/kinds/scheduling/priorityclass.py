"""PriorityClass (scheduling.k8s.io/v1)."""

from __future__ import annotations

from ...descriptor import Kind

KIND = Kind(
    group="scheduling.k8s.io",
    version="v1",
    kind="PriorityClass",
    short_names=("pc",),
    storage="priorityclasses",
    generation=True,
)
