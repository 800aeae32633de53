"""Several nodes on one machine: pods on each reach each other, and nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit.cli import User
from tests.kit.images import busybox_archive
from tests.kit.machine import NOTHING, traces
from tests.kit.ports import free_port

pytestmark = pytest.mark.root

NODES = 3
NODE_PORT = 30191
WEB = """
mkdir -p /www/cgi-bin
printf '#!/bin/sh\\necho; echo $NODE' > /www/cgi-bin/who
chmod +x /www/cgi-bin/who
exec httpd -f -p 8080 -h /www
"""
PATH = "cgi-bin/who"


def objects() -> list[dict[str, Any]]:
    label = {"app": "web"}
    field = {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}
    container = {
        "name": "web",
        "image": "nodes:1",
        "command": ["sh", "-c", WEB],
        "env": [field],
        "readinessProbe": {"tcpSocket": {"port": 8080}},
    }
    pods = {
        "metadata": {"labels": label},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
    }
    sets = {"selector": {"matchLabels": label}, "template": pods}
    port = {"port": 80, "targetPort": 8080, "nodePort": NODE_PORT}
    service = {"type": "NodePort", "selector": label, "ports": [port]}
    return [
        {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "web"}, "spec": sets},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": service},
    ]


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """A cluster of three nodes with a pod on each, purged afterwards and checked for traces."""
    folder = tmp_path_factory.mktemp("nodes")
    (folder / "home").mkdir()
    user = User("several", folder / "data", folder / "home")
    try:
        listen = f"127.0.0.1:{free_port()}"
        user.sampan("up", "--no-merge", "--nodes", str(NODES), "--listen", listen).ok
        image = busybox_archive(folder / "image.tar", "nodes:1")
        user.sampan("image", "load", str(image)).ok
        user.kubectl(
            "apply",
            "-f",
            "-",
            text=json.dumps({"kind": "List", "apiVersion": "v1", "items": objects()}),
        ).ok
        user.kubectl("rollout", "status", "daemonset/web", "--timeout=60s").ok
        yield user
    finally:
        user.sampan("down", "--purge").ok
    assert traces(user.name, user.data) == NOTHING
    assert not list(Path("/run/sampan").glob(f"{user.name}*"))


def parts(user: User) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(user.sampan("status", "--json").ok)["parts"]
    return found


def pods(user: User) -> dict[str, Any]:
    """Node -> its pod."""
    return {item["spec"]["nodeName"]: item for item in user.get("pods", "-l", "app=web")["items"]}


def test_pods_of_each_node_reach_those_of_all_and_services(user: User) -> None:
    found = pods(user)
    assert len(found) == NODES
    assert len({item["status"]["podIP"].rpartition(".")[0] for item in found.values()}) == NODES
    addresses = {node: item["status"]["podIP"] for node, item in found.items()}
    script = [f"wget -qO- http://{ip}:8080/{PATH}" for ip in addresses.values()]
    script += [f"wget -qO- http://web.default/{PATH} > /dev/null && echo served"] * 3
    for pod in found.values():
        name = pod["metadata"]["name"]
        run = user.kubectl("exec", name, "--", "sh", "-c", "; ".join(script))
        assert run.ok.split() == [*addresses, *["served"] * 3]


def test_node_ports_are_on_every_node_and_on_the_machine(user: User) -> None:
    nodes = user.get("nodes")["items"]
    hosts = [item["status"]["addresses"][0]["address"] for item in nodes]
    assert len(set(hosts)) == NODES
    for host in (*hosts, "127.0.0.1"):
        with urllib.request.urlopen(f"http://{host}:{NODE_PORT}/{PATH}", timeout=5) as answer:
            assert answer.read().decode().strip() in pods(user)


def test_an_agent_that_is_killed_is_back_and_its_pods_never_went(user: User) -> None:
    before = parts(user)["node-2"]
    runs = user.kubectl("get", "pods", "-o", "jsonpath={..containerID}").ok
    os.kill(before["pid"], signal.SIGKILL)
    user.sampan("up", "--no-merge").ok
    name = pods(user)[before["node"]]["metadata"]["name"]
    assert user.kubectl("exec", name, "--", "echo", "here").ok == "here\n"
    assert user.kubectl("get", "pods", "-o", "jsonpath={..containerID}").ok == runs


def test_fewer_nodes_and_more(user: User) -> None:
    gone = parts(user)["node-3"]["node"]
    user.sampan("up", "--no-merge", "--nodes", "2").ok
    assert gone not in {item["metadata"]["name"] for item in user.get("nodes")["items"]}
    assert set(pods(user)) == {item["metadata"]["name"] for item in user.get("nodes")["items"]}
    assert not traces(f"{user.name}.3", user.data / "nodes/3").processes
    user.sampan("node", "add").ok
    assert parts(user)["node-3"]["state"] == "ready"
    user.kubectl("rollout", "status", "daemonset/web", "--timeout=60s").ok
    assert gone in pods(user)
