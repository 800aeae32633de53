"""Machines that join a cluster by token: refused or made nodes, reached also where nobody can call
them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.kit.cli import Result
from tests.kit.images import busybox_archive
from tests.kit.machine import NOTHING, traces
from tests.kit.machines import Machine, machines

pytestmark = pytest.mark.root

PORT = 17443
FIREWALL = """
table inet somebody {
  chain input {
    type filter hook input priority -400;
    ct state established,related accept
    udp dport 8472 accept
    iifname "eth0" tcp flags syn drop
  }
}
"""
SERVICE = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "far"}}


def join(machine: Machine, found: dict[str, str], **other: str) -> Result:
    said = found | other
    trust = ("--discovery-token-ca-cert-hash", said["caCertHash"])
    options = ("--token", said["token"], *trust, "--node-name", said.get("node", machine.name))
    return machine.sampan("join", *options, said["server"])


def test_a_machine_joins_and_is_reached_although_nobody_can_call_it(tmp_path: Path) -> None:
    with machines(tmp_path, 2) as (server, worker):
        try:
            listen = f"{server.address}:{PORT}"
            server.sampan("up", "--no-merge", "--listen", listen).ok
            found = json.loads(server.sampan("token", "create", "--json").ok)
            refuse_what_is_wrong(server, worker, found)
            join(worker, found).ok
            again = join(worker, found)
            assert "runs cluster wire-2 already" in again.failed
            order = json.loads((worker.data / "join.json").read_text())
            assert "token" not in order
            worker.run("nft", "-f", "-", text=FIREWALL).ok
            talk(server, worker, tmp_path)
        finally:
            for machine in (worker, server):
                machine.sampan("down", "--purge").ok
        links = worker.run("ip", "-br", "link").ok
        assert {line.partition("@")[0].split()[0] for line in links.splitlines()} == {"lo", "eth0"}
    for machine in (worker, server):
        assert traces(machine.name, machine.data) == NOTHING


def refuse_what_is_wrong(server: Machine, worker: Machine, found: dict[str, str]) -> None:
    """With words that say what, and nothing is left that would stand in the next one's way."""
    first = server.get("nodes")["items"][0]["metadata"]["name"]
    short = json.loads(server.sampan("token", "create", "--ttl", "1s", "--json").ok)
    for other, why in (
        ({"node": first}, 'and status "Ready" already exists in the cluster'),
        # By now its second is over.
        ({"token": short["token"]}, "does not know the token, or it has expired"),
    ):
        assert why in join(worker, found, **other).failed
        assert not (worker.data / "join.json").exists()
    assert len(server.get("nodes")["items"]) == 1


def behind(worker: Machine) -> dict[str, object]:
    """A service of both families, IPv6 first."""
    return {
        "selector": {"on": worker.name},
        "ports": [{"port": 80, "targetPort": 8080}],
        "ipFamilyPolicy": "RequireDualStack",
        "ipFamilies": ["IPv6", "IPv4"],
    }


def literal(ip: str) -> str:
    """As a URL has it."""
    return f"[{ip}]" if ":" in ip else ip


def talk(server: Machine, worker: Machine, folder: Path) -> None:
    image = busybox_archive(folder / "image.tar", "joined:1")
    for machine in (server, worker):
        machine.sampan("image", "load", str(image)).ok
    nodes = {item["metadata"]["name"]: item for item in server.get("nodes")["items"]}
    assert nodes[worker.name]["status"]["addresses"][0]["address"] == worker.address
    script = "echo hello > /index.html; exec httpd -f -p 8080 -h /"
    for node in nodes:
        spec = {
            "nodeName": node,
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "c", "image": "joined:1", "command": ["sh", "-c", script]}],
        }
        meta = {"name": node, "labels": {"on": node}}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}
        server.kubectl("apply", "-f", "-", text=json.dumps(pod)).ok
    server.kubectl("apply", "-f", "-", text=json.dumps({**SERVICE, "spec": behind(worker)})).ok
    server.kubectl("wait", "pod", "--all", "--for=condition=Ready", "--timeout=30s").ok
    pods = {item["metadata"]["name"]: item for item in server.get("pods")["items"]}
    ips = {name: [ip["ip"] for ip in pod["status"]["podIPs"]] for name, pod in pods.items()}
    assert all([":" in ip for ip in found] == [False, True] for found in ips.values())
    services = server.get("service", "far")["spec"]["clusterIPs"]
    assert [":" in ip for ip in services] == [True, False]
    for one in nodes:
        # Each pod by each of its addresses, then the service, whose only pod is the worker's.
        asked = [f"{literal(ip)}:8080" for other in nodes for ip in ips[other]]
        asked += [literal(ip) for ip in services]
        script = "; ".join(f"timeout 5 wget -qO- http://{where}/" for where in asked)
        said = server.kubectl("exec", one, "--", "sh", "-c", script).ok
        assert said == "hello\n" * len(asked)
    names = "nslookup kubernetes.default.svc.cluster.local >/dev/null && echo found"
    assert server.kubectl("exec", worker.name, "--", "sh", "-c", names).ok == "found\n"
    much = "dd if=/dev/zero bs=1M count=4 2>/dev/null | tr '\\0' x"
    assert len(server.kubectl("exec", worker.name, "--", "sh", "-c", much).ok) == 4 << 20
