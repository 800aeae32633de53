"""pykube-ng: queries, updates, watches, exec by its own proxy, kinds of our own."""

from __future__ import annotations

from pathlib import Path

import pykube
import pytest

from tests.clients.cluster import deployment, pod, unless_conflict, until
from tests.clients.kinds import GROUP, boat, definition


@pytest.fixture
def api(kubeconfig: Path) -> pykube.HTTPClient:
    return pykube.HTTPClient(pykube.KubeConfig.from_file(str(kubeconfig)))


def test_objects(api: pykube.HTTPClient, namespace: str) -> None:
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "a", "namespace": namespace, "labels": {"k": "v"}},
        "data": {"x": "1"},
    }
    config = pykube.ConfigMap(api, body)
    config.create()
    config.obj["data"]["x"] = "2"
    config.update()
    config.patch({"data": {"y": "3"}})
    config.reload()
    assert config.obj["data"] == {"x": "2", "y": "3"}
    query = pykube.ConfigMap.objects(api).filter(
        namespace=namespace, selector={"k__in": {"v", "w"}}
    )
    assert [found.name for found in query] == ["a"]
    config.delete()
    assert pykube.ConfigMap.objects(api, namespace=namespace).get_or_none(name="a") is None
    with pytest.raises(pykube.exceptions.ObjectDoesNotExist):
        pykube.ConfigMap.objects(api, namespace=namespace).get_by_name("a")


def test_deployment_rollout(api: pykube.HTTPClient, namespace: str) -> None:
    body = deployment("web")
    body["metadata"]["namespace"] = namespace
    web = pykube.Deployment(api, body)
    web.create()
    until(lambda: web.reload() or is_ready(web))
    # Its update sends the version it has seen, and controllers write too.
    until(unless_conflict(lambda: web.reload() or web.scale(2)), "scaled")
    until(lambda: web.reload() or web.obj["status"].get("readyReplicas") == 2)

    def other_image() -> None:
        web.reload()
        web.obj["spec"]["template"]["spec"]["containers"][0]["image"] = "web:2"
        web.update()

    until(unless_conflict(other_image), "another image")
    until(lambda: web.reload() or (is_ready(web) and web.obj["status"]["updatedReplicas"] == 2))
    web.delete(propagation_policy="Background")


def is_ready(deployment: pykube.Deployment) -> bool:
    """Its own `ready` wants fields that are left out while they are 0."""
    wanted = {"observedGeneration", "updatedReplicas"}
    return wanted <= deployment.obj["status"].keys() and deployment.ready


def test_watch_and_logs(api: pykube.HTTPClient, namespace: str) -> None:
    body = pod("p")
    body["metadata"]["namespace"] = namespace
    pykube.Pod(api, body).create()
    for event in pykube.Pod.objects(api, namespace=namespace).watch():
        if event.object.ready:
            break
    assert event.object.logs() == "started\n"


def test_kinds_of_our_own(api: pykube.HTTPClient, namespace: str) -> None:
    crd = pykube.CustomResourceDefinition(api, definition("pikeboats"))
    crd.create()
    try:

        def established() -> bool:
            crd.reload()
            conditions = crd.obj.get("status", {}).get("conditions", [])
            return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)

        until(established)
        kind = pykube.object_factory(api, f"{GROUP}/v1", "Pikeboat")
        body = boat("sam", "pikeboats")
        body["metadata"]["namespace"] = namespace
        sam = kind(api, body)
        sam.create()
        sam.reload()
        assert sam.obj["spec"] == {"crew": 2, "seats": 4}
    finally:
        crd.delete()
