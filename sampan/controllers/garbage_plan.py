"""What becomes of an object when its owners go. Pure.

Terms as upstream's garbage collector: an owner is solid (it is there), dangling (it is gone) or
waiting (it is being deleted in the foreground, and goes after its dependents).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import Struct

from sampan.api.errors import Object

ORPHAN = "orphan"
FOREGROUND = "foregroundDeletion"

Owner = Literal["solid", "dangling", "waiting"]


class Nothing(Struct, frozen=True):
    pass


class Unlink(Struct, frozen=True):
    """Write the object with these owners only."""

    owners: Sequence[Object]


class Remove(Struct, frozen=True):
    """Delete the object with this propagation policy."""

    policy: str
    unblocked: Sequence[Object] | None = None
    """First write these owners, none of which is blocked, so that a cycle ends."""


Action = Nothing | Unlink | Remove


def plan(
    obj: Object, owners: Mapping[str, Owner], blocked_by_foreground: bool, dependents: int
) -> Action:
    """The fate of `obj`, whose owners (by uid) are in these states.

    `blocked_by_foreground`: some dependent of it is itself being deleted in the foreground.
    """
    references = obj["metadata"].get("ownerReferences") or []
    if not references:
        return Nothing()
    states = [owners[reference["uid"]] for reference in references]
    if "solid" in states:
        kept = [
            reference
            for reference, state in zip(references, states, strict=True)
            if state == "solid"
        ]
        return Unlink(kept) if len(kept) < len(references) else Nothing()
    if "waiting" in states and dependents:
        unblocked = None
        if blocked_by_foreground:
            unblocked = [
                {key: value for key, value in reference.items() if key != "blockOwnerDeletion"}
                for reference in references
            ]
        return Remove("Foreground", unblocked)
    finalizers = obj["metadata"].get("finalizers") or ()
    if ORPHAN in finalizers:
        return Remove("Orphan")
    if FOREGROUND in finalizers:
        return Remove("Foreground")
    return Remove("Background")


def is_going(obj: Object, finalizer: str) -> bool:
    """Is it being deleted, held by this finalizer?"""
    meta = obj["metadata"]
    return bool(meta.get("deletionTimestamp")) and finalizer in (meta.get("finalizers") or ())


def without_finalizer(obj: Object, finalizer: str) -> Object:
    kept = [item for item in obj["metadata"].get("finalizers") or () if item != finalizer]
    return {**obj, "metadata": {**obj["metadata"], "finalizers": kept}}


def with_owners(obj: Object, owners: Sequence[Object]) -> Object:
    return {**obj, "metadata": {**obj["metadata"], "ownerReferences": [*owners]}}


def blocks(obj: Object, owner_uid: str) -> bool:
    """Does the object hold up the foreground deletion of this owner?"""
    return any(
        reference.get("blockOwnerDeletion") and reference.get("uid") == owner_uid
        for reference in obj["metadata"].get("ownerReferences") or ()
    )
