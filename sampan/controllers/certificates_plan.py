"""Which certificate requests are approved, and which certificates their signers may give. Pure:
what is signed, and with what key, is in `certificates`.

Rules and words: upstream's pkg/apis/certificates/helpers.go and the signer controllers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from msgspec import Struct

from sampan.api.errors import Object
from sampan.api.times import parse_time

from .runtime.conditions import condition

CLIENT = "kubernetes.io/kube-apiserver-client"
KUBELET_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
KUBELET_SERVING = "kubernetes.io/kubelet-serving"
LEGACY = "kubernetes.io/legacy-unknown"
"""Signs whatever is approved. No version of the API that is served lets anybody ask it, as upstream
since 1.22; requests that are stored are still signed."""
SIGNERS = frozenset({CLIENT, KUBELET_CLIENT, KUBELET_SERVING, LEGACY})

NODES_GROUP = "system:nodes"
NODE_PREFIX = "system:node:"
CLIENT_AUTH = "client auth"

# What a node's request must ask for; key encipherment may be left out (it is meaningless for EC
# keys).
USAGES = {
    KUBELET_CLIENT: frozenset({"key encipherment", "digital signature", "client auth"}),
    KUBELET_SERVING: frozenset({"key encipherment", "digital signature", "server auth"}),
}
OPTIONAL_USAGE = "key encipherment"
KEY_USAGES = ("digital signature", OPTIONAL_USAGE)

# CSRs are kept for a while, then cleaned up (certificates/cleaner): what is answered since its
# answer, what nobody has answered, or signed, since it was made or approved.
ANSWERED_S, PENDING_S = 3600.0, 86400.0
SHORTEST_S = 600.0
# --cluster-signing-duration
LONGEST_S = 365 * 86400.0
BACKDATE_S, SHORT_S = 300.0, 8 * 3600.0


class Subject(Struct, frozen=True):
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
    if signer == LEGACY:
        return ""
    usages = spec.get("usages") or ()
    if signer == CLIENT:
        return _client_refusal(usages)
    if [*subject.organizations] != [NODES_GROUP]:
        return "subject organization is not system:nodes"
    why = _names_refusal(signer, subject)
    common = "subject common name does not begin with system:node:"
    if subject.common_name.startswith(NODE_PREFIX):
        common = ""
    allowed = USAGES[signer]
    usage = ""
    if {*usages} | {OPTIONAL_USAGE} != allowed:
        usage = f"usages did not match [{' '.join(sorted(allowed))}]"
    # Upstream's order, which is another for each.
    return why or (usage or common if signer == KUBELET_SERVING else common or usage)


def _client_refusal(usages: Sequence[str]) -> str:
    for usage in usages:
        if usage not in (*KEY_USAGES, CLIENT_AUTH):
            return f"invalid usage for client certificate: {usage}"
    if CLIENT_AUTH not in usages:
        return f"missing required usage for client certificate: {CLIENT_AUTH}"
    return ""


def _names_refusal(signer: str, subject: Subject) -> str:
    if signer == KUBELET_SERVING:
        if not subject.dns and not subject.ips:
            return "DNS or IP subjectAltName is required"
    elif subject.dns:
        return "DNS subjectAltNames are not allowed"
    if subject.emails:
        return "Email subjectAltNames are not allowed"
    if signer != KUBELET_SERVING and subject.ips:
        return "IP subjectAltNames are not allowed"
    return "URI subjectAltNames are not allowed" if subject.uris else ""


class Recognized(NamedTuple):
    """A request that is approved by itself if its author may create this sub-resource."""

    subresource: str
    message: str


SELF = Recognized(
    "selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview."
)
NEW = Recognized(
    "nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview."
)


def recognized(request: Object, subject: Subject) -> list[Recognized]:
    """What to ask the authoriser about a node's client certificate, in order."""
    spec = request["spec"]
    if spec["signerName"] != KUBELET_CLIENT or refusal(request, subject):
        return []
    return [SELF, NEW] if spec.get("username") == subject.common_name else [NEW]


def access_review(request: Object, what: Recognized) -> Object:
    """The SubjectAccessReview: may whoever made the request have it approved by itself?"""
    spec = request["spec"]
    asked = {
        "group": "certificates.k8s.io",
        "resource": "certificatesigningrequests",
        "subresource": what.subresource,
        "verb": "create",
    }
    who = {"user": spec.get("username", "")}
    who |= {field: spec[field] for field in ("uid", "groups", "extra") if spec.get(field)}
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {**who, "resourceAttributes": asked},
    }


def serving_approval(request: Object, subject: Subject, own: frozenset[str]) -> str:
    """The message a serving certificate is approved with by itself; "" if a person has to.

    Beyond upstream, a node gets its serving certificate, for its own name and the addresses `own`,
    and nothing else: clients trust this CA for the API server too, so a node that chose its names
    could pose as it.
    """
    spec = request["spec"]
    if spec["signerName"] != KUBELET_SERVING or refusal(request, subject):
        return ""
    if spec.get("username") != subject.common_name or NODES_GROUP not in (spec.get("groups") or ()):
        return ""
    names = {subject.common_name.removeprefix(NODE_PREFIX)}
    if not (names >= {*subject.dns} and own >= {*subject.ips}):
        return ""
    return "Auto approving kubelet serving certificate of the requesting node."


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
    return min(LONGEST_S, max(SHORTEST_S, float(asked))) if asked else LONGEST_S


def validity_s(request: Object, now_s: float) -> tuple[float, float]:
    """(not before, not after). A clock that is a little behind must not refuse the certificate: it
    begins earlier, and ends as much earlier unless it is a short one."""
    length_s = lifetime_s(request)
    lead_s = 0.0 if length_s < SHORT_S else BACKDATE_S
    return now_s - BACKDATE_S, now_s + length_s - lead_s


def gone_at_s(request: Object, expires_s: float | None) -> float:
    """When the request itself is cleaned up; `expires_s` is its certificate's end."""
    status = request.get("status") or {}
    conditions = status.get("conditions") or ()
    created_s = parse_time(request["metadata"]["creationTimestamp"])
    if not conditions:
        return created_s + PENDING_S
    ends = []
    for item in conditions:
        text = item.get("lastUpdateTime")
        since_s = parse_time(text) if text else created_s
        unsigned = item.get("type") == "Approved" and not status.get("certificate")
        ends.append(since_s + (PENDING_S if unsigned else ANSWERED_S))
    if expires_s is not None and has(request, "Approved"):
        ends.append(expires_s)
    return min(ends)
