"""The body of a subresource or review: of the right type, checked against its schema."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from msgspec import Struct, field

from sampan.api import schema
from sampan.api.errors import BadRequest, Object

from ..answer import warning_headers
from ..body import check_type, read_object
from ..exchange import Attributes, Request
from ..negotiate import require_own_form
from ..options import WriteOptions, write_options
from ..routes import method_not_allowed
from ..writing import private_copy


class Shape(NamedTuple):
    """What a body must be; `definition` is its name in the schema."""

    api_version: str
    kind: str
    definition: str


class Asker(Protocol):
    """Who is told of fields that are not in the shape, as its options say."""

    @property
    def options(self) -> WriteOptions: ...
    @property
    def warnings(self) -> list[str]: ...


class Posted(Struct):
    """What was posted to a subresource or as a review."""

    options: WriteOptions
    warnings: list[str] = field(default_factory=list)
    obj: Object = field(default_factory=dict)

    def headers(self) -> Sequence[tuple[str, str]]:
        """Of the answer: the warnings."""
        return warning_headers(self.warnings) if self.warnings else ()


BINDING: Final = Shape("v1", "Binding", "io.k8s.api.core.v1.Binding")
EVICTION: Final = Shape("policy/v1", "Eviction", "io.k8s.api.policy.v1.Eviction")
NAMESPACE: Final = Shape("v1", "Namespace", "io.k8s.api.core.v1.Namespace")
SCALE: Final = Shape("autoscaling/v1", "Scale", "io.k8s.api.autoscaling.v1.Scale")
TOKEN_REQUEST: Final = Shape(
    "authentication.k8s.io/v1", "TokenRequest", "io.k8s.api.authentication.v1.TokenRequest"
)


def read_body(request: Request, shape: Shape, context: Asker | None = None) -> Object:
    """The body of a request as a private object of `shape`. With `context`, unknown and duplicate
    fields are refused or warned of as its fieldValidation says. Raises BadRequest,
    UnsupportedMediaType."""
    body = read_object(request)
    value = private_copy(body.value) if request.local else body.value
    return decode(value, shape, context, body.duplicates)


def decode(
    value: object,
    shape: Shape,
    context: Asker | None = None,
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


def read_posted(request: Request, attributes: Attributes, shape: Shape) -> Posted:
    """The body of a POST to a subresource; a name in it must be the one in the URL."""
    posted = read_created(request, shape)
    name = (posted.obj.get("metadata") or {}).get("name")
    if name and name != attributes.name:
        raise BadRequest(f"name in URL does not match name in {shape.kind} object")
    return posted


def read_created(request: Request, shape: Shape) -> Posted:
    """The body of a POST, checked as its fieldValidation says. Raises as `read_body`."""
    if request.method != "POST":
        raise method_not_allowed()
    require_own_form(request.headers.get("accept", ""))
    posted = Posted(write_options(request, "CreateOptions"))
    posted.obj = read_body(request, shape, posted)
    return posted
