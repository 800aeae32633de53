"""serviceaccounts/token: a TokenRequest is answered with a signed token, and nothing is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.api import fields
from sampan.api.errors import BadRequest, Cause, Object, conflict, invalid
from sampan.api.resources import resource
from sampan.api.times import format_time

from ..authn.serviceaccount import BINDABLE, Bound
from ..exchange import Attributes, Request, Response, Write
from .reading import TOKEN_REQUEST, read_created

if TYPE_CHECKING:
    from ..app import Server

GROUP, KIND = "authentication.k8s.io", "TokenRequest"
DEFAULT_S = 3600
# Upstream's bounds: shorter could not be renewed in time, longer would overflow there.
MIN_S, MAX_S = 600, 1 << 32
ISSUED = "authentication.kubernetes.io/issued-credential-id"


async def handle(server: Server, request: Request, attributes: Attributes) -> Response:
    """POST serviceaccounts/NAME/token."""
    posted = read_created(request, TOKEN_REQUEST)
    body = posted.obj
    accounts, namespace, name = resource("serviceaccounts"), attributes.namespace, attributes.name
    account = server.get_object(accounts, namespace, name)
    _check_place(body.get("metadata") or {}, name, namespace)
    spec: Object = body.get("spec") or {}
    causes = _causes(spec)
    if causes:
        raise invalid(GROUP, KIND, "", causes)
    _check_uid((body.get("metadata") or {}).get("uid"), account)
    write = Write(attributes, "CREATE", body, None)
    await server.admission.admit(write)
    await server.admission.validate(write)
    seconds = int(spec.get("expirationSeconds") or DEFAULT_S)
    audiences = spec.get("audiences") or list(server.authn.tokens.audiences)
    bound = _bound(server, namespace, account, spec.get("boundObjectRef"))
    issued = server.authn.tokens.issue(account, audiences, seconds, bound)
    write.annotate(ISSUED, f"JTI={issued.id}")
    answer = {
        "kind": KIND,
        "apiVersion": f"{GROUP}/v1",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "creationTimestamp": format_time(server.clock.now()),
        },
        "spec": {
            "audiences": audiences,
            "expirationSeconds": seconds,
            "boundObjectRef": spec.get("boundObjectRef"),
        },
        "status": {"token": issued.token, "expirationTimestamp": format_time(issued.expires_s)},
    }
    return Response(201, obj=answer, headers=posted.headers())


def _check_place(meta: Object, name: str, namespace: str) -> None:
    """What the body says of its place must be true. Raises Invalid."""
    for field, wanted in (("name", name), ("namespace", namespace)):
        given = meta.get(field)
        if given and given != wanted:
            why = f"must match the service account {field} if specified"
            raise invalid(GROUP, KIND, name, [fields.invalid(f"metadata.{field}", given, why)])


def _check_uid(asked: str | None, account: Object) -> None:
    """Is it the account that is meant, and not a later one of its name? Raises Conflict."""
    name, uid = account["metadata"]["name"], account["metadata"]["uid"]
    if asked and asked != uid:
        why = f"the UID in the token request ({asked}) does not match the UID of the service"
        raise conflict(GROUP, KIND, name, f"{why} account ({uid})")


def _causes(spec: Object) -> list[Cause]:
    seconds = spec.get("expirationSeconds")
    path = "spec.expirationSeconds"
    if seconds is None:
        return []
    if seconds < MIN_S:
        return [fields.invalid(path, seconds, "may not specify a duration less than 10 minutes")]
    if seconds > MAX_S:
        return [
            fields.invalid(path, seconds, "may not specify a duration larger than 2^32 seconds")
        ]
    return []


def _bound(server: Server, namespace: str, account: Object, ref: Object | None) -> dict[str, Bound]:
    """What the token is bound to; a pod brings its node along. Raises NotFound and Conflict."""
    if not ref:
        return {}
    kind, name = ref.get("kind", ""), ref.get("name", "")
    plural = BINDABLE.get(kind.lower()) if kind == kind.capitalize() else None
    group, _, version = str(ref.get("apiVersion") or "").rpartition("/")
    account_name = account["metadata"]["name"]
    if plural is None or group:
        raise BadRequest(
            f"cannot bind token for serviceaccount {fields.quote(account_name)} to object of type"
            f" {group}/{version}, Kind={kind}"
        )
    target = resource(plural)
    found = server.get_object(target, namespace if target.namespaced else "", name)
    uid = found["metadata"]["uid"]
    if ref.get("uid") and ref["uid"] != uid:
        raise conflict(
            "",
            target.kind,
            name,
            f"the UID in the bound object reference ({ref['uid']}) does not match the UID in"
            " record. The object might have been deleted and then recreated",
        )
    bound = {kind.lower(): Bound(name, uid)}
    if kind == "Pod":
        spec = found.get("spec") or {}
        if spec.get("serviceAccountName") != account_name:
            raise BadRequest(
                f"cannot bind token for serviceaccount {fields.quote(account_name)} to pod running"
                " with different serviceaccount name."
            )
        node_name = spec.get("nodeName")
        if node_name:
            # A node that is gone is still where the pod was.
            node = server.find_object(resource("nodes"), "", node_name)
            bound["node"] = Bound(node_name, node["metadata"]["uid"] if node else "")
    return bound
