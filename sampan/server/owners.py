"""Owners that an object names twice: upstream keeps the first of equal entries, and warns.

Bodies of creates and updates are looked at as they come, and every object again after mutating
admission; of a patch only what it makes is (endpoints/handlers/rest.go).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.api.errors import Object

if TYPE_CHECKING:
    from .writing import Context

WARNING = (
    ".metadata.ownerReferences contains duplicate entries{when}; API server dedups owner "
    "references in 1.20+, and may reject such requests as early as 1.24; please fix your "
    "requests; duplicate UID(s) observed: {uids}"
)
ADMITTED = " after mutating admission happens"


def name_owners_once(context: Context, obj: Object, when: str = "") -> None:
    """Leave out, in place, what `obj` says of its owners again, and warn of it."""
    owners = obj["metadata"].get("ownerReferences")
    if not owners or len(owners) < 2:
        return
    kept: list[Object] = []
    twice: list[str] = []
    for owner in owners:
        if owner in kept:
            twice.append(str(owner.get("uid", "")))
        else:
            kept.append(owner)
    if twice:
        obj["metadata"]["ownerReferences"] = kept
        context.warnings.append(WARNING.format(when=when, uids=", ".join(twice)))
