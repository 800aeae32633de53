"""What goes with every answer: errors as a Status, warnings, indentation for people.

The one place where exceptions become HTTP.
"""

from __future__ import annotations

import logging

from sampan.api import errors
from sampan.api.errors import Details, StatusError
from sampan.store.interface import StoreError

from .answer import encode, indented, wants_pretty, warning_headers
from .exchange import Answer, Attributes, Request, Response, Stream
from .negotiate import form_of

log = logging.getLogger("sampan.server")


def forbidden(attributes: Attributes, reason: str) -> errors.Forbidden:
    """Upstream's Forbidden (apiserver endpoints/handlers/responsewriters)."""
    user, resource = attributes.user.name, attributes.resource
    because = f": {reason}" if reason else ""
    if resource is None:
        return errors.Forbidden(
            f'forbidden: User "{user}" cannot {attributes.verb} path "{attributes.path}"{because}',
            Details(),
        )
    plural = resource.plural
    if attributes.subresource:
        plural += f"/{attributes.subresource}"
    place = (
        f'in the namespace "{attributes.namespace}"'
        if attributes.namespace
        else "at the cluster scope"
    )
    why = (
        f'User "{user}" cannot {attributes.verb} resource "{plural}" in API group '
        f'"{resource.group}" {place}{because}'
    )
    return errors.forbidden(resource.group, resource.plural, attributes.name, why)


def dress(request: Request, attributes: Attributes | None, answer: Answer) -> None:
    """Last touches: indentation for people; with every answer about a deprecated kind the warning
    that it is, as upstream does on each route."""
    if request.local:
        return
    if wants_pretty(request) and isinstance(answer, Response):
        indented(answer)
    if attributes is None or attributes.resource is None:
        return
    text = attributes.resource.rules.deprecated
    if text and isinstance(answer, Response | Stream):
        answer.headers = [*warning_headers([text]), *answer.headers]


def failure(request: Request, error: Exception) -> Response:
    """Every error as a Status answer: the one place where exceptions become HTTP."""
    if isinstance(error, StatusError):
        status = error
    elif isinstance(error, StoreError):
        log.error("store: %s", error)
        status = errors.InternalError(f"Internal error occurred: {error}")
    else:
        log.exception("%s %s failed", request.method, request.path, exc_info=error)
        status = errors.InternalError(f"Internal error occurred: {type(error).__name__}")
    headers: list[tuple[str, str]] = []
    if status.details is not None and status.details.retry_after_s:
        headers.append(("Retry-After", str(status.details.retry_after_s)))
    headers += warning_headers(list(status.warnings))
    body = status.status_object()
    token = getattr(status, "continue_token", "")
    if token:
        body["metadata"]["continue"] = token
    if request.local:
        return Response(status.code, obj=status, headers=headers)
    try:
        made = encode(body, form_of(request.headers.get("accept", ""))._replace(convert=""))
    except StatusError:
        made = encode(body)
    made.status, made.headers = status.code, headers
    return made
