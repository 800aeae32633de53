"""The parameters of a binding: which objects of the policy's paramKind it is evaluated with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.api.descriptor import Descriptor
from sampan.api.errors import Object
from sampan.api.selectors import from_label_selector

if TYPE_CHECKING:
    from ...app import Server

NOT_FOUND = "no params found for policy binding with `Deny` parameterNotFoundAction"


class Misconfigured(Exception):
    """Policy and binding do not fit together, or the cluster; `str` is upstream's message."""


def params_of(server: Server, spec: Object, binding: Object, namespace: str) -> list[Object | None]:
    """The parameters to evaluate with, in turn; [None] for a policy without. Raises
    Misconfigured."""
    kind, reference = spec.get("paramKind"), binding.get("paramRef")
    if kind is None or reference is None:
        return [None]
    target = _descriptor(server, kind)
    where = reference.get("namespace") or ""
    if target.namespaced:
        where = where or namespace
        if not where:
            raise Misconfigured(
                "cannot use namespaced paramRef in policy binding that matches cluster-scoped"
                " resources"
            )
    elif where:
        raise Misconfigured(
            "paramRef.namespace must not be provided for a cluster-scoped `paramKind`"
        )
    found: list[Object | None] = list(_find(server, target, reference, where))
    if not found and reference.get("parameterNotFoundAction") != "Allow":
        raise Misconfigured(NOT_FOUND)
    return found


def _descriptor(server: Server, kind: Object) -> Descriptor:
    text, name = str(kind.get("apiVersion") or ""), str(kind.get("kind") or "")
    group, _, version = text.rpartition("/")
    found = server.resources.find_kind(group, version, name)
    if found is None:
        raise Misconfigured(
            f"failed to find resource referenced by paramKind: '{text}, Kind={name}'"
        )
    return found


def _find(server: Server, target: Descriptor, reference: Object, namespace: str) -> list[Object]:
    if reference.get("name"):
        one = server.find_object(target, namespace, reference["name"])
        return [] if one is None else [one]
    selector = from_label_selector(reference.get("selector") or {})
    return [
        item
        for item in server.list_objects(target, namespace)
        if selector.matches(item["metadata"].get("labels") or {})
    ]
