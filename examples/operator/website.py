"""A small operator written with kopf: a Website gets a ConfigMap with its text and a Deployment
that serves it, and its status follows the Deployment. `kopf run website.py` runs it.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import kopf
import kubernetes
from kubernetes.dynamic import DynamicClient

MANAGER = "website-operator"


@kopf.on.startup()
def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    settings.persistence.finalizer = "example.com/website"
    settings.posting.enabled = False
    client.cache_clear()


@kopf.on.login()
def login(**arguments: Any) -> Any:
    """In a pod by its service account, elsewhere by $KUBECONFIG as it is now."""
    return kopf.login_with_service_account(**arguments) or kopf.login_with_kubeconfig(**arguments)


@cache
def client() -> DynamicClient:
    """The API, as the current kubeconfig (or the pod's service account) reaches it."""
    try:
        kubernetes.config.load_incluster_config()
    except kubernetes.config.ConfigException:
        kubernetes.config.load_kube_config(os.environ.get("KUBECONFIG"))
    return DynamicClient(kubernetes.client.ApiClient())


def children(name: str, spec: dict[str, Any]) -> list[dict[str, Any]]:
    """What a Website needs beside itself."""
    labels = {"website": name}
    container = {
        "name": "httpd",
        "image": spec["image"],
        "command": ["httpd", "-f", "-p", "8080", "-h", "/www"],
        "volumeMounts": [{"name": "text", "mountPath": "/www"}],
    }
    pod = {
        "containers": [container],
        "volumes": [{"name": "text", "configMap": {"name": name}}],
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "labels": labels},
            "data": {"index.html": spec["text"]},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "labels": labels},
            "spec": {
                "replicas": spec["replicas"],
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        },
    ]


@kopf.on.create("websites.example.com")
@kopf.on.update("websites.example.com", field="spec")
@kopf.on.resume("websites.example.com")
def bring_about(name: str, spec: Any, **_: Any) -> None:
    """Create or change the children by server-side apply: it may run any number of times."""
    for child in children(name, dict(spec)):
        kopf.adopt(child)
        resource = client().resources.get(api_version=child["apiVersion"], kind=child["kind"])
        resource.server_side_apply(body=child, field_manager=MANAGER, force_conflicts=True)


@kopf.on.delete("websites.example.com")
def say_farewell(name: str, logger: Any, **_: Any) -> None:
    """The children go by themselves, since the Website owns them; the finalizer that kopf keeps for
    this handler makes sure that the operator has seen the end."""
    logger.info("%s goes", name)


@kopf.on.event("apps", "v1", "deployments", labels={"website": kopf.PRESENT})
@kopf.on.event("", "v1", "pods", labels={"website": kopf.PRESENT})
def tell(labels: Any, namespace: str, **_: Any) -> None:
    """The status of a Website: how many pods are ready, and what keeps the others."""
    name = labels["website"]
    pods = kubernetes.client.CoreV1Api(client().client).list_namespaced_pod(
        namespace, label_selector=f"website={name}"
    )
    status = {"ready": sum(map(is_ready, pods.items)), "trouble": trouble(pods.items)}
    websites = client().resources.get(api_version="example.com/v1", kind="Website")
    try:
        websites.status.patch(
            name=name,
            namespace=namespace,
            body={"status": status},
            content_type="application/merge-patch+json",
        )
    except kubernetes.dynamic.exceptions.NotFoundError:
        return  # The Website goes, and its pods follow.


def is_ready(pod: Any) -> bool:
    conditions = pod.status.conditions or ()
    return any(item.type == "Ready" and item.status == "True" for item in conditions)


def trouble(pods: list[Any]) -> str | None:
    """Why a container waits, of the first that has a reason worth telling."""
    for pod in pods:
        for container in pod.status.container_statuses or ():
            waiting = container.state.waiting
            if waiting is not None and waiting.reason not in ("ContainerCreating", None):
                return f"{pod.metadata.name}: {waiting.reason}"
    return None
