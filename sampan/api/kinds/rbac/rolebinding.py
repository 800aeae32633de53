"""RoleBinding (rbac.authorization.k8s.io/v1)."""

from __future__ import annotations

from ...descriptor import Kind
from ...errors import Cause, Object
from .rules import BINDING_COLUMNS, GROUP, binding_cells, check_binding, default_binding


def validate(obj: Object, old: Object | None) -> list[Cause]:
    return check_binding(obj, old, ("Role", "ClusterRole"), True)


KIND = Kind(
    group=GROUP,
    version="v1",
    kind="RoleBinding",
    storage="rolebindings",
    name_rule="path",
    default=default_binding,
    validate=validate,
    columns=BINDING_COLUMNS,
    cells=binding_cells,
)
