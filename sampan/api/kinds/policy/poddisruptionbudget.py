"""PodDisruptionBudget (policy/v1)."""

from __future__ import annotations

from ...descriptor import Kind

KIND = Kind(
    group="policy",
    version="v1",
    kind="PodDisruptionBudget",
    short_names=("pdb",),
    storage="poddisruptionbudgets",
)
