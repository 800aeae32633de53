"""healthCheckNodePort: external load balancers ask whether this node has endpoints of a service.

Tasks: as `aio.pages`. The answers are those of upstream's proxy (pkg/proxy/healthcheck): 200 with
endpoints, 503 without.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec import Struct

from sampan.aio.pages import HEAD_BYTES, NOTHING, Pages, response
from sampan.api.errors import Object

from .endpoints import port_number

log = logging.getLogger("sampan.proxy")

EVERYWHERE, EVERYWHERE_6 = "0.0.0.0", "::"

Key = tuple[str, str]


class Health(Struct, frozen=True):
    """What is said at a port."""

    namespace: str
    name: str
    port: int
    endpoints: int
    """Ready ones on this node."""


def health_of(service: Object, slices: Iterable[Object], node_name: str) -> Health | None:
    """None for a service that no load balancer asks about."""
    spec, meta = service.get("spec") or {}, service["metadata"]
    port = port_number(spec.get("healthCheckNodePort"))
    if port is None or spec.get("externalTrafficPolicy") != "Local":
        return None
    # A pod is in a slice of each of its families.
    first = (spec.get("ipFamilies") or ["IPv4"])[0]
    found = {
        (entry.get("addresses") or [""])[0]
        for item in slices
        if item.get("addressType", "IPv4") == first
        for entry in item.get("endpoints") or ()
        if entry.get("nodeName") == node_name
        and (entry.get("conditions") or {}).get("ready") is not False
    }
    return Health(meta["namespace"], meta["name"], port, len(found))


def answer(health: Health) -> bytes:
    """The whole response."""
    code = 200 if health.endpoints else 503
    said = {
        "service": {"namespace": health.namespace, "name": health.name},
        "localEndpoints": health.endpoints,
        "serviceProxyHealthy": True,
    }
    # Byte for byte as upstream: some read it line by line.
    page = code, "application/json", json.dumps(said, indent="\t")
    weight = f"X-Load-Balancing-Endpoint-Weight: {health.endpoints}"
    return response(page, "X-Content-Type-Options: nosniff", weight)


class HealthPorts:
    """The listeners. `settle` opens and closes what has changed."""

    def __init__(
        self,
        refused: Callable[[Health, OSError], None] | None = None,
        hosts: Sequence[str] = (EVERYWHERE,),
    ) -> None:
        """`refused` hears of a port that is taken, besides the log. `hosts`: where to listen."""
        self._refused = refused
        self._hosts = hosts
        self._health: dict[Key, Health] = {}
        self._servers: dict[Key, tuple[int, asyncio.Server]] = {}

    async def settle(self, changes: Mapping[Key, Health | None]) -> None:
        """What is said about these services from now on. A port that is taken is logged."""
        for key, health in changes.items():
            if health is not None:
                self._health[key] = health
            else:
                self._health.pop(key, None)
            port, server = self._servers.get(key, (0, None))
            if server is not None and (health is None or health.port != port):
                server.close()
                del self._servers[key]
                server = None
            if health is not None and server is None:
                try:
                    self._servers[key] = health.port, await self._listen(key, health.port)
                except OSError as error:
                    log.error("health checks of %s/%s at %d: %s", *key, health.port, error)
                    if self._refused is not None:
                        self._refused(health, error)

    def close(self) -> None:
        for _, server in self._servers.values():
            server.close()
        self._servers.clear()
        self._health.clear()

    async def _listen(self, key: Key, port: int) -> asyncio.Server:
        def say(path: str) -> bytes:
            found = self._health.get(key)
            return answer(found) if found is not None else response(NOTHING)

        converse = Pages(say).converse
        return await asyncio.start_server(converse, self._hosts, port, limit=HEAD_BYTES)
