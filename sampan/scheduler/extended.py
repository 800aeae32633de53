"""Extended resources that devices stand behind (KEP-5004): a pod that asks for `example.com/gpu: 1`
gets devices of the class that has this name, where no node has the resource itself. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sampan.api.errors import Object
from sampan.api.meta import CLASS_RESOURCE
from sampan.wire.quantity import whole

ANNOTATION = "resource.kubernetes.io/extended-resource-claim"


def is_extended(resource: str) -> bool:
    """Is it a resource that somebody's own domain names?"""
    return "/" in resource


def class_of(resource: str, classes: Iterable[Object]) -> str:
    """The class whose devices stand for the resource, "" for none; of several the newest, and of
    those the first by name."""
    found = [
        item["metadata"]
        for item in classes
        if resource in ((item.get("spec") or {}).get("extendedResourceName"),
                        CLASS_RESOURCE + item["metadata"]["name"])
    ]  # fmt: skip
    found.sort(key=lambda meta: str(meta["name"]))
    found.sort(key=lambda meta: str(meta.get("creationTimestamp") or ""), reverse=True)
    return str(found[0]["name"]) if found else ""


def containers_of(pod: Object) -> list[Object]:
    return [*(pod["spec"].get("initContainers") or ()), *pod["spec"]["containers"]]


def requests_of(pod: Object, classes: Mapping[str, str]) -> list[tuple[str, str, Object]]:
    """(container, resource, request of the claim) for each resource that has a class."""
    out = []
    for number, container in enumerate(containers_of(pod)):
        asked = (container.get("resources") or {}).get("requests") or {}
        for place, resource in enumerate(sorted(asked)):
            count = whole(asked[resource]) if classes.get(resource) else 0
            if count:
                exactly = {
                    "deviceClassName": classes[resource],
                    "allocationMode": "ExactCount",
                    "count": count,
                }
                name = f"container-{number}-request-{place}"
                out.append((container["name"], resource, {"name": name, "exactly": exactly}))
    return out


def without(pod: Object, classes: Mapping[str, str]) -> Object:
    """The pod as nodes see it: what has a class is not asked of them."""

    def stripped(container: Object) -> Object:
        resources = container.get("resources") or {}
        asked = resources.get("requests") or {}
        kept = {key: value for key, value in asked.items() if not classes.get(key)}
        return {**container, "resources": {**resources, "requests": kept}}

    spec = {
        **pod["spec"],
        "containers": [stripped(item) for item in pod["spec"]["containers"]],
        "initContainers": [stripped(item) for item in pod["spec"].get("initContainers") or ()],
    }
    return {**pod, "spec": spec}


def claim_for(pod: Object, requests: Iterable[tuple[str, str, Object]]) -> Object:
    """The claim that holds a pod's devices, as it is made when the pod is bound."""
    meta = pod["metadata"]
    owner = {
        "apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"],
        "controller": True, "blockOwnerDeletion": True,
    }  # fmt: skip
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {
            "generateName": f"{meta['name']}-extended-resources-",
            "namespace": meta["namespace"],
            "annotations": {ANNOTATION: "true"},
            "ownerReferences": [owner],
        },
        "spec": {"devices": {"requests": [request for *_, request in requests]}},
    }


def is_claim_of(claim: Object, uid: str) -> bool:
    """Was it made for the extended resources of the pod?"""
    meta = claim["metadata"]
    return (meta.get("annotations") or {}).get(ANNOTATION) == "true" and any(
        item.get("controller") and item["uid"] == uid for item in meta.get("ownerReferences") or ()
    )


def status_of(name: str, requests: Iterable[tuple[str, str, Object]]) -> Object:
    """status.extendedResourceClaimStatus of the pod."""
    mappings = [
        {"containerName": container, "resourceName": resource, "requestName": request["name"]}
        for container, resource, request in requests
    ]
    return {"resourceClaimName": name, "requestMappings": mappings}
