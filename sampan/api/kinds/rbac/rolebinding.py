"""RoleBinding (rbac.authorization.k8s.io/v1)."""

from __future__ import annotations

from ...descriptor import Kind

KIND = Kind(
    group="rbac.authorization.k8s.io",
    version="v1",
    kind="RoleBinding",
    storage="rolebindings",
    name_rule="path",
)
