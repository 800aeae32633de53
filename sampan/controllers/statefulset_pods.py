"""Who is who in a StatefulSet: ordinals, names, labels, host names, and the pods made from them.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sampan.api.descriptor import Descriptor
from sampan.api.errors import Object

from .runtime import pods as podlib
from .runtime.history import REVISION_LABEL
from .runtime.owners import controller_reference

POD_NAME = "statefulset.kubernetes.io/pod-name"
POD_INDEX = "apps.kubernetes.io/pod-index"
NUMBERED = re.compile(r"(.*)-([0-9]+)")
MAX_ORDINAL = (1 << 31) - 1


def ordinal(owner: Object, pod: Object) -> int:
    """The pod's place; -1 if its name is none that the set gives."""
    found = NUMBERED.fullmatch(pod["metadata"]["name"])
    if found is None or found[1] != owner["metadata"]["name"]:
        return -1
    place = int(found[2])
    # "web-01" is nobody's.
    return place if place <= MAX_ORDINAL and found[2] == str(place) else -1


def start(owner: Object) -> int:
    return int((owner["spec"].get("ordinals") or {}).get("start") or 0)


def wanted(owner: Object) -> int:
    replicas = owner["spec"].get("replicas")
    return 1 if replicas is None else int(replicas)


def is_wanted(owner: Object, place: int) -> bool:
    return start(owner) <= place < start(owner) + wanted(owner)


def is_parallel(owner: Object) -> bool:
    return bool(owner["spec"].get("podManagementPolicy") == "Parallel")


def min_ready_s(owner: Object) -> int:
    return int(owner["spec"].get("minReadySeconds") or 0)


def revision_of(pod: Object) -> str:
    return str((pod["metadata"].get("labels") or {}).get(REVISION_LABEL) or "")


def is_ready(pod: Object) -> bool:
    return podlib.phase(pod) == "Running" and podlib.is_ready(pod)


def is_available(pod: Object, seconds: int, now_s: float) -> bool:
    return is_ready(pod) and podlib.available_in_s(pod, seconds, now_s) == 0.0


def new_pod(
    resource: Descriptor, owner: Object, template: Object, revision: str, place: int
) -> Object:
    """The pod of an ordinal, made from the template of a revision."""
    meta, given = owner["metadata"], template.get("metadata") or {}
    name = f"{meta['name']}-{place}"
    kept = {key: given[key] for key in ("annotations", "finalizers") if given.get(key)}
    labels = {**(given.get("labels") or {}), REVISION_LABEL: revision}
    spec = {
        **(template.get("spec") or {}),
        "hostname": name,
        "subdomain": owner["spec"].get("serviceName") or "",
    }
    if not spec["subdomain"]:
        del spec["subdomain"]
    body: Object = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **kept,
            "name": name,
            "generateName": f"{meta['name']}-",
            "namespace": meta["namespace"],
            "labels": {**labels, **identity(name, place)},
            "ownerReferences": [controller_reference(resource, owner)],
        },
        "spec": spec,
    }
    return with_claims(owner, body, place)


def identity(name: str, place: int) -> dict[str, str]:
    """The labels that say which pod it is."""
    return {POD_NAME: name, POD_INDEX: str(place)}


def has_identity(owner: Object, pod: Object) -> bool:
    """Does an adopted pod look like one of the set's own?"""
    meta = pod["metadata"]
    return (meta.get("labels") or {}).get(POD_NAME) == meta["name"] and has_storage(owner, pod)


def with_identity(owner: Object, pod: Object, place: int) -> Object:
    """The pod as the set's own looks."""
    meta = pod["metadata"]
    labels = {**(meta.get("labels") or {}), **identity(meta["name"], place)}
    body = {**pod, "metadata": {**meta, "labels": labels}}
    return body if has_storage(owner, pod) else with_claims(owner, body, place)


def claim_names(owner: Object, place: int) -> Iterator[tuple[str, str]]:
    """(volume, claim) of an ordinal."""
    name = owner["metadata"]["name"]
    for template in owner["spec"].get("volumeClaimTemplates") or ():
        volume = template["metadata"]["name"]
        yield volume, f"{volume}-{name}-{place}"


def has_storage(owner: Object, pod: Object) -> bool:
    volumes = {item["name"]: item for item in pod["spec"].get("volumes") or ()}
    for volume, claim in claim_names(owner, ordinal(owner, pod)):
        source = volumes.get(volume, {}).get("persistentVolumeClaim") or {}
        if source.get("claimName") != claim:
            return False
    return True


def with_claims(owner: Object, body: Object, place: int) -> Object:
    """The pod with the set's claims as volumes, before its own; one of the same name is hidden."""
    claims = dict(claim_names(owner, place))
    if not claims:
        return body
    volumes: list[Object] = [
        {"name": volume, "persistentVolumeClaim": {"claimName": claim}}
        for volume, claim in claims.items()
    ]
    volumes += [item for item in body["spec"].get("volumes") or () if item["name"] not in claims]
    return {**body, "spec": {**body["spec"], "volumes": volumes}}
