"""The nodes of a plan: how values of one type are compared, merged and pruned.

`None` in the place of a node stands for a leaf: a scalar, or a list or map that is owned as a
whole. Values are never changed; results share what they leave alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson

from .fieldsets import LEAF, MEMBER, FieldSet, has_member, path_text

Difference = tuple[FieldSet | None, FieldSet | None]
"""What is new or has another value, and what is gone; None for nothing."""

NOTHING: Final[Difference] = (None, None)
_EMPTY: Final[FieldSet] = {}
GONE: Final = object()
"""What pruning leaves of a value that goes."""
_MISSING: Final = object()

NAMES_KEPT = 4_096
"""Spelled keys a list type remembers; begun anew when there are more."""


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
            return _replaced(self, old, new)
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


_NO_ITEMS: Final[list[Any]] = []


class Items(Node):
    """An associative list: its items are known by their keys."""

    __slots__ = ("_defaults", "_keys", "_node", "_one", "_spelled")
    zero: Any = _NO_ITEMS

    def __init__(
        self, keys: Sequence[str], defaults: Mapping[str, Any], node: Callable[[], Node | None]
    ) -> None:
        self._keys = tuple(keys)
        self._defaults = defaults
        self._node = node
        self._one = self._keys[0] if len(self._keys) == 1 else ""
        self._spelled: dict[Any, str] = {}

    def element(self, item: Any) -> str:
        """The path element of an item. Raises Untrackable."""
        if type(item) is not dict:
            why = "a null element" if item is None else "non-map elements"
            raise Untrackable(f"associative list with keys may not have {why}")
        if self._one:
            value = item.get(self._one)
            if type(value) is str:
                known = self._spelled.get(value)
                return known if known is not None else self._spell(value, {self._one: value})
        named = {}
        for key in self._keys:
            value = item.get(key, self._defaults.get(key))
            if value is not None:
                named[key] = value
        if not named:
            names = " ".join(f'"{key}"' for key in self._keys)
            raise Untrackable(
                f"associative list with keys has an element that omits all key fields [{names}] "
                "(and doesn't have default values for any key fields)"
            )
        try:
            known = self._spelled.get(tuple(named.items()))
        except TypeError:
            return f"k:{orjson.dumps(named).decode()}"
        return known if known is not None else self._spell(tuple(named.items()), named)

    def _spell(self, key: Any, named: dict[str, Any]) -> str:
        if len(self._spelled) >= NAMES_KEPT:
            self._spelled.clear()
        text = self._spelled[key] = f"k:{orjson.dumps(named).decode()}"
        return text

    def _below(self, node: Node | None, item: Any) -> FieldSet:
        return LEAF if node is None else node.added(item)

    def added(self, value: Any) -> FieldSet:
        if not value or type(value) is not list:
            return LEAF
        node = self._node()
        out: FieldSet = {MEMBER: LEAF}
        for item in value:
            key = self.element(item)
            out[key] = LEAF if key in out else self._below(node, item)
        return out

    def owned(self, value: Any) -> FieldSet | None:
        if type(value) is not list:
            return LEAF
        node = self._node()
        out: FieldSet = {}
        for item in value:
            key = self.element(item)
            below = None if key in out or node is None else node.owned(item)
            out[key] = {MEMBER: LEAF, **below} if below else LEAF
        return out or None

    def diff(self, old: Any, new: Any) -> Difference:
        if type(old) is not list or type(new) is not list:
            return _replaced(self, old, new)
        if not old and not new:
            return LEAF, None
        node = self._node()
        changed: FieldSet = {}
        removed: FieldSet = {}
        befores = self._grouped(old)
        afters = self._grouped(new)
        for key, items in afters.items():
            before = befores.get(key)
            if before is None:
                changed[key] = LEAF if len(items) > 1 else self._below(node, items[0])
            elif before != items:
                self._compare((key, node), before, items, (changed, removed))
        for key, items in befores.items():
            if key not in afters:
                removed[key] = LEAF if len(items) > 1 else self._below(node, items[0])
        return changed or None, removed or None

    def _compare(
        self,
        place: tuple[str, Node | None],
        before: list[Any],
        after: list[Any],
        found: tuple[FieldSet, FieldSet],
    ) -> None:
        """Items of one key on both sides; what comes more than once is owned as a whole."""
        key, node = place
        changed, removed = found
        if len(before) == 1 and len(after) == 1:
            below, gone = (LEAF, None) if node is None else node.diff(before[0], after[0])
            if below is not None:
                changed[key] = below
            if gone is not None:
                removed[key] = gone
        elif len(before) > 1 and len(after) > 1:
            changed[key] = LEAF
        elif len(before) > 1:
            changed[key] = self._below(node, after[0])
            removed[key] = LEAF
        else:
            removed[key] = self._below(node, before[0])
            changed[key] = LEAF

    def _grouped(self, items: list[Any]) -> dict[str, list[Any]]:
        out: dict[str, list[Any]] = {}
        for item in items:
            key = self.element(item)
            have = out.get(key)
            if have is None:
                out[key] = [item]
            else:
                have.append(item)
        return out

    def merge(self, old: Any, new: Any) -> Any:
        if type(old) is not list or type(new) is not list:
            return new
        node = self._node()

        def join(before: Any, item: Any) -> Any:
            return item if node is None else node.merge(before, item)

        return merge_lists(old, new, self.element, join)

    def prune(self, value: Any, last: FieldSet, held: FieldSet) -> Any:
        if type(value) is not list:
            return value
        node = self._node()
        out, same = [], True
        for item in value:
            key = self.element(item)
            below = last.get(key)
            rest = item
            if below is not None:
                if (not below or MEMBER in below) and not has_member(held, key):
                    same = False
                    continue
                if node is not None and below:
                    rest = node.prune(item, below, held.get(key) or _EMPTY)
                    same = same and rest is item
            if rest is not GONE:
                out.append(rest)
        if same:
            return value
        return out or GONE

    def check(self, value: Any, path: str, problems: list[str]) -> None:
        if type(value) is not list:
            return
        node = self._node()
        seen = set()
        for position, item in enumerate(value):
            try:
                key = self.element(item)
            except Untrackable as error:
                problems.append(f"{path}: element {position}: {error}")
                continue
            if key in seen:
                problems.append(f"{path}: duplicate entries for key {element_text(key)}")
            seen.add(key)
            if node is not None:
                node.check(item, f"{path}{element_text(key)}", problems)


class Members(Node):
    """A list that is a set of scalars."""

    __slots__ = ()
    zero: Any = _NO_ITEMS

    def element(self, item: Any) -> str:
        if type(item) in (dict, list) or item is None:
            raise Untrackable(f"associative list without keys has an element that's {_what(item)}")
        return f"v:{orjson.dumps(item).decode()}"

    def added(self, value: Any) -> FieldSet:
        if not value or type(value) is not list:
            return LEAF
        return {MEMBER: LEAF} | dict.fromkeys(map(self.element, value), LEAF)

    def owned(self, value: Any) -> FieldSet | None:
        if type(value) is not list:
            return LEAF
        return dict.fromkeys(map(self.element, value), LEAF) or None

    def diff(self, old: Any, new: Any) -> Difference:
        if type(old) is not list or type(new) is not list:
            return _replaced(self, old, new)
        if not old and not new:
            return LEAF, None
        before, after = _counted(map(self.element, old)), _counted(map(self.element, new))
        changed = {
            key: LEAF
            for key, count in after.items()
            if key not in before or (count > 1) != (before[key] > 1)
        }
        removed = {
            key: LEAF
            for key, count in before.items()
            if key not in after or (count > 1) != (after[key] > 1)
        }
        return changed or None, removed or None

    def merge(self, old: Any, new: Any) -> Any:
        if type(old) is not list or type(new) is not list:
            return new
        return merge_lists(old, new, self.element, lambda before, item: item)

    def prune(self, value: Any, last: FieldSet, held: FieldSet) -> Any:
        if type(value) is not list:
            return value
        out = [
            item
            for item in value
            if (key := self.element(item)) not in last or has_member(held, key)
        ]
        if len(out) == len(value):
            return value
        return out or GONE

    def check(self, value: Any, path: str, problems: list[str]) -> None:
        if type(value) is not list:
            return
        seen = set()
        for position, item in enumerate(value):
            try:
                key = self.element(item)
            except Untrackable as error:
                problems.append(f"{path}: element {position}: {error}")
                continue
            if key in seen:
                problems.append(f"{path}: duplicate entries for key {element_text(key)}")
            seen.add(key)


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
            return _replaced(self, old, new)
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


def merge_lists(
    old: list[Any],
    new: list[Any],
    element: Callable[[Any], str],
    join: Callable[[Any, Any], Any],
) -> list[Any]:
    """Two lists of known items as one: items of both come in the order of `new`, those of `old`
    alone stay before what they stood before (structured merge diff v4.2)."""
    coming = {element(item): item for item in new}
    befores: dict[str, Any] = {}
    for item in old:
        key = element(item)
        # What was there twice is not merged with: it is replaced.
        befores[key] = None if key in befores else item
    shared = [key for key in coming if key in befores]
    out: list[Any] = []
    placed: set[str] = set()
    order = list(coming)
    at = next_shared = 0

    def take(key: str) -> None:
        placed.add(key)
        before = befores.get(key)
        out.append(coming[key] if before is None else join(before, coming[key]))

    for item in old:
        key = element(item)
        if key not in coming:
            out.append(item)
            continue
        if key in placed or key != shared[next_shared]:
            continue  # In both, but `new` has it elsewhere.
        while order[at] != key:
            take(order[at])
            at += 1
        take(key)
        at += 1
        next_shared += 1
    for key in order:
        if key not in placed:
            take(key)
    return out


def _what(item: Any) -> str:
    return "an explicit null" if item is None else "a map type" if type(item) is dict else "a list"


def _counted(keys: Any) -> dict[str, int]:
    out: dict[str, int] = {}
    for key in keys:
        out[key] = out.get(key, 0) + 1
    return out


def _replaced(node: Node, old: Any, new: Any) -> Difference:
    """Values of different types, or null on one side: null is an empty value that is there."""
    zero = node.zero
    if zero is not None and old is None and type(new) is type(zero):
        return node.diff(zero, new) if new else (LEAF, None)
    if zero is not None and new is None and type(old) is type(zero):
        return (None, node.diff(old, zero)[1]) if old else (LEAF, None)
    return node.added(new), node.added(old)


def element_text(key: str) -> str:
    """A path element as messages show it."""
    return path_text((key,))


SCALAR: Final = None
DEDUCED: Final = Deduced()
