"""Who owns what after a create or an update: the difference of two objects, given to its manager.

The difference is found once per version that managers speak (nearly always one), and taken from
everybody else. Entries that stay as they are stay the very same dicts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from sampan.api.errors import Object

from .entries import BEFORE_FIRST_APPLY, UPDATE, Who, arranged, owned_by, with_owned
from .fieldsets import FieldSet, minus, union
from .nodes import NOTHING, Difference, Fields, Untrackable

Convert = Callable[[Object], Object]


class Dialect(NamedTuple):
    """A version in which managers own fields: its plan, and an object's form in it."""

    plan: Fields
    convert: Convert | None = None
    """None: objects are given in this version."""
    restore: Convert | None = None
    """From this version to the one objects are given in; None where `convert` is."""
    by_name: bool = False
    """Of a custom resource: a field is the same field in each version that has its name."""


Dialects = Callable[[str], Dialect | None]
"""By apiVersion; None for one that is not served any more, whose entries go."""


def created(plan: Fields, obj: Object, who: Who, now: str, given: Sequence[Object]) -> list[Object]:
    """The entries of a new object; `given` came with it, and loses what is new, as all there is."""
    try:
        fields, _ = plan.diff({}, obj)
    except Untrackable:
        return []
    entries = [
        entry if left is owned else with_owned(entry, left)
        for entry in given
        if (left := minus(owned := owned_by(entry), fields or {}))
    ]
    if fields:
        entries.append(who.entry(fields, now))
    return arranged(entries) if len(entries) > 1 else entries


def updated(
    dialects: Dialects, entries: list[Object], objects: tuple[Object, Object], who: Who, now: str
) -> list[Object]:
    """The entries after an update from one object to another; `entries` itself when they stay.

    An object that nobody is known to own fields of is not tracked until it is applied, as upstream
    (skipNonApplied)."""
    if not entries:
        return entries
    mine = dialects(who.api_version)
    if mine is None:
        return entries
    try:
        changed, removed = compare(mine, objects)
    except Untrackable:
        return entries
    if changed is None and removed is None and _speak_one(entries, who.api_version):
        return entries
    changes = Changes(dialects, objects, who.api_version, (changed, removed))
    return recorded(changes, entries, who, now)


def compare(dialect: Dialect, objects: tuple[Object, Object]) -> Difference:
    old, new = objects
    if dialect.convert is not None:
        old, new = dialect.convert(old), dialect.convert(new)
    return dialect.plan.diff(old, new)


def _speak_one(entries: list[Object], version: str) -> bool:
    return all(entry["apiVersion"] == version for entry in entries)


class Changes:
    """One difference, in every version it is asked for."""

    def __init__(
        self, dialects: Dialects, objects: tuple[Object, Object], version: str, first: Difference
    ) -> None:
        self._dialects = dialects
        self._objects = objects
        self._known: dict[str, Difference | None] = {version: first}

    def of(self, version: str) -> Difference | None:
        """None when the version is not served."""
        if version not in self._known:
            dialect = self._dialects(version)
            try:
                self._known[version] = None if dialect is None else compare(dialect, self._objects)
            except Untrackable:
                self._known[version] = NOTHING
        return self._known[version]


def recorded(changes: Changes, entries: list[Object], who: Who, now: str) -> list[Object]:
    """The entries with what changed given to `who` and taken from the others."""
    difference = changes.of(who.api_version)
    assert difference is not None
    changed, removed = difference
    out: list[Object] = []
    same = True
    mine: Object | None = None
    for entry in entries:
        if mine is None and who.is_entry(entry):
            mine = entry
            continue
        left = without(entry, changes.of(entry["apiVersion"]))
        same = same and left is entry
        if left is not None:
            out.append(left)
    owned: FieldSet = owned_by(mine) if mine is not None else {}
    if removed:
        owned = minus(owned, removed)
    if changed:
        owned = union(owned, changed)
        out.append(who.entry(owned, now))
    elif mine is not None:
        if owned is owned_by(mine):
            if same:
                return entries
            out.append(mine)
        elif owned:
            out.append(with_owned(mine, owned))
    return arranged(out)


def without(entry: Object, difference: Difference | None) -> Object | None:
    """An entry without what changed or went; itself when that was not its own, None when nothing
    is left."""
    if difference is None:
        return None
    owned = left = owned_by(entry)
    for fields in difference:
        if fields:
            left = minus(left, fields)
    if left is owned:
        return entry
    return with_owned(entry, left) if left else None


def before_first_apply(plan: Fields, obj: Object, api_version: str, now: str) -> list[Object]:
    """The entry that stands for all who wrote an object before anybody was tracked."""
    who = Who(BEFORE_FIRST_APPLY, UPDATE, api_version)
    return created(plan, obj, who, now, ())
