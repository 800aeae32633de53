"""The nodes of a plan: how values of one type are compared, merged and pruned.

`None` in the place of a node stands for a leaf: a scalar, or a list or map that is owned as a
whole. Values are never changed; results share what they leave alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from .fieldsets import LEAF, MEMBER, FieldSet

Difference = tuple[FieldSet | None, FieldSet | None]
"""What is new or has another value, and what is gone; None for nothing."""

NOTHING: Final[Difference] = (None, None)
_EMPTY: Final[FieldSet] = {}
GONE: Final = object()
"""What pruning leaves of a value that goes."""
_MISSING: Final = object()


class Untrackable(ValueError):
    """A list has items that cannot be told apart; the text is upstream's."""


class Node:
    """A type whose fields or items are owned one by one."""

    __slots__ = ()
    zero: Any = None
    """The empty value."""

    def added(self, value: Any) -> FieldSet:
        """The set of a value that was not there before."""
        raise NotImplementedError

    def owned(self, value: Any) -> FieldSet | None:
        """The set of an applied value; None when it owns nothing."""
        raise NotImplementedError

    def diff(self, old: Any, new: Any) -> Difference:
        """From `old` to `new`, which are not equal."""
        raise NotImplementedError

    def merge(self, old: Any, new: Any) -> Any:
        """`new` applied on `old`."""
        raise NotImplementedError

    def prune(self, value: Any, last: FieldSet, held: FieldSet) -> Any:
        """`value` without the fields in `last` that are not in `held`; GONE when nothing is
        left."""
        raise NotImplementedError

    def check(self, value: Any, path: str, problems: list[str]) -> None:
        """Say what of an applied value has no place in the schema."""
        raise NotImplementedError

    def settle(self, fields: FieldSet) -> FieldSet:
        """A set made by an older schema as this one has it: what has become a whole is owned as a
        whole. (What has become granular is as if it always was, as upstream.)"""
        return fields


class Place(NamedTuple):
    """What a plan knows of one field."""

    key: str | None
    """Its path element; None for a field that nobody owns."""
    node: Node | None
    zero: Any = None
    """What stands for the field where it is absent; None where absent is absent. Go has structs,
    and lists without omitempty, that are always there: they are not owned themselves."""
    named: bool = True
    """Is it a field of the schema, and not a key of a map?"""


class _Places(dict[str, Place]):
    """Places by field name, compiled when first asked for."""

    __slots__ = ("_compile", "_each", "properties")

    def __init__(
        self, properties: dict[str, Any], each: Callable[[], Node | None] | None, compile_shape: Any
    ) -> None:
        self.properties = properties
        self._each = each
        self._compile = compile_shape

    def __missing__(self, name: str) -> Place:
        shape = self.properties.get(name)
        if shape is None:
            # Keys of a map are the user's: they are not kept, or they would never end.
            return Place(f"f:{name}", self._each() if self._each is not None else None, None, False)
        node = self._compile(shape)
        zero = None
        if "x-present" in shape:
            zero = node.zero if node is not None else [] if "items" in shape else {}
        place = self[name] = Place(f"f:{name}", node, zero)
        return place


class Fields(Node):
    """A struct or a map."""

    __slots__ = ("_always", "_open", "_places")
    zero: Any = _EMPTY

    def __init__(
        self, properties: dict[str, Any], each: Callable[[], Node | None] | None, compile_shape: Any
    ) -> None:
        self._places = _Places(properties, each, compile_shape)
        self._open = each is not None
        self._always = tuple(
            (name, f"f:{name}") for name, shape in properties.items() if "x-present" in shape
        )

    def untrack(self, name: str) -> None:
        """Nobody owns this field."""
        self._places[name] = Place(None, None)

    def put(self, name: str, node: Node, *, present: bool) -> None:
        self._places[name] = Place(f"f:{name}", node, node.zero if present else None)

    def child(self, name: str) -> Place:
        return self._places[name]

    def added(self, value: Any) -> FieldSet:
        if type(value) is not dict or not value:
            return LEAF
        places = self._places
        out: FieldSet = {MEMBER: LEAF}
        for name, item in value.items():
            key, node, _, _ = places[name]
            if key is not None:
                out[key] = LEAF if node is None else node.added(item)
        for name, key in self._always:
            if name not in value:
                out[key] = LEAF
        return out

    def owned(self, value: Any) -> FieldSet | None:
        if type(value) is not dict:
            return LEAF
        out: FieldSet = {}
        for name, item in value.items():
            key, node, _, named = self._places[name]
            if key is None:
                continue
            if node is None or item is None or item == _EMPTY:
                out[key] = LEAF
                continue
            below = node.owned(item)
            if named:
                if below is not None:
                    out[key] = below
            else:
                out[key] = {MEMBER: LEAF, **below} if below else LEAF
        return out or None

    def diff(self, old: Any, new: Any) -> Difference:
        if type(old) is not dict or type(new) is not dict:
            return replaced(self, old, new)
        places = self._places
        changed: FieldSet = {}
        removed: FieldSet = {}
        for name, value in new.items():
            before = old.get(name, _MISSING)
            if before is value or before == value:
                continue
            key, node, zero, _ = places[name]
            if key is None:
                continue
            if before is _MISSING:
                if zero is None:
                    changed[key] = LEAF if node is None else node.added(value)
                    continue
                if value == zero:
                    continue
                before = zero
            if node is None:
                changed[key] = LEAF
                continue
            below, gone = node.diff(before, value)
            if below is not None:
                changed[key] = below
            if gone is not None:
                removed[key] = gone
        if not old.keys() <= new.keys():
            self._find_removed(old, new, removed)
        return changed or None, removed or None

    def _find_removed(self, old: Any, new: Any, removed: FieldSet) -> None:
        for name, value in old.items():
            if name in new:
                continue
            key, node, zero, _ = self._places[name]
            if key is None or value == zero:
                continue
            if node is None:
                removed[key] = LEAF
            elif zero is None:
                removed[key] = node.added(value)
            else:
                gone = node.diff(value, zero)[1]
                if gone is not None:
                    removed[key] = gone

    def merge(self, old: Any, new: Any) -> Any:
        if type(old) is not dict or type(new) is not dict:
            return new
        out = dict(old)
        for name, value in new.items():
            node = self._places[name].node
            if node is not None and name in old:
                value = node.merge(old[name], value)
            out[name] = value
        return out

    def prune(self, value: Any, last: FieldSet, held: FieldSet) -> Any:
        if type(value) is not dict:
            return value
        out: dict[str, Any] | None = None
        for key, below in last.items():
            name = key[2:]
            if key == MEMBER or name not in value:
                continue
            _, node, _, named = self._places[name]
            over = held.get(key)
            # A field of a struct goes with what its manager had below it; a key of a map, or an
            # item of a list, only when it was owned itself (KEP-555, dangling items).
            mine = named or not below or MEMBER in below
            theirs = over is not None and (named or not over or MEMBER in over)
            rest: Any = GONE
            if not mine or theirs:
                if not below or node is None:
                    continue
                rest = node.prune(value[name], below, over or _EMPTY)
                if rest is value[name]:
                    continue
            if out is None:
                out = dict(value)
            if rest is GONE:
                del out[name]
            else:
                out[name] = rest
        if out is None:
            return value
        return out or GONE

    def settle(self, fields: FieldSet) -> FieldSet:
        out: FieldSet | None = None
        for key, below in fields.items():
            name = key[2:]
            if not below or (not self._open and name not in self._places.properties):
                continue
            node = self._places[name].node
            new = LEAF if node is None else node.settle(below)
            if new is not below:
                out = dict(fields) if out is None else out
                out[key] = new
        return fields if out is None else out

    def check(self, value: Any, path: str, problems: list[str]) -> None:
        if type(value) is not dict:
            return
        for name, item in value.items():
            if not self._open and name not in self._places.properties:
                if name not in self._places:
                    problems.append(f"{path}.{name}: field not declared in schema")
                continue
            node = self._places[name].node
            if node is not None and item is not None:
                node.check(item, f"{path}.{name}", problems)


class Leaves(Node):
    """A map of scalars: labels, annotations, data. Its keys are the user's."""

    __slots__ = ()
    zero: Any = _EMPTY

    def added(self, value: Any) -> FieldSet:
        if type(value) is not dict or not value:
            return LEAF
        out: FieldSet = {MEMBER: LEAF}
        for name in value:
            out[f"f:{name}"] = LEAF
        return out

    def owned(self, value: Any) -> FieldSet | None:
        if type(value) is not dict:
            return LEAF
        return {f"f:{name}": LEAF for name in value} or None

    def diff(self, old: Any, new: Any) -> Difference:
        if type(old) is not dict or type(new) is not dict:
            return replaced(self, old, new)
        changed = {
            f"f:{name}": LEAF for name, value in new.items() if old.get(name, _MISSING) != value
        }
        removed = {f"f:{name}": LEAF for name in old if name not in new}
        return changed or None, removed or None

    def merge(self, old: Any, new: Any) -> Any:
        return {**old, **new} if type(old) is dict and type(new) is dict else new

    def prune(self, value: Any, last: FieldSet, held: FieldSet) -> Any:
        if type(value) is not dict:
            return value
        out = {
            name: item
            for name, item in value.items()
            if (key := f"f:{name}") not in last or key in held
        }
        return value if len(out) == len(value) else out or GONE

    def check(self, value: Any, path: str, problems: list[str]) -> None:
        """Any key may be there."""


class Deduced(Node):
    """A value without a schema: maps by field, everything else as a whole."""

    __slots__ = ()

    def added(self, value: Any) -> FieldSet:
        if type(value) is not dict or not value:
            return LEAF
        return {MEMBER: LEAF} | {f"f:{name}": self.added(item) for name, item in value.items()}

    def owned(self, value: Any) -> FieldSet | None:
        if type(value) is not dict:
            return LEAF
        out: FieldSet = {}
        for name, item in value.items():
            below = self.owned(item) if type(item) is dict else None
            out[f"f:{name}"] = {MEMBER: LEAF, **below} if below else LEAF
        return out or None

    def diff(self, old: Any, new: Any) -> Difference:
        if type(old) is not dict or type(new) is not dict:
            return replaced(self, old, new)
        changed: FieldSet = {}
        removed: FieldSet = {}
        for name, value in new.items():
            before = old.get(name, _MISSING)
            if before is _MISSING:
                changed[f"f:{name}"] = self.added(value)
            elif before != value:
                below, gone = self.diff(before, value)
                if below is not None:
                    changed[f"f:{name}"] = below
                if gone is not None:
                    removed[f"f:{name}"] = gone
        for name, value in old.items():
            if name not in new:
                removed[f"f:{name}"] = self.added(value)
        return changed or None, removed or None

    def merge(self, old: Any, new: Any) -> Any:
        if type(old) is not dict or type(new) is not dict:
            return new
        joined = {
            name: self.merge(old[name], value) if name in old else value
            for name, value in new.items()
        }
        return {**old, **joined}

    def prune(self, value: Any, last: FieldSet, held: FieldSet) -> Any:
        if type(value) is not dict:
            return value
        out = {}
        for name, item in value.items():
            below = last.get(f"f:{name}")
            if below is not None:
                over = held.get(f"f:{name}")
                if (not below or MEMBER in below) and not (
                    over is not None and (not over or MEMBER in over)
                ):
                    continue
                item = self.prune(item, below, over or _EMPTY)
            if item is not GONE:
                out[name] = item
        return out or GONE

    def check(self, value: Any, path: str, problems: list[str]) -> None:
        """Anything is allowed."""


def replaced(node: Node, old: Any, new: Any) -> Difference:
    """Values of different types, or null on one side: null is an empty value that is there."""
    zero = node.zero
    if zero is not None and old is None and type(new) is type(zero):
        return node.diff(zero, new) if new else (LEAF, None)
    if zero is not None and new is None and type(old) is type(zero):
        return (None, node.diff(old, zero)[1]) if old else (LEAF, None)
    gone = node.added(old)
    return node.added(new), {name: gone[name] for name in gone if name != MEMBER} or None


SCALAR: Final = None
DEDUCED: Final = Deduced()
LEAVES: Final = Leaves()
