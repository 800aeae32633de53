"""What a pod's network costs: connections a second and throughput from pod to pod and through a
service, against a bare veth pair and loopback; and how long one endpoint among thousands takes.

python -m bench.network (root; iperf3 and wrk from Debian)

Everything happens in a network namespace of its own, with the network and the proxy of a node as
they are, but without a cluster around them.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Network
from pathlib import Path
from typing import cast

from sampan.api.errors import Object
from sampan.linux import netns
from sampan.linux.nft import Nft
from sampan.linux.nftwatch import table_handle
from sampan.node.config import NodeConfig
from sampan.node.network import BridgeNetwork
from sampan.proxy.apply import Table
from sampan.proxy.endpoints import Place
from sampan.proxy.rules import Scope, rules_of

SERVICES = 5000
CHANGES = 50
SECONDS = 3
PODS, SERVICE_CIDR, ADDRESS = "10.244.0.0/24", "10.96.0.0/16", "10.96.77.77"
SCOPE = Scope(Place("node"), IPv4Network(PODS))
HTTP, IPERF = 8080, 5201


def service(number: int, address: str, port: int) -> Object:
    ports = [{"port": port, "protocol": "TCP"}]
    meta = {"namespace": "bench", "name": f"s{number}"}
    return {"metadata": meta, "spec": {"clusterIP": address, "ports": ports}}


def slice_of(port: int, *addresses: str) -> Object:
    return {
        "addressType": "IPv4",
        "ports": [{"port": port, "protocol": "TCP"}],
        "endpoints": [{"addresses": [ip], "nodeName": "node"} for ip in addresses],
    }


def many(number: int, turn: int = 0) -> Object:
    """Endpoints of service `number`, of which a turn changes one."""
    ips = [f"10.244.0.{(number + step + turn * (step == 2)) % 200 + 20}" for step in range(3)]
    return slice_of(80, *ips)


def inside(path: Path | None, *command: str) -> list[str]:
    return [*command] if path is None else ["nsenter", f"--net={path}", *command]


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@contextmanager
def servers(path: Path | None) -> Iterator[None]:
    """iperf3 and a web server in a namespace."""
    web = inside(path, sys.executable, "-m", "bench.network", "web")
    commands = [inside(path, "iperf3", "-s", "-p", str(IPERF)), web]
    running = [subprocess.Popen(item, stdout=subprocess.DEVNULL) for item in commands]
    try:
        time.sleep(1)
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def measure(client: Path | None, address: str) -> tuple[float, float]:
    """(Gbit/s, connections per second)."""
    said = output(*inside(client, "iperf3", "-J", "-t", str(SECONDS), "-c", address))
    bits = json.loads(said)["end"]["sum_received"]["bits_per_second"]
    load = ("wrk", "-t1", "-c16", f"-d{SECONDS}", "-H", "Connection: close")
    said = output(*inside(client, *load, f"http://{address}:{HTTP}/"))
    found = re.search(r"Requests/sec:\s+([\d.]+)", said)
    return bits / 1e9, float(found[1]) if found else 0.0


def bare(folder: Path) -> tuple[float, float]:
    """Two namespaces and a veth pair, nothing else."""
    home = netns.open_own()
    ends = [folder / name for name in ("left", "right")]
    for path in ends:
        path.touch()
        os.close(netns.create(path, home))
    output("ip", "link", "add", "left", "type", "veth", "peer", "name", "right")
    for number, path in enumerate(ends, 1):
        output("nsenter", f"--net={path}", "ip", "link", "set", "lo", "up")
        with path.open() as file:
            output(
                "ip", "link", "set", path.name, "netns", f"/proc/{os.getpid()}/fd/{file.fileno()}"
            )
        output(*inside(path, "ip", "address", "add", f"192.0.2.{number}/24", "dev", path.name))
        output(*inside(path, "ip", "link", "set", path.name, "up"))
    try:
        with servers(ends[1]):
            return measure(ends[0], "192.0.2.2")
    finally:
        for path in ends:
            netns.remove(path)
        os.close(home)


async def pods(folder: Path) -> dict[str, float]:
    pem = folder / "none.pem"
    config = NodeConfig(
        name="node", data=folder / "data", run=folder / "run", address="10.244.0.1", pod_cidr=PODS,
        dns_ip="", ca_cert=pem, cert=pem, key=pem,
    )  # fmt: skip
    network = BridgeNetwork(config, "bench", service_cidr=SERVICE_CIDR)
    await network.open()
    table, nft = Table("bench", SERVICE_CIDR), Nft()
    try:
        # A client each: ports that one has just used would stand in the other's way.
        one, two, three = [await network.attach(name) for name in ("one", "two", "three")]
        table.change(
            {
                ("bench", str(port)): rules_of(
                    service(port, ADDRESS, port), [slice_of(port, two.ip)], SCOPE
                )
                for port in (HTTP, IPERF)
            }
        )
        await nft.apply(table.whole())
        with servers(two.namespace_path):
            direct = measure(one.namespace_path, two.ip)
            through = measure(three.namespace_path, ADDRESS)
        changes = await endpoint_changes(table, nft)
    finally:
        await nft.apply(table.remove())
        await network.purge()
    return {
        "net pod Gbit": direct[0],
        "net pod connections": direct[1],
        "net service Gbit": through[0],
        "net service connections": through[1],
        **changes,
    }


async def endpoint_changes(table: Table, nft: Nft) -> dict[str, float]:
    """One endpoint of one service is another, among `SERVICES`."""
    addresses = [f"10.96.{number // 250}.{number % 250 + 1}" for number in range(SERVICES)]
    table.change(
        {
            ("bench", f"s{number}"): rules_of(service(number, ip, 80), [many(number)], SCOPE)
            for number, ip in enumerate(addresses)
        }
    )
    await nft.apply(table.whole())
    took = []
    used = time.process_time()
    for turn in range(1, CHANGES + 1):
        number = turn * 97 % SERVICES
        began = time.perf_counter()
        wanted = rules_of(service(number, addresses[number], 80), [many(number, 1)], SCOPE)
        script = table.change({("bench", f"s{number}"): wanted})
        table_handle(table.name)
        await nft.apply(script)
        took.append(time.perf_counter() - began)
    used = time.process_time() - used
    return {
        "net change": 1e3 * statistics.median(took),
        "net change CPU": 1e3 * used / CHANGES,
    }


async def serve() -> None:
    """As little of a web server as wrk needs."""

    class Answer(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast(asyncio.Transport, transport)

        def data_received(self, data: bytes) -> None:
            self.transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
            )
            self.transport.close()

    loop = asyncio.get_running_loop()
    server = await loop.create_server(Answer, "0.0.0.0", HTTP, backlog=4096)
    await server.serve_forever()


def everything() -> dict[str, float]:
    output("ip", "link", "set", "lo", "up")
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with servers(None):
            found["net loopback Gbit"], found["net loopback connections"] = measure(
                None, "127.0.0.1"
            )
        found["net veth Gbit"], found["net veth connections"] = bare(folder)
        found |= asyncio.run(pods(folder))
    return {key: round(value, 2) for key, value in found.items()}


def run() -> dict[str, float]:
    command = ["unshare", "--net", "--mount", sys.executable, "-m", "bench.network", "everything"]
    return dict(json.loads(output(*command)))


if __name__ == "__main__":
    if sys.argv[1:] == ["web"]:
        import uvloop

        uvloop.run(serve())
    elif sys.argv[1:] == ["everything"]:
        print(json.dumps(everything()))
    else:
        print(run())
