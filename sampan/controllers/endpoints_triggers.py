"""When what a service's endpoints follow from has changed: from then on the time is measured until
proxies have heard of it (kubeproxy_network_programming_duration_seconds, an SLI of upstream's).

What upstream calls TriggerTimeTracker (endpointslice/util).
"""

from __future__ import annotations

from collections.abc import Iterable

from sampan.api.errors import Object

from .runtime.pods import ready_condition
from .runtime.queue import Request

ANNOTATION = "endpoints.kubernetes.io/last-change-trigger-time"


class Triggers:
    """Of all services: when each pod became ready or ceased to be, as it was last looked at. Times
    are compared as text, since the server writes all of them in one form. At most a service's
    pods are kept for it; `forget` it."""

    def __init__(self) -> None:
        self._seen: dict[Request, dict[str, str]] = {}

    def since(self, request: Request, service: Object, pods: Iterable[Object]) -> str:
        """When the first of the changes since the last call happened, "" if there are none; of a
        service that is new, when it was made."""
        known = self._seen.get(request)
        created = str(service["metadata"].get("creationTimestamp") or "")
        times: dict[str, str] = {"": created}
        for pod in pods:
            if (found := ready_condition(pod)) and (when := found.get("lastTransitionTime")):
                times[pod["metadata"]["name"]] = when
        self._seen[request] = times
        if known is None:
            return created
        changed = [when for name, when in times.items() if when > known.get(name, "")]
        return min(changed, default="")

    def forget(self, request: Request) -> None:
        """The service is gone."""
        self._seen.pop(request, None)


def stamped(annotations: Object | None, since: str) -> Object:
    """Annotations that say `since`; without any the old one goes. Pure."""
    found = {key: value for key, value in (annotations or {}).items() if key != ANNOTATION}
    return {**found, ANNOTATION: since} if since else found
