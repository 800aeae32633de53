"""From a result to an answer in the form the client asked for.

Stored bytes go out as they are; only Tables, metadata and YAML are made anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orjson import OPT_APPEND_NEWLINE, OPT_INDENT_2, dumps, loads

from sampan.api.errors import Object

from . import table
from .exchange import Request, Response
from .negotiate import JSON, PLAIN, YAML, Form, form_of

if TYPE_CHECKING:
    from sampan.api.descriptor import Descriptor

    from .app import Server
    from .writing import Context, Written

SUCCESS = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}
"""The answer to a POST that makes no object of its own (a binding, an eviction)."""
MAX_WARNINGS = 4096
"""Characters of warnings that are sent whole. Where there are more each is cut to `CUT_WARNING`, so
that proxies do not drop the answer for its headers (endpoints/filters/warning.go)."""
CUT_WARNING = 256


def answer_written(context: Context, request: Request, written: Written) -> Response:
    """The answer of a write: the object; 201 when it was created."""
    status = 201 if written.created else 200
    headers = warning_headers(context.warnings) if context.warnings else ()
    if request.local:
        return Response(status, obj=context.shown(written.obj), headers=headers)
    form = form_of(request.headers.get("accept", ""))
    if form.plain and written.body is not None and context.view is None:
        return Response(status, written.body, headers=headers)
    response = answer_object(context, request, written.obj, form)
    response.status = status
    response.headers = headers
    return response


def answer_object(context: Context, request: Request, obj: Object, form: Form) -> Response:
    resource = context.asked
    obj = context.shown(obj)
    if form.convert == "Table":
        include = table.include_of(request.param("includeObject"))
        now_s = context.server.clock.now()
        made = table.table_of(resource, [obj], form.version, include, now_s)
        made["metadata"] = {"resourceVersion": obj["metadata"].get("resourceVersion", "")}
        return encode(made, form)
    if form.partial:
        return encode(table.partial_of(obj, form.version), form)
    return encode(obj, form)


def answer_computed(
    server: Server, request: Request, asked: Descriptor, made: list[Object], *, single: bool
) -> Response:
    """The answer of a get (`single`) or list of what is made when it is asked for."""
    form = form_of(request.headers.get("accept", ""))
    head = {"kind": f"{asked.kind}List", "apiVersion": asked.api_version, "metadata": {}}
    whole: Object = made[0] if single else {**head, "items": made}
    if request.local:
        return Response(200, obj=whole)
    if form.convert == "Table":
        include = table.include_of(request.param("includeObject"))
        shown = table.table_of(asked, made, form.version, include, server.clock.now())
        return encode(shown, form)
    if form.partial:
        partial = table.partial_list_of(made, form.version, {})
        return encode(partial["items"][0] if single else partial, form)
    return encode(whole, form)


def encode(obj: Object, form: Form = PLAIN) -> Response:
    """A response with the object encoded as the form's media type says."""
    if form.media == YAML:
        return Response(200, dump_yaml(obj), content_type=YAML)
    return Response(200, dumps(obj))


def cacheable(response: Response, said: str) -> Response:
    """The answer, with what caches may do with it."""
    head = [("Content-Type", response.content_type), ("Cache-Control", said)]
    response.headers, response.content_type = [*head, *response.headers], ""
    return response


PRETTY_AGENTS = ("curl", "Wget", "Mozilla/5.0")
"""User agents of people, who are shown indented JSON unless they say otherwise, as upstream."""


def wants_pretty(request: Request) -> bool:
    """Is the answer to be indented? The query decides, then the media type, then the agent."""
    if request.query and (said := request.query.get("pretty")) and said[0]:
        return said[0] in ("1", "t", "T", "true", "TRUE", "True")
    headers = request.headers
    if "pretty=1" in headers.get("accept", ""):
        return True
    return headers.get("user-agent", "").startswith(PRETTY_AGENTS)


def indented(response: Response) -> None:
    """Indent a JSON answer, two spaces a level, as Go does."""
    if response.body and response.content_type == JSON:
        response.body = dumps(loads(response.body), option=OPT_INDENT_2 | OPT_APPEND_NEWLINE)


def dump_yaml(obj: Object) -> bytes:
    # Imported when first asked for: PyYAML costs a tenth of the boot.
    from sampan.wire import yaml as yaml_wire

    return yaml_wire.dumps(obj)


def warning_headers(warnings: list[str]) -> list[tuple[str, str]]:
    """Warning headers (RFC 7234, code 299), each once."""
    headers = []
    for text in _fitting(list(dict.fromkeys(warnings))):
        quoted = text.replace("\\", "\\\\").replace('"', '\\"')
        clean = "".join(letter if letter.isprintable() else " " for letter in quoted)
        headers.append(("Warning", f'299 - "{clean}"'))
    return headers


def _fitting(texts: list[str]) -> list[str]:
    if sum(map(len, texts)) <= MAX_WARNINGS:
        return texts
    shown, length = [], 0
    for text in texts:
        if length >= MAX_WARNINGS:
            break
        shown.append(text[:CUT_WARNING])
        length += len(shown[-1])
    return shown
