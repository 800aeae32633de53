"""What metrics.k8s.io/v1beta1 looks like, for OpenAPI and `kubectl explain`: data alone.

The shapes are as those of `sampan.api.shapes`, which knows the types of upstream's own server only:
this group comes from another one (k8s.io/metrics).
"""

from __future__ import annotations

from typing import Any

GROUP, VERSION = "metrics.k8s.io", "v1beta1"
PREFIX = f"io.k8s.metrics.pkg.apis.metrics.{VERSION}."
META = "io.k8s.apimachinery.pkg.apis.meta.v1."
QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
USAGE = {"type": "object", "additionalProperties": {"$ref": QUANTITY}}
WINDOW_TEXT = "The usage is measured over the interval [Timestamp-Window, Timestamp]."
TYPE_TEXTS = {
    "apiVersion": "The version of the group that the object is written in.",
    "kind": "The type of the object.",
}


def _kind(name: str, **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            **properties,
        },
        "required": sorted(key for key in properties if key != "metadata"),
        "x-kubernetes-group-version-kind": [{"group": GROUP, "kind": name, "version": VERSION}],
    }


def _measured(name: str, **what: Any) -> dict[str, Any]:
    meta = {"$ref": f"{META}ObjectMeta"}
    time = {"$ref": f"{META}Time"}
    return _kind(name, metadata=meta, timestamp=time, window={"type": "string"}, **what)


def _list(name: str) -> dict[str, Any]:
    items = {"type": "array", "items": {"$ref": f"{PREFIX}{name}"}}
    return _kind(f"{name}List", metadata={"$ref": f"{META}ListMeta"}, items=items)


SHAPES: dict[str, dict[str, Any]] = {
    f"{PREFIX}ContainerMetrics": {
        "type": "object",
        "properties": {"name": {"type": "string"}, "usage": USAGE},
        "required": ["name", "usage"],
    },
    f"{PREFIX}NodeMetrics": _measured("NodeMetrics", usage=USAGE),
    f"{PREFIX}NodeMetricsList": _list("NodeMetrics"),
    f"{PREFIX}PodMetrics": _measured(
        "PodMetrics",
        containers={"type": "array", "items": {"$ref": f"{PREFIX}ContainerMetrics"}},
    ),
    f"{PREFIX}PodMetricsList": _list("PodMetrics"),
}

_OF_BOTH = TYPE_TEXTS | {
    "metadata": "Name, namespace and labels of what was measured.",
    "timestamp": WINDOW_TEXT,
    "window": WINDOW_TEXT,
}
_OF_LISTS = TYPE_TEXTS | {"metadata": "Standard list metadata.", "items": "What was measured."}
_USAGE_TEXT = "The resources used: cpu is per second, memory is the working set."
TEXTS: dict[str, dict[str, str]] = {
    f"{PREFIX}ContainerMetrics": {
        "": "ContainerMetrics is what a container uses.",
        "name": "The container's name, as in the pod's spec.",
        "usage": _USAGE_TEXT,
    },
    f"{PREFIX}NodeMetrics": _OF_BOTH
    | {"": "NodeMetrics is what a node uses.", "usage": _USAGE_TEXT},
    f"{PREFIX}NodeMetricsList": _OF_LISTS | {"": "NodeMetricsList is a list of NodeMetrics."},
    f"{PREFIX}PodMetrics": _OF_BOTH
    | {"": "PodMetrics is what a pod's containers use.", "containers": "Each container's use."},
    f"{PREFIX}PodMetricsList": _OF_LISTS | {"": "PodMetricsList is a list of PodMetrics."},
}
