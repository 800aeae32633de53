"""HorizontalPodAutoscaler (autoscaling/v2)."""

from __future__ import annotations

from ...descriptor import Kind

KIND = Kind(
    group="autoscaling",
    version="v2",
    kind="HorizontalPodAutoscaler",
    short_names=("hpa",),
    categories=("all",),
    storage="horizontalpodautoscalers",
    generation=False,
)
