"""kr8s: objects, waits, exec, logs, port-forward, kinds it learns from the server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import kr8s.asyncio
import pytest
from kr8s.asyncio.objects import APIObject, ConfigMap, CustomResourceDefinition, Deployment, Pod

from tests.clients.cluster import deployment, pod
from tests.clients.kinds import GROUP, boat, definition


@pytest.fixture
async def api(kubeconfig: Path) -> Any:
    return await kr8s.asyncio.api(kubeconfig=str(kubeconfig))


async def test_objects(api: Any, namespace: str) -> None:
    body = {"metadata": {"name": "a", "namespace": namespace}, "data": {"x": "1"}}
    config = await ConfigMap(body, api=api)
    await config.create()
    await config.label({"k": "v"})
    await config.annotate({"note": "words"})
    await config.patch({"data": {"y": "2"}})
    found = [c async for c in api.get("configmaps", namespace=namespace, label_selector={"k": "v"})]
    assert [c.name for c in found] == ["a"]
    assert dict(found[0].raw["data"]) == {"x": "1", "y": "2"}
    await config.delete()
    assert not await config.exists()
    with pytest.raises(kr8s.NotFoundError):
        await ConfigMap.get("a", namespace=namespace, api=api)
    assert (await api.version())["minor"] == "36"
    assert (await api.whoami()) is not None


async def test_pod_exec_logs_and_port_forward(api: Any, namespace: str) -> None:
    body = pod("busy")
    body["metadata"]["namespace"] = namespace
    busy = await Pod(body, api=api)
    await busy.create()
    await busy.wait("condition=Ready", timeout=30)
    done = await busy.exec(["sh", "-c", "echo out; echo err >&2"])
    assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"err\n", 0)
    assert (await busy.exec(["sh", "-c", "exit 3"], check=False)).returncode == 3
    assert [line async for line in busy.logs()] == ["started"]
    async with (
        busy.portforward(remote_port=8080, local_port="auto") as port,
        httpx.AsyncClient() as web,
    ):
        for _ in range(2):
            assert (await web.get(f"http://127.0.0.1:{port}/")).text == "version 1\n"
    await busy.delete()
    await busy.wait("delete", timeout=30)


async def test_deployment_scale_and_watch(api: Any, namespace: str) -> None:
    body = deployment("web")
    body["metadata"]["namespace"] = namespace
    web = await Deployment(body, api=api)
    await web.create()
    await web.scale(2)
    async with asyncio.timeout(30):
        async for _, seen in api.watch("deployments", namespace=namespace):
            if seen.raw["status"].get("readyReplicas") == 2:
                break
    assert len(await web.pods()) == 2
    await web.delete(propagation_policy="Foreground")


async def test_custom_resources(api: Any, namespace: str) -> None:
    crd = await CustomResourceDefinition(definition("kraboats"), api=api)
    await crd.create()
    try:
        await crd.wait("condition=Established", timeout=20)
        kind = kr8s.asyncio.objects.new_class("Kraboat", f"{GROUP}/v1", namespaced=True)
        body = boat("sam", "kraboats")
        body["metadata"]["namespace"] = namespace
        sam: APIObject = await kind(body, api=api)
        await sam.create()
        assert sam.raw["spec"] == {"crew": 2, "seats": 4}
        found = [b async for b in api.get(f"kraboats.{GROUP}", namespace=namespace)]
        assert [b.name for b in found] == ["sam"]
    finally:
        await crd.delete()
