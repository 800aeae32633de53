"""Services: cluster addresses and node ports (upstream: registry/core/service/storage/alloc.go).

What is taken is read from the services themselves, by observing them, so nothing is stored beside
them and nothing can leak. A write holds what it takes until it is stored or refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING

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

from .addresses import ServiceAddresses, kept_address, ready_ranges, used_addresses
from .interface import Strategy
from .pool import Pool, static_band

if TYPE_CHECKING:
    from sampan.server.app import Server

SERVICES = resource("services")
HEADLESS = "None"
Held = list[Callable[[], None]]
"""What gives back each number that a write has taken, if it comes to nothing."""


class ServiceStrategy(Strategy):
    def __init__(self, server: Server) -> None:
        self._server = server
        self._addresses = ServiceAddresses(server.config.service_cidr.split(","))
        first, last = server.config.node_ports
        count = last - first + 1
        self._ports = Pool(first, count, static_band(count, 32, 16, 128))
        server.observe(SERVICES, self._on_change)
        server.observe(resource("servicecidrs", "networking.k8s.io"), self._on_range)
        server.observe(resource("ipaddresses", "networking.k8s.io"), self._on_address)

    def _on_change(self, kind: str, obj: Object, old: Object | None) -> None:
        was = {*used_addresses(old)} if old is not None else set()
        now = {*used_addresses(obj)} if kind != "DELETED" else set()
        for address in was - now:
            self._addresses.release(address)
        for address in now - was:
            self._addresses.take(address)
        before = _used_ports(old) if old is not None else set()
        after = _used_ports(obj) if kind != "DELETED" else set()
        for number in before - after:
            self._ports.release(number)
        for number in after - before:
            self._ports.take(number)

    def _on_range(self, kind: str, obj: Object, old: Object | None) -> None:
        ranges = ready_ranges(obj) if kind != "DELETED" else ()
        self._addresses.put_ranges(obj["metadata"]["name"], ranges)

    def _on_address(self, kind: str, obj: Object, old: Object | None) -> None:
        address = kept_address(obj)
        if address and kind == "DELETED":
            self._addresses.release(address)
        elif address:
            self._addresses.take(address)

    @contextmanager
    def reserve(self, obj: Object, old: Object | None, dry_run: bool) -> Iterator[None]:
        spec = obj.get("spec")
        if not isinstance(spec, dict):
            yield
            return
        held: Held = []
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
            if held and not done:
                self._give_back(obj["metadata"], held)

    def _give_back(self, metadata: Object, held: Held) -> None:
        """Of a write that came to nothing. One whose client has left may be on its way to the disk:
        what the newest state has stays taken."""
        for give_back in held:
            give_back()
        key = SERVICES.key(metadata.get("namespace", ""), metadata.get("name", ""))
        newest = self._server.store.get(key, pending=True)
        if newest is not None:
            service = self._server.cache.peek(newest)
            for address in used_addresses(service):
                self._addresses.take(address)
            for number in _used_ports(service):
                self._ports.take(number)

    def _allocate(self, spec: Object, before: Object, held: Held) -> list[Cause]:
        if spec.get("type") == "ExternalName":
            return []
        causes = []
        if not keeps_both(spec, before):
            causes = choose_families(spec, before, self._addresses.families)
            causes = causes or self._allocate_addresses(spec, before, held)
        if not causes and spec.get("type") in WITH_NODE_PORTS:
            causes = self._allocate_ports(spec, before, held)
        return causes

    def _allocate_addresses(self, spec: Object, before: Object, held: Held) -> list[Cause]:
        if HEADLESS in (spec.get("clusterIP"), before.get("clusterIP")):
            return []
        asked = spec.get("clusterIPs") or [text for text in (spec.get("clusterIP"),) if text]
        # What had an address keeps it: validation says so where it was changed.
        had = len(before.get("clusterIPs") or ()) if before.get("type") in WITH_ADDRESS else 0
        if had and not asked:
            return []
        found = [*asked]
        for position, family in enumerate(spec["ipFamilies"]):
            if position < had:
                continue
            if position < len(asked):
                why = self._addresses.claim(asked[position])
                if why:
                    detail = f"failed to allocate IP {asked[position]}: {why}"
                    return [fields.invalid("spec.clusterIPs", spec["clusterIPs"], detail)]
                found[position] = str(ip_address(asked[position]))
            else:
                taken = self._addresses.take_any(family)
                if taken is None:
                    return [fields.internal("spec.clusterIPs", "range is full")]
                found.append(taken)
            held.append(partial(self._addresses.release, found[position]))
        spec["clusterIP"], spec["clusterIPs"] = found[0], found
        return []

    def _allocate_ports(self, spec: Object, before: Object, held: Held) -> list[Cause]:
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
                    held.append(partial(self._ports.release, asked))
                    own.add(asked)
            elif wanted:
                number = self._ports.take_any()
                if number is None:
                    return [fields.internal(path, "failed to allocate a nodePort: range is full")]
                held.append(partial(self._ports.release, number))
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

    def _allocate_health_port(self, spec: Object, before: Object, held: Held) -> list[Cause]:
        if not needs_health_port(spec) or needs_health_port(before):
            return []
        asked = spec.get("healthCheckNodePort")
        if asked:
            why = self._why_not_port(asked)
            if why:
                return [fields.invalid("spec.healthCheckNodePort", asked, why)]
            held.append(partial(self._ports.release, asked))
            return []
        number = self._ports.take_any()
        if number is None:
            return [fields.internal("spec.healthCheckNodePort", "range is full")]
        held.append(partial(self._ports.release, number))
        spec["healthCheckNodePort"] = number
        return []


def _used_ports(obj: Object) -> set[int]:
    spec = obj.get("spec") or {}
    ports = {port["nodePort"] for port in spec.get("ports") or () if port.get("nodePort")}
    if spec.get("healthCheckNodePort"):
        ports.add(spec["healthCheckNodePort"])
    return ports
