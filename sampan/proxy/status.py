"""What the proxy says of itself, at the two ports of upstream's: /metrics, /proxyMode and /healthz
at METRICS_PORT, /healthz and /livez at HEALTH_PORT (KEP-3836: pods of a node that goes are served
to the end, but load balancers are to send nothing new).

Both are at the node's gateway address, where pods reach them, and at 127.0.0.1 where no other
cluster of the machine has them. Tasks: `run`, and those of `aio.pages`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from socket import socket

from sampan.aio.pages import NOTHING, Page, Pages, bind_early, response, serve_pages
from sampan.api.errors import Object
from sampan.api.resources import api_resource
from sampan.api.times import format_micro_time
from sampan.client.informer import Informer, Informers
from sampan.wire.exposition import CONTENT_TYPE

from .endpoints import endpoints_of
from .rules import Scope
from .run import Proxy

log = logging.getLogger("sampan.proxy")

METRICS_PORT, HEALTH_PORT = 10249, 10256
# A change that waits longer for the kernel is a fault: upstream's twice --iptables-sync-period.
LATE_S = 60.0
# Of the cluster autoscaler, on nodes that it is about to remove.
_GOING = "ToBeDeletedByClusterAutoscaler"
_POLICIES = (("internal", "internalTrafficPolicy"), ("external", "externalTrafficPolicy"))


class Status:
    """Use it from the proxy's loop. `host` is the node's gateway address."""

    def __init__(self, proxy: Proxy, informers: Informers, node_name: str, host: str) -> None:
        self._proxy = proxy
        self._informers = informers
        self._node_name = node_name
        self._host = host
        self._node: Informer | None = None
        self._asked: Counter[tuple[str, int]] = Counter()

    async def run(self) -> None:
        """Listen until cancelled."""
        figures = [*self._listeners(METRICS_PORT)]
        health = [*self._listeners(HEALTH_PORT)]
        servers = await serve_pages(Pages(self.figures), figures)
        servers += await serve_pages(Pages(self.health), health)
        try:
            await asyncio.Event().wait()
        finally:
            for server in servers:
                server.close()

    def _listeners(self, port: int) -> Iterator[socket]:
        for host in (self._host, "127.0.0.1"):
            try:
                yield bind_early(host, port)
            except OSError as error:
                log.info("no pages at %s:%d: %s", host, port, error)

    def figures(self, path: str) -> bytes:
        """What METRICS_PORT says."""
        plain = "text/plain; charset=utf-8"
        pages: dict[str, Callable[[], Page]] = {
            "/metrics": lambda: (200, CONTENT_TYPE, self._text()),
            "/healthz": lambda: (200, plain, "ok"),
            "/proxyMode": lambda: (200, plain, "nftables"),
        }
        return response(pages.get(path, lambda: NOTHING)(), "X-Content-Type-Options: nosniff")

    def health(self, path: str) -> bytes:
        """What HEALTH_PORT says."""
        if path not in ("/healthz", "/livez"):
            return response(NOTHING)
        now, queued = time.time(), self._proxy.metrics.waiting_since
        eligible = self._is_eligible()
        good = self._proxy.ready.is_set() and (not queued or now - queued < LATE_S)
        code = 200 if good and (eligible or path == "/livez") else 503
        self._asked[path[1:], code] += 1
        shown = f'"lastUpdated": "{format_micro_time(queued or now)}"'
        shown += f',"currentTime": "{format_micro_time(now)}"'
        shown += f', "nodeEligible": {str(eligible).lower()}' if path == "/healthz" else ""
        page = code, "application/json", f"{{{shown}}}"
        return response(page, "X-Content-Type-Options: nosniff")

    def _is_eligible(self) -> bool:
        """The Node is watched from the first question on; until it is known, it is."""
        if self._node is None:
            fields = f"metadata.name={self._node_name}"
            self._node = self._informers.informer(api_resource("nodes"), fields=fields)
        return is_eligible(self._node.get("", self._node_name))

    def _text(self) -> str:
        proxy = self._proxy
        unserved: Counter[tuple[str, str]] = Counter()
        for scope in proxy.scopes():
            for service in proxy.services():
                for policy in unserved_policies(service, proxy.slices_of(service), scope):
                    unserved[scope.family.name, policy] += 1
        lines = [*proxy.metrics.lines(unserved)]
        for path in ("healthz", "livez"):
            name = f"kubeproxy_proxy_{path}_total"
            lines.append(f"# TYPE {name} counter")
            lines += [
                f'{name}{{code="{code}"}} {count}'
                for (which, code), count in sorted(self._asked.items())
                if which == path
            ]
        return "\n".join(lines) + "\n"


def is_eligible(node: Object | None) -> bool:
    """Whether load balancers may send to a node. Pure."""
    if node is None:
        return True
    taints = (node.get("spec") or {}).get("taints") or ()
    going = any(item.get("key") == _GOING for item in taints)
    return not going and not node["metadata"].get("deletionTimestamp")


def unserved_policies(service: Object, slices: Iterable[Object], scope: Scope) -> Iterator[str]:
    """For each port of a service that has endpoints, but none here: the policies that want one
    here. Pure."""
    spec = service.get("spec") or {}
    wanting = [name for name, field in _POLICIES if spec.get(field) == "Local"]
    if not wanting:
        return
    found = [item for item in slices if item.get("addressType", "IPv4") == scope.family.name]
    for port in spec.get("ports") or ():
        behind = endpoints_of(found, port, scope.place, scope.family)
        if behind.all and not behind.local:
            yield from wanting
