"""Lease (coordination.k8s.io/v1)."""

from __future__ import annotations

from ...descriptor import Kind

KIND = Kind(
    group="coordination.k8s.io",
    version="v1",
    kind="Lease",
    storage="leases",
)
