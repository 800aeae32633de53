"""create: POST to a collection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sampan.api import schema
from sampan.api.decoding import Decoded
from sampan.api.descriptor import Descriptor
from sampan.api.errors import Object

from ..answer import answer_written
from ..body import read_object
from ..exchange import Attributes, Request, Response
from ..options import write_options
from ..owners import name_owners_once
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
    obj = decode_value(context, body.value, resource, body.duplicates, shared=request.local)
    name_owners_once(context, obj)
    return obj


def decode_value(
    context: Context,
    value: Object,
    resource: Descriptor,
    duplicates: tuple[str, ...] = (),
    *,
    shared: bool = False,
) -> Object:
    """Prune and check a value, and give it the form in which it is stored; unknown fields are
    errors or warnings as fieldValidation says."""
    validation = context.options.field_validation
    decoded = decode_as(resource, value, strict=validation == "Strict", duplicates=duplicates)
    if validation == "Warn":
        context.warnings.extend(decoded.problems)
    obj = typed(decoded.obj, value, resource, shared=shared)
    return obj if context.view is None else context.view.to_hub(obj)


def decode_as(
    resource: Descriptor, value: Any, *, strict: bool = False, duplicates: tuple[str, ...] = ()
) -> Decoded:
    """A value by the schema of a resource. Raises BadRequest."""
    if resource.structure is not None:
        return resource.structure.decode(value, strict, duplicates)
    return schema.decode(resource.definition, value, strict=strict, duplicates=duplicates)


def typed(obj: Object, value: Object, resource: Descriptor, *, shared: bool = False) -> Object:
    """A decoded object with its type, and metadata; a copy when it is `shared`."""
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
