"""NodeRestriction: a node's agent writes its own Node, its own Lease and the pods bound to it.

Rules and texts are upstream's; ownerReferences of a node are refused too (CVE-2025-5187).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import IPv4Network
from typing import TYPE_CHECKING

from sampan.api.fields import quote
from sampan.api.resources import resource
from sampan.wire.certificate import read_requested

from ..authz.nodes import node_of
from ..exchange import Write
from .certificatesubjectrestriction import decode_request
from .nodepods import (
    check_claim,
    check_claim_status,
    check_eviction,
    check_pod,
    check_pod_status,
    check_token,
)
from .plugin import Plugin, refuse

if TYPE_CHECKING:
    from ..app import Server

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
NODE_SIGNERS = (
    "kubernetes.io/kubelet-serving",
    "kubernetes.io/kube-apiserver-client-kubelet",
)
DNS = "kube-dns"
SERVICE_NAME = "kubernetes.io/service-name"
OWN_NAMESPACES = ("kubelet.kubernetes.io", "node.kubernetes.io")

Check = Callable[["Server", Write, str], None]


def mutate(server: Server, write: Write) -> None:
    """Upstream checks while mutating: before anything else is said about the object."""
    user, target = write.attributes.user, write.attributes.resource
    node = node_of(user)
    if node is None or target is None:
        return
    if not node:
        raise refuse(write, f"could not determine node from user {quote(user.name)}")
    subresource = write.attributes.subresource
    CHECKS[f"{target.plural}/{subresource}" if subresource else target.plural](server, write, node)


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
        _check_share(server, write, node)
        return
    spec, old_spec = write.obj.get("spec") or {}, old.get("spec") or {}
    if (spec.get("taints") or []) != (old_spec.get("taints") or []):
        raise refuse(write, f"{me} is not allowed to modify taints")
    if labels:
        raise refuse(write, f"is not allowed to modify labels: {labels}")


def _check_share(server: Server, write: Write, node: str) -> None:
    """A node that comes back says which pod network it had; that may be another's by now, and two
    nodes with the same addresses would take each other's traffic."""
    share = (write.obj.get("spec") or {}).get("podCIDR")
    if not share:
        return
    for other in server.list_objects(resource("nodes")):
        name, theirs = other["metadata"]["name"], other["spec"].get("podCIDR")
        # One that is there already is told so later.
        if name != node and theirs and _overlap(share, theirs):
            raise refuse(write, f"podCIDR {share} overlaps {theirs} of node {quote(name)}")


def _overlap(one: str, other: str) -> bool:
    """What is no network is refused by validation, which comes later."""
    try:
        return IPv4Network(one).overlaps(IPv4Network(other))
    except ValueError:
        return False


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


def _check_slice(server: Server, write: Write, node: str) -> None:
    """ResourceSlices of the drivers on this node."""
    verb = {"CREATE": "create", "DELETE": "delete"}.get(write.operation, "update")
    obj = write.old if write.operation == "DELETE" else write.obj
    if ((obj or {}).get("spec") or {}).get("nodeName") != node:
        raise refuse(
            write, f"can only {verb} ResourceSlice with the same NodeName as the requesting node"
        )


def _check_signing_request(server: Server, write: Write, node: str) -> None:
    """A node asks for certificates of its own name only."""
    spec = write.obj.get("spec") or {}
    if write.operation != "CREATE" or spec.get("signerName") not in NODE_SIGNERS:
        return
    try:
        name, _ = read_requested(decode_request(spec.get("request") or ""))
    except ValueError as error:
        raise refuse(write, f"unable to parse csr: {error}") from None
    if name != write.attributes.user.name:
        raise refuse(write, f"can only create a node CSR with CN={write.attributes.user.name}")


def _check_dns_slice(server: Server, write: Write, node: str) -> None:
    """Each node announces the DNS server in it, and nothing else. (Ours: upstream's DNS is a
    Deployment, whose endpoints a controller writes.)"""
    meta = ((write.old if write.operation == "DELETE" else write.obj) or {})["metadata"]
    service = (meta.get("labels") or {}).get(SERVICE_NAME)
    if _name(write) != f"{DNS}-{node}" or service != DNS:
        raise refuse(write, f"node {quote(node)} can only announce its own DNS server")


def _check_dns_service(server: Server, write: Write, node: str) -> None:
    spec = write.obj.get("spec") or {}
    plain = spec.get("type", "ClusterIP") == "ClusterIP" and not spec.get("externalIPs")
    if _name(write) != DNS or write.operation != "CREATE" or not plain or spec.get("selector"):
        raise refuse(write, f"node {quote(node)} can only create the service {quote(DNS)}")


CHECKS: Mapping[str, Check] = {
    "pods": check_pod,
    "pods/status": check_pod_status,
    "pods/eviction": check_eviction,
    "nodes": _check_node,
    "nodes/status": _check_node,
    "persistentvolumeclaims": check_claim,
    "persistentvolumeclaims/status": check_claim_status,
    "serviceaccounts/token": check_token,
    "leases": _check_lease,
    "csinodes": _check_csi_node,
    "resourceslices": _check_slice,
    "certificatesigningrequests": _check_signing_request,
    "endpointslices": _check_dns_slice,
    "services": _check_dns_service,
}
GROUPS = {
    "leases": "coordination.k8s.io",
    "csinodes": "storage.k8s.io",
    "resourceslices": "resource.k8s.io",
    "certificatesigningrequests": "certificates.k8s.io",
    "endpointslices": "discovery.k8s.io",
}

PLUGIN = Plugin(
    "NodeRestriction",
    {(GROUPS.get(target, ""), target): ("CREATE", "UPDATE", "DELETE") for target in CHECKS},
    mutate,
)
