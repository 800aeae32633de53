"""What becomes of claims for devices (DRA, KEP-4381): who still uses one, and the claim that is
made for a pod from a template. Pure."""

from __future__ import annotations

from collections.abc import Collection

from msgspec import Struct

from sampan.api.errors import Object
from sampan.api.resources import resource

from .runtime.owners import controller_reference, controller_uid
from .runtime.pods import is_finished, is_terminating

POD_CLAIM = "resource.kubernetes.io/pod-claim-name"
"""Annotation of a claim made for a pod: which of the pod's claims it is."""
EXTENDED = "resource.kubernetes.io/extended-resource-claim"
"""The same of a claim that the scheduler made for extended resources (KEP-5004)."""
FINALIZER = "resource.kubernetes.io/delete-protection"
"""The scheduler's, while devices are allocated to the claim."""
MAX_RESERVED = 256
"""resource.k8s.io ResourceClaimReservedForMaxSize."""
# 63, less the hyphen and five random characters.
MAX_PREFIX = 57


class Sync(Struct, frozen=True):
    """What is to be written."""

    status: Object | None = None
    release: bool = False
    """Take the finalizer off: nothing is allocated any more, and it is going."""
    delete: bool = False
    """The pod it was made for has ended."""


def is_done(pod: Object) -> bool:
    """The pod runs no more, or never will: it needs no device."""
    bound = bool((pod.get("spec") or {}).get("nodeName"))
    return is_finished(pod) or (is_terminating(pod) and not bound)


def sync(claim: Object, used: Collection[str], *, owner_done: bool) -> Sync:
    """What a claim needs. `used` are the uids of consumers that still use it."""
    meta, status = claim["metadata"], claim.get("status") or {}
    reserved = status.get("reservedFor") or []
    valid = [item for item in reserved if item["uid"] in used]
    ours = FINALIZER in (meta.get("finalizers") or ())
    going = bool(meta.get("deletionTimestamp"))
    # Allocated by the scheduler, so it is enough to say that it is not any more. A claim that
    # was made by hand keeps its devices no longer than somebody uses them, either.
    free = ours and not valid and bool(status.get("allocation")) and (bool(reserved) or going)
    after = None
    if len(valid) < len(reserved) or free:
        after = {key: item for key, item in status.items() if key != "reservedFor"}
        if valid:
            after["reservedFor"] = valid
        if free:
            after.pop("allocation", None)
            after.pop("devices", None)
    allocated = (status if after is None else after).get("allocation")
    release = ours and going and not valid and not allocated
    return Sync(after, release, owner_done and not valid and not going)


def reserved(claim: Object, pod: Object) -> Object | None:
    """The status in which the pod has the claim, too; None if it has, or cannot."""
    status, meta = claim.get("status") or {}, pod["metadata"]
    known = status.get("reservedFor") or []
    if not status.get("allocation") or len(known) >= MAX_RESERVED:
        return None
    if any(entry["uid"] == meta["uid"] for entry in known):
        return None
    entry = {"resource": "pods", "name": meta["name"], "uid": meta["uid"]}
    return {**status, "reservedFor": [*known, entry]}


def made_from(template: Object, pod: Object, name: str) -> Object:
    """The claim for a pod's claim `name`, from its template."""
    given, meta = template["spec"].get("metadata") or {}, pod["metadata"]
    annotations = {**(given.get("annotations") or {}), POD_CLAIM: name}
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {
            "generateName": prefix(meta["name"], name),
            "namespace": meta["namespace"],
            **({"labels": given["labels"]} if given.get("labels") else {}),
            "annotations": annotations,
            "ownerReferences": [controller_reference(resource("pods"), pod)],
        },
        "spec": template["spec"]["spec"],
    }


def prefix(pod: str, claim: str) -> str:
    """Of the claim's name. Both parts are cut in proportion, so that something is left of each."""
    whole = f"{pod}-{claim}-"
    length = len(whole)
    if length <= MAX_PREFIX:
        return whole
    return f"{pod[: len(pod) * MAX_PREFIX // length]}-{claim[: len(claim) * MAX_PREFIX // length]}"


def has_admin_access(claim: Object) -> str:
    """ "true" or "false", as metrics label it."""
    requests = (claim["spec"].get("devices") or {}).get("requests") or ()
    asked = any((item.get("exactly") or {}).get("adminAccess") for item in requests)
    return "true" if asked else "false"


def kind_of(claim: Object) -> tuple[str, str, str]:
    """(is it allocated, has it administrators' access, what it was made for), as metrics say it."""
    allocated = "true" if (claim.get("status") or {}).get("allocation") else "false"
    annotations = claim["metadata"].get("annotations") or {}
    source = "resource_claim_template" if annotations.get(POD_CLAIM) else ""
    if annotations.get(EXTENDED) == "true":
        source = "extended_resource"
    return allocated, has_admin_access(claim), source


def claims_by_name(pod: Object) -> dict[str, str]:
    """Of the pod's claims that were made from templates: the claim's name; "" if none is needed."""
    found = (pod.get("status") or {}).get("resourceClaimStatuses") or ()
    return {item["name"]: item.get("resourceClaimName") or "" for item in found}


def is_for(claim: Object, pod: Object, name: str) -> bool:
    """Was it made for this claim of the pod?"""
    annotations = claim["metadata"].get("annotations") or {}
    return annotations.get(POD_CLAIM) == name and controller_uid(claim) == pod["metadata"]["uid"]
