"""NamespaceLifecycle: nothing is made in a namespace that is not there, or is going away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.api.errors import Cause, Details, not_found
from sampan.api.resources import resource

from ..exchange import Write
from .plugin import EVERYTHING, Plugin, refuse

if TYPE_CHECKING:
    from ..app import Server

IMMORTAL = frozenset({"default", "kube-system", "kube-public"})


def mutate(server: Server, write: Write) -> None:
    """Upstream checks while mutating, so that a missing namespace is the first thing one hears."""
    attributes = write.attributes
    target = attributes.resource
    if target is None:
        return
    if target.plural == "namespaces" and not target.group:
        if write.operation == "DELETE" and attributes.name in IMMORTAL:
            raise refuse(write, "this namespace may not be deleted")
        return
    namespace = attributes.namespace
    if not namespace or write.operation == "DELETE":
        return
    if target.plural == "localsubjectaccessreviews":
        return
    found = server.find_object(resource("namespaces"), "", namespace)
    if found is None:
        raise not_found("", "namespaces", namespace)
    if write.operation != "CREATE" or found.get("status", {}).get("phase") != "Terminating":
        return
    error = refuse(
        write,
        f"unable to create new content in namespace {namespace} because it is being terminated",
    )
    cause = Cause(
        "metadata.namespace", f"namespace {namespace} is being terminated", "NamespaceTerminating"
    )
    details = error.details or Details()
    error.details = Details(details.name, details.group, details.kind, causes=(cause,))
    raise error


PLUGIN = Plugin("NamespaceLifecycle", {EVERYTHING: ("CREATE", "UPDATE", "DELETE")}, mutate)
