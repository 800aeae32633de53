"""NodeRestriction: a node's agent writes its own Node, its own Lease and the pods bound to it.

Rules and texts are upstream's; ownerReferences of a node are refused too (CVE-2025-5187).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from sampan.api.errors import Object
from sampan.api.fields import quote
from sampan.api.resources import resource

from ..exchange import Write
from .plugin import Plugin, refuse

if TYPE_CHECKING:
    from ..app import Server

GROUP = "system:nodes"
PREFIX = "system:node:"
MIRROR = "kubernetes.io/config.mirror"
LEASES = "kube-node-lease"
RESTRICTED = "node-restriction.kubernetes.io"
# What a kubelet says of its own machine (k8s.io/kubelet pkg/apis/well_known_labels.go).
OWN_LABELS = frozenset(
    {
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "node.kubernetes.io/instance-type",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/instance-type",
    }
)
OWN_NAMESPACES = ("kubelet.kubernetes.io", "node.kubernetes.io")

Check = Callable[["Server", Write, str], None]


def mutate(server: Server, write: Write) -> None:
    """Upstream checks while mutating: before anything else is said about the object."""
    user, target = write.attributes.user, write.attributes.resource
    if GROUP not in user.groups or not user.name.startswith(PREFIX) or target is None:
        return
    node = user.name.removeprefix(PREFIX)
    if not node:
        raise refuse(write, f"could not determine node from user {quote(user.name)}")
    subresource = write.attributes.subresource
    CHECKS[f"{target.plural}/{subresource}" if subresource else target.plural](server, write, node)


def _check_pod(server: Server, write: Write, node: str) -> None:
    if write.operation == "DELETE":
        if _node_of(write.old) != node:
            raise refuse(
                write,
                f"node {quote(node)} can only delete pods with spec.nodeName set to itself",
            )
        return
    if write.operation != "CREATE":
        raise refuse(
            write,
            f"unexpected operation {quote(write.operation)}, node {quote(node)} can only create"
            " and delete mirror pods",
        )
    why = _mirror_pod_error(server, write.obj, node)
    if why:
        raise refuse(write, why)


def _mirror_pod_error(server: Server, pod: Object, node: str) -> str:
    meta, spec = pod["metadata"], pod.get("spec") or {}
    me = f"node {quote(node)}"
    if MIRROR not in (meta.get("annotations") or {}):
        return f"pod does not have {quote(MIRROR)} annotation, {me} can only create mirror pods"
    if spec.get("nodeName") != node:
        return f"{me} can only create pods with spec.nodeName set to itself"
    owners = meta.get("ownerReferences") or []
    if len(owners) != 1 or (owners[0].get("kind"), owners[0].get("name")) != ("Node", node):
        return f"{me} can only create pods with an owner reference set to itself"
    found = server.find_object(resource("nodes"), "", node)
    if found is None or found["metadata"].get("uid") != owners[0].get("uid"):
        return f"{me} can only create pods with an owner reference set to itself"
    if spec.get("serviceAccountName"):
        return f"{me} can not create pods that reference a service account"
    for volume in spec.get("volumes") or ():
        for source in ("secret", "configMap", "persistentVolumeClaim", "projected"):
            if source in volume:
                return f"{me} can not create pods that reference {source.lower()}s"
    return ""


def _check_pod_status(server: Server, write: Write, node: str) -> None:
    if _node_of(write.old) != node:
        raise refuse(
            write,
            f"node {quote(node)} can only update pod status for pods with spec.nodeName set to"
            " itself",
        )
    old_meta = (write.old or {}).get("metadata") or {}
    if (write.obj["metadata"].get("labels") or {}) != (old_meta.get("labels") or {}):
        raise refuse(write, f"node {quote(node)} cannot update labels through pod status")


def _check_eviction(server: Server, write: Write, node: str) -> None:
    name = write.attributes.name
    pod = server.get_object(resource("pods"), write.attributes.namespace, name)
    if _node_of(pod) != node:
        raise refuse(write, f"node {node} can only evict pods with spec.nodeName set to itself")


def _check_node(server: Server, write: Write, node: str) -> None:
    meta = write.obj.get("metadata") or {}
    name = write.attributes.name or meta.get("name", "")
    me = f"node {quote(node)}"
    if name != node:
        raise refuse(write, f"{me} is not allowed to modify node {quote(name)}")
    if write.operation == "DELETE":
        return
    old = write.old or {}
    old_meta = old.get("metadata") or {}
    if (meta.get("ownerReferences") or []) != (old_meta.get("ownerReferences") or []):
        raise refuse(write, f"{me} is not allowed to modify ownerReferences")
    labels = _forbidden_labels(meta.get("labels") or {}, old_meta.get("labels") or {})
    if write.operation == "CREATE":
        if labels:
            raise refuse(write, f"{me} is not allowed to set the following labels: {labels}")
        return
    spec, old_spec = write.obj.get("spec") or {}, old.get("spec") or {}
    if (spec.get("taints") or []) != (old_spec.get("taints") or []):
        raise refuse(write, f"{me} is not allowed to modify taints")
    if labels:
        raise refuse(write, f"is not allowed to modify labels: {labels}")


def _forbidden_labels(new: Mapping[str, str], old: Mapping[str, str]) -> str:
    """Changed labels a node may not change, for a message; "" when there are none."""
    changed = {key for key in new.keys() | old.keys() if new.get(key) != old.get(key)}
    return ", ".join(sorted(filter(_is_forbidden, changed)))


def _is_forbidden(label: str) -> bool:
    namespace = label.partition("/")[0] if "/" in label else ""
    if _is_within(namespace, RESTRICTED):
        return True
    if not _is_within(namespace, "kubernetes.io") and not _is_within(namespace, "k8s.io"):
        return False
    own = any(_is_within(namespace, domain) for domain in OWN_NAMESPACES)
    return not own and label not in OWN_LABELS


def _is_within(namespace: str, domain: str) -> bool:
    return namespace == domain or namespace.endswith(f".{domain}")


def _check_claim(server: Server, write: Write, node: str) -> None:
    raise refuse(write, "may only update PVC status")


def _check_claim_status(server: Server, write: Write, node: str) -> None:
    old_meta = dict((write.old or {}).get("metadata") or {})
    meta = dict(write.obj["metadata"])
    for volatile in ("resourceVersion", "managedFields"):
        old_meta.pop(volatile, None)
        meta.pop(volatile, None)
    if meta != old_meta:
        raise refuse(
            write,
            f"node {quote(node)} is not allowed to update fields other than status.capacity and"
            " status.conditions",
        )


def _check_token(server: Server, write: Write, node: str) -> None:
    ref = (write.obj.get("spec") or {}).get("boundObjectRef") or {}
    if (ref.get("apiVersion"), ref.get("kind")) != ("v1", "Pod") or not ref.get("name"):
        raise refuse(write, "node requested token not bound to a pod")
    if not ref.get("uid"):
        raise refuse(write, "node requested token with a pod binding without a uid")
    pod = server.get_object(resource("pods"), write.attributes.namespace, ref["name"])
    if pod["metadata"].get("uid") != ref["uid"]:
        raise refuse(
            write,
            f"the UID in the bound object reference ({ref['uid']}) does not match the UID in"
            " record. The object might have been deleted and then recreated",
        )
    if _node_of(pod) != node:
        raise refuse(write, "node requested token bound to a pod scheduled on a different node")


def _check_lease(server: Server, write: Write, node: str) -> None:
    if write.attributes.namespace != LEASES:
        raise refuse(write, f"can only access leases in the {quote(LEASES)} system namespace")
    if _name(write) != node:
        raise refuse(write, "can only access node lease with the same name as the requesting node")


def _check_csi_node(server: Server, write: Write, node: str) -> None:
    if _name(write) != node:
        raise refuse(write, "can only access CSINode with the same name as the requesting node")


def _name(write: Write) -> str:
    name = write.attributes.name or (write.obj.get("metadata") or {}).get("name")
    return str(name or "")


def _node_of(pod: Object | None) -> str:
    return str(((pod or {}).get("spec") or {}).get("nodeName") or "")


CHECKS: Mapping[str, Check] = {
    "pods": _check_pod,
    "pods/status": _check_pod_status,
    "pods/eviction": _check_eviction,
    "nodes": _check_node,
    "nodes/status": _check_node,
    "persistentvolumeclaims": _check_claim,
    "persistentvolumeclaims/status": _check_claim_status,
    "serviceaccounts/token": _check_token,
    "leases": _check_lease,
    "csinodes": _check_csi_node,
}
GROUPS = {"leases": "coordination.k8s.io", "csinodes": "storage.k8s.io"}

PLUGIN = Plugin(
    "NodeRestriction",
    {(GROUPS.get(target, ""), target): ("CREATE", "UPDATE", "DELETE") for target in CHECKS},
    mutate,
)
