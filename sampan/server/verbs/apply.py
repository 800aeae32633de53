"""apply: PATCH with application/apply-patch+yaml (server-side apply, KEP-555)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.api import errors, fields
from sampan.api.descriptor import Descriptor
from sampan.api.errors import BadRequest, Object

from ..answer import answer_written
from ..body import check_type, parse_yaml
from ..exchange import Attributes, Request, Response
from ..options import write_options
from ..ownership import applied, first_applied
from ..writing import Context, Written, create, match_namespace, private_copy, update
from .create import decode_value

if TYPE_CHECKING:
    from ..app import Server


async def handle(server: Server, request: Request, attributes: Attributes) -> Response:
    resource = attributes.resource
    assert resource is not None
    options = write_options(request, "PatchOptions")
    if not options.field_manager:
        cause = fields.required("fieldManager", "is required for apply patch")
        raise errors.invalid("meta.k8s.io", "PatchOptions", "", [cause])
    context = Context(server, attributes, resource, options)
    config = _read(context, request, resource)

    def compute(old: Object, private: Object) -> Object:
        version = config["metadata"].get("resourceVersion")
        new = applied(context, old, private_copy(config), server.timestamp())
        if version:
            new["metadata"]["resourceVersion"] = version
        return new

    try:
        written = await update(context, attributes.name, compute)
    except errors.NotFound:
        if attributes.subresource:
            raise
        written = await _create(context, config)
    return answer_written(context, request, written)


def _read(context: Context, request: Request, resource: Descriptor) -> Object:
    body = request.body
    value = parse_yaml(body) if isinstance(body, bytes) else body
    if not isinstance(value, dict):
        raise BadRequest("error decoding YAML: the body is no object")
    for name in ("apiVersion", "kind"):
        if not value.get(name):
            raise BadRequest(f"Object '{name}' is missing in the applied configuration")
    check_type(value, resource.api_version, resource.kind)
    config = decode_value(context, value, resource, shared=True)
    metadata = config["metadata"]
    if metadata.get("managedFields"):
        raise BadRequest("metadata.managedFields must be nil")
    name = metadata.setdefault("name", context.attributes.name)
    if name != context.attributes.name:
        raise BadRequest(
            f"the name of the object ({name}) does not match the name on the URL "
            f"({context.attributes.name})"
        )
    match_namespace(context, metadata)
    return config


async def _create(context: Context, config: Object) -> Written:
    given = context.attributes
    context.attributes = Attributes(
        given.user, "create", given.resource, "", given.namespace, given.name, given.path
    )
    context.server.authorize(context.attributes)
    obj = private_copy(config)
    obj["metadata"].pop("resourceVersion", None)
    first_applied(context, obj, context.server.timestamp())
    return await create(context, obj)
