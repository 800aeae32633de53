"""Reviews: questions about tokens and rights, answered at once and never stored.

TokenReview, SubjectAccessReview and its local and self forms, SelfSubjectRulesReview,
SelfSubjectReview: POST only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from sampan.api import fields
from sampan.api.errors import BadRequest, Cause, Object, aggregate, invalid
from sampan.api.times import format_time

from ..authn.jwt import BadToken
from ..authz.nodes import node_of
from ..authz.questions import Asked, Verdict
from ..exchange import Attributes, Request, Response, User, user_info
from ..routes import method_not_allowed
from .reading import Posted, Shape, read_created

if TYPE_CHECKING:
    from ..app import Server

AUTHORIZATION = "authorization.k8s.io"
INVALID = "invalid bearer token"


async def token_review(server: Server, request: Request, attributes: Attributes) -> Response:
    """POST tokenreviews."""
    posted = _read(request, attributes)
    body = posted.obj
    spec = body["spec"]
    token = spec.get("token")
    if not token:
        raise BadRequest("token is required for TokenReview in authentication")
    audiences = spec.get("audiences") or ()
    status: Object
    try:
        user, shared = await server.authn.check_token(token, audiences)
        status = {"authenticated": True, "user": user_info(user), "audiences": shared}
    except BadToken as error:
        text = str(error)
        status = {"user": {}, "error": text if text == INVALID else f"[{INVALID}, {text}]"}
    return _answer(posted, status)


async def access_review(server: Server, request: Request, attributes: Attributes) -> Response:
    """POST subjectaccessreviews and localsubjectaccessreviews: may somebody else do this?"""
    posted = _read(request, attributes)
    body = posted.obj
    spec, kind = body["spec"], body["kind"]
    causes = _causes(spec)
    if not spec.get("user") and not spec.get("groups"):
        causes.append(
            fields.required("spec.user", "at least one of user or group must be specified")
        )
    if kind == "LocalSubjectAccessReview":
        causes += _local_causes(spec, body, attributes)
    if causes:
        raise invalid(AUTHORIZATION, kind, "", causes)
    extra = {key.lower(): tuple(values) for key, values in (spec.get("extra") or {}).items()}
    user = User(spec.get("user", ""), tuple(spec.get("groups") or ()), spec.get("uid", ""), extra)
    return _answer(posted, _decide(server, user, spec))


async def self_access_review(server: Server, request: Request, attributes: Attributes) -> Response:
    """POST selfsubjectaccessreviews: may I do this?"""
    posted = _read(request, attributes)
    body = posted.obj
    causes = _causes(body["spec"])
    if causes:
        raise invalid(AUTHORIZATION, body["kind"], "", causes)
    return _answer(posted, _decide(server, attributes.user, body["spec"]))


async def self_rules_review(server: Server, request: Request, attributes: Attributes) -> Response:
    """POST selfsubjectrulesreviews: what may I do in a namespace?"""
    posted = _read(request, attributes)
    body = posted.obj
    namespace = body["spec"].get("namespace")
    if not namespace:
        raise BadRequest("no namespace on request")
    resource_rules: list[Object] = []
    path_rules: list[Object] = []
    for rule in server.authorizer.rules(attributes.user, namespace):
        if rule.resources:
            resource_rules.append(
                {
                    field: rule.raw[field]
                    for field in ("verbs", "apiGroups", "resources", "resourceNames")
                    if rule.raw.get(field)
                }
            )
        if rule.urls:
            path_rules.append({"verbs": rule.raw["verbs"], "nonResourceURLs": list(rule.urls)})
    status: Object = {
        "resourceRules": resource_rules,
        "nonResourceRules": path_rules,
        "incomplete": False,
    }
    silent = []
    if node_of(attributes.user) is not None:
        # What a node may do depends on its pods, so that it cannot be listed.
        silent.append("node authorizer does not support user rule resolution")
    if server.authorizer.asks_others:
        silent.append("webhook authorizer does not support user rule resolution")
    if silent:
        status["incomplete"] = True
        status["evaluationError"] = aggregate(silent)
    return _answer(posted, status)


async def self_review(server: Server, request: Request, attributes: Attributes) -> Response:
    """POST selfsubjectreviews: who am I? (`kubectl auth whoami`)"""
    posted = _read(request, attributes)
    body = posted.obj
    del body["spec"]
    body["metadata"] = {"creationTimestamp": format_time(server.clock.now())}
    return _answer(posted, {"userInfo": user_info(attributes.user)})


def _read(request: Request, attributes: Attributes) -> Posted:
    """The review asked for: a copy with kind, version, metadata and spec set."""
    target = attributes.resource
    if target is None:
        raise method_not_allowed()
    shape = Shape(target.api_version, target.kind, target.definition)
    posted = read_created(request, shape)
    body = posted.obj
    posted.obj = {
        "kind": target.kind,
        "apiVersion": target.api_version,
        "metadata": body.get("metadata") or {},
        "spec": body.get("spec") or {},
    }
    return posted


def _answer(posted: Posted, status: Object) -> Response:
    return Response(201, obj={**posted.obj, "status": status}, headers=posted.headers())


def _causes(spec: Mapping[str, Any]) -> list[Cause]:
    has_resource = spec.get("resourceAttributes") is not None
    has_path = spec.get("nonResourceAttributes") is not None
    if has_resource == has_path:
        return [
            fields.invalid(
                "spec.resourceAttributes",
                spec.get("resourceAttributes"),
                "exactly one of nonResourceAttributes or resourceAttributes must be specified",
            )
        ]
    return [*_selector_causes(spec["resourceAttributes"])] if has_resource else []


def _field_selector(raw: Mapping[str, Any]) -> str:
    """The selector of a question as a list would have it. What equality cannot say is left out,
    which makes the question wider and the answer stricter."""
    if raw.get("rawSelector"):
        return str(raw["rawSelector"])
    return ",".join(
        f"{item.get('key', '')}={item['values'][0]}"
        for item in raw.get("requirements") or ()
        if item.get("operator") == "In" and len(item.get("values") or ()) == 1
    )


def _label_selector(raw: Mapping[str, Any]) -> str:
    """The same of labels, where only whoever is asked elsewhere cares."""
    if raw.get("rawSelector"):
        return str(raw["rawSelector"])
    signs = {"In": "in", "NotIn": "notin"}
    words = {"Exists": "", "DoesNotExist": "!"}
    return ",".join(
        f"{item.get('key', '')} {signs[operator]} ({','.join(item.get('values') or ())})"
        if operator in signs
        else f"{words[operator]}{item.get('key', '')}"
        for item in raw.get("requirements") or ()
        if (operator := item.get("operator", "")) in (*signs, *words)
    )


SELECTORS = ("fieldSelector", "labelSelector")
WITH_VALUES, WITHOUT_VALUES = ("In", "NotIn"), ("Exists", "DoesNotExist")


def _selector_causes(asked: Mapping[str, Any]) -> Iterator[Cause]:
    """KEP-4601, as pkg/apis/authorization/validation."""
    for field in SELECTORS:
        selector = asked.get(field)
        if selector is None:
            continue
        path = f"spec.resourceAttributes.{field}"
        raw, requirements = selector.get("rawSelector"), selector.get("requirements") or ()
        if raw and requirements:
            why = "may not specified at the same time as requirements"
            yield fields.forbidden(f"{path}.rawSelector", why)
        elif not raw and not requirements:
            why = f"when {path} is specified, requirements or rawSelector is required"
            yield fields.required(f"{path}.requirements", why)
        for at, item in enumerate(requirements):
            where, operator = f"{path}.requirements[{at}]", item.get("operator", "")
            if not item.get("key"):
                yield fields.required(f"{where}.key", "must be specified")
            if operator in WITH_VALUES:
                if not item.get("values"):
                    why = "must be specified when `operator` is 'In' or 'NotIn'"
                    yield fields.required(f"{where}.values", why)
            elif operator not in WITHOUT_VALUES:
                yield fields.invalid(f"{where}.operator", operator, "not a valid selector operator")
            elif item.get("values"):
                why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                yield fields.forbidden(f"{where}.values", why)


def _local_causes(spec: Object, body: Object, attributes: Attributes) -> list[Cause]:
    causes = []
    asked = spec.get("resourceAttributes") or {}
    if asked.get("namespace", "") != attributes.namespace:
        causes.append(
            fields.invalid(
                "spec.resourceAttributes.namespace",
                asked.get("namespace", ""),
                "must match metadata.namespace",
            )
        )
    if spec.get("nonResourceAttributes") is not None:
        causes.append(
            fields.invalid(
                "spec.nonResourceAttributes",
                spec["nonResourceAttributes"],
                "disallowed on this kind of request",
            )
        )
    return causes


def _decide(server: Server, user: User, spec: Object) -> Object:
    """The status of an access review. Only a webhook denies; others have no opinion."""
    asked = spec.get("resourceAttributes")
    if asked is not None:
        question = Asked(
            user,
            asked.get("verb", ""),
            asked.get("group", ""),
            asked.get("resource", ""),
            asked.get("subresource", ""),
            asked.get("namespace", ""),
            asked.get("name", ""),
            _field_selector(asked.get("fieldSelector") or {}),
            _label_selector(asked.get("labelSelector") or {}),
            asked.get("version", ""),
        )
    else:
        path = spec.get("nonResourceAttributes") or {}
        question = Asked(user, path.get("verb", "").lower(), path=path.get("path", ""))
    said = server.authorizer.review(question)
    status: Object = {"allowed": said.allowed}
    if said.verdict is Verdict.DENY:
        status["denied"] = True
    if said.reason:
        status["reason"] = said.reason
    if said.error:
        status["evaluationError"] = said.error
    return status
