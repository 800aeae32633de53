"""The cluster inside a test: what `sampan.testing` gives its users."""

from __future__ import annotations

import asyncio
import gc
import shutil
import socket
import ssl
import subprocess
import sys
import time
import weakref
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from sampan.api.errors import BadRequest, NotFound
from sampan.server.http import SHUTDOWN_S
from sampan.testing import Cluster, Outcome, ThreadedCluster
from sampan.testing.cluster import objects_in

KUBECTL = Path(sys.executable).with_name("kubectl")
WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: main, image: "web:1"}]}
"""


def ready(count: int) -> Any:
    return lambda obj: obj and obj.get("status", {}).get("readyReplicas") == count


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_begins_with_a_fresh_state(cluster: ThreadedCluster, turn: int) -> None:
    assert [item["metadata"]["name"] for item in cluster.list("nodes")] == ["node-0"]
    assert cluster.list("deployments") == []
    cluster.apply(WEB)
    cluster.wait("deploy", "web", ready(2))
    assert {item["spec"]["nodeName"] for item in cluster.list("pods")} == {"node-0"}
    for labels in ("app=web", {"app": "web"}):
        assert len(cluster.list("pods", labels=labels)) == 2


def test_any_client_may_use_it_while_the_test_blocks(cluster: ThreadedCluster) -> None:
    assert KUBECTL.exists() or shutil.which("kubectl")
    done = subprocess.run(
        [KUBECTL, "--kubeconfig", cluster.kubeconfig, "apply", "-f", "-"],
        input=WEB,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stdout == "deployment.apps/web created\n", done.stderr
    cluster.wait("deployment", "web", ready(2))
    assert (cluster.kubeconfig.stat().st_mode & 0o777) == 0o600


@pytest.mark.parametrize(
    ("manifest", "why"),
    [
        ("a: [", "error parsing the manifest"),
        ("web.yaml", r"is it a path\? Path\('web.yaml'\)"),
        ("a: b", "no kind in"),
        ({"kind": "Pod"}, "no apiVersion in"),
        ({"apiVersion": "v1", "kind": "Pod"}, "no metadata in"),
        ({"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "x"}}, "no name in"),
    ],
)
async def test_what_is_no_manifest(cluster: Cluster, manifest: Any, why: str) -> None:
    with pytest.raises(BadRequest, match=why):
        await cluster.apply(manifest)


async def test_in_the_tests_own_loop(cluster: Cluster) -> None:
    await cluster.apply(WEB)
    await cluster.settle()
    assert (await cluster.get("deployment", "web"))["status"]["readyReplicas"] == 2
    owner = await cluster.get("deployment", "web")
    await cluster.delete("deployment", "web")
    await cluster.settle()
    left = [obj for obj in objects_in(cluster) if obj["kind"] != "Event"]
    assert all(owner["metadata"]["uid"] not in str(obj) for obj in left)
    assert not [obj for obj in left if obj["kind"] in ("Pod", "ReplicaSet")]


async def test_a_script_decides_what_pods_do(cluster: Cluster) -> None:
    cluster.script(Outcome(waiting="ErrImagePull"), image="web:*")
    await cluster.apply(WEB)
    await cluster.settle()
    pods = await cluster.list("pods", labels="app=web")
    assert {pod["status"]["phase"] for pod in pods} == {"Pending"}
    cluster.script(Outcome(), labels={"app": "web"})
    await cluster.wait("deployment", "web", ready(2))
    with pytest.raises(TimeoutError, match="'web'"):
        await cluster.wait("deployment", "web", ready(3), timeout_s=0.01)
    with pytest.raises(NotFound):
        await cluster.get("pod", "nobody")


@pytest.mark.cluster(nodes=2, virtual_time=True)
async def test_time_passes_when_told_to(cluster: Cluster) -> None:
    await cluster.apply(WEB)
    await cluster.settle()
    assert {pod["spec"]["nodeName"] for pod in await cluster.list("pods")} == {"node-0", "node-1"}

    cluster.stop_node("node-0")
    await cluster.advance(60)
    node = await cluster.get("node", "node-0")
    assert {item["key"] for item in node["spec"]["taints"]} == {
        "node.kubernetes.io/unreachable",
    }
    await cluster.advance(400)  # the default toleration is five minutes
    pods = [pod for pod in await cluster.list("pods") if "deletionTimestamp" not in pod["metadata"]]
    assert [pod["spec"]["nodeName"] for pod in pods] == ["node-1", "node-1"]

    cluster.start_node("node-0")
    await cluster.advance(30)
    assert "taints" not in (await cluster.get("node", "node-0"))["spec"]
    assert len(await cluster.list("pods")) == 2


@pytest.mark.root
@pytest.mark.cluster(real=True)
def test_a_real_cluster_when_asked_for(cluster: Any) -> None:
    node = cluster.list("nodes")[0]
    assert node["status"]["nodeInfo"]["containerRuntimeVersion"].startswith("crun")


async def test_a_closed_cluster_leaves_nothing() -> None:
    """A run of a thousand tests must not hold a thousand clusters."""
    cluster = await Cluster.start()
    kept = weakref.ref(cluster.server)
    await cluster.close()
    del cluster
    async with asyncio.timeout(10):
        while kept() is not None:  # what the loop has yet to finish holds it for a moment
            await asyncio.sleep(0)
            gc.collect()


@pytest.mark.parametrize("path", ["/version", "/api/v1/pods?watch=1"])
def test_a_client_that_keeps_its_connection_does_not_hold_up_the_end(path: str) -> None:
    cluster = ThreadedCluster.start()
    with socket.create_connection(("127.0.0.1", urlsplit(cluster.url).port or 0)) as plain:
        context = ssl.create_default_context(cafile=str(cluster.ca_file))
        with context.wrap_socket(plain, server_hostname="127.0.0.1") as wire:
            head = (
                f"GET {path} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {cluster.token}\r\n\r\n"
            )
            wire.sendall(head.encode())
            assert wire.recv(1 << 16).startswith(b"HTTP/1.1 200")
            began = time.monotonic()
            cluster.close()
            assert time.monotonic() - began < SHUTDOWN_S / 2
            # Its end is said, not broken off.
            while wire.recv(1 << 16):
                pass
