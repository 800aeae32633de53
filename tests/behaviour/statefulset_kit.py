"""StatefulSets and DaemonSets for tests, and what one looks at of them."""

from __future__ import annotations

from typing import Any

from sampan.api.errors import Object
from sampan.api.resources import resource

STATEFUL_SETS = resource("statefulsets", "apps")
DAEMON_SETS = resource("daemonsets", "apps")
REVISIONS = resource("controllerrevisions", "apps")
CLAIMS = resource("persistentvolumeclaims")


def template(name: str, image: str) -> Object:
    return {
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [{"name": "c", "image": image}]},
    }


def stateful_set(name: str = "db", replicas: int = 3, image: str = "db:1", **spec: Any) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "serviceName": name,
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": template(name, image),
            **spec,
        },
    }


def claim_template(name: str = "data") -> Object:
    return {
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Mi"}},
        },
    }


def daemon_set(name: str = "agent", image: str = "agent:1", **spec: Any) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": template(name, image),
            **spec,
        },
    }


def images(pods: list[Object]) -> dict[str, str]:
    """Image by the pod's name."""
    return {
        pod["metadata"]["name"]: pod["spec"]["containers"][0]["image"]
        for pod in sorted(pods, key=lambda pod: str(pod["metadata"]["name"]))
    }
