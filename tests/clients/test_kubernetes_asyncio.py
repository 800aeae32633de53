"""kubernetes-asyncio: lists, watches, exec over a WebSocket, dynamic client, custom objects."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from kubernetes_asyncio import client, config, dynamic, watch
from kubernetes_asyncio.client.exceptions import ApiException
from kubernetes_asyncio.stream import WsApiClient

from tests.clients.cluster import pod
from tests.clients.kinds import GROUP, boat, definition


@pytest.fixture
async def api(kubeconfig: Path) -> AsyncIterator[client.ApiClient]:
    settings = client.Configuration()
    await config.load_kube_config(str(kubeconfig), client_configuration=settings)
    async with client.ApiClient(settings) as made:
        yield made


async def await_running(core: client.CoreV1Api, name: str, namespace: str) -> None:
    async with watch.Watch().stream(
        core.list_namespaced_pod,
        namespace,
        field_selector=f"metadata.name={name}",
        timeout_seconds=30,
    ) as events:
        async for event in events:
            if event["object"].status.phase == "Running":
                return
    raise AssertionError(f"pod {name} does not run")


async def test_objects_and_watch(api: client.ApiClient, namespace: str) -> None:
    core = client.CoreV1Api(api)
    start = (await core.list_namespaced_config_map(namespace)).metadata.resource_version
    await core.create_namespaced_config_map(
        namespace, {"metadata": {"name": "a"}, "data": {"x": "1"}}
    )
    await core.patch_namespaced_config_map("a", namespace, {"data": {"x": "2"}})
    await core.delete_namespaced_config_map("a", namespace)
    seen = []
    async with watch.Watch().stream(
        core.list_namespaced_config_map, namespace, resource_version=start, timeout_seconds=10
    ) as events:
        async for event in events:
            seen.append((event["type"], event["object"].data))
            if len(seen) == 3:
                break
    assert seen == [("ADDED", {"x": "1"}), ("MODIFIED", {"x": "2"}), ("DELETED", {"x": "2"})]
    with pytest.raises(ApiException) as missing:
        await core.read_namespaced_config_map("a", namespace)
    assert missing.value.status == 404


async def test_exec_and_logs(api: client.ApiClient, namespace: str) -> None:
    core = client.CoreV1Api(api)
    await core.create_namespaced_pod(namespace, pod("busy"))
    await await_running(core, "busy", namespace)
    async with WsApiClient(api.configuration) as sockets:
        said = await client.CoreV1Api(sockets).connect_get_namespaced_pod_exec(
            "busy",
            namespace,
            command=["echo", "hello"],
            stdout=True,
            stderr=True,
            stdin=False,
            tty=False,
        )
    assert said == "hello\n"
    assert await core.read_namespaced_pod_log("busy", namespace) == "started\n"


async def test_dynamic_client_and_server_side_apply(api: client.ApiClient, namespace: str) -> None:
    async with dynamic.DynamicClient(api) as anything:
        resource = await anything.resources.get(api_version="v1", kind="ConfigMap")
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "a", "namespace": namespace},
            "data": {"x": "1"},
        }
        made = await resource.server_side_apply(
            body=body, name="a", namespace=namespace, field_manager="one"
        )
        assert made.metadata.managedFields[0].manager == "one"
        assert (await resource.get(name="a", namespace=namespace)).data.x == "1"
        await resource.delete(name="a", namespace=namespace)


async def test_custom_resources(api: client.ApiClient, namespace: str) -> None:
    extensions = client.ApiextensionsV1Api(api)
    body = definition("asyncboats")
    name = body["metadata"]["name"]
    await extensions.create_custom_resource_definition(body)
    try:
        async with watch.Watch().stream(
            extensions.list_custom_resource_definition,
            field_selector=f"metadata.name={name}",
            timeout_seconds=20,
        ) as events:
            async for event in events:
                conditions = (event["object"].status and event["object"].status.conditions) or []
                if any(c.type == "Established" and c.status == "True" for c in conditions):
                    break
            else:
                raise AssertionError("not established")
        objects = client.CustomObjectsApi(api)
        made = await objects.create_namespaced_custom_object(
            GROUP, "v1", namespace, "asyncboats", boat("sam", "asyncboats")
        )
        assert made["spec"] == {"crew": 2, "seats": 4}
        listed = await objects.list_namespaced_custom_object(GROUP, "v1", namespace, "asyncboats")
        assert [item["metadata"]["name"] for item in listed["items"]] == ["sam"]
    finally:
        await extensions.delete_custom_resource_definition(name)
