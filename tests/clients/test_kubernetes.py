"""The Python `kubernetes` client, after the flows of its own examples."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic.exceptions import ConflictError, NotFoundError
from kubernetes.stream import portforward, stream

from tests.clients.cluster import deployment, pod, unless_conflict, until
from tests.clients.kinds import GROUP, boat, definition

CANDIDATE = Path(__file__).parent / "programs/candidate.py"
LEADER = "control-plane.alpha.kubernetes.io/leader"


@pytest.fixture
def api(kubeconfig: Path) -> Iterator[client.ApiClient]:
    with config.new_client_from_config(str(kubeconfig)) as made:
        yield made


def await_running(core: client.CoreV1Api, name: str, namespace: str) -> None:
    for event in watch.Watch().stream(
        core.list_namespaced_pod,
        namespace,
        field_selector=f"metadata.name={name}",
        timeout_seconds=30,
    ):
        if event["object"].status.phase == "Running":
            return
    raise AssertionError(f"pod {name} does not run")


def test_deployment_crud(api: client.ApiClient, namespace: str) -> None:
    """examples/deployment_crud.py: create, update the image, restart, delete."""
    apps = client.AppsV1Api(api)
    body = client.V1Deployment(
        metadata=client.V1ObjectMeta(name="nginx"),
        spec=client.V1DeploymentSpec(
            replicas=2,
            selector={"matchLabels": {"app": "nginx"}},
            template=client.V1PodTemplateSpec(
                metadata=client.V1ObjectMeta(labels={"app": "nginx"}),
                spec=client.V1PodSpec(
                    termination_grace_period_seconds=1,
                    containers=[
                        client.V1Container(
                            name="nginx",
                            image="web:1",
                            ports=[client.V1ContainerPort(container_port=8080)],
                            resources=client.V1ResourceRequirements(
                                requests={"cpu": "10m", "memory": "8Mi"},
                                limits={"cpu": "500m", "memory": "64Mi"},
                            ),
                        )
                    ],
                ),
            ),
        ),
    )
    made = apps.create_namespaced_deployment(namespace, body)
    assert made.metadata.generation == 1
    body.spec.template.spec.containers[0].image = "web:2"
    assert apps.patch_namespaced_deployment("nginx", namespace, body).metadata.generation == 2
    until(
        lambda: (
            apps.read_namespaced_deployment_status("nginx", namespace).status.ready_replicas == 2
        )
    )

    def scale() -> None:
        seen = apps.read_namespaced_deployment_scale("nginx", namespace)
        seen.spec.replicas = 1
        done = apps.replace_namespaced_deployment_scale("nginx", namespace, seen)
        assert done.spec.replicas == 1

    until(unless_conflict(scale), "scaled")
    options = client.V1DeleteOptions(propagation_policy="Foreground", grace_period_seconds=5)
    apps.delete_namespaced_deployment("nginx", namespace, body=options)

    def gone() -> bool:
        try:
            apps.read_namespaced_deployment("nginx", namespace)
        except ApiException as error:
            return bool(error.status == 404)
        return False

    until(gone)
    assert not client.CoreV1Api(api).list_namespaced_pod(namespace).items


def test_objects_lists_and_patches(api: client.ApiClient, namespace: str) -> None:
    core = client.CoreV1Api(api)
    for n in range(5):
        meta = client.V1ObjectMeta(name=f"c{n}", labels={"n": str(n)})
        core.create_namespaced_config_map(
            namespace, client.V1ConfigMap(metadata=meta, data={"n": str(n)})
        )
    first = core.list_namespaced_config_map(namespace, limit=2, label_selector="n")
    assert [item.metadata.name for item in first.items] == ["c0", "c1"]
    assert first.metadata.remaining_item_count is None
    rest = core.list_namespaced_config_map(
        namespace, limit=9, label_selector="n", _continue=first.metadata._continue
    )
    assert [item.metadata.name for item in rest.items] == ["c2", "c3", "c4"]
    assert core.patch_namespaced_config_map("c0", namespace, {"data": {"m": "x"}}).data["m"] == "x"
    operations = [{"op": "remove", "path": "/data/m"}]
    assert core.patch_namespaced_config_map("c0", namespace, operations).data == {"n": "0"}
    stale = core.read_namespaced_config_map("c1", namespace)
    core.patch_namespaced_config_map("c1", namespace, {"data": {"m": "x"}})
    with pytest.raises(ApiException) as conflict:
        core.replace_namespaced_config_map("c1", namespace, stale)
    assert conflict.value.status == 409
    with pytest.raises(ApiException) as invalid:
        core.create_namespaced_config_map(namespace, {"metadata": {"name": "No_Name"}})
    assert invalid.value.status == 422
    core.delete_collection_namespaced_config_map(namespace, label_selector="n in (1,2)")
    names = [
        item.metadata.name
        for item in core.list_namespaced_config_map(namespace, label_selector="n").items
    ]
    assert names == ["c0", "c3", "c4"]


def test_watch_goes_on_and_recovers(api: client.ApiClient, namespace: str) -> None:
    """examples/watch/: events from a version, and a version that is too old or from the future."""
    core = client.CoreV1Api(api)
    start = core.list_namespaced_config_map(namespace).metadata.resource_version
    for name in ("a", "b"):
        core.create_namespaced_config_map(namespace, {"metadata": {"name": name}})
    core.delete_namespaced_config_map("a", namespace)
    seen = []
    stream_ = watch.Watch()
    for event in stream_.stream(
        core.list_namespaced_config_map, namespace, resource_version=start, timeout_seconds=10
    ):
        seen.append((event["type"], event["object"].metadata.name))
        if len(seen) == 3:
            stream_.stop()
    assert seen == [("ADDED", "a"), ("ADDED", "b"), ("DELETED", "a")]


def test_exec_logs_and_port_forward(api: client.ApiClient, namespace: str) -> None:
    """examples/pod_exec.py, pod_logs.py, pod_portforward.py."""
    core = client.CoreV1Api(api)
    core.create_namespaced_pod(namespace, pod("busy"))
    await_running(core, "busy", namespace)
    connect = core.connect_get_namespaced_pod_exec
    ways: dict[str, Any] = {"stderr": True, "stdin": False, "stdout": True, "tty": False}
    command = ["sh", "-c", "echo to stderr >&2; echo to stdout"]
    assert sorted(stream(connect, "busy", namespace, command=command, **ways).split("\n"))[1:] == [
        "to stderr",
        "to stdout",
    ]
    session = stream(
        connect, "busy", namespace, command=["sh"], _preload_content=False, **ways | {"stdin": True}
    )
    session.write_stdin("echo typed; exit 3\n")
    session.run_forever(timeout=10)
    assert (session.read_stdout(), session.returncode) == ("typed\n", 3)
    assert core.read_namespaced_pod_log("busy", namespace) == "started\n"
    follow = watch.Watch().stream(core.read_namespaced_pod_log, "busy", namespace)
    assert next(follow) == "started"
    forward = portforward(
        core.connect_get_namespaced_pod_portforward, "busy", namespace, ports="8080"
    )
    connection: socket.socket = forward.socket(8080)
    connection.setblocking(True)
    connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
    answer = b""
    while part := connection.recv(4096):
        answer += part
    connection.close()
    assert answer.endswith(b"version 1\n")
    assert forward.error(8080) is None


def test_dynamic_client_and_server_side_apply(api: client.ApiClient, namespace: str) -> None:
    """examples/dynamic-client/: any kind by its name, applied by two owners."""
    resource = dynamic.DynamicClient(api).resources.get(api_version="v1", kind="ConfigMap")
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"x": "1"}}
    made = resource.server_side_apply(body=body, name="a", namespace=namespace, field_manager="one")
    assert made.data.x == "1"
    with pytest.raises(ConflictError) as conflict:
        resource.server_side_apply(
            body=body | {"data": {"x": "2"}}, name="a", namespace=namespace, field_manager="two"
        )
    assert 'conflict with "one"' in conflict.value.summary()
    forced = resource.server_side_apply(
        body=body | {"data": {"x": "2"}},
        name="a",
        namespace=namespace,
        field_manager="two",
        force_conflicts=True,
    )
    assert forced.data.x == "2"
    owners = {(entry.manager, entry.operation) for entry in forced.metadata.managedFields}
    # Whoever lost the only field owns nothing more.
    assert owners == {("two", "Apply")}
    seen = [event["type"] for event in resource.watch(namespace=namespace, name="a", timeout=1)]
    assert seen == ["ADDED"]
    resource.delete(name="a", namespace=namespace)
    with pytest.raises(NotFoundError):
        resource.get(name="a", namespace=namespace)


def test_custom_resources(api: client.ApiClient, namespace: str) -> None:
    """examples/dynamic-client/namespaced_custom_resource.py, and CustomObjectsApi."""
    extensions = client.ApiextensionsV1Api(api)
    body = definition("pyboats")
    name = body["metadata"]["name"]
    extensions.create_custom_resource_definition(body)
    try:

        def established() -> bool:
            status = extensions.read_custom_resource_definition(name).status
            return any(
                c.type == "Established" and c.status == "True" for c in (status.conditions or [])
            )

        until(established, "the definition is established")
        objects = client.CustomObjectsApi(api)
        made = objects.create_namespaced_custom_object(
            GROUP, "v1", namespace, "pyboats", boat("sam")
        )
        assert made["spec"]["seats"] == 4
        objects.patch_namespaced_custom_object_status(
            GROUP, "v1", namespace, "pyboats", "sam", {"status": {"crew": 2}}
        )
        found = objects.get_namespaced_custom_object(GROUP, "v1", namespace, "pyboats", "sam")
        assert (found["status"], found["metadata"]["generation"]) == ({"crew": 2}, 1)
        with pytest.raises(ApiException) as invalid:
            objects.create_namespaced_custom_object(
                GROUP, "v1", namespace, "pyboats", boat("bad") | {"spec": {"crew": "many"}}
            )
        assert invalid.value.status == 422
        kind = dynamic.DynamicClient(api).resources.get(api_version=f"{GROUP}/v1", kind="Pyboat")
        assert [item.metadata.name for item in kind.get(namespace=namespace).items] == ["sam"]
    finally:
        extensions.delete_custom_resource_definition(name)


def test_create_from_yaml_and_apply(api: client.ApiClient, namespace: str) -> None:
    """examples/apply_from_dict.py and apply_from_directory.py."""
    utils.create_from_dict(api, deployment("d", 0), namespace=namespace)
    with pytest.raises(utils.FailToCreateError):
        utils.create_from_dict(api, deployment("d", 0), namespace=namespace)
    assert client.AppsV1Api(api).read_namespaced_deployment("d", namespace).spec.replicas == 0


def test_rights(api: client.ApiClient, namespace: str) -> None:
    core, rights = client.CoreV1Api(api), client.RbacAuthorizationV1Api(api)
    core.create_namespaced_service_account(namespace, {"metadata": {"name": "reader"}})
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}]
    rights.create_namespaced_role(namespace, {"metadata": {"name": "r"}, "rules": rules})
    rights.create_namespaced_role_binding(
        namespace,
        {
            "metadata": {"name": "r"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
            "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": namespace}],
        },
    )
    spec = {"spec": {"expirationSeconds": 600}}
    token = core.create_namespaced_service_account_token("reader", namespace, spec).status.token
    own = client.Configuration()
    own.host, own.ssl_ca_cert = api.configuration.host, api.configuration.ssl_ca_cert
    own.api_key = {"authorization": f"Bearer {token}"}
    with client.ApiClient(own) as limited:
        reader = client.CoreV1Api(limited)
        assert reader.list_namespaced_config_map(namespace).items
        with pytest.raises(ApiException) as forbidden:
            reader.list_namespaced_secret(namespace)
    assert forbidden.value.status == 403


def test_leader_election(api: client.ApiClient, namespace: str, kubeconfig: Path) -> None:
    """examples/leaderelection: one of two leads; when it is gone, the other does."""
    core = client.CoreV1Api(api)

    def candidate(name: str) -> subprocess.Popen[bytes]:
        program = [sys.executable, "-W", "ignore", str(CANDIDATE)]
        return subprocess.Popen([*program, str(kubeconfig), namespace, name])

    def leader() -> str:
        try:
            lock = core.read_namespaced_config_map("lock", namespace)
        except ApiException:
            return ""
        return str(json.loads(lock.metadata.annotations[LEADER])["holderIdentity"])

    first = candidate("one")
    try:
        until(lambda: leader() == "one")
        second = candidate("two")
        try:
            first.kill()
            until(lambda: leader() == "two")
        finally:
            second.kill()
            second.wait()
    finally:
        first.kill()
        first.wait()
