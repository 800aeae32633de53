"""What an admission plugin is: a name, what it looks at, and one or two functions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from sampan.api.errors import Forbidden, Object, forbidden

from ..exchange import Write

if TYPE_CHECKING:
    from ..app import Server

Step = Callable[["Server", Write], Awaitable[None] | None]
"""Changes `write.obj` (mutating) or only looks at it (validating); raises StatusErrors."""

EVERYTHING: Final = ("*", "*")


class Plugin(Struct, frozen=True):
    """One plugin. `on` maps (group, "plural" or "plural/subresource") to the operations it handles;
    the key EVERYTHING stands for every resource and subresource."""

    name: str
    on: Mapping[tuple[str, str], Sequence[str]]
    mutate: Step | None = None
    validate: Step | None = None
    active: Callable[[Server], bool] | None = None
    """False leaves the plugin out of the chain until the chain is picked anew
    (`Admission.forget`): what has nothing to do then costs a write nothing."""

    def handles(self, group: str, target: str, operation: str) -> bool:
        operations = self.on.get((group, target)) or self.on.get(EVERYTHING) or ()
        return operation in operations


def refuse(write: Write, why: str) -> Forbidden:
    """Forbidden as upstream's admission words it: about the object by its name, or the beginning
    of the name it would get."""
    target = write.attributes.resource
    group, plural = (target.group, target.plural) if target else ("", "")
    return forbidden(group, plural, _name(write), why)


def _name(write: Write) -> str:
    if write.attributes.name:
        return write.attributes.name
    meta: Object = write.obj.get("metadata") or {}
    return meta.get("name") or meta.get("generateName") or "Unknown"
