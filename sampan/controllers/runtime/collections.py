"""Every resource whose objects the cluster must clean up: for the garbage collector and for
namespaces. Each is stored once, whatever versions and groups it is served in."""

from __future__ import annotations

from functools import cache

from sampan.api.descriptor import Descriptor
from sampan.api.resources import builtin

NEEDED = frozenset({"delete", "list", "watch"})


@cache
def deletable() -> tuple[Descriptor, ...]:
    """The built-in ones, in the order of discovery."""
    seen: dict[str, Descriptor] = {}
    for item in builtin():
        # The last version of a group is the newest; core events come before events.k8s.io.
        known = item.storage in seen and item.plural == "events"
        if {*item.verbs} >= NEEDED and not known:
            seen[item.storage] = item
    return tuple(seen.values())


@cache
def owners() -> dict[tuple[str, str], Descriptor]:
    """Resources by group and kind, as owner references name them."""
    return {(item.group, item.kind): item for item in deletable()}


def is_cached(resource: Descriptor) -> bool:
    """Events own nothing and are owned by nothing, and there are many: nobody caches them."""
    return resource.plural != "events"
