"""RuntimeClass (node.k8s.io/v1)."""

from __future__ import annotations

from ...descriptor import Kind

KIND = Kind(
    group="node.k8s.io",
    version="v1",
    kind="RuntimeClass",
    storage="runtimeclasses",
)
