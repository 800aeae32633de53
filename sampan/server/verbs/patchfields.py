"""Field validation of patches, and what upstream says of a patch that makes no good object."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from sampan.api import fields, schema
from sampan.api.decoding import STRICT
from sampan.api.descriptor import Descriptor
from sampan.api.errors import BadRequest, Invalid, Object, invalid
from sampan.client.interface import JSON_PATCH, STRATEGIC_PATCH
from sampan.wire import json as json_wire

from ..body import json_kind, media_type
from ..exchange import Request
from ..gotext import go_text

if TYPE_CHECKING:
    from ..writing import Context

OPERATION_FIELDS = frozenset({"op", "path", "from", "value"})
DECODING = "error decoding patch: "


def check_operations(patch: Any) -> None:
    """Is a JSON patch a list of operations? Upstream reads it into structs for the sake of field
    validation, before it is read as a patch. Raises BadRequest."""
    if patch is not None and not isinstance(patch, list):
        raise _unreadable(patch, "value of type []handlers.jsonPatchOp")
    for operation in patch or ():
        if operation is None:
            continue
        if not isinstance(operation, dict):
            raise _unreadable(operation, "value of type handlers.jsonPatchOp")
        for name in ("op", "path", "from"):
            value = operation.get(name)
            if value is not None and not isinstance(value, str):
                raise _unreadable(value, f"struct field jsonPatchOp.{name} of type string")


def _unreadable(value: Any, place: str) -> BadRequest:
    return BadRequest(f"{DECODING}json: cannot unmarshal {json_kind(value)} into Go {place}")


def problems_of(request: Request, value: Any) -> list[str]:
    """What a patch, whose body is `value`, says twice, and what of its operations nobody knows
    (KEP-2885)."""
    twice = json_wire.duplicates(request.body, value)
    if media_type(request) != JSON_PATCH:
        return [f'duplicate field "{path}"' for path in twice]
    unknown = [
        f'json patch unknown field "[{position}].{name}"'
        for position, operation in enumerate(value if isinstance(value, list) else ())
        if isinstance(operation, dict) and not operation.keys() <= OPERATION_FIELDS
        for name in operation
        if name not in OPERATION_FIELDS
    ]
    return [*unknown, *(f'json patch duplicate field "{path}"' for path in twice)]


def report(context: Context, request: Request, result: Any, found: tuple[list[str], str]) -> None:
    """Refuse or warn of what is wrong with the result of a patch by the schema of `found`'s
    definition, and of the patch itself. Raises Invalid."""
    problems, definition = found
    if not isinstance(result, dict):
        return
    try:
        decoded = schema.decode(definition, result)
    except BadRequest as error:
        raise refused(request, result, reason(request, error)) from None
    tell(context, request, result, [*problems, *sorted(decoded.problems)])


def tell(context: Context, request: Request, result: Object, found: list[str]) -> None:
    """Refuse a patch for these problems, or warn of them, as fieldValidation says."""
    how = context.options.field_validation
    if found and how == "Strict":
        raise refused(request, result, f"{STRICT}: {', '.join(found)}")
    if how == "Warn":
        context.warnings.extend(found)


def refused(request: Request, result: Object, why: str) -> Invalid:
    """Upstream's answer to a patch whose result cannot be decoded: it is about the patch, or for
    JSON and merge patches about what they make of the object."""
    if media_type(request) == STRATEGIC_PATCH:
        sent = request.body
        shown = go_text(json_wire.loads(sent) if isinstance(sent, bytes) else sent)
    else:
        shown = json_wire.dumps(result).decode()
    return invalid("", "", "", [fields.invalid("patch", shown, why)])


def mistyped(request: Request, resource: Descriptor, result: Object) -> Invalid:
    """Upstream's answer to a patch that makes another kind, or version, of the object."""
    version = result.get("apiVersion") or resource.api_version
    kind = result.get("kind") or resource.kind
    if resource.custom is None:
        why = f'no kind "{kind}" is registered for version "{version}" in this place'
        return refused(request, result, why)
    causes = [
        fields.invalid(name, given, f"must be {wanted}")
        for name, given, wanted in (
            ("kind", kind, resource.kind), ("apiVersion", version, resource.api_version),
        )
        if given != wanted
    ]  # fmt: skip
    name = (result.get("metadata") or {}).get("name") or ""
    return invalid(resource.group, resource.kind, name, causes)


_CANNOT = re.compile(r"json: cannot unmarshal (.+) into Go (?:struct field \S+|value) of type (.+)")


def reason(request: Request, error: BadRequest) -> str:
    """Why a result cannot be decoded. Strategic patches go through another decoder upstream
    (runtime.FromUnstructured), which has its own words."""
    why = error.message.partition(": ")[2] or error.message
    found = _CANNOT.fullmatch(why) if media_type(request) == STRATEGIC_PATCH else None
    if found is None:
        return why
    given, wanted = found.groups()
    for prefix, what in (("[]", "slice"), ("map[", "map")):
        if wanted.startswith(prefix):
            return f"cannot restore {what} from {_go_kind(given)}"
    if "." in wanted:
        return f"cannot restore struct from: {_go_kind(given)}"
    if wanted == "string" and given.startswith("number"):
        # Go would make a letter of it, which is refused in other words.
        return f"cannot convert {_go_kind(given)} to string"
    return f"unrecognized type: {wanted}"


def _go_kind(given: str) -> str:
    kind = given.partition(" ")[0]
    return {"number": "int64", "object": "map", "array": "slice"}.get(kind, kind)
