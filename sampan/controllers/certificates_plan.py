"""Which certificate requests are approved, and which certificates their signers may give. Pure:
what is signed, and with what key, is in `certificates`.

Rules and words: upstream's pkg/apis/certificates/helpers.go and the signer controllers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sampan.api.errors import Object

from .runtime.conditions import condition

CLIENT = "kubernetes.io/kube-apiserver-client"
KUBELET_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
KUBELET_SERVING = "kubernetes.io/kubelet-serving"
SIGNERS = frozenset({CLIENT, KUBELET_CLIENT, KUBELET_SERVING})

NODES_GROUP = "system:nodes"
NODE_PREFIX = "system:node:"
BOOTSTRAPPERS = "system:bootstrappers"

# What the request may ask for; key encipherment may be left out (it is meaningless for EC keys).
USAGES = {
    CLIENT: frozenset({"key encipherment", "digital signature", "client auth"}),
    KUBELET_CLIENT: frozenset({"key encipherment", "digital signature", "client auth"}),
    KUBELET_SERVING: frozenset({"key encipherment", "digital signature", "server auth"}),
}
OPTIONAL_USAGE = "key encipherment"

# CSRs are kept for a while, then cleaned up (certificates/cleaner).
ISSUED_S, PENDING_S = 3600.0, 86400.0
# --cluster-signing-duration
LONGEST_S = 365 * 86400


@dataclass(frozen=True, slots=True)
class Subject:
    """What a PKCS#10 request says."""

    common_name: str
    organizations: Sequence[str]
    dns: Sequence[str] = ()
    ips: Sequence[str] = ()
    emails: Sequence[str] = ()
    uris: Sequence[str] = ()


def has(request: Object, kind: str) -> bool:
    return condition((request.get("status") or {}).get("conditions"), kind) is not None


def refusal(request: Object, subject: Subject) -> str:
    """Why the signer does not sign; "" if it does."""
    spec = request["spec"]
    signer = spec["signerName"]
    usages = {*(spec.get("usages") or ())}
    allowed = USAGES[signer]
    if signer == CLIENT:
        if "client auth" not in usages or not usages <= allowed:
            return f"usages did not match [{' '.join(sorted(allowed))}]"
        return ""
    if [*subject.organizations] != [NODES_GROUP]:
        return "subject organization is not system:nodes"
    if not subject.common_name.startswith(NODE_PREFIX):
        return "subject common name does not begin with system:node: "
    if signer == KUBELET_SERVING:
        if not subject.dns and not subject.ips:
            return "DNS or IP subjectAltName is required"
    elif subject.dns:
        return "DNS subjectAltNames are not allowed"
    elif subject.ips:
        return "IP subjectAltNames are not allowed"
    if subject.emails:
        return "Email subjectAltNames are not allowed"
    if subject.uris:
        return "URI subjectAltNames are not allowed"
    if usages | {OPTIONAL_USAGE} != allowed:
        return f"usages did not match [{' '.join(sorted(allowed))}]"
    if signer == KUBELET_SERVING and spec.get("username") != subject.common_name:
        return "requested subject is not the requesting node"
    return ""


def approval(request: Object, subject: Subject, own: frozenset[str]) -> str:
    """The message a request is approved with by itself; "" if a person has to.

    As in clusters of kubeadm: those with a bootstrap token may have a node's client certificate,
    and a node its own, to renew it. Beyond upstream, a node gets its serving certificate, for its
    own name and the addresses `own`, and nothing else: clients trust this CA for the API server
    too, so a node that chose its names could pose as it.
    """
    spec = request["spec"]
    if spec["signerName"] not in (KUBELET_CLIENT, KUBELET_SERVING) or refusal(request, subject):
        return ""
    groups = spec.get("groups") or ()
    itself = spec.get("username") == subject.common_name and NODES_GROUP in groups
    if spec["signerName"] == KUBELET_SERVING:
        names = {subject.common_name.removeprefix(NODE_PREFIX)}
        if itself and names >= {*subject.dns} and own >= {*subject.ips}:
            return "Auto approving kubelet serving certificate of the requesting node."
        return ""
    if itself:
        return "Auto approving self kubelet client certificate after SubjectAccessReview."
    if any(group == BOOTSTRAPPERS or group.startswith(f"{BOOTSTRAPPERS}:") for group in groups):
        return "Auto approving kubelet client certificate after SubjectAccessReview."
    return ""


def own_addresses(name: str, nodes: Iterable[Object], server: Iterable[str]) -> frozenset[str]:
    """The addresses that are this node's alone.

    A node writes its own status, so it may claim any: what another node has too, what the API
    server answers at (`server`) and loopback are no node's.
    """
    mine: set[str] = set()
    others = {*server}
    for node in nodes:
        found = {
            item.get("address", "")
            for item in (node.get("status") or {}).get("addresses") or ()
            if item.get("type") in ("InternalIP", "ExternalIP")
        }
        if node["metadata"]["name"] == name:
            mine = found
        else:
            others |= found
    return frozenset(
        item for item in mine - others if not item.startswith("127.") and item != "::1"
    )


def lifetime_s(request: Object) -> float:
    """How long the certificate is to be valid."""
    asked = request["spec"].get("expirationSeconds")
    return float(min(LONGEST_S, max(600, int(asked)))) if asked else float(LONGEST_S)


def kept_s(request: Object) -> float:
    """How long the request itself is kept from its creation."""
    status = request.get("status") or {}
    done = status.get("certificate") or has(request, "Denied") or has(request, "Failed")
    return ISSUED_S if done else PENDING_S
