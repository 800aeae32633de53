"""Custom resources as controllers see them: descriptors that come and go with their definitions.

They name paths and kinds, nothing more: what decodes and validates objects is the server's. One
version of each is enough, the stored one if it is served, since then nothing is converted.
"""

from __future__ import annotations

from collections.abc import Callable

from sampan.api.descriptor import Descriptor, Kind
from sampan.api.errors import Object
from sampan.api.resources import resource
from sampan.client.informer import Informer

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
Change = Callable[[Descriptor], None]
FILL_S = 0.1
"""Until the objects of a kind that has just come are looked at again. Nobody waits for them: the
cache of one that goes before it is filled never is."""


def custom_resource(definition: Object) -> Descriptor | None:
    """The resource a definition stands for; None while it is not served."""
    status = definition.get("status") or {}
    conditions = status.get("conditions") or ()
    if not any(item["type"] == "Established" and item["status"] == "True" for item in conditions):
        return None
    spec = definition["spec"]
    served = [item for item in spec["versions"] if item.get("served")]
    if not served:
        return None
    version = next((item for item in served if item.get("storage")), served[0])["name"]
    names = status.get("acceptedNames") or spec["names"]
    group, plural, kind = spec["group"], names["plural"], names["kind"]
    return Descriptor(
        group=group,
        version=version,
        kind=kind,
        plural=plural,
        singular=names.get("singular") or kind.lower(),
        namespaced=spec["scope"] == "Namespaced",
        verbs=VERBS,
        subresources={},
        definition="",
        rules=Kind(group, version, kind),
        storage=f"/registry/{group}/{plural}/",
        has_status=False,
        counts_generation=True,
    )


def follow_custom(definitions: Informer, added: Change, removed: Change) -> None:
    """Call `added` for every custom resource there is and that comes, `removed` for each that
    goes; one that is served in another version goes and comes."""
    known: dict[str, Descriptor] = {}

    def changed(old: Object | None, new: Object | None) -> None:
        name = (new or old or {})["metadata"]["name"]
        before = known.get(name)
        after = custom_resource(new) if new is not None else None
        if before == after:
            return
        if before is not None:
            del known[name]
            removed(before)
        if after is not None:
            known[name] = after
            added(after)

    definitions.on_change(changed)


def definitions_resource() -> Descriptor:
    return resource("customresourcedefinitions", "apiextensions.k8s.io")
