"""create: POST to a collection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.api import schema
from sampan.api.descriptor import Descriptor
from sampan.api.errors import Object

from ..answer import answer_written
from ..body import read_object
from ..exchange import Attributes, Request, Response
from ..options import write_options
from ..routes import method_not_allowed
from ..writing import Context, create, private_copy

if TYPE_CHECKING:
    from ..app import Server


async def handle(server: Server, request: Request, attributes: Attributes) -> Response:
    resource = attributes.resource
    assert resource is not None
    if resource.namespaced and not attributes.namespace:
        raise method_not_allowed()
    context = Context(server, attributes, resource, write_options(request, "CreateOptions"))
    obj = decode_object(context, request, resource)
    written = await create(context, obj)
    return answer_written(context, request, written)


def decode_object(context: Context, request: Request, resource: Descriptor) -> Object:
    """The request's object: of the right type, checked against the schema, private."""
    body = read_object(request, resource)
    return decode_value(context, body.value, resource, body.duplicates, shared=request.local)


def decode_value(
    context: Context,
    value: Object,
    resource: Descriptor,
    duplicates: tuple[str, ...] = (),
    *,
    shared: bool = False,
) -> Object:
    """Prune and check a value, and give it the form in which it is stored."""
    obj = decode_asked(context, value, resource, duplicates, shared=shared)
    return obj if context.view is None else context.view.to_hub(obj)


def decode_asked(
    context: Context,
    value: Object,
    resource: Descriptor,
    duplicates: tuple[str, ...] = (),
    *,
    shared: bool = False,
) -> Object:
    """Prune and check a value; unknown fields are errors or warnings as fieldValidation says."""
    validation = context.options.field_validation
    strict = validation == "Strict"
    if resource.structure is not None:
        decoded = resource.structure.decode(value, strict, duplicates)
    else:
        decoded = schema.decode(resource.definition, value, strict=strict, duplicates=duplicates)
    if validation == "Warn":
        context.warnings.extend(decoded.problems)
    obj = decoded.obj
    if shared:
        obj = private_copy(obj)
    obj["apiVersion"] = resource.api_version
    obj["kind"] = resource.kind
    metadata = obj.setdefault("metadata", {})
    given = value.get("metadata")
    if given and given.get("managedFields") == []:
        # To decoding an empty list is none; this one asks to forget who owns what.
        metadata["managedFields"] = []
    return obj
