"""patch: JSON patch, merge patch, strategic merge patch; apply is in `apply.py`.

A patch without a resourceVersion is computed on the newest state and tried again when it lost a
race; nobody's write is lost, since each try starts from what is there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sampan.api import schema
from sampan.api.descriptor import Descriptor
from sampan.api.errors import (
    BadRequest,
    Details,
    Invalid,
    Object,
    RequestEntityTooLarge,
    StatusError,
    UnsupportedMediaType,
)
from sampan.client.interface import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH
from sampan.wire.json import dumps, loads
from sampan.wire.patch import PatchError, json_patch, merge_patch, strategic_merge
from sampan.wire.strategic import Lookup

from ..answer import answer_written
from ..body import check_type, json_kind, media_type, parse_json
from ..exchange import Attributes, Request, Response
from ..options import write_options
from ..writing import Context, match_namespace, update
from . import apply, patchfields
from .create import decode_as, typed
from .update import check_name

if TYPE_CHECKING:
    from ..app import Server

Patch = Callable[[Object], Any]


async def handle(server: Server, request: Request, attributes: Attributes) -> Response:
    resource = attributes.resource
    assert resource is not None
    if media_type(request) == APPLY_PATCH:
        return await apply.handle(server, request, attributes)
    options = write_options(request, "PatchOptions")
    context = Context(server, attributes, resource, options)
    body = request.body
    context.says_managers = not isinstance(body, bytes) or b"managedFields" in body
    problems: list[str] = []
    patch = patch_of(request, resource, problems if options.field_validation != "Ignore" else None)

    def compute(old: Object, private: Object) -> Object:
        return _patched(context, patch, private, (request, problems))

    written = await update(context, attributes.name, compute)
    return answer_written(context, request, written)


def _patched(
    context: Context, patch: Patch, current: Object, sent: tuple[Request, list[str]]
) -> Object:
    """The decoded result of the patch on `current`, which is private and may be taken apart."""
    resource = context.asked
    current = context.shown(current)
    stored = current["metadata"]
    version = stored["resourceVersion"]
    result = patch(current)
    if not isinstance(result, dict):
        raise BadRequest("the patch does not make an object")
    try:
        check_type(result, resource.api_version, resource.kind)
    except BadRequest:
        raise patchfields.mistyped(sent[0], resource, result) from None
    obj = _decode_changed(context, current, result, sent)
    metadata = obj["metadata"]
    if metadata.get("resourceVersion") == version:
        # The client's patch does not speak of the version: it is computed anew if it must be.
        del metadata["resourceVersion"]
    check_name(context.attributes.name, obj)
    match_namespace(context, metadata)
    return obj if context.view is None else context.view.to_hub(obj)


def _decode_changed(
    context: Context, current: Object, result: Object, sent: tuple[Request, list[str]]
) -> Object:
    """Decode the parts of `result` that the patch touched. The others are `current`'s own, which
    were checked when they were stored; patches share what they leave alone."""
    request, problems = sent
    resource = context.asked
    touched = {
        name: value
        for name, value in result.items()
        if name in ("apiVersion", "kind") or name not in current or value is not current[name]
    }
    kept = {name: value for name, value in result.items() if name not in touched}
    try:
        decoded = decode_as(resource, touched)
    except BadRequest as error:
        raise patchfields.refused(request, result, patchfields.reason(request, error)) from None
    if decoded.problems or problems:
        patchfields.tell(context, request, result, [*problems, *sorted(decoded.problems)])
    return {**typed(decoded.obj, touched, resource), **kept}


def patch_of(
    request: Request, resource: Descriptor | None, problems: list[str] | None = None
) -> Patch:
    """The patch in a request, as a function on a private copy of the object. What the patch itself
    says twice, or what nobody knows of it, is added to `problems`.

    Raises UnsupportedMediaType, BadRequest. Without `resource` no strategic patch is possible.
    """
    media = media_type(request)
    if media == JSON_PATCH:
        operations = _body(request, problems)
        if problems is not None:
            patchfields.check_operations(operations)
        return lambda obj: _apply(json_patch, obj, operations or [])
    if media == MERGE_PATCH:
        patch = _body(request, problems)
        if patch is None:
            raise BadRequest("Invalid JSON Patch")
        patch = _map(patch, patchfields.DECODING)
        return lambda obj: _apply(merge_patch, obj, patch)
    if media == STRATEGIC_PATCH and _is_strategic(resource):
        # To Go null is a map with nothing in it.
        value = _body(request, problems)
        patch = {} if value is None else _map(value, "")
        assert resource is not None
        return _strategic(patch, schema.merge_of(resource.definition))
    raise UnsupportedMediaType(
        "the body of the request was in an unknown format - accepted media types include: "
        + ", ".join(
            media
            for media in (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH)
            if media != STRATEGIC_PATCH or _is_strategic(resource)
        )
    )


def _strategic(patch: Object, lookup: Lookup) -> Patch:
    def merged(obj: Object) -> Any:
        # What the patch says it is of does not count, as upstream: it is read into the type there
        # is. Some clients scale by a Deployment sent to /scale.
        is_a = {name: obj[name] for name in ("apiVersion", "kind") if name in obj}
        result = _apply(strategic_merge, obj, patch, lookup)
        return {**result, **is_a} if isinstance(result, dict) else result

    return merged


def _is_strategic(resource: Descriptor | None) -> bool:
    """Is there a schema that says how lists merge? Custom resources have none of that kind."""
    return resource is not None and bool(resource.definition) and resource.structure is None


def _body(request: Request, problems: list[str] | None) -> Any:
    if isinstance(request.body, bytes):
        prefix = "" if media_type(request) == STRATEGIC_PATCH else patchfields.DECODING
        value = parse_json(request.body, prefix)
        if problems is not None:
            problems += patchfields.problems_of(request, value)
        return value
    # In process the body stays the caller's, and parts of a patch end up in the object.
    return loads(dumps(request.body))


def _map(patch: Any, prefix: str) -> Object:
    if not isinstance(patch, dict):
        raise BadRequest(
            f"{prefix}json: cannot unmarshal {json_kind(patch)} into Go value of type "
            "map[string]interface {}"
        )
    return patch


def _apply(function: Callable[..., Any], *args: Any) -> Any:
    try:
        return function(*args)
    except PatchError as error:
        raise _status(error) from None


def _status(error: PatchError) -> StatusError:
    if error.code == 413:
        return RequestEntityTooLarge(error.message)
    if error.code == 422:
        # Upstream says no more than this (NewGenericServerResponse), and clients compare it.
        return Invalid("the server rejected our request due to an error in our request", Details())
    return BadRequest(error.message)
