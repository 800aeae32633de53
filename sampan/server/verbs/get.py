"""get: one object, as its stored bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.api import errors
from sampan.wire.json import splice_version

from ..answer import answer_object
from ..conversion import view_of
from ..exchange import Attributes, Request, Response
from ..listoptions import check_not_ahead
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
    obj = server.cache.decode(record)
    if view is not None and context.view is None:
        # Writes know nothing of the views of custom resources.
        obj = view.from_hub(obj)
    return answer_object(context, request, obj, form)
