"""Services: cluster addresses and node ports (upstream: registry/core/service/storage/alloc.go).

What is taken is read from the services themselves, by observing them, so nothing is stored beside
them and nothing can leak. A write holds what it takes until it is stored or refused.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sampan.api import errors, fields
from sampan.api.errors import Cause, Object
from sampan.api.kinds.core.servicechanges import (
    WITH_ADDRESS,
    WITH_NODE_PORTS,
    needs_health_port,
    node_ports,
)
from sampan.api.kinds.core.servicefamilies import choose_families, keeps_both
from sampan.api.resources import resource

from .interface import Strategy
from .pool import Pool, static_band

if TYPE_CHECKING:
    from sampan.server.app import Server

HEADLESS = "None"


class ServiceStrategy(Strategy):
    def __init__(self, server: Server) -> None:
        network = ipaddress.ip_network(server.config.service_cidr)
        # Neither the network's own address nor, as upstream, the broadcast address is given out.
        size = network.num_addresses - 2
        self._cidr = server.config.service_cidr
        self._family = f"IPv{network.version}"
        self._parse = type(network.network_address)
        self._addresses = Pool(
            int(network.network_address) + 1, size, static_band(size, 16, 16, 256)
        )
        first, last = server.config.node_ports
        count = last - first + 1
        self._ports = Pool(first, count, static_band(count, 32, 16, 128))
        server.observe(resource("services"), self._on_change)

    def _on_change(self, kind: str, obj: Object, old: Object | None) -> None:
        before = self._used(old) if old is not None else (set(), set())
        after = self._used(obj) if kind != "DELETED" else (set(), set())
        for pool, was, now in zip((self._addresses, self._ports), before, after, strict=True):
            for number in was - now:
                pool.release(number)
            for number in now - was:
                pool.take(number)

    def _used(self, obj: Object) -> tuple[set[int], set[int]]:
        spec = obj.get("spec") or {}
        addresses = {
            int(self._parse(text))
            for text in spec.get("clusterIPs")
            or ([spec["clusterIP"]] if "clusterIP" in spec else [])
            if text and text != HEADLESS and _is(self._parse, text)
        }
        # A load balancer's address may be of this network too, and is nobody else's then.
        for item in ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ():
            if _is(self._parse, item.get("ip") or ""):
                addresses.add(int(self._parse(item["ip"])))
        ports = {port["nodePort"] for port in spec.get("ports") or () if port.get("nodePort")}
        if spec.get("healthCheckNodePort"):
            ports.add(spec["healthCheckNodePort"])
        return addresses, ports

    @contextmanager
    def reserve(self, obj: Object, old: Object | None, dry_run: bool) -> Iterator[None]:
        spec = obj.get("spec")
        if not isinstance(spec, dict):
            yield
            return
        held: list[tuple[Pool, int]] = []
        before: Object = (old or {}).get("spec") or {}
        done = False
        try:
            causes = self._allocate(spec, before, held)
            if causes:
                name = obj["metadata"].get("name", "")
                raise errors.invalid("", "Service", name, causes)
            yield
            done = not dry_run
        finally:
            if not done:
                for pool, number in held:
                    pool.release(number)

    def _allocate(self, spec: Object, before: Object, held: list[tuple[Pool, int]]) -> list[Cause]:
        if spec.get("type") == "ExternalName":
            return []
        causes = []
        if not keeps_both(spec, before):
            causes = choose_families(spec, before, self._family)
            causes = causes or self._allocate_address(spec, before, held)
        if not causes and spec.get("type") in WITH_NODE_PORTS:
            causes = self._allocate_ports(spec, before, held)
        return causes

    def _allocate_address(
        self, spec: Object, before: Object, held: list[tuple[Pool, int]]
    ) -> list[Cause]:
        if spec.get("clusterIP") == HEADLESS or before.get("type") in WITH_ADDRESS:
            # What had an address keeps it: validation says so where it was changed.
            return []
        asked = spec.get("clusterIP")
        if not asked:
            number = self._addresses.take_any()
            if number is None:
                return [fields.internal("spec.clusterIPs", "range is full")]
        else:
            number = int(self._parse(asked))
            why = self._why_not(asked, number)
            if why:
                detail = f"failed to allocate IP {asked}: {why}"
                return [fields.invalid("spec.clusterIPs", spec["clusterIPs"], detail)]
        held.append((self._addresses, number))
        spec["clusterIP"] = str(self._parse(number))
        spec["clusterIPs"] = [spec["clusterIP"]]
        return []

    def _why_not(self, text: str, number: int) -> str:
        if number not in self._addresses:
            return (
                f"the provided network does not match the current range; {text} is not in the "
                f"valid range. The range of valid IPs is {self._cidr}"
            )
        return "" if self._addresses.take(number) else "provided IP is already allocated"

    def _allocate_ports(
        self, spec: Object, before: Object, held: list[tuple[Pool, int]]
    ) -> list[Cause]:
        own = node_ports(before)
        wanted = spec.get("type") == "NodePort" or spec.get("allocateLoadBalancerNodePorts", True)
        ports = spec.get("ports") or ()
        # One number serves both protocols of a port, also the one asked for with the other.
        shared = {} if before else {
            port.get("port"): port["nodePort"] for port in ports[::-1] if port.get("nodePort")
        }  # fmt: skip
        for position, port in enumerate(ports):
            path = f"spec.ports[{position}].nodePort"
            asked = port.get("nodePort") or 0
            if not asked and wanted:
                asked = port["nodePort"] = shared.get(port.get("port"), 0)
            if asked:
                if asked not in own:
                    why = self._why_not_port(asked)
                    if why:
                        return [fields.invalid(path, asked, why)]
                    held.append((self._ports, asked))
                    own.add(asked)
            elif wanted:
                number = self._ports.take_any()
                if number is None:
                    return [fields.internal(path, "failed to allocate a nodePort: range is full")]
                held.append((self._ports, number))
                own.add(number)
                port["nodePort"] = number
                if not before:
                    shared[port.get("port")] = number
        return self._allocate_health_port(spec, before, held)

    def _why_not_port(self, number: int) -> str:
        if number not in self._ports:
            last = self._ports.first + self._ports.size - 1
            return (
                "provided port is not in the valid range. The range of valid ports is "
                f"{self._ports.first}-{last}"
            )
        return "" if self._ports.take(number) else "provided port is already allocated"

    def _allocate_health_port(
        self, spec: Object, before: Object, held: list[tuple[Pool, int]]
    ) -> list[Cause]:
        if not needs_health_port(spec) or needs_health_port(before):
            return []
        asked = spec.get("healthCheckNodePort")
        if asked:
            why = self._why_not_port(asked)
            if why:
                return [fields.invalid("spec.healthCheckNodePort", asked, why)]
            held.append((self._ports, asked))
            return []
        number = self._ports.take_any()
        if number is None:
            return [fields.internal("spec.healthCheckNodePort", "range is full")]
        held.append((self._ports, number))
        spec["healthCheckNodePort"] = number
        return []


def _is(parse: Any, text: str) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return True
