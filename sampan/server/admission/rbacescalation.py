"""Roles and bindings: nobody grants what they do not hold. Upstream checks this in its storage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.api.errors import Object

from ..authz.escalation import binding_error, role_error
from ..exchange import Write
from .plugin import Plugin

if TYPE_CHECKING:
    from ..app import Server

GROUP = "rbac.authorization.k8s.io"
ROLES = ("roles", "clusterroles")
UNCHECKED = frozenset({"ownerReferences", "finalizers", "resourceVersion", "managedFields"})
BINDINGS = ("rolebindings", "clusterrolebindings")


def validate(server: Server, write: Write) -> None:
    target, user = write.attributes.resource, write.attributes.user
    if target is None:
        return
    if changes_owners_alone(write):
        return
    check = role_error if target.plural in ROLES else binding_error
    error = check(server.authorizer, user, write.obj, write.old)
    if error is not None:
        raise error


def changes_owners_alone(write: Write) -> bool:
    """Is it an update of nothing but what the garbage collector and migrations change (upstream's
    IsOnlyMutatingGCFields)? Labels count, as they decide which roles are aggregated."""
    return write.old is not None and _checked(write.obj) == _checked(write.old)


def _checked(obj: Object) -> Object:
    meta = {key: value for key, value in obj["metadata"].items() if key not in UNCHECKED}
    # What is stored says no apiVersion and kind; what was sent may.
    parts = {key: value for key, value in obj.items() if key not in ("apiVersion", "kind")}
    return {**parts, "metadata": meta}


PLUGIN = Plugin(
    "RBACEscalation",
    {(GROUP, plural): ("CREATE", "UPDATE") for plural in (*ROLES, *BINDINGS)},
    validate=validate,
)
