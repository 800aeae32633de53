"""Values while an expression runs: Python's own, and these.

int, float, bool, str, bytes, None, list and dict stand for themselves. `Uint` is an unsigned
integer, `Timestamp` and `Duration` count nanoseconds, `Optional` holds a value or nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from .errors import EvaluationError, no_such_key

INT_MIN, INT_MAX = -(1 << 63), (1 << 63) - 1
UINT_MAX = (1 << 64) - 1
NANOS = 1_000_000_000
MIN_SECONDS, MAX_SECONDS = -62_135_596_800, 253_402_300_799
"""Years 1 to 9999."""


class Uint(int):
    """An unsigned 64-bit integer."""

    __slots__ = ()


class Duration:
    """A span of time in nanoseconds, within int64."""

    __slots__ = ("nanos",)

    def __init__(self, nanos: int) -> None:
        if not INT_MIN <= nanos <= INT_MAX:
            raise EvaluationError("integer overflow")
        self.nanos = nanos

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Duration) and self.nanos == other.nanos

    def __hash__(self) -> int:
        return hash(("duration", self.nanos))

    def __str__(self) -> str:
        seconds, nanos = divmod(abs(self.nanos), NANOS)
        sign = "-" if self.nanos < 0 else ""
        fraction = f".{nanos:09d}".rstrip("0") if nanos else ""
        return f"{sign}{seconds}{fraction}s"


class Timestamp:
    """A moment, in nanoseconds since 1970 in UTC."""

    __slots__ = ("nanos",)

    def __init__(self, nanos: int) -> None:
        if not MIN_SECONDS <= nanos // NANOS <= MAX_SECONDS:
            raise EvaluationError("timestamp overflow")
        self.nanos = nanos

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Timestamp) and self.nanos == other.nanos

    def __hash__(self) -> int:
        return hash(("timestamp", self.nanos))


class Optional:
    """A value, or none of any (`NONE`)."""

    __slots__ = ("present", "value")

    def __init__(self, value: Any = None, present: bool = True) -> None:
        self.value = value
        self.present = present


NONE: Final = Optional(None, False)


class TypeValue:
    """What `type(x)` gives."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TypeValue) and self.name == other.name

    def __hash__(self) -> int:
        return hash(("type", self.name))


class Opaque:
    """Base of values that only functions look into (quantities, URLs, addresses ...).
    Subclasses say their type's name and define equality."""

    __slots__ = ()
    type_name = ""


class Fields:
    """An object whose fields are computed when first asked for (composited variables)."""

    __slots__ = ("_found", "_makers")

    def __init__(self, makers: Mapping[str, Callable[[], Any]]) -> None:
        self._makers = makers
        self._found: dict[str, Any] = {}

    def __contains__(self, name: object) -> bool:
        return name in self._makers

    def find(self, name: str) -> Any:
        """The field's value; an error of its expression is raised at each use."""
        found = self._found
        if name in found:
            value = found[name]
        else:
            maker = self._makers.get(name)
            if maker is None:
                raise no_such_key(name)
            try:
                value = maker()
            except EvaluationError as error:
                value = error
            found[name] = value
        if isinstance(value, EvaluationError):
            raise value
        return value


class ListSet(list[Any]):
    """A list that its schema calls a set: order does not count when compared."""

    __slots__ = ()


class ListMap(list[Any]):
    """A list that its schema calls a map: items are told apart by these keys."""

    __slots__ = ("keys",)

    def __init__(self, items: Any, keys: tuple[str, ...]) -> None:
        super().__init__(items)
        self.keys = keys


def same(a: Any, b: Any) -> bool:
    """CEL's equality: numbers by value across types, everything else only within its type."""
    kind, other = type(a), type(b)
    if kind is other and kind in _PLAIN:
        return bool(a == b)
    if kind is bool or other is bool:
        return kind is other and a is b
    if isinstance(a, int | float):
        return isinstance(b, int | float) and bool(a == b)
    if isinstance(a, list):
        return isinstance(b, list) and _same_lists(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and _same_maps(a, b)
    if isinstance(a, Optional):
        return (
            isinstance(b, Optional)
            and a.present == b.present
            and (not a.present or same(a.value, b.value))
        )
    return kind is other and bool(a == b)


_PLAIN = frozenset({int, str, float, bytes})


def _same_lists(a: list[Any], b: list[Any]) -> bool:
    if len(a) != len(b):
        return False
    if isinstance(a, ListSet) and isinstance(b, ListSet):
        return all(any(same(item, other) for other in b) for item in a)
    if isinstance(a, ListMap) and isinstance(b, ListMap):
        keyed = {key_of(item, b.keys): item for item in b}
        return all(same(item, keyed.get(key_of(item, a.keys), NONE)) for item in a)
    return all(same(item, other) for item, other in zip(a, b, strict=True))


def _same_maps(a: dict[Any, Any], b: dict[Any, Any]) -> bool:
    if len(a) != len(b):
        return False
    return all(key in b and same(value, b[key]) for key, value in a.items())


def key_of(item: Any, keys: tuple[str, ...]) -> tuple[Any, ...]:
    """What tells an item of an associative list apart."""
    return tuple(item.get(key) for key in keys) if isinstance(item, dict) else (str(item),)


NAMES: Final[Mapping[type, str]] = {
    bool: "bool", int: "int", Uint: "uint", float: "double", str: "string", bytes: "bytes",
    list: "list", dict: "map", type(None): "null_type", Duration: "google.protobuf.Duration",
    Timestamp: "google.protobuf.Timestamp", Optional: "optional_type", TypeValue: "type",
    ListSet: "list", ListMap: "list", Fields: "object",
}  # fmt: skip


def type_name(value: Any) -> str:
    """The name of a value's type."""
    return NAMES.get(type(value)) or str(getattr(value, "type_name", "dyn"))
