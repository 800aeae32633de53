"""pods/log: a container's output, passed on from its node as it comes."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

import orjson

from sampan.api import fields
from sampan.api.errors import (
    BadRequest,
    Cause,
    InternalError,
    NotFound,
    StatusError,
    from_status,
    invalid,
)
from sampan.api.resources import resource
from sampan.api.times import TimeError, parse_time

from ..exchange import Attributes, Request, Response, Stream, Upgrade
from ..listoptions import flag
from ..routes import method_not_allowed
from .containers import choose_container, node_of
from .fetching import NodeAnswer, fetch

if TYPE_CHECKING:
    from ..app import Server

# As upstream: what a node may say about an error.
MAX_ERROR_BYTES = 10_000
# Names of PodLogOptions that are whole numbers, with the least they may be.
NUMBERS = {"sinceSeconds": 1, "tailLines": 0, "limitBytes": 1}
FLAGS = ("follow", "previous", "timestamps")


async def handle(
    server: Server, request: Request, attributes: Attributes
) -> Response | Stream | Upgrade:
    """GET pods/NAME/log."""
    if request.method != "GET":
        raise method_not_allowed()
    pod = server.get_object(resource("pods"), attributes.namespace, attributes.name)
    options = read_options(request, attributes.name)
    container = choose_container(pod, request.param("container"))
    node = node_of(pod)
    if not node:
        # Nothing runs yet, so nothing has been said: an empty answer, as upstream's.
        return Response(204, b"", content_type="text/plain")
    if request.upgradable:
        from .streams import log_upgrade

        return log_upgrade(server, request, pod, container, options)
    path = f"/containerLogs/{attributes.namespace}/{attributes.name}/{container}"
    target = quote(path) + (f"?{urlencode(options)}" if options else "")
    insecure = bool(flag(request, "insecureSkipTLSVerifyBackend"))
    answer = await fetch(server, node, target, insecure=insecure)
    status = answer.head.result()
    if status != 200:
        raise await _error(answer, status, attributes.name)
    return Stream(answer.chunks(), content_type="text/plain")


def read_options(request: Request, pod: str) -> dict[str, str]:
    """The log options of a request, checked as upstream's PodLogOptions. Raises Invalid."""
    options = {name: "true" for name in FLAGS if flag(request, name)}
    causes: list[Cause] = []
    for name, least in NUMBERS.items():
        text = request.param(name)
        if not text:
            continue
        try:
            number = int(text)
        except ValueError:
            raise BadRequest(
                f"strconv.ParseInt: parsing {fields.quote(text)}: invalid syntax"
            ) from None
        if number < least:
            rule = "greater than 0" if least else "greater than or equal to 0"
            causes.append(fields.invalid(name, number, f"must be {rule}"))
        options[name] = str(number)
    since = request.param("sinceTime")
    if since:
        try:
            parse_time(since)
        except TimeError as error:
            raise BadRequest(str(error)) from None
        if "sinceSeconds" in options:
            causes.append(
                fields.forbidden(
                    "", "at most one of `sinceTime` or `sinceSeconds` may be specified"
                )
            )
        options["sinceTime"] = since
    stream = request.param("stream")
    if stream not in ("", "All"):
        if stream not in ("Stdout", "Stderr"):
            causes.append(fields.not_supported("stream", stream, ("All", "Stderr", "Stdout")))
        if "tailLines" in options:
            why = "`tailLines` and specific `stream` are mutually exclusive for now"
            causes.append(fields.forbidden("", why))
        options["stream"] = stream
    if causes:
        raise invalid("", "PodLogOptions", pod, causes)
    return options


async def _error(answer: NodeAnswer, status: int, pod: str) -> StatusError:
    """What the node says went wrong, as the API says it."""
    text = (await answer.text(MAX_ERROR_BYTES)).strip()
    return error_of(status, text, pod)


def error_of(status: int, text: str, pod: str) -> StatusError:
    """The error a node's answer stands for: a Status object, or upstream's plain text."""
    if text.startswith("{"):
        try:
            body = orjson.loads(text)
        except orjson.JSONDecodeError:
            body = None
        if isinstance(body, dict) and body.get("kind") == "Status":
            return from_status(body)
    if status == 400:
        return BadRequest(text)
    if status == 404:
        # The gap is upstream's: its verb is empty there.
        return NotFound(f"the server could not find the requested resource ( pods/log {pod})")
    return InternalError(f"Internal error occurred: {text or f'the node answered {status}'}")
