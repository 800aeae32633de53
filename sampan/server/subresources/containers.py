"""Which container of a pod a request means, and on which node it runs."""

from __future__ import annotations

from sampan.api.errors import BadRequest, Object


def choose_container(pod: Object, name: str) -> str:
    """The container asked for, or the only one there is. Raises BadRequest in upstream's words."""
    pod_name = pod["metadata"]["name"]
    spec = pod.get("spec") or {}
    names = _names(spec, "containers")
    initial = _names(spec, "initContainers")
    if name:
        if name not in (*names, *initial, *_names(spec, "ephemeralContainers")):
            raise BadRequest(f"container {name} is not valid for pod {pod_name}")
        return name
    if len(names) == 1:
        return names[0]
    text = f"a container name must be specified for pod {pod_name}"
    if names:
        text += f", choose one of: [{' '.join(names)}]"
    if names and initial:
        text += f" or one of the init containers: [{' '.join(initial)}]"
    raise BadRequest(text)


def node_of(pod: Object) -> str:
    """The node the pod is bound to, "" if none."""
    return str((pod.get("spec") or {}).get("nodeName") or "")


def _names(spec: Object, field: str) -> list[str]:
    return [container["name"] for container in spec.get(field) or ()]
