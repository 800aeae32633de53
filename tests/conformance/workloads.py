"""Objects that make pods, of any kind, for the tests of sig-apps."""

from __future__ import annotations

from typing import Any

from tests.conformance.bench import CONTROLLERS, DEPLOYMENTS, PODS, REPLICASETS, Bench, Obj
from tests.conformance.bench import template as template_of

APPS = "/apis/apps/v1/namespaces/default"
JOBS = "/apis/batch/v1/namespaces/default/jobs"
PATHS = {
    "Deployment": DEPLOYMENTS,
    "ReplicaSet": REPLICASETS,
    "StatefulSet": f"{APPS}/statefulsets",
    "DaemonSet": f"{APPS}/daemonsets",
    "ReplicationController": CONTROLLERS,
    "Job": JOBS,
}


def workload(kind: str, replicas: int | None = 1, name: str = "w", **spec: Any) -> Obj:
    """An object of the kind whose pods have the label app=NAME; keywords are of its spec."""
    body: Obj = {"template": template_of(app=name), **spec}
    if kind == "ReplicationController":
        body["selector"] = {"app": name}
    elif kind != "Job":
        body["selector"] = {"matchLabels": {"app": name}}
    if kind == "StatefulSet":
        body["serviceName"] = name
    if replicas is not None and kind not in ("DaemonSet", "Job"):
        body["replicas"] = replicas
    if kind == "Job":
        body["template"]["spec"]["restartPolicy"] = "Never"
    core = kind == "ReplicationController"
    group = "v1" if core else "batch/v1" if kind == "Job" else "apps/v1"
    meta = {"name": name, "labels": {"app": name}}
    return {"apiVersion": group, "kind": kind, "metadata": meta, "spec": body}


def with_image(image: str) -> Obj:
    """A patch that sets the template's image."""
    return {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}}


def image_of(pod: Obj) -> str:
    return str(pod["spec"]["containers"][0]["image"])


async def pods_of(bench: Bench) -> list[Obj]:
    """All that are not on their way out."""
    items: list[Obj] = (await bench.get(PODS))["items"]
    return [item for item in items if not item["metadata"].get("deletionTimestamp")]


async def ready(bench: Bench, kind: str, count: int, name: str = "w") -> Obj:
    """Wait until so many of its pods are ready."""
    field = "numberReady" if kind == "DaemonSet" else "readyReplicas"
    return await bench.state(
        f"{PATHS[kind]}/{name}", lambda obj: (obj.get("status") or {}).get(field, 0) == count
    )
