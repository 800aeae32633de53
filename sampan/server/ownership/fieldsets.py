"""Sets of fields, as metadata.managedFields spells them (FieldsV1), and their algebra.

A set is a dict of path elements: `f:name` a field, `k:{...}` an item of an associative list by its
keys, `v:...` an item of a set by its value. An element with an empty dict is a member and has
nothing below; "." says that an element with something below is a member itself. Nobody changes a
set once it is made: operations return their first operand itself when it stays as it is, so that
"nothing changed" is an identity and costs what the second operand is large.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import Any, Final

import orjson

FieldSet = dict[str, Any]
Path = tuple[str, ...]

LEAF: Final[FieldSet] = {}
"""A member without anything below; shared, never changed."""
MEMBER: Final = "."

INTERNED = 4_096
"""Different sets kept to be shared. Objects of one origin have the same few sets, and one copy of
each is what they cost; beyond this many the table is begun anew."""
INTERNED_BYTES = 16 << 10
"""Sets longer than this are not shared: they are of objects that are one of a kind."""

_interned: dict[bytes, FieldSet] = {}


def intern_set(fields: FieldSet) -> FieldSet:
    """The one copy of this set that all objects share."""
    spelled = orjson.dumps(fields)
    if len(spelled) > INTERNED_BYTES:
        return fields
    digest = digest_of(spelled)
    known = _interned.get(digest)
    if known is not None:
        return known
    if len(_interned) >= INTERNED:
        _interned.clear()
    _interned[digest] = fields
    return fields


def digest_of(spelled: bytes) -> bytes:
    """What stands for JSON in tables, which keep it no longer than they must."""
    return blake2b(spelled, digest_size=16).digest()


def union(left: FieldSet, right: FieldSet) -> FieldSet:
    """The members of either; `left` itself when it has all of `right`."""
    if left is right:
        return left
    out: FieldSet | None = None
    for name, below in right.items():
        have = left.get(name)
        if have is None:
            new = below
        elif have is below:
            continue
        elif not below:
            if not have or MEMBER in have:
                continue
            new = {MEMBER: LEAF, **have}
        elif not have:
            new = below if MEMBER in below else {MEMBER: LEAF, **below}
        else:
            new = union(have, below)
            if new is have:
                continue
        if out is None:
            out = dict(left)
        out[name] = new
    return left if out is None else out


def minus(left: FieldSet, right: FieldSet) -> FieldSet:
    """The members of `left` that are none of `right`; `left` itself when they share none. What
    lies below a member of `right` stays: only members themselves are taken away."""
    out: FieldSet | None = None
    for name, below in right.items():
        have = left.get(name)
        if have is None:
            continue
        rest: FieldSet | None
        if not have:
            if below and MEMBER not in below:
                continue
            rest = None
        else:
            rest = minus(have, below or _ONLY_MEMBER)
            if rest is have:
                continue
            rest = _canonical(rest)
        if out is None:
            out = dict(left)
        if rest is None:
            del out[name]
        else:
            out[name] = rest
    return left if out is None else out


def minus_below(left: FieldSet, right: FieldSet) -> FieldSet:
    """As `minus`, but a member of `right` takes everything below with it."""
    out: FieldSet | None = None
    for name, below in right.items():
        have = left.get(name)
        if have is None:
            continue
        rest: FieldSet | None = None
        if below and MEMBER not in below:
            if not have:
                continue
            rest = minus_below(have, below)
            if rest is have:
                continue
            rest = _canonical(rest)
        if out is None:
            out = dict(left)
        if rest is None:
            del out[name]
        else:
            out[name] = rest
    return left if out is None else out


def common(left: FieldSet, right: FieldSet) -> FieldSet:
    """The members of both."""
    if len(right) > len(left):
        left, right = right, left
    out: FieldSet = {}
    for name, below in right.items():
        have = left.get(name)
        if have is None:
            continue
        if not have:
            if not below or MEMBER in below:
                out[name] = LEAF
        elif not below:
            if MEMBER in have:
                out[name] = LEAF
        else:
            rest = _canonical(common(have, below))
            if rest is not None:
                out[name] = rest
    return out


_ONLY_MEMBER: Final[FieldSet] = {MEMBER: LEAF}


def _canonical(fields: FieldSet) -> FieldSet | None:
    """None for nothing, an empty dict for a member alone."""
    if not fields:
        return None
    return LEAF if len(fields) == 1 and MEMBER in fields else fields


def has_member(fields: FieldSet, name: str) -> bool:
    below = fields.get(name)
    return below is not None and (not below or MEMBER in below)


def paths(fields: FieldSet, prefix: Path = ()) -> Iterator[Path]:
    """The members, as upstream walks them: those of a level before those below it, in order."""
    names = sorted((name for name in fields if name != MEMBER), key=_order)
    for name in names:
        below = fields[name]
        if not below or MEMBER in below:
            yield (*prefix, name)
    for name in names:
        if fields[name]:
            yield from paths(fields[name], (*prefix, name))


def path_text(path: Path) -> str:
    """`.spec.containers[name="a"].image`."""
    return "".join(map(_element_text, path))


_RANK = {"f": 0, "k": 1, "v": 2, "i": 3}


def _order(name: str) -> tuple[int, str]:
    return _RANK.get(name[:1], 4), name[2:]


def _element_text(name: str) -> str:
    kind, rest = name[:2], name[2:]
    if kind == "f:":
        return f".{rest}"
    if kind == "k:":
        keys = sorted(orjson.loads(rest).items())
        return f"[{','.join(f'{key}={orjson.dumps(value).decode()}' for key, value in keys)}]"
    if kind == "v:":
        return f"[={rest}]"
    return f"[{rest}]"


def is_readable(fields: Any, depth: int = 0) -> bool:
    """Is this a set of fields at all? What clients send may be anything."""
    if type(fields) is not dict or depth > MAX_DEPTH:
        return False
    for name, below in fields.items():
        if not _is_element(name) or not is_readable(below, depth + 1):
            return False
    return True


MAX_DEPTH = 100
"""Nesting of a set; the deepest kind (a custom resource definition's schema) has some sixty."""


def _is_element(name: str) -> bool:
    if name == MEMBER or name.startswith("f:"):
        return True
    kind, rest = name[:2], name[2:]
    if kind not in ("k:", "v:", "i:"):
        return False
    try:
        value = orjson.loads(rest)
    except orjson.JSONDecodeError:
        return False
    if kind == "k:":
        return isinstance(value, dict) and bool(value)
    return kind == "v:" or isinstance(value, int)
