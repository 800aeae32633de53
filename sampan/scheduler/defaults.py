"""The default spread of pods that ask for none: by the services that select them, and their owner.

Constraints are remembered per namespace, owner and labels, at most `REMEMBERED`, until a service
or an owner changes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import NamedTuple

from msgspec.structs import replace

from sampan.api.errors import Object
from sampan.api.resources import resource
from sampan.client.informer import Informers

from .guest import Guest
from .profile import Profile
from .relations import Constraint

REMEMBERED = 4096
OWNERS = {
    "ReplicaSet": resource("replicasets", "apps"),
    "StatefulSet": resource("statefulsets", "apps"),
    "ReplicationController": resource("replicationcontrollers"),
}


class Spread(NamedTuple):
    soft: tuple[Constraint, ...] = ()
    hard: tuple[Constraint, ...] = ()


NONE = Spread()


class Defaults:
    def __init__(self, informers: Informers) -> None:
        self._services = informers.informer(resource("services"))
        self._owners = {kind: informers.informer(found) for kind, found in OWNERS.items()}
        self._known: dict[Hashable, Spread] = {}

    async def synced(self) -> None:
        for informer in (self._services, *self._owners.values()):
            await informer.synced()

    def start(self) -> list[Callable[[], None]]:
        """Follow changes; what ends that."""
        informers = (self._services, *self._owners.values())
        return [informer.on_change(self._on_change) for informer in informers]

    def _on_change(self, old: Object | None, new: Object | None) -> None:
        # A status changes with every pod: that is nothing new.
        if old is None or new is None or old.get("spec") != new.get("spec"):
            self._known.clear()

    def spread(self, pod: Object, guest: Guest) -> None:
        """Give a pod that asks for none its profile's constraints."""
        found = self.constraints(pod, guest.profile)
        guest.soft = found.soft
        if found.hard or guest.relations.hard:
            guest.relations = replace(guest.relations, hard=found.hard)

    def constraints(self, pod: Object, profile: Profile) -> Spread:
        """None when nobody selects the pod."""
        if not profile.defaults and not profile.hard_defaults:
            return NONE
        meta = pod["metadata"]
        labels = meta.get("labels") or {}
        if not labels:
            return NONE
        references = meta.get("ownerReferences") or ()
        owner: Object = next((item for item in references if item.get("controller")), {})
        key = profile.name, meta["namespace"], owner.get("uid"), tuple(labels.items())
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            found = self._known[key] = self._find(meta["namespace"], labels, owner, profile)
        return found

    def _find(self, namespace: str, labels: Object, owner: Object, profile: Profile) -> Spread:
        from .configuration import constraints_of

        equal: Object = {}
        for service in self._services.list(namespace):
            selector = service["spec"].get("selector") or {}
            if selector and selector.items() <= labels.items():
                equal.update(selector)
        expressions: list[Object] = []
        informer = self._owners.get(owner.get("kind", ""))
        found = informer.get(namespace, owner["name"]) if informer is not None else None
        if found is not None and found["metadata"]["uid"] == owner["uid"]:
            selector = found["spec"].get("selector") or {}
            if owner["kind"] == "ReplicationController":
                equal.update(selector)
            else:
                equal.update(selector.get("matchLabels") or {})
                expressions += selector.get("matchExpressions") or ()
        if not equal and not expressions:
            return NONE
        chosen = {"matchLabels": equal, "matchExpressions": expressions}
        soft, hard = (
            constraints_of(each, chosen) for each in (profile.defaults, profile.hard_defaults)
        )
        return Spread(soft, hard)
