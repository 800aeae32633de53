"""Bodies of requests: which decoder, and upstream's complaints about what cannot be read."""

from __future__ import annotations

from typing import Any, NamedTuple

from sampan.api import protobuf, schema
from sampan.api.descriptor import Descriptor
from sampan.api.errors import BadRequest, Object, UnsupportedMediaType
from sampan.wire import json as json_wire

from .exchange import Request
from .negotiate import YAML_TYPES

PROTOBUF_TYPE = "application/vnd.kubernetes.protobuf"
JSON_TYPES = frozenset({"", "application/json", "text/json"})
JSON_KINDS = {dict: "object", list: "array", str: "string", bool: "bool"}


class Body(NamedTuple):
    """A decoded body. In process `value` is the caller's: do not change it."""

    value: Object
    duplicates: tuple[str, ...] = ()
    """Paths of fields the body names twice."""


def media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def read_value(request: Request) -> Any:
    """The body as a JSON value, whatever it is. In process it is shared: do not change it."""
    body = request.body
    if not isinstance(body, bytes):
        return body
    return _decode(body, media_type(request), "object", [])


def _decode(body: bytes, media: str, kind: str, duplicates: list[str]) -> Any:
    try:
        if media in JSON_TYPES:
            value = json_wire.loads(body)
            duplicates += json_wire.duplicates(body, value)
            return value
        if media in YAML_TYPES:
            return load_yaml(body, duplicates)
        if media == PROTOBUF_TYPE:
            return protobuf.decode(body)
    except ValueError as error:
        # YAML becomes JSON before upstream looks for a kind, so its complaint comes as it is.
        why = str(error)
        if media not in YAML_TYPES:
            format_name = "json" if media in JSON_TYPES else "protobuf"
            why = f"couldn't get version/kind; {format_name} parse error: {why}"
        raise schema.unrecognized(kind, why, body) from None
    raise UnsupportedMediaType(
        "the body of the request was in an unknown format - accepted media types include: "
        "application/json, application/yaml, application/vnd.kubernetes.protobuf"
    )


def read_object(request: Request, resource: Descriptor | None = None) -> Body:
    """The body as an object. With `resource`, its kind and version must be that resource's or
    absent. Raises BadRequest, UnsupportedMediaType."""
    kind = resource.kind if resource is not None else "object"
    duplicates: list[str] = []
    raw = request.body
    value = _decode(raw, media_type(request), kind, duplicates) if isinstance(raw, bytes) else raw
    if value is None and raw:
        # To Go null is a struct without fields: what is missing is complained about later.
        value = {}
    if not isinstance(value, dict):
        why = (
            "couldn't get version/kind; json parse error: json: cannot unmarshal "
            f"{json_kind(value)} into "
            "Go value of type struct { APIVersion string; Kind string }"
        )
        raise schema.unrecognized(kind, why, raw if isinstance(raw, bytes) else b"")
    if resource is not None:
        check_type(value, resource.api_version, resource.kind)
    return Body(value, tuple(duplicates))


def check_type(value: Object, api_version: str, kind: str) -> None:
    """Is `value` of this type, as far as it says?"""
    given_version = value.get("apiVersion") or api_version
    given_kind = value.get("kind") or kind
    if given_version == api_version and given_kind == kind:
        return
    if given_kind != kind:
        short = str(given_version).rpartition("/")[2]
        raise BadRequest(
            f'{given_kind} in version "{short}" cannot be handled as a {kind}: no kind '
            f'"{given_kind}" is registered for version "{given_version}" in this place'
        )
    raise BadRequest(
        f"the API version in the data ({given_version}) does not match the expected API version "
        f"({api_version})"
    )


def json_kind(value: Any) -> str:
    """What Go's decoder calls a JSON value."""
    return JSON_KINDS.get(type(value), "number")


def parse_json(body: bytes, prefix: str) -> Any:
    """A JSON body that is no object of a kind (a patch). Raises BadRequest, which begins with
    `prefix`."""
    try:
        return json_wire.loads(body)
    except ValueError as error:
        raise BadRequest(f"{prefix}{error}") from None


def load_yaml(body: bytes, duplicates: list[str]) -> Any:
    # PyYAML costs a tenth of the boot, and most clusters are never sent YAML.
    from sampan.wire import yaml as yaml_wire

    return yaml_wire.loads(body, duplicates)
