"""Sets of fields from lists of paths, for tests that compare with plain sets."""

from __future__ import annotations

from collections.abc import Iterable

from sampan.server.ownership.fieldsets import LEAF, FieldSet, Path, union


def of_paths(found: Iterable[Path]) -> FieldSet:
    """The set with these members."""
    out: FieldSet = {}
    for path in found:
        one: FieldSet = LEAF
        for name in reversed(path):
            one = {name: one}
        out = union(out, one)
    return out
