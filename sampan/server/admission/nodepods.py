"""What a node may do with pods, claims and tokens; a part of NodeRestriction.

Texts are upstream's (plugin/pkg/admission/noderestriction).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from sampan.api.errors import Object
from sampan.api.fields import quote
from sampan.api.resources import resource

from ..authz.nodegraph import MIRROR, names_of
from ..exchange import Write
from .plugin import refuse

if TYPE_CHECKING:
    from ..app import Server

FORBIDDEN_REFERENCES = (
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "resourceclaims",
)
# What the agent reports of a claim: all else in its status is the controllers'.
CLAIM_STATUS = (
    "capacity",
    "conditions",
    "allocatedResources",
    "allocatedResourceStatuses",
    "modifyVolumeStatus",
    "currentVolumeAttributesClassName",
)
TOKEN_AUDIENCE = "request-serviceaccounts-token-audience"


def node_of(pod: Object | None) -> str:
    """The node a pod is bound to, "" for none."""
    return str(((pod or {}).get("spec") or {}).get("nodeName") or "")


def check_pod(server: Server, write: Write, node: str) -> None:
    """Mirror pods are made and pods of this node deleted; nothing else."""
    if write.operation == "DELETE":
        if node_of(write.old) != node:
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
    why = _owner_error(server, meta.get("ownerReferences") or [], node)
    if why:
        return why
    if spec.get("serviceAccountName"):
        return f"{me} can not create pods that reference a service account"
    found = {plural for plural, name in names_of(pod) if name}
    for plural in FORBIDDEN_REFERENCES:
        if plural in found:
            return f"{me} can not create pods that reference {plural}"
    for volume in spec.get("volumes") or ():
        for source in (volume.get("projected") or {}).get("sources") or ():
            if "serviceAccountToken" in source:
                return f"{me} can not create pods that reference a service account"
    return ""


def _owner_error(server: Server, owners: list[Any], node: str) -> str:
    me = f"node {quote(node)}"
    if len(owners) > 1:
        return f"{me} can only create pods with a single owner reference set to itself"
    if not owners:
        return f"{me} can only create pods with an owner reference set to itself"
    owner = owners[0]
    if (owner.get("apiVersion"), owner.get("kind"), owner.get("name")) != ("v1", "Node", node):
        return f"{me} can only create pods with an owner reference set to itself"
    if not owner.get("controller"):
        return f"{me} can only create pods with a controller owner reference set to itself"
    if owner.get("blockOwnerDeletion"):
        return f"{me} must not set blockOwnerDeletion on an owner reference"
    found = server.find_object(resource("nodes"), "", node)
    uid = "" if found is None else found["metadata"].get("uid", "")
    if not uid or uid != owner.get("uid"):
        return f"node {node} UID mismatch: expected {uid} got {owner.get('uid', '')}"
    return ""


def check_pod_status(server: Server, write: Write, node: str) -> None:
    if node_of(write.old) != node:
        raise refuse(
            write,
            f"node {quote(node)} can only update pod status for pods with spec.nodeName set to"
            " itself",
        )
    old = write.old or {}
    if (write.obj["metadata"].get("labels") or {}) != (old["metadata"].get("labels") or {}):
        raise refuse(write, f"node {quote(node)} cannot update labels through pod status")
    now, before = write.obj.get("status") or {}, old.get("status") or {}
    for field, words in (
        ("resourceClaimStatuses", "resource claim statuses"),
        ("extendedResourceClaimStatus", "extended resource claim status"),
    ):
        # They decide which claims the node may read.
        if (now.get(field) or []) != (before.get(field) or []):
            raise refuse(write, f"node {quote(node)} cannot update {words}")


def check_eviction(server: Server, write: Write, node: str) -> None:
    name = write.attributes.name
    pod = server.get_object(resource("pods"), write.attributes.namespace, name)
    if node_of(pod) != node:
        raise refuse(write, f"node {node} can only evict pods with spec.nodeName set to itself")


def check_claim(server: Server, write: Write, node: str) -> None:
    raise refuse(write, "may only update PVC status")


def check_claim_status(server: Server, write: Write, node: str) -> None:
    if _claim_rest(write.obj) != _claim_rest(write.old or {}):
        raise refuse(
            write,
            f"node {quote(node)} is not allowed to update fields other than status.quantity and"
            " status.conditions",
        )


def _claim_rest(claim: Object) -> tuple[Object, Object, Any]:
    """What of a claim no agent changes."""
    meta = {
        key: value
        for key, value in (claim.get("metadata") or {}).items()
        if key not in ("resourceVersion", "managedFields")
    }
    status = {
        key: value for key, value in (claim.get("status") or {}).items() if key not in CLAIM_STATUS
    }
    return meta, status, claim.get("spec")


def check_token(server: Server, write: Write, node: str) -> None:
    """A token bound to a pod of this node, for an audience that the pod's volumes name."""
    spec = write.obj.get("spec") or {}
    ref = spec.get("boundObjectRef") or {}
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
    if node_of(pod) != node:
        raise refuse(write, "node requested token bound to a pod scheduled on a different node")
    _check_audience(server, write, pod, list(spec.get("audiences") or ()))


def _check_audience(server: Server, write: Write, pod: Object, wanted: list[str]) -> None:
    """KEP-4412: a node asks for the audiences its pods ask for."""
    if len(wanted) > 1:
        raise refuse(write, "node may only request 0 or 1 audiences")
    audience = wanted[0] if wanted else ""
    if audience in server.authn.tokens.audiences:
        audience = ""
    if audience in _audiences(server, pod):
        return
    namespace, account = write.attributes.namespace, write.attributes.name
    user = write.attributes.user
    asked = ("", audience, "")
    if not server.authorizer.allows(user, TOKEN_AUDIENCE, asked, namespace, account)[0]:
        raise refuse(
            write,
            f"audience {quote(audience)} not found in pod spec volume, {user.name} is not"
            " authorized to request tokens for this audience",
        )


def _audiences(server: Server, pod: Object) -> Iterator[str]:
    """The audiences the volumes of a pod ask for; the API server's own is ""."""
    own = server.authn.tokens.audiences
    namespace = pod["metadata"]["namespace"]
    for volume in pod["spec"].get("volumes") or ():
        for source in (volume.get("projected") or {}).get("sources") or ():
            token: Mapping[str, Any] | None = source.get("serviceAccountToken")
            if token is not None:
                audience = str(token.get("audience") or "")
                yield "" if audience in own else audience
        yield from _driver_audiences(server, _driver_of(server, volume, pod, namespace))


def _driver_of(server: Server, volume: Object, pod: Object, namespace: str) -> str:
    """The CSI driver behind a volume, "" for none."""
    if "csi" in volume:
        return str(volume["csi"].get("driver") or "")
    name = (volume.get("persistentVolumeClaim") or {}).get("claimName") or ""
    if "ephemeral" in volume:
        name = f"{pod['metadata']['name']}-{volume['name']}"
    claim = server.find_object(resource("persistentvolumeclaims"), namespace, name) if name else {}
    bound = ((claim or {}).get("spec") or {}).get("volumeName")
    found = server.find_object(resource("persistentvolumes"), "", bound) if bound else None
    return str((((found or {}).get("spec") or {}).get("csi") or {}).get("driver") or "")


def _driver_audiences(server: Server, driver: str) -> Iterator[str]:
    if not driver:
        return
    found = server.find_object(resource("csidrivers", "storage.k8s.io"), "", driver) or {}
    for request in (found.get("spec") or {}).get("tokenRequests") or ():
        yield str(request.get("audience") or "")
