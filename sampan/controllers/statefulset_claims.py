"""The volume claims of a StatefulSet's pods, and who owns them (KEP-1847). Pure.

A claim outlives its pod, unless persistentVolumeClaimRetentionPolicy says to delete it: then it
is owned by the set (whenDeleted) or, once its pod is one too many, by that pod (whenScaled), and
the garbage collector takes it away with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sampan.api.descriptor import Descriptor
from sampan.api.errors import Object
from sampan.api.resources import resource

from .runtime.owners import controller_reference
from .statefulset_pods import claim_names, is_wanted

DELETE = "Delete"


def policy(owner: Object) -> tuple[bool, bool]:
    """(deleted with the set, deleted with what is scaled down)."""
    found = owner["spec"].get("persistentVolumeClaimRetentionPolicy") or {}
    return found.get("whenDeleted") == DELETE, found.get("whenScaled") == DELETE


def new_claims(sets: Descriptor, owner: Object, place: int) -> Iterator[Object]:
    """The claims of an ordinal, as they are made for a pod that is wanted."""
    selector = (owner["spec"].get("selector") or {}).get("matchLabels") or {}
    templates = owner["spec"].get("volumeClaimTemplates") or ()
    with_set, _ = policy(owner)
    for template, (_, name) in zip(templates, claim_names(owner, place), strict=True):
        given = template.get("metadata") or {}
        meta: Object = {
            "name": name,
            "namespace": owner["metadata"]["namespace"],
            "labels": {**(given.get("labels") or {}), **selector},
        }
        if given.get("annotations"):
            meta["annotations"] = given["annotations"]
        if with_set:
            meta["ownerReferences"] = [controller_reference(sets, owner)]
        yield {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": meta,
            "spec": template.get("spec") or {},
        }


def owned_claims(
    sets: Descriptor, owner: Object, pod: Object, place: int, claims: Mapping[str, Object]
) -> Iterator[Object]:
    """Claims of a pod whose owners have to change, as they are to be."""
    for _, name in claim_names(owner, place):
        claim = claims.get(name)
        if claim is None:
            continue
        before = claim["metadata"].get("ownerReferences") or []
        after = owners(sets, owner, pod, place, before)
        if after != before:
            yield {**claim, "metadata": {**claim["metadata"], "ownerReferences": after}}


def owners(
    sets: Descriptor, owner: Object, pod: Object, place: int, before: list[Object]
) -> list[Object]:
    """The owner references a claim should have. Those of others stay, and while another controls
    it, it is left to that one."""
    ours = (owner["metadata"]["uid"], pod["metadata"]["uid"])
    others = [item for item in before if item.get("uid") not in ours]
    mine = [item for item in before if item.get("uid") in ours]
    if any(item.get("controller") for item in others):
        return before if not mine else others
    with_set, with_scale = policy(owner)
    scaled_down = not is_wanted(owner, place)
    if with_scale and scaled_down:
        right = [controller_reference(resource("pods"), pod)]
    elif with_set:
        right = [controller_reference(sets, owner)]
    else:
        right = []
    same = [(item["uid"], bool(item.get("controller"))) for item in mine]
    if same == [(item["uid"], True) for item in right]:
        return before
    return others + right


def is_stale(owner: Object, name: str, place: int, claims: Mapping[str, Object]) -> bool:
    """Does a claim still go with an earlier pod of this name? The new pod waits until it has."""
    if not policy(owner)[1]:
        return False
    return any(
        item.get("kind") == "Pod" and item.get("name") == name
        for _, claim in claim_names(owner, place)
        for item in claims.get(claim, {}).get("metadata", {}).get("ownerReferences") or ()
    )
