"""Owner references: who controls an object, and how to say so (metav1.OwnerReference)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sampan.api.descriptor import ApiResource
from sampan.api.errors import Object
from sampan.client.informer import Informer

from .labels import add_label_index, selected

# Names of informer indexes.
BY_CONTROLLER = "controller uid"
ORPHANS = "orphans by namespace"


def controller_of(obj: Object) -> Object | None:
    """The owner reference marked as controller; None for an orphan."""
    for owner in obj["metadata"].get("ownerReferences") or ():
        if owner.get("controller"):
            return dict(owner)
    return None


def controller_uid(obj: Object) -> str:
    """uid of the controlling owner, "" without one."""
    for owner in obj["metadata"].get("ownerReferences") or ():
        if owner.get("controller"):
            return str(owner["uid"])
    return ""


def controller_reference(resource: ApiResource, owner: Object) -> Object:
    """The reference an object carries to the `owner` that controls it."""
    meta = owner["metadata"]
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "name": meta["name"],
        "uid": meta["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def refers_to(reference: Object, resource: ApiResource) -> bool:
    """Is the reference to an object of this group and kind? Versions may differ."""
    group = reference.get("apiVersion", "").rpartition("/")[0]
    return reference.get("kind") == resource.kind and group == resource.group


def add_owner_indexes(informer: Informer) -> None:
    """Index what is owned by its controller's uid, orphans by namespace, and all by label."""
    informer.add_index(BY_CONTROLLER, _by_controller)
    informer.add_index(ORPHANS, _orphans)
    add_label_index(informer)


def owned(informer: Informer, owner: Object) -> Iterable[Object]:
    """What `owner` controls, from the index."""
    return informer.by_index(BY_CONTROLLER, owner["metadata"]["uid"])


def orphans(informer: Informer, namespace: str, labels: Mapping[str, str]) -> Iterable[Object]:
    """Orphans of a namespace that carry these labels; all of them if there are none."""
    if not informer.count(ORPHANS, namespace):
        return ()
    if not labels:
        return informer.by_index(ORPHANS, namespace)
    return [obj for obj in selected(informer, namespace, labels) if not controller_uid(obj)]


def with_owner(obj: Object, reference: Object) -> Object:
    """A copy of `obj` with one more owner."""
    owners = [*(obj["metadata"].get("ownerReferences") or ()), reference]
    return {**obj, "metadata": {**obj["metadata"], "ownerReferences": owners}}


def without_owner(obj: Object, uid: str) -> Object:
    """A copy of `obj` without the owner of this uid."""
    owners = [
        owner for owner in obj["metadata"].get("ownerReferences") or () if owner.get("uid") != uid
    ]
    return {**obj, "metadata": {**obj["metadata"], "ownerReferences": owners}}


def _by_controller(obj: Object) -> Iterable[str]:
    uid = controller_uid(obj)
    return (uid,) if uid else ()


def _orphans(obj: Object) -> Iterable[str]:
    return () if controller_uid(obj) else (obj["metadata"].get("namespace", ""),)
