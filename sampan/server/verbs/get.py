"""get: one object, as its stored bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.api import errors, fields
from sampan.api.errors import StatusError
from sampan.wire.json import splice_version

from ..answer import answer_object
from ..conversion import view_of
from ..exchange import Attributes, Request, Response
from ..negotiate import form_of
from ..writing import Context

if TYPE_CHECKING:
    from ..app import Server


def handle(server: Server, request: Request, attributes: Attributes) -> Response:
    """Every get is of the newest durable state; a resourceVersion can only ask for less, or for
    what is not there yet."""
    resource = attributes.resource
    assert resource is not None
    if request.query and (version := request.param("resourceVersion")):
        check_not_ahead(server, version)
    record = server.store.get(resource.key(attributes.namespace, attributes.name))
    if record is None:
        raise errors.not_found(resource.group, resource.plural, attributes.name)
    view = view_of(resource)
    if request.local:
        obj = server.cache.decode(record)
        return Response(200, obj=obj if view is None else view.from_hub(obj))
    form = form_of(request.headers.get("accept", ""))
    if form.plain and view is None:
        return Response(200, splice_version(record.value, record.modified))
    context = Context(server, attributes, resource)
    return answer_object(context, request, server.cache.decode(record), form)


def parse_version(text: str) -> int:
    """A resourceVersion of a query as a revision. Raises Invalid."""
    if not text.isascii() or not text.isdecimal():
        why = f'strconv.ParseUint: parsing "{text}": invalid syntax'
        cause = fields.invalid("resourceVersion", text, why)
        raise errors.invalid("meta.k8s.io", "ListOptions", "", [cause])
    return int(text)


def check_not_ahead(server: Server, text: str) -> int:
    """A version newer than the store's is a time-out upstream, after waiting for it in vain."""
    version = parse_version(text)
    if version > server.store.revision:
        raise too_large(version, server.store.revision)
    return version


def too_large(version: int, current: int) -> StatusError:
    cause = errors.Cause("", "Too large resource version", "ResourceVersionTooLarge")
    return errors.Timeout(
        f"Too large resource version: {version}, current: {current}",
        errors.Details(causes=(cause,), retry_after_s=1),
    )
