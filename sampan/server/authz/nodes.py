"""The node authoriser: an agent may do what its own node needs, and see what its pods name.

Rules and texts of upstream's plugin/pkg/auth/authorizer/node. It allows or has no opinion (then
RBAC is asked); what exactly may be written is checked by the NodeRestriction admission plugin,
which sees the object.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from sampan.api.fields import quote

from ..exchange import User
from .nodegraph import NodeGraph
from .policy import compiled
from .roles import NODE
from .rules import matches_resource

GROUP = "system:nodes"
PREFIX = "system:node:"
LEASES = "kube-node-lease"


class Question(NamedTuple):
    """What is asked for. `fields` is the text of a field selector."""

    verb: str
    group: str
    plural: str
    subresource: str
    namespace: str
    name: str
    fields: str = ""

    def selects(self, field: str, value: str) -> bool:
        """Does the field selector demand this value?"""
        terms = self.fields.split(",") if self.fields else ()
        return f"{field}={value}" in terms or f"{field}=={value}" in terms


ALLOWED = (True, "")
NO_OPINION = (False, "")

Answer = tuple[bool, str]
Part = Callable[[NodeGraph, str, Question], Answer]


def node_of(user: User) -> str | None:
    """The node a user speaks for, None for others (pkg/auth/nodeidentifier)."""
    if user.name.startswith(PREFIX) and GROUP in user.groups:
        return user.name[len(PREFIX) :]
    return None


class NodeAuthorizer:
    def __init__(self) -> None:
        self.graph = NodeGraph()
        self._rules = compiled(NODE)

    def allows(self, user: User, node: str, asked: Question) -> Answer:
        """(allowed, why not)."""
        if not node:
            return False, f"unknown node for user {quote(user.name)}"
        part = PARTS.get((asked.group, asked.plural))
        if part is not None:
            return part(self.graph, node, asked)
        found = any(
            matches_resource(rule, asked.verb, asked.group, asked.plural, asked.subresource)
            for rule in self._rules
        )
        return ALLOWED if found else NO_OPINION


def _related(graph: NodeGraph, node: str, asked: Question) -> Answer:
    if not asked.name:
        return False, "No Object name found"
    if graph.relates(node, (asked.plural, asked.namespace, asked.name)):
        return ALLOWED
    return False, f"no relationship found between node '{node}' and this object"


def _read(graph: NodeGraph, node: str, asked: Question) -> Answer:
    """Secrets and config maps: one at a time, by any reading verb."""
    if asked.verb not in ("get", "list", "watch"):
        return False, "can only read resources of this type"
    if asked.subresource:
        return False, "cannot read subresource"
    if not asked.namespace:
        return False, "can only read namespaced object of this type"
    return _related(graph, node, asked)


def _get(graph: NodeGraph, node: str, asked: Question) -> Answer:
    if asked.verb != "get":
        return False, "can only get individual resources of this type"
    if asked.subresource:
        return False, "cannot get subresource"
    return _related(graph, node, asked)


def _claim(graph: NodeGraph, node: str, asked: Question) -> Answer:
    if asked.subresource != "status":
        return _get(graph, node, asked)
    if asked.verb not in ("update", "patch"):
        return False, "can only get/update/patch this type"
    return _related(graph, node, asked)


def _account(graph: NodeGraph, node: str, asked: Question) -> Answer:
    if asked.verb == "get":
        # For the annotations that credential providers ask for (KEP-4412).
        return _get(graph, node, asked)
    if asked.verb != "create" or not asked.name:
        return False, "can only create tokens for individual service accounts"
    if asked.subresource != "token":
        return False, "can only create token subresource of serviceaccount"
    return _related(graph, node, asked)


OWN_VERBS = frozenset({"get", "create", "update", "patch", "delete"})


def _lease(graph: NodeGraph, node: str, asked: Question) -> Answer:
    if asked.verb not in OWN_VERBS:
        return False, "can only get, create, update, patch, or delete a node lease"
    if asked.namespace != LEASES:
        return False, f"can only access leases in the {quote(LEASES)} system namespace"
    # The name of what is created is in its body: NodeRestriction looks there.
    if asked.verb != "create" and asked.name != node:
        return False, "can only access node lease with the same name as the requesting node"
    return ALLOWED


def _csi_node(graph: NodeGraph, node: str, asked: Question) -> Answer:
    if asked.verb not in OWN_VERBS:
        return False, "can only get, create, update, patch, or delete a CSINode"
    if asked.subresource:
        return False, "cannot authorize CSINode subresources"
    if asked.verb != "create" and asked.name != node:
        return False, "can only access CSINode with the same name as the requesting node"
    return ALLOWED


def _slice(graph: NodeGraph, node: str, asked: Question) -> Answer:
    if asked.subresource:
        return False, "cannot authorize ResourceSlice subresources"
    if asked.verb == "create":
        return ALLOWED
    if asked.verb in OWN_VERBS:
        return _related(graph, node, asked)
    if asked.verb in ("list", "watch", "deletecollection"):
        if asked.selects("spec.nodeName", node):
            return ALLOWED
        return (
            False,
            "can only list/watch/deletecollection resourceslices with spec.nodeName field selector",
        )
    return (
        False,
        "only the following verbs are allowed for a ResourceSlice: get, watch, list, create,"
        " update, patch, delete, deletecollection",
    )


def _node(graph: NodeGraph, node: str, asked: Question) -> Answer:
    if asked.subresource == "status":
        return ALLOWED if asked.verb in ("update", "patch") else NO_OPINION
    if asked.subresource:
        return NO_OPINION
    if asked.verb in ("create", "update", "patch"):
        return ALLOWED
    if asked.verb in ("get", "list", "watch"):
        if asked.name == node:
            return ALLOWED
        what = f"'{asked.name}'" if asked.name else "all nodes"
        return False, f"node '{node}' cannot read {what}, only its own Node object"
    return NO_OPINION


def _pod(graph: NodeGraph, node: str, asked: Question) -> Answer:
    verb = asked.verb
    if asked.subresource == "status":
        return ALLOWED if verb in ("update", "patch") else NO_OPINION
    if asked.subresource == "eviction":
        return ALLOWED if verb == "create" else NO_OPINION
    if asked.subresource:
        return NO_OPINION
    if verb == "get":
        return _get(graph, node, asked)
    if verb in ("list", "watch"):
        if asked.selects("spec.nodeName", node):
            return ALLOWED
        if asked.name:
            return _related(graph, node, asked)
        if graph.policies:
            # Beyond upstream, where a network agent of its own asks: policies name pods by their
            # labels, and every node must know the addresses of those on others.
            return ALLOWED
        return False, "can only list/watch pods with spec.nodeName field selector"
    return ALLOWED if verb in ("create", "delete") else NO_OPINION


PARTS: Mapping[tuple[str, str], Part] = {
    ("", "secrets"): _read,
    ("", "configmaps"): _read,
    ("", "persistentvolumeclaims"): _claim,
    ("", "persistentvolumes"): _get,
    ("resource.k8s.io", "resourceclaims"): _get,
    ("storage.k8s.io", "volumeattachments"): _get,
    ("", "serviceaccounts"): _account,
    ("coordination.k8s.io", "leases"): _lease,
    ("storage.k8s.io", "csinodes"): _csi_node,
    ("resource.k8s.io", "resourceslices"): _slice,
    ("", "nodes"): _node,
    ("", "pods"): _pod,
}
"""Resources of which a node sees its own part only; all others are allowed by `roles.NODE`."""
