"""lightkube: typed objects, patches of every type, apply, watch, waits, logs, generic kinds."""

from __future__ import annotations

from pathlib import Path

import pytest
from lightkube import ApiError, Client, KubeConfig
from lightkube.codecs import from_dict
from lightkube.generic_resource import create_namespaced_resource
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.apiextensions_v1 import CustomResourceDefinition
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.core_v1 import ConfigMap, Pod
from lightkube.types import CascadeType, PatchType

from tests.clients.cluster import deployment, pod, unless_conflict, until
from tests.clients.kinds import GROUP, boat, definition


@pytest.fixture
def api(kubeconfig: Path, namespace: str) -> Client:
    return Client(
        config=KubeConfig.from_file(str(kubeconfig)), namespace=namespace, field_manager="lk"
    )


def test_objects(api: Client) -> None:
    api.create(ConfigMap(metadata=ObjectMeta(name="a", labels={"k": "v"}), data={"x": "1"}))
    assert api.get(ConfigMap, "a").data == {"x": "1"}
    api.patch(ConfigMap, "a", {"data": {"y": "2"}}, patch_type=PatchType.STRATEGIC)
    api.patch(ConfigMap, "a", {"data": {"x": None}}, patch_type=PatchType.MERGE)
    found = api.patch(
        ConfigMap, "a", [{"op": "add", "path": "/data/z", "value": "3"}], patch_type=PatchType.JSON
    )
    assert found.data == {"y": "2", "z": "3"}
    found.data = {"only": "this"}
    assert api.replace(found).data == {"only": "this"}
    assert [c.metadata.name for c in api.list(ConfigMap, labels={"k": ["v", "w"]})] == ["a"]
    api.delete(ConfigMap, "a", cascade=CascadeType.BACKGROUND)
    with pytest.raises(ApiError) as missing:
        api.get(ConfigMap, "a")
    assert missing.value.status.reason == "NotFound"


def test_apply(api: Client) -> None:
    body = ConfigMap(
        apiVersion="v1", kind="ConfigMap", metadata=ObjectMeta(name="a"), data={"x": "1"}
    )
    assert api.apply(body).metadata.managedFields[0].manager == "lk"
    body.data = {"x": "2"}
    with pytest.raises(ApiError) as conflict:
        api.apply(body, field_manager="other")
    assert conflict.value.status.code == 409
    assert api.apply(body, field_manager="other", force=True).data == {"x": "2"}


def test_watch_wait_and_logs(api: Client) -> None:
    api.create(from_dict(deployment("web")))
    api.wait(Deployment, "web", for_conditions=["Available"])
    for _, seen in api.watch(Pod, labels={"app": "web"}):
        if seen.status.phase == "Running":
            break
    assert list(api.log(seen.metadata.name)) == ["started\n"]

    def scale() -> None:
        seen = api.get(Deployment.Scale, "web")
        seen.spec.replicas = 2
        assert api.replace(seen).spec.replicas == 2

    until(unless_conflict(scale), "scaled")
    api.delete(Deployment, "web", cascade=CascadeType.FOREGROUND)


def test_a_pod_and_its_status(api: Client) -> None:
    api.create(from_dict(pod("p", ["true"], restartPolicy="Never")))
    for _, seen in api.watch(Pod, fields={"metadata.name": "p"}):
        if seen.status.phase == "Succeeded":
            break
    assert api.get(Pod.Status, "p").status.containerStatuses[0].state.terminated.exitCode == 0


def test_generic_kinds(api: Client) -> None:
    crd = from_dict(definition("lightboats"))
    api.create(crd)
    try:
        api.wait(CustomResourceDefinition, crd.metadata.name, for_conditions=["Established"])
        kind = create_namespaced_resource(GROUP, "v1", "Lightboat", "lightboats")
        api.create(kind(boat("sam", "lightboats")))
        found = api.get(kind, "sam")
        assert found.spec == {"crew": 2, "seats": 4}
        # A strategic patch, its default, is for kinds with a schema in Go: 415, as upstream.
        with pytest.raises(ApiError) as unsupported:
            api.patch(kind, "sam", {"spec": {"crew": 3}})
        assert unsupported.value.status.code == 415
        patch = {"status": {"crew": 2}}
        made = api.patch(kind.Status, "sam", patch, patch_type=PatchType.MERGE)
        assert made.status == {"crew": 2}
    finally:
        api.delete(CustomResourceDefinition, crd.metadata.name)
