"""One audit event as JSON values, and the objects in it. Pure."""

from __future__ import annotations

from typing import Any

import orjson

from sampan.api.errors import Object, StatusError
from sampan.api.times import format_micro_time

from ..exchange import Attributes, Request, Response, user_info
from .policy import NAMES, Level, Rule

API_VERSION = "audit.k8s.io/v1"
MAX_USER_AGENT = 1024
"""As upstream; the header is the client's and may be long."""


def frame(request: Request, attributes: Attributes, rule: Rule, received_s: float) -> Object:
    """What every stage of a request says."""
    event: Object = {
        "kind": "Event",
        "apiVersion": API_VERSION,
        "level": NAMES[rule.level],
        "auditID": request.audit_id,
        "stage": "",
        "requestURI": uri_of(request),
        "verb": attributes.verb,
        "user": user_info(request.impersonator or request.user),
    }
    if request.impersonator is not None:
        event["impersonatedUser"] = user_info(request.user)
        if request.constraint:
            constraint = {"impersonationConstraint": request.constraint}
            event["authenticationMetadata"] = constraint
    addresses = sources_of(request)
    if addresses:
        event["sourceIPs"] = addresses
    agent = request.headers.get("user-agent", "")
    if agent:
        cut = f"{agent[:MAX_USER_AGENT]}...TRUNCATED" if len(agent) > MAX_USER_AGENT else agent
        event["userAgent"] = cut
    reference = object_ref(attributes)
    if reference:
        event["objectRef"] = reference
    event["requestReceivedTimestamp"] = format_micro_time(received_s)
    return event


def failed_methods(request: Request) -> str:
    """Which credentials a request showed that were no good, in upstream's words."""
    scheme, _, rest = request.headers.get("authorization", "").strip().partition(" ")
    tried = [name for name in ("basic", "bearer") if rest and scheme.lower() == name]
    if not tried:
        return "Authentication failed, no credentials provided"
    return f"Authentication failed, attempted: {', '.join(tried)}"


def uri_of(request: Request) -> str:
    if request.raw_query:
        return f"{request.path}?{request.raw_query}"
    if not request.query:
        return request.path
    from urllib.parse import urlencode

    return f"{request.path}?{urlencode(request.query, doseq=True)}"


def sources_of(request: Request) -> list[str]:
    """Where it came from: what proxies say they forwarded for, and who is connected."""
    found = [item.strip() for item in request.headers.get("x-forwarded-for", "").split(",")]
    found = [item for item in found if item]
    if request.peer and request.peer not in found[-1:]:
        found.append(request.peer)
    return found


def object_ref(attributes: Attributes) -> Object:
    target = attributes.resource
    if target is None:
        return {}
    found = {
        "resource": target.plural,
        "namespace": attributes.namespace,
        "name": attributes.name,
        "apiGroup": target.group,
        "apiVersion": target.version,
        "subresource": attributes.subresource,
    }
    return {key: value for key, value in found.items() if value}


def complete_ref(event: Object, obj: Object) -> None:
    """What is only known of an object once there is one: the name it got, uid and version."""
    reference = event.get("objectRef")
    if reference is None:
        return
    meta = obj.get("metadata") or {}
    for field in ("name", "uid", "resourceVersion"):
        if meta.get(field) and not (field == "name" and reference.get("name")):
            reference[field] = meta[field]


def request_object(request: Request, rule: Rule) -> Any:
    """The body as it was sent; None if there is none or it cannot be read."""
    if rule.level < Level.REQUEST or not request.body:
        return None
    value: Any = request.body
    if isinstance(value, bytes):
        value = _decoded(request, value)
    return without_managed_fields(value) if rule.omit_managed_fields else value


def _decoded(request: Request, body: bytes) -> Any:
    if body[:1] in b"{[":
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError:
            # YAML may begin so too.
            pass
    from ..body import read_object

    try:
        return read_object(request).value
    except (StatusError, ValueError):
        return None


def response_object(answer: Response) -> Object | None:
    """The object answered, decoded if need be."""
    if isinstance(answer.obj, StatusError):
        return answer.obj.status_object()
    if isinstance(answer.obj, dict):
        return answer.obj
    if answer.body and answer.body[:1] == b"{":
        try:
            found: Object = orjson.loads(answer.body)
        except orjson.JSONDecodeError:
            return None
        return found
    return None


def response_status(answer: Response, obj: Object | None) -> Object:
    """A Status in full, of anything else its code."""
    if obj is not None and obj.get("kind") == "Status":
        kept = ("status", "message", "reason", "details")
        found = {key: obj[key] for key in kept if obj.get(key)}
        return {"metadata": obj.get("metadata") or {}, **found, "code": answer.status}
    return {"metadata": {}, "code": answer.status}


def without_managed_fields(value: Any) -> Any:
    """A copy of an object, or of a list of them, without metadata.managedFields."""
    if not isinstance(value, dict):
        return value
    if isinstance(value.get("items"), list):
        return {**value, "items": [without_managed_fields(item) for item in value["items"]]}
    meta = value.get("metadata")
    if isinstance(meta, dict) and "managedFields" in meta:
        kept = {key: item for key, item in meta.items() if key != "managedFields"}
        return {**value, "metadata": kept}
    return value
