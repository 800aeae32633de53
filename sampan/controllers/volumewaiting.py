"""What a claim waits for whose binding is delayed: a pod, or a pod's node."""

from __future__ import annotations

from sampan.api.errors import Object
from sampan.api.volumes import claim_name, is_for_pod
from sampan.client.informer import Informer

from .runtime.pods import is_finished

BY_CLAIM = "pods by claim"
FIRST_CONSUMER = "waiting for first consumer to be created before binding"


def add_claim_index(pods: Informer) -> None:
    """Index pods by the claims they use."""
    pods.add_index(BY_CLAIM, _claims)


def _claims(pod: Object) -> tuple[str, ...]:
    volumes = pod["spec"].get("volumes")
    if not volumes:
        return ()
    meta = pod["metadata"]
    names = [claim_name(meta["name"], volume) for volume in volumes]
    return tuple(f"{meta['namespace']}/{name}" for name in names if name)


def waiting_for(pods: Informer, claim: Object) -> tuple[str, str]:
    """(reason, message) of the event (emitEventForUnboundDelayBindingClaim)."""
    meta = claim["metadata"]
    users = [
        pod["metadata"]["name"]
        for pod in pods.by_index(BY_CLAIM, f"{meta['namespace']}/{meta['name']}")
        if not is_finished(pod) and not _is_foreign(pod, claim)
    ]
    if not users:
        return "WaitForFirstConsumer", FIRST_CONSUMER
    if len(users) == 1:
        return "WaitForPodScheduled", f"waiting for pod {users[0]} to be scheduled"
    return "WaitForPodScheduled", f"waiting for pods {','.join(sorted(users))} to be scheduled"


def _is_foreign(pod: Object, claim: Object) -> bool:
    """Would the pod use a claim of that name only if it had been made for it?"""
    name = claim["metadata"]["name"]
    ephemeral = any(
        volume.get("ephemeral") and claim_name(pod["metadata"]["name"], volume) == name
        for volume in pod["spec"].get("volumes") or ()
    )
    return ephemeral and not is_for_pod(pod, claim)
