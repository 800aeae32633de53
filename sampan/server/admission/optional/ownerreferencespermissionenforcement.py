"""OwnerReferencesPermissionEnforcement: who sets an owner could delete the object, and who blocks
an owner's deletion may write its finalizers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from sampan.api.errors import Object

from ...exchange import Attributes, Write
from ..configuration import Settings
from ..plugin import EVERYTHING, Plugin, refuse

if TYPE_CHECKING:
    from ...app import Server


def validate(server: Server, write: Write) -> None:
    asked, target = write.attributes, write.attributes.resource
    if target is None or (target.plural, asked.subresource) == ("pods", "status"):
        # Older kubelets spoil them there; a status write cannot change them.
        return
    new = _owners(write.obj)
    old = _owners(write.old) if write.old is not None else []
    if new == old:
        return
    if write.operation != "CREATE":
        may = partial(Attributes, asked.user, "delete", target, asked.subresource)
        allowed, reason = server.authorizer.authorize(may(asked.namespace, asked.name))
        if not allowed:
            why = "cannot set an ownerRef on a resource you can't delete"
            raise refuse(write, f"{why}: {reason}, <nil>")
    for owner in _newly_blocking(new, old):
        _check_blocking(server, write, owner)


def _owners(obj: Object) -> list[Object]:
    return (obj.get("metadata") or {}).get("ownerReferences") or []


def _newly_blocking(new: list[Object], old: list[Object]) -> Iterator[Object]:
    before = {owner.get("uid") for owner in old if owner.get("blockOwnerDeletion")}
    for owner in new:
        if owner.get("blockOwnerDeletion") and owner.get("uid") not in before:
            yield owner


def _check_blocking(server: Server, write: Write, owner: Object) -> None:
    version, kind = str(owner.get("apiVersion") or ""), str(owner.get("kind") or "")
    group, _, short = version.rpartition("/")
    found = server.resources.find_kind(group, short, kind)
    if found is None:
        raise refuse(
            write,
            "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for"
            f' APIVersion {version} Kind {kind}: no matches for kind "{kind}" in version'
            f' "{version}"',
        )
    namespace = write.attributes.namespace if found.namespaced else ""
    name = str(owner.get("name") or "")
    allowed, reason = server.authorizer.authorize(
        Attributes(write.attributes.user, "update", found, "finalizers", namespace, name)
    )
    if not allowed:
        why = "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't"
        raise refuse(write, f"{why} set finalizers on: {reason}, <nil>")


def make(settings: Settings) -> Plugin:
    """It has no configuration."""
    return Plugin(settings.name, {EVERYTHING: ("CREATE", "UPDATE")}, validate=validate)
