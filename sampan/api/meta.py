"""Object metadata: reading it, owners, conditions, and upstream's rules for it.

Readers take any object (a plain dict) and never change it.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence

from .descriptor import Descriptor
from .errors import Cause, Object
from .fields import forbidden, invalid, required, too_long, unchanged
from .names import label_key_problems, label_problems, name_problems, validate_labels

MAX_ANNOTATIONS_BYTES = 256 * 1024
"""Of all keys and values of one object, as upstream: they travel with every copy of it."""

ORPHAN = "orphan"
FOREGROUND = "foregroundDeletion"
CLAIM_FINALIZER = "kubernetes.io/pvc-protection"
VOLUME_FINALIZER = "kubernetes.io/pv-protection"
ATTRIBUTES_FINALIZER = "kubernetes.io/vac-protection"
CLASS_RESOURCE = "deviceclass.resource.kubernetes.io/"
"""Before a DeviceClass's name: the extended resource that its devices stand for (KEP-5004)."""

STANDARD_FINALIZERS = frozenset({"kubernetes", ORPHAN, FOREGROUND})
ANY_FINALIZER = frozenset(
    {"admissionregistration.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io", "policy"}
)
"""Groups whose finalizers need no domain, as those of custom resources: upstream checks their
metadata by other rules."""

_PATH = "metadata"
_NO_LABELS: Mapping[str, str] = {}


# Reading.


def name_of(obj: Object) -> str:
    return str(obj["metadata"].get("name", ""))


def namespace_of(obj: Object) -> str:
    return str(obj["metadata"].get("namespace", ""))


def key_of(obj: Object) -> str:
    """ "namespace/name", or the name alone of a cluster-scoped object."""
    meta = obj["metadata"]
    namespace = meta.get("namespace")
    return f"{namespace}/{meta['name']}" if namespace else str(meta["name"])


def labels_of(obj: Object) -> Mapping[str, str]:
    return obj["metadata"].get("labels") or _NO_LABELS


def annotations_of(obj: Object) -> Mapping[str, str]:
    return obj["metadata"].get("annotations") or _NO_LABELS


def new_uid() -> str:
    """A random (version 4) UID. Not secret, so it needs no system call."""
    text = f"{random.getrandbits(128):032x}"
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"


# Owners.


def owners_of(obj: Object) -> Sequence[Object]:
    return obj["metadata"].get("ownerReferences") or ()


def controller_of(obj: Object) -> Object | None:
    """The owner reference of the managing controller."""
    for reference in owners_of(obj):
        if reference.get("controller"):
            return reference
    return None


def owner_reference(owner: Object, *, controller: bool = True) -> Object:
    """A reference to `owner`, which must carry its kind and apiVersion."""
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
    }
    if controller:
        reference |= {"controller": True, "blockOwnerDeletion": True}
    return reference


# Conditions.


def condition(obj: Object, kind: str) -> Object | None:
    """The condition of that type in `status.conditions`."""
    for item in (obj.get("status") or {}).get("conditions") or ():
        if item.get("type") == kind:
            found: Object = item
            return found
    return None


def has_condition(obj: Object, kind: str, status: str = "True") -> bool:
    found = condition(obj, kind)
    return found is not None and found.get("status") == status


def with_condition(conditions: Iterable[Object], new: Object) -> list[Object]:
    """A new list with the condition of that type set. `lastTransitionTime` is kept when the status
    does not change; a list that already says the same comes back equal."""
    out, found = [], False
    for item in conditions:
        if item.get("type") != new["type"]:
            out.append(item)
            continue
        found = True
        if item.get("status") == new.get("status") and "lastTransitionTime" in item:
            new = {**new, "lastTransitionTime": item["lastTransitionTime"]}
        out.append(new)
    return out if found else [*out, new]


# Rules.


def validate_meta(obj: Object, resource: Descriptor) -> list[Cause]:
    """Field errors of the metadata of an object about to be created; its name is generated."""
    meta: Object = obj.get("metadata") or {}
    rule = resource.rules.name_rule
    causes = []
    prefix = meta.get("generateName")
    if prefix:
        path = f"{_PATH}.generateName"
        causes += [invalid(path, prefix, why) for why in name_problems(prefix, rule, prefix=True)]
    name = meta.get("name")
    if not name:
        causes.append(required(f"{_PATH}.name", "name or generateName is required"))
    else:
        causes += [invalid(f"{_PATH}.name", name, why) for why in name_problems(name, rule)]
    causes += _validate_namespace(meta.get("namespace", ""), resource.namespaced)
    return causes + _validate_common(meta, resource)


def _validate_namespace(namespace: str, namespaced: bool) -> list[Cause]:
    path = f"{_PATH}.namespace"
    if namespaced:
        if not namespace:
            return [required(path)]
        return [invalid(path, namespace, why) for why in label_problems(namespace)]
    return [forbidden(path, "not allowed on this type")] if namespace else []


def _validate_common(meta: Object, resource: Descriptor) -> list[Cause]:
    causes: list[Cause] = []
    generation = meta.get("generation", 0)
    if generation < 0:
        text = "must be greater than or equal to 0"
        causes.append(invalid(f"{_PATH}.generation", generation, text))
    if meta.get("labels"):
        causes += validate_labels(meta["labels"], f"{_PATH}.labels")
    if meta.get("annotations"):
        causes += validate_annotations(meta["annotations"], f"{_PATH}.annotations")
    if meta.get("ownerReferences"):
        causes += validate_owners(meta["ownerReferences"], f"{_PATH}.ownerReferences")
    if meta.get("finalizers"):
        causes += validate_finalizers(meta["finalizers"], f"{_PATH}.finalizers")
        if resource.custom is None and resource.group not in ANY_FINALIZER:
            for position, name in enumerate(meta["finalizers"]):
                path = f"{_PATH}.finalizers[{position}]"
                causes += known_finalizer(name, path)
    return causes


def known_finalizer(name: str, path: str) -> list[Cause]:
    """Without a domain a finalizer is one of upstream's own."""
    if "/" in name or name in STANDARD_FINALIZERS:
        return []
    why = "name is neither a standard finalizer name nor is it fully qualified"
    return [invalid(path, name, why)]


def validate_meta_update(new: Object, old: Object, resource: Descriptor) -> list[Cause]:
    """Field errors of changed metadata. The server has carried over what it owns (uid, times)."""
    meta, before = new["metadata"], old["metadata"]
    causes: list[Cause] = []
    if before.get("deletionTimestamp"):
        extra = sorted(set(meta.get("finalizers") or ()) - set(before.get("finalizers") or ()))
        if extra:
            shown = ", ".join(f'"{name}"' for name in extra)
            why = (
                "no new finalizers can be added if the object is being deleted, "
                f"found new finalizers []string{{{shown}}}"
            )
            causes.append(forbidden(f"{_PATH}.finalizers", why))
    if meta.get("generation", 0) < before.get("generation", 0):
        why = "must not be decremented"
        causes.append(invalid(f"{_PATH}.generation", meta.get("generation", 0), why))
    for name in ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp",
                 "deletionGracePeriodSeconds"):  # fmt: skip
        causes += unchanged(f"{_PATH}.{name}", meta.get(name), before.get(name))
    # What has not changed was valid when it was stored.
    changed = {
        name: meta.get(name)
        for name in ("generation", "labels", "annotations", "ownerReferences", "finalizers")
        if name in meta and meta[name] != before.get(name)
    }
    return causes + _validate_common(changed, resource) if changed else causes


def version_required() -> Cause:
    """For kinds that refuse an update without resourceVersion."""
    return invalid(f"{_PATH}.resourceVersion", 0, "must be specified for an update")


def validate_annotations(annotations: Mapping[str, str], path: str) -> list[Cause]:
    causes = [
        invalid(path, key, why) for key in annotations for why in label_key_problems(key.lower())
    ]
    size = sum(len(key) + len(value) for key, value in annotations.items())
    if size * 4 > MAX_ANNOTATIONS_BYTES:
        size = sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items())
    if size > MAX_ANNOTATIONS_BYTES:
        causes.append(too_long(path, "", MAX_ANNOTATIONS_BYTES))
    return causes


def validate_owners(owners: Sequence[Object], path: str) -> list[Cause]:
    causes: list[Cause] = []
    controller = ""
    for owner in owners:
        causes += _validate_owner(owner, path)
        if owner.get("controller"):
            this = f"{owner.get('kind', '')}/{owner.get('name', '')}"
            if controller:
                why = (
                    "Only one reference can have Controller set to true. Found "
                    f'"true" in references for {controller} and {this}'
                )
                causes.append(invalid(path, owners, why))
            else:
                controller = this
    return causes


def _validate_owner(owner: Object, path: str) -> list[Cause]:
    causes = []
    api_version = owner.get("apiVersion", "")
    if not api_version.rpartition("/")[2]:
        causes.append(invalid(f"{path}.apiVersion", api_version, "version must not be empty"))
    for name in ("kind", "name", "uid"):
        if not owner.get(name):
            causes.append(invalid(f"{path}.{name}", owner.get(name, ""), "must not be empty"))
    if api_version == "v1" and owner.get("kind") == "Event":
        causes.append(invalid(path, owner, "/v1, Kind=Event is disallowed from being an owner"))
    return causes


def validate_finalizers(finalizers: Sequence[str], path: str) -> list[Cause]:
    causes = [invalid(path, name, why) for name in finalizers for why in label_key_problems(name)]
    if ORPHAN in finalizers and FOREGROUND in finalizers:
        why = f"finalizer {ORPHAN} and {FOREGROUND} cannot be both set"
        causes.append(invalid(path, finalizers, why))
    return causes
