"""Status conditions as upstream's controllers keep them."""

from __future__ import annotations

from collections.abc import Sequence

from sampan.api.errors import Object


def condition(conditions: Sequence[Object] | None, kind: str) -> Object | None:
    """The condition of this type; None if there is none."""
    for item in conditions or ():
        if item.get("type") == kind:
            return item
    return None


def without(conditions: Sequence[Object] | None, kind: str) -> list[Object]:
    return [item for item in conditions or () if item.get("type") != kind]


def with_condition(conditions: Sequence[Object] | None, new: Object) -> list[Object]:
    """The conditions with `new` in place of its type's old one.

    Nothing changes if status and reason are the same; the time of the last transition stays if
    the status is. A changed condition moves to the end, as upstream's setters do.
    """
    old = condition(conditions, new["type"])
    if old is not None:
        same_status = old.get("status") == new["status"]
        if same_status and old.get("reason") == new.get("reason"):
            return [*(conditions or ())]
        if same_status and "lastTransitionTime" in old:
            new = {**new, "lastTransitionTime": old["lastTransitionTime"]}
    return [*without(conditions, new["type"]), new]
