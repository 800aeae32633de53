"""apply: PATCH with application/apply-patch+yaml (server-side apply, KEP-555).

An object that is not there is created; one that is gets what the configuration says, and loses
what this manager applied before and does not apply now. Who owns what is `ownership.applying`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sampan.api import errors
from sampan.api.descriptor import Descriptor
from sampan.api.errors import BadRequest, Object
from sampan.wire import json as json_wire

from ..answer import answer_written
from ..body import json_kind, load_yaml
from ..exchange import Attributes, Request, Response
from ..options import WriteOptions, write_options
from ..ownership.applying import (
    Application,
    applied,
    check_types,
    first_applied,
    owned_fields,
    sync_last_applied,
)
from ..ownership.entries import APPLY
from ..ownership.fieldsets import FieldSet
from ..ownership.parts import resized_part
from ..ownership.plans import UNTRACKED_META, plan_of
from ..ownership.recording import dialects_of, entries_of, reset_of, who_of
from ..writing import (
    ATTEMPTS,
    PARTS,
    Compute,
    Context,
    Written,
    create,
    match_namespace,
    private_copy,
    update,
)
from .create import decode_as, typed
from .update import check_name

if TYPE_CHECKING:
    from ..app import Server


async def handle(server: Server, request: Request, attributes: Attributes) -> Response:
    resource = attributes.resource
    assert resource is not None
    context = Context(server, attributes, resource, apply_options(request))
    raw = read_configuration(context, request, resource.api_version, resource.kind)
    apply = _application(context, raw, resource)

    def compute(old: Object, private: Object) -> Object:
        made = applied(apply, old, entries_of(context, old))
        sync_last_applied(apply, raw, made.obj)
        context.applied = made.entries
        new = private_copy(made.obj)
        metadata = new["metadata"]
        if not (raw.get("metadata") or {}).get("resourceVersion"):
            metadata.pop("resourceVersion", None)
        check_name(attributes.name, new)
        match_namespace(context, metadata)
        return new

    try:
        written = await _update_or_create(context, apply, compute)
    except errors.Invalid:
        if resource.custom is not None:
            check_types(resource, raw)
        raise
    return answer_written(context, request, written)


async def _update_or_create(context: Context, apply: Application, compute: Compute) -> Written:
    """Apply on what is there, or make it; somebody else may be faster at either."""
    given = context.attributes
    for _ in range(ATTEMPTS):
        try:
            return await update(context, given.name, compute)
        except errors.NotFound:
            if given.subresource:
                raise
        try:
            return await _create(context, apply)
        except errors.AlreadyExists as error:
            context.attributes = given
            last = error
    raise last


def apply_options(request: Request) -> WriteOptions:
    """The options of an apply, which must say who applies. Raises Invalid."""
    return write_options(request, "PatchOptions", apply=True)


def read_configuration(context: Context, request: Request, api_version: str, kind: str) -> Object:
    """The configuration as it was sent, of that type. Raises BadRequest."""
    duplicates: list[str] = []
    value = _parse(request.body, duplicates) if isinstance(request.body, bytes) else request.body
    if not isinstance(value, dict):
        raise BadRequest(
            f"error decoding YAML: error unmarshaling JSON: while decoding JSON: json: cannot "
            f"unmarshal {json_kind(value)} into Go value of type map[string]interface {{}}"
        )
    if duplicates and context.options.field_validation == "Strict":
        # Upstream reads JSON as the YAML it is here too.
        lines = "".join(f"\n  {text}" for text in duplicates)
        raise BadRequest(f"error strict decoding YAML: yaml: unmarshal errors:{lines}")
    if context.options.field_validation == "Warn":
        context.warnings.extend(duplicates)
    given_version, given_kind = value.get("apiVersion", ""), value.get("kind", "")
    if (given_version, given_kind) != (api_version, kind):
        group, _, version = str(given_version).rpartition("/")
        raise BadRequest(f"invalid object type: {group}/{version}, Kind={given_kind}")
    metadata = value.get("metadata")
    if isinstance(metadata, dict) and metadata.get("managedFields") is not None:
        raise BadRequest("metadata.managedFields must be nil")
    return value


def _parse(body: bytes, duplicates: list[str]) -> Any:
    # Most clients send JSON under this type, which is YAML too and twenty times faster to read.
    if body.lstrip()[:1] == b"{":
        try:
            value = json_wire.loads(body)
        except ValueError:
            pass
        else:
            twice = json_wire.duplicates(body, value)
            duplicates += [f'key "{path}" already set in map' for path in twice]
            return value
    try:
        return load_yaml(body, duplicates)
    except ValueError as error:
        raise BadRequest(f"error decoding YAML: {error}") from None


def _application(context: Context, raw: Object, resource: Descriptor) -> Application:
    reset = reset_of(resource, context.subresource)
    owned = owned_fields(plan_of(resource), raw, reset)
    try:
        config = typed(decode_as(resource, raw).obj, raw, resource, shared=True)
    except BadRequest:
        check_types(resource, raw)
        raise
    metadata = config["metadata"]
    metadata.setdefault("name", context.attributes.name)
    check_name(context.attributes.name, config)
    match_namespace(context, metadata)
    part = PARTS.get(context.subresource)
    if part is not None and context.subresource != "status":
        owned, config = _part_of(owned, config, part)
        if context.subresource == "resize":
            owned, config["spec"] = resized_part(owned, config.get("spec") or {})
    elif reset:
        part_reset = reset.get("f:metadata")
        if part_reset is not None:
            config["metadata"] = (
                {name: value for name, value in metadata.items() if f"f:{name}" not in part_reset}
                if part_reset
                else _identity(metadata)
            )
        config = {
            name: value
            for name, value in config.items()
            if name == "metadata" or f"f:{name}" not in reset
        }
    return Application(
        dialects=dialects_of(context),
        who=who_of(context, APPLY),
        config=config,
        owned=owned,
        reset=reset,
        force=context.options.force,
        now=context.server.timestamp(),
        to_stored=None if context.view is None else context.view.to_hub,
    )


def _identity(metadata: Object) -> Object:
    return {name: value for name, value in metadata.items() if name in UNTRACKED_META}


def _part_of(owned: FieldSet, config: Object, path: tuple[str, ...]) -> tuple[FieldSet, Object]:
    """Only what such a subresource takes of a configuration, and owns (the part at `path`)."""
    value: Any = config
    fields_below: Any = owned
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
        fields_below = fields_below.get(f"f:{name}") if fields_below else None
    kept = {"metadata": _identity(config["metadata"])}
    if value is None or fields_below is None:
        return {}, kept
    for name in reversed(path):
        value, fields_below = {name: value}, {f"f:{name}": fields_below}
    return fields_below, kept | value


async def _create(context: Context, apply: Application) -> Written:
    given = context.attributes
    uid = apply.config["metadata"].get("uid")
    if uid:
        resource = context.asked
        why = (
            f"uid mismatch: the provided object specified uid {uid}, and no existing object was "
            "found"
        )
        raise errors.conflict(resource.group, resource.plural, given.name, why)
    context.attributes = Attributes(
        given.user, "create", given.resource, "", given.namespace, given.name, given.path
    )
    context.server.authorize(context.attributes)
    made = first_applied(apply)
    obj = private_copy(made.obj)
    obj["metadata"].pop("resourceVersion", None)
    context.applied = made.entries
    return await create(context, obj)
