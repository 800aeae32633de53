"""Role (rbac.authorization.k8s.io/v1)."""

from __future__ import annotations

from ...descriptor import Kind

KIND = Kind(
    group="rbac.authorization.k8s.io",
    version="v1",
    kind="Role",
    storage="roles",
    name_rule="path",
)
