"""The default spread of pods that ask for none: by the services that select them, and their owner.

Constraints are remembered per namespace, owner and labels, at most `REMEMBERED`, until a service
or an owner changes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from sampan.api.errors import Object
from sampan.api.resources import resource
from sampan.client.informer import Informers

from .profile import Profile
from .relations import Constraint

REMEMBERED = 4096
OWNERS = {
    "ReplicaSet": resource("replicasets", "apps"),
    "StatefulSet": resource("statefulsets", "apps"),
    "ReplicationController": resource("replicationcontrollers"),
}


class Defaults:
    def __init__(self, informers: Informers) -> None:
        self._services = informers.informer(resource("services"))
        self._owners = {kind: informers.informer(found) for kind, found in OWNERS.items()}
        self._known: dict[Hashable, tuple[Constraint, ...]] = {}

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

    def constraints(self, pod: Object, profile: Profile) -> tuple[Constraint, ...]:
        """The soft constraints of this pod; () when nobody selects it."""
        if not profile.defaults:
            return ()
        meta = pod["metadata"]
        labels = meta.get("labels") or {}
        if not labels:
            return ()
        references = meta.get("ownerReferences") or ()
        owner: Object = next((item for item in references if item.get("controller")), {})
        key = profile.name, meta["namespace"], owner.get("uid"), tuple(labels.items())
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            found = self._known[key] = self._find(meta["namespace"], labels, owner, profile)
        return found

    def _find(
        self, namespace: str, labels: Object, owner: Object, profile: Profile
    ) -> tuple[Constraint, ...]:
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
            return ()
        return constraints_of(profile, {"matchLabels": equal, "matchExpressions": expressions})
