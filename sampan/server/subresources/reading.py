"""The body of a subresource or review: of the right type, checked against its schema."""

from __future__ import annotations

from typing import Final, NamedTuple

from sampan.api import schema
from sampan.api.errors import BadRequest, Object

from ..body import check_type, read_object
from ..exchange import Attributes, Request
from ..routes import method_not_allowed
from ..writing import Context, private_copy


class Shape(NamedTuple):
    """What a body must be; `definition` is its name in the schema."""

    api_version: str
    kind: str
    definition: str


BINDING: Final = Shape("v1", "Binding", "io.k8s.api.core.v1.Binding")
EVICTION: Final = Shape("policy/v1", "Eviction", "io.k8s.api.policy.v1.Eviction")
NAMESPACE: Final = Shape("v1", "Namespace", "io.k8s.api.core.v1.Namespace")
SCALE: Final = Shape("autoscaling/v1", "Scale", "io.k8s.api.autoscaling.v1.Scale")
TOKEN_REQUEST: Final = Shape(
    "authentication.k8s.io/v1", "TokenRequest", "io.k8s.api.authentication.v1.TokenRequest"
)


def read_body(request: Request, shape: Shape, context: Context | None = None) -> Object:
    """The body of a request as a private object of `shape`. With `context`, unknown and duplicate
    fields are refused or warned of as its fieldValidation says. Raises BadRequest,
    UnsupportedMediaType."""
    body = read_object(request)
    value = private_copy(body.value) if request.local else body.value
    return decode(value, shape, context, body.duplicates)


def decode(
    value: object,
    shape: Shape,
    context: Context | None = None,
    duplicates: tuple[str, ...] = (),
) -> Object:
    """A value as an object of `shape`, unknown fields dropped. Raises BadRequest."""
    if not isinstance(value, dict):
        raise BadRequest(f"expected a {shape.kind}")
    check_type(value, shape.api_version, shape.kind)
    how = "Ignore" if context is None else context.options.field_validation
    strict = how == "Strict"
    decoded = schema.decode(shape.definition, value, strict=strict, duplicates=duplicates)
    if context is not None and how == "Warn":
        context.warnings.extend(decoded.problems)
    return decoded.obj


def read_posted(request: Request, attributes: Attributes, shape: Shape) -> Object:
    """The body of a POST to a subresource; a name in it must be the one in the URL."""
    if request.method != "POST":
        raise method_not_allowed()
    body = read_body(request, shape)
    name = (body.get("metadata") or {}).get("name")
    if name and name != attributes.name:
        raise BadRequest(
            f"the name of the object ({name}) does not match the name on the URL"
            f" ({attributes.name})"
        )
    return body
