"""Lists whose items are owned one by one: by their keys, or by their values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson

from .fieldsets import LEAF, MEMBER, FieldSet, has_member, path_text
from .nodes import GONE, Difference, Node, Untrackable, replaced

NAMES_KEPT = 4_096
"""Spelled keys a list type remembers; begun anew when there are more."""
NAME_LENGTH = 200
"""Longer ones are not remembered."""
_NOTHING_HELD: Final[FieldSet] = {}
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
        text = f"k:{orjson.dumps(named).decode()}"
        if len(text) <= NAME_LENGTH:
            if len(self._spelled) >= NAMES_KEPT:
                self._spelled.clear()
            self._spelled[key] = text
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
            return replaced(self, old, new)
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
                    rest = node.prune(item, below, held.get(key) or _NOTHING_HELD)
                    same = same and rest is item
            if rest is not GONE:
                out.append(rest)
        if same:
            return value
        return out or GONE

    def settle(self, fields: FieldSet) -> FieldSet:
        node = self._node()
        out: FieldSet | None = None
        for key, below in fields.items():
            if below and node is not None and (new := node.settle(below)) is not below:
                out = dict(fields) if out is None else out
                out[key] = new
        return fields if out is None else out

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
                problems.append(f"{path}: duplicate entries for key {path_text((key,))}")
            seen.add(key)
            if node is not None:
                node.check(item, f"{path}{path_text((key,))}", problems)


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
            return replaced(self, old, new)
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
                problems.append(f"{path}: duplicate entries for key {path_text((key,))}")
            seen.add(key)


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
