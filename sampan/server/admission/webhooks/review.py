"""AdmissionReview: what a webhook is told (admission.k8s.io), and what its answer must be."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from msgspec import Struct, field

from sampan.api.descriptor import Descriptor
from sampan.api.errors import Object, StatusError, from_status

from ...exchange import Attributes, Write, user_info
from ...options import WriteOptions
from ...webhooks.target import CallFailed

OPTIONS = {"CREATE": "CreateOptions", "UPDATE": "UpdateOptions", "DELETE": "DeleteOptions"}
META = "meta.k8s.io/v1"


class Verdict(Struct):
    """What a webhook answered, checked."""

    allowed: bool
    patch: bytes = b""
    status: Object = field(default_factory=dict)
    warnings: Sequence[str] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)


def request_of(
    write: Write, target: Descriptor, uid: str, objects: tuple[Object | None, Object | None]
) -> Object:
    """The AdmissionRequest; `objects` are the new and the old one in the form of `target`."""
    attributes = write.attributes
    asked = attributes.resource
    assert asked is not None
    new, old = objects
    request: Object = {
        "uid": uid,
        "kind": kind_of(target, attributes.subresource),
        "resource": _resource(target),
    }
    if attributes.subresource:
        request["subResource"] = attributes.subresource
    request["requestKind"] = kind_of(asked, attributes.subresource)
    request["requestResource"] = _resource(asked)
    if attributes.subresource:
        request["requestSubResource"] = attributes.subresource
    name = name_of(write, new)
    if name:
        request["name"] = name
    namespace = namespace_of(attributes, name)
    if namespace:
        request["namespace"] = namespace
    return request | {
        "operation": write.operation,
        "userInfo": user_info(attributes.user),
        "object": new,
        "oldObject": old,
        "dryRun": write.dry_run,
        "options": options_of(write),
    }


def review_of(version: str, request: Object) -> Object:
    return {
        "kind": "AdmissionReview",
        "apiVersion": f"admission.k8s.io/{version}",
        "request": request,
    }


def kind_of(target: Descriptor, subresource: str) -> Object:
    """The kind of what is sent: the subresource's own, if it has one."""
    group, version, kind = target.group, target.version, target.kind
    part = target.subresources.get(subresource) if subresource else None
    if part is not None:
        kind = part.kind
        if part.version:
            group, version = part.group, part.version
    return {"group": group, "version": version, "kind": kind}


def _resource(target: Descriptor) -> Object:
    return {"group": target.group, "version": target.version, "resource": target.plural}


def name_of(write: Write, new: Object | None) -> str:
    """The object's name, as far as the request says; a collection's deletion names none."""
    attributes = write.attributes
    if attributes.verb == "deletecollection":
        return ""
    if attributes.name or new is None or write.operation == "CONNECT":
        return attributes.name
    name = (new.get("metadata") or {}).get("name")
    return name if isinstance(name, str) else ""


def namespace_of(attributes: Attributes, name: str) -> str:
    target = attributes.resource
    if target is not None and target.plural == "namespaces" and not target.group:
        return attributes.namespace or name
    return attributes.namespace


def options_of(write: Write) -> Object | None:
    """The options of the operation, as their own kind."""
    kind = OPTIONS.get(write.operation)
    if kind is None:
        return None
    head = {"kind": kind, "apiVersion": META}
    if write.operation == "DELETE":
        return {**write.options, **head}
    asked = write.asked
    if not isinstance(asked, WriteOptions):
        return {**head, "dryRun": ["All"]} if write.dry_run else head
    if asked.dry_run:
        head |= {"dryRun": ["All"]}  # type: ignore[dict-item]
    if asked.field_manager:
        head["fieldManager"] = asked.field_manager
    if asked.field_validation_asked:
        head["fieldValidation"] = asked.field_validation_asked
    return head


def verdict_of(answer: Object, uid: str, version: str, *, mutating: bool) -> Verdict:
    """The answer, if it keeps to the rules of its version. Raises CallFailed (invalid response)."""
    given = f"{answer.get('apiVersion', '')}, Kind={answer.get('kind', '')}"
    wanted = f"admission.k8s.io/{version}, Kind=AdmissionReview"
    response = answer.get("response")
    if response is None:
        raise _invalid("webhook response was absent")
    if not isinstance(response, dict):
        raise _invalid("response is not an object")
    if version == "v1":
        if response.get("uid", "") != uid:
            got = orjson.dumps(response.get("uid", "")).decode()
            raise _invalid(f'expected response.uid="{uid}", got {got}')
        if given != wanted:
            raise _invalid(f"expected webhook response of {wanted}, got {given}")
    patch = _patch(response, version, mutating)
    return Verdict(
        allowed=response.get("allowed") is True,
        patch=patch,
        status=_typed(response, "status", dict),
        warnings=[item for item in _typed(response, "warnings", list) if isinstance(item, str)],
        annotations={
            str(name): str(text)
            for name, text in _typed(response, "auditAnnotations", dict).items()
        },
    )


def _typed(response: Object, name: str, kind: type) -> Any:
    value = response.get(name)
    if value is None:
        return kind()
    if not isinstance(value, kind):
        raise _invalid(f"response.{name} is of the wrong type")
    return value


def _patch(response: Object, version: str, mutating: bool) -> bytes:
    text, kind = response.get("patch"), response.get("patchType")
    if not mutating:
        if version == "v1" and text:
            raise _invalid("validating webhook may not return response.patch")
        if version == "v1" and kind is not None:
            raise _invalid("validating webhook may not return response.patchType")
        return b""
    if version == "v1":
        if text and kind is None:
            raise _invalid("webhook returned response.patch but not response.patchType")
        if not text and kind is not None:
            raise _invalid("webhook returned response.patchType but not response.patch")
        if kind == "":
            raise _invalid('webhook returned invalid response.patchType of ""')
    if not text:
        return b""
    if kind not in (None, "JSONPatch"):
        raise CallFailed(f"unsupported patch type {orjson.dumps(kind).decode()}")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError) as error:
        raise _invalid(f"illegal base64 data in response.patch: {error}") from None


def _invalid(why: str) -> CallFailed:
    return CallFailed(f"received invalid webhook response: {why}")


def denial_of(name: str, status: Object) -> StatusError:
    """A webhook's no as the client gets it: its own status, with upstream's words before it."""
    code = status.get("code")
    if not isinstance(code, int) or not 400 <= code < 600:
        # Never a success along with a rejection.
        code = 400
    message, reason = status.get("message"), status.get("reason")
    told = f": {message}" if message else f": {reason}" if reason else " without explanation"
    body = {
        "code": code,
        "reason": reason if isinstance(reason, str) else "",
        "message": f'admission webhook "{name}" denied the request{told}',
        "details": status.get("details"),
    }
    try:
        error = from_status(body)
    except (AttributeError, TypeError):
        # Details that are none.
        error = from_status({**body, "details": None})
    # The status is the webhook's to choose; the exception's class only says what is nearest.
    vars(error).update(code=code, reason=reason if isinstance(reason, str) else "")
    return error
