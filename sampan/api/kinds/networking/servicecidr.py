"""ServiceCIDR (networking.k8s.io/v1)."""

from __future__ import annotations

from ...descriptor import Kind

KIND = Kind(
    group="networking.k8s.io",
    version="v1",
    kind="ServiceCIDR",
    storage="servicecidrs",
    generation=False,
)
