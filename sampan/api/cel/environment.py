"""What an expression may refer to: variables, functions, object types it may make."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from msgspec import Struct, field
from msgspec.structs import replace

from .functions import Functions
from .types import (
    BOOL,
    BYTES,
    DOUBLE,
    DURATION,
    DYN,
    INT,
    NULL,
    STRING,
    TIMESTAMP,
    TYPE,
    UINT,
    ObjectType,
    Type,
    list_of,
    map_of,
    type_of,
)
from .values import TypeValue

_NAMED: Mapping[str, Type] = {
    "int": INT, "uint": UINT, "double": DOUBLE, "bool": BOOL, "string": STRING, "bytes": BYTES,
    "null_type": NULL, "list": list_of(DYN), "map": map_of(DYN, DYN), "type": TYPE, "dyn": DYN,
    "google.protobuf.Timestamp": TIMESTAMP, "google.protobuf.Duration": DURATION,
}  # fmt: skip
TYPE_TYPES: Mapping[str, Type] = {name: type_of(item) for name, item in _NAMED.items()}
TYPE_VALUES: Mapping[str, TypeValue] = {name: TypeValue(name) for name in _NAMED}
"""Names of types are values: `type(x) == int`."""


class Environment(Struct, frozen=True):
    """Immutable; `extend` gives another. `objects` are the types that `Name{...}` may make."""

    functions: Functions
    variables: Mapping[str, Type] = field(default_factory=dict)
    objects: Mapping[str, ObjectType] = field(default_factory=dict)

    def variable(self, name: str) -> Type | None:
        """The type of a variable, or of a type's name."""
        return self.variables.get(name) or TYPE_TYPES.get(name)

    def extend(
        self,
        variables: Mapping[str, Type] | None = None,
        functions: Functions | None = None,
        objects: Mapping[str, ObjectType] | None = None,
    ) -> Environment:
        return replace(
            self,
            variables={**self.variables, **(variables or {})},
            functions={**self.functions, **(functions or {})},
            objects=objects or self.objects,
        )


@cache
def kubernetes() -> Environment:
    """CEL as Kubernetes 1.36 offers it everywhere: the standard functions and its libraries
    (k8s.io/apiserver pkg/cel/environment). Made once."""
    from .functions import merge
    from .library import LIBRARIES
    from .standard import standard

    return Environment(merge((standard(), *(library() for library in LIBRARIES))))


@cache
def declared(**variables: Type) -> Environment:
    """The Kubernetes environment with these variables; one object per set of variables."""
    return kubernetes().extend(variables)
