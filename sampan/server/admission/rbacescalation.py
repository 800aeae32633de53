"""Roles and bindings: nobody grants what they do not hold. Upstream checks this in its storage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..authz.escalation import binding_error, role_error
from ..exchange import Write
from .plugin import Plugin

if TYPE_CHECKING:
    from ..app import Server

GROUP = "rbac.authorization.k8s.io"
ROLES = ("roles", "clusterroles")
BINDINGS = ("rolebindings", "clusterrolebindings")


def validate(server: Server, write: Write) -> None:
    target, user = write.attributes.resource, write.attributes.user
    if target is None:
        return
    # An update that changes nothing that grants (labels, finalizers) needs no rights to grant.
    fields = ("rules", "aggregationRule") if target.plural in ROLES else ("subjects", "roleRef")
    old = write.old
    if old is not None and all(
        (write.obj.get(field) or None) == (old.get(field) or None) for field in fields
    ):
        return
    check = role_error if target.plural in ROLES else binding_error
    error = check(server.authorizer, user, write.obj)
    if error is not None:
        raise error


PLUGIN = Plugin(
    "RBACEscalation",
    {(GROUP, plural): ("CREATE", "UPDATE") for plural in (*ROLES, *BINDINGS)},
    validate=validate,
)
