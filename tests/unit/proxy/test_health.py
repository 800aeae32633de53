"""healthCheckNodePort: what load balancers are told about this node."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from sampan.proxy.health import (
    EVERYWHERE,
    EVERYWHERE_6,
    Health,
    HealthPorts,
    answer,
    health_of,
)
from tests.kit.ports import free_port


def slices(*entries: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"endpoints": [{"nodeName": "here", **entry} for entry in entries]}]


def service(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": "ns", "name": "web"}, "spec": spec}


def test_ready_endpoints_of_this_node_count() -> None:
    asked = service(externalTrafficPolicy="Local", healthCheckNodePort=30000)
    found = slices(
        {"addresses": ["10.0.0.1"]},
        {"addresses": ["10.0.0.2"], "nodeName": "there"},
        {"addresses": ["10.0.0.3"], "conditions": {"ready": False, "serving": True}},
    )
    assert health_of(asked, found, "here") == Health("ns", "web", 30000, 1)
    assert health_of(service(healthCheckNodePort=30000), found, "here") is None
    assert health_of(service(externalTrafficPolicy="Local"), found, "here") is None


async def test_the_port_says_what_is_true_now() -> None:
    ports, key, port = HealthPorts(hosts=(EVERYWHERE, EVERYWHERE_6)), ("ns", "web"), free_port()
    try:
        await ports.settle({key: Health("ns", "web", port, 0)})
        head, body = await ask(port)
        assert head.startswith("HTTP/1.1 503 ")
        assert body == {
            "service": {"namespace": "ns", "name": "web"},
            "localEndpoints": 0,
            "serviceProxyHealthy": True,
        }
        await ports.settle({key: Health("ns", "web", port, 2)})
        head, body = await ask(port)
        assert head.startswith("HTTP/1.1 200 ")
        assert "X-Load-Balancing-Endpoint-Weight: 2\r\n" in head
        assert await ask(port, "::1") == (head, body)
        await ports.settle({key: None})
        try:
            await ask(port)
        except ConnectionRefusedError:
            return
        raise AssertionError("still listening")
    finally:
        ports.close()


def test_the_answer_has_upstreams_form() -> None:
    _, _, body = answer(Health("ns", "web", 30000, 2)).decode().partition("\r\n\r\n")
    assert body.splitlines() == [
        "{",
        '\t"service": {',
        '\t\t"namespace": "ns",',
        '\t\t"name": "web"',
        "\t},",
        '\t"localEndpoints": 2,',
        '\t"serviceProxyHealthy": true',
        "}",
    ]


async def ask(port: int, host: str = "127.0.0.1") -> tuple[str, Any]:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return head.decode() + "\r\n", json.loads(body)
