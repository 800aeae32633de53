"""What the cluster's zone says: Kubernetes DNS-Based Service Discovery 1.1. Pure.

Names are looked up in the caches of Services and EndpointSlices when they are asked for: nothing is
built ahead, so a change costs nothing here, and a question a few dictionary lookups. Where the
specification leaves room, answers are as CoreDNS gives them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple, Protocol

from msgspec import Struct

from sampan.api.errors import Object

from .message import Code, Kind, Record, Sections, encode_name, soa_data, srv_data, txt_data

# CoreDNS's default: short, since services and pods come and go.
TTL_S = 5
_SCHEMA_VERSION = "1.1.0"
_REVERSE = re.compile(r"^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.in-addr\.arpa$")
_REVERSE_6 = re.compile(r"^((?:[0-9a-f]\.){32})ip6\.arpa$")
_POD_4 = re.compile(r"^\d{1,3}-\d{1,3}-\d{1,3}-\d{1,3}$")
# ExternalName services that point at each other: follow that many, then stop.
_ALIASES = 8


class Cluster(Protocol):
    """The caches behind the zone."""

    @property
    def serial(self) -> int:
        """Grows with every change."""
        ...

    def service(self, namespace: str, name: str) -> Object | None: ...

    def slices(self, namespace: str, name: str) -> Sequence[Object]:
        """EndpointSlices of a service."""
        ...

    def has_namespace(self, namespace: str) -> bool: ...

    def may_have_pods(self, namespace: str) -> bool:
        """Whether the namespace is there."""

    def services_at(self, ip: str) -> Sequence[Object]:
        """Services with that cluster address."""
        ...

    def slices_at(self, ip: str) -> Sequence[Object]:
        """EndpointSlices with that endpoint address."""
        ...


class Answer(Struct, frozen=True):
    """`alias` is the name outside the zone at which the answer goes on; "" when it is complete."""

    sections: Sections
    alias: str = ""


class _Endpoint(NamedTuple):
    hostname: str
    ip: str
    ports: tuple[tuple[str, str, int], ...]
    """(name, protocol in lower case, number)."""


class Zone:
    """Answers for `domain` and for the addresses of its services. `service_ip` is the server's."""

    def __init__(self, cluster: Cluster, domain: str, service_ip: str) -> None:
        self._cluster = cluster
        self._domain = domain.rstrip(".").lower()
        self._suffix = "." + self._domain
        self._service_ip = service_ip

    def answer(self, name: str, kind: int) -> Answer | None:
        """None when the name is not ours to answer. `name` is in lower case, without last dot."""
        if name == self._domain:
            return self._apex(kind)
        if name.endswith(self._suffix):
            labels = name[: -len(self._suffix)].split(".")
            return self._inside(name, labels, kind)
        if name.endswith(".arpa"):
            return self._reverse(name, kind)
        return None

    def _inside(self, name: str, labels: list[str], kind: int) -> Answer:
        match labels:
            case [*rest, "svc"]:
                return self._service_name(name, rest, kind)
            case ["pod"]:
                return self._no_data()
            case [_, "pod"]:
                return self._no_data()
            case [dashed, namespace, "pod"]:
                if not self._cluster.may_have_pods(namespace):
                    return self._no_name()
                return self._pod_name(name, dashed, kind)
            case ["ns", "dns"]:
                return self._records(_addresses(name, [self._service_ip], kind))
            case ["dns"]:
                return self._no_data()
            case ["dns-version"]:
                return self._records(self._version(name) if kind in (Kind.TXT, Kind.ANY) else [])
        return self._no_name()

    def _apex(self, kind: int) -> Answer:
        if kind == Kind.SOA:
            return self._records([self._soa()])
        if kind == Kind.NS:
            target = f"ns.dns.{self._domain}"
            address = _addresses(target, [self._service_ip], Kind.A)
            record = Record(self._domain, Kind.NS, TTL_S, encode_name(target))
            return Answer(Sections(answers=(record,), additional=tuple(address)))
        return self._no_data()

    def _service_name(self, name: str, labels: list[str], kind: int) -> Answer:
        """What stands left of ".svc.DOMAIN"."""
        if not labels:
            return self._no_data()
        namespace = labels[-1]
        if len(labels) == 1:
            return self._no_data() if self._cluster.has_namespace(namespace) else self._no_name()
        service = self._cluster.service(namespace, labels[-2])
        if service is None:
            return self._no_name()
        if service["spec"].get("type") == "ExternalName":
            return self._external(name, service, kind) if len(labels) == 2 else self._no_name()
        match labels[:-2]:
            case []:
                return self._service(name, service, kind)
            case [protocol] if protocol in ("_tcp", "_udp", "_sctp"):
                return self._no_data() if self._has_port(service, "", protocol) else self._no_name()
            case [host]:
                return self._host(name, host, service, kind)
            case [port, protocol] if port[:1] == "_" and protocol[:1] == "_":
                if not self._has_port(service, port, protocol):
                    return self._no_name()
                return self._port(name, service, kind, (port[1:], protocol[1:]))
        return self._no_name()

    def _service(self, name: str, service: Object, kind: int) -> Answer:
        if kind == Kind.SRV:
            return self._port(name, service, kind, ("", ""))
        if not _is_headless(service):
            return self._records(_addresses(name, _cluster_ips(service), kind))
        endpoints = list(self._endpoints(service))
        if not endpoints:
            return self._no_name()
        return self._records(_addresses(name, (item.ip for item in endpoints), kind))

    def _host(self, name: str, host: str, service: Object, kind: int) -> Answer:
        found = [item for item in self._endpoints(service) if item.hostname == host]
        if not found:
            return self._no_name()
        if kind == Kind.SRV:
            return self._srv(name, service, found, ("", ""))
        return self._records(_addresses(name, (item.ip for item in found), kind))

    def _port(self, name: str, service: Object, kind: int, port: tuple[str, str]) -> Answer:
        """SRV records; `port` is (name, protocol), "" for any."""
        if kind not in (Kind.SRV, Kind.ANY):
            return self._no_data()
        if _is_headless(service):
            return self._srv(name, service, list(self._endpoints(service)), port)
        meta = service["metadata"]
        target = f"{meta['name']}.{meta['namespace']}.svc{self._suffix}"
        numbers = [item["port"] for item in _service_ports(service) if _port_matches(item, port)]
        records = [
            Record(name, Kind.SRV, TTL_S, srv_data(max(1, 100 // len(numbers)), number, target))
            for number in numbers
        ]
        return self._records(records, _addresses(target, _cluster_ips(service), Kind.ANY))

    def _srv(
        self, name: str, service: Object, endpoints: list[_Endpoint], port: tuple[str, str]
    ) -> Answer:
        meta = service["metadata"]
        base = f"{meta['name']}.{meta['namespace']}.svc{self._suffix}"
        found = [
            (f"{item.hostname}.{base}", number, item.ip)
            for item in endpoints
            for label, protocol, number in item.ports
            if (not port[0] or port[0] == label) and (not port[1] or port[1] == protocol)
        ]
        if not found:
            return self._no_data() if endpoints else self._no_name()
        weight = max(1, 100 // len(found))
        # An endpoint of both families is one target.
        records = [
            Record(name, Kind.SRV, TTL_S, srv_data(weight, number, target))
            for target, number in dict.fromkeys((target, number) for target, number, _ in found)
        ]
        extra: dict[Record, None] = {}
        for target, _, ip in found:
            extra.update(dict.fromkeys(_addresses(target, [ip], Kind.ANY)))
        return self._records(records, extra)

    def _external(self, name: str, service: Object, kind: int) -> Answer:
        """A CNAME, and what it leads to if that is in the zone too."""
        records: list[Record] = []
        owner = name
        for _ in range(_ALIASES):
            target = str(service["spec"].get("externalName") or "").rstrip(".").lower()
            try:
                record = Record(owner, Kind.CNAME, TTL_S, encode_name(target))
            except (ValueError, UnicodeError):
                return Answer(Sections(Code.SERVER_FAILURE))
            if not target:
                return self._no_data()
            records.append(record)
            if kind == Kind.CNAME:
                return self._records(records)
            if not target.endswith(self._suffix):
                return Answer(Sections(answers=tuple(records)), alias=target)
            match target[: -len(self._suffix)].split("."):
                case [other, namespace, "svc"]:
                    found = self._cluster.service(namespace, other)
                    if found is not None and found["spec"].get("type") == "ExternalName":
                        owner, service = target, found
                        continue
            rest = self.answer(target, kind)
            more = rest.sections.answers if rest is not None else ()
            return self._records([*records, *more])
        return Answer(Sections(Code.SERVER_FAILURE))

    def _pod_name(self, name: str, dashed: str, kind: int) -> Answer:
        """10-244-0-5.NAMESPACE.pod.DOMAIN: any address, as CoreDNS in its default mode."""
        text = dashed.replace("-", "." if _POD_4.match(dashed) else ":")
        try:
            address = str(ip_address(text))
        except ValueError:
            return self._no_name()
        return self._records(_addresses(name, [address], kind))

    def _reverse(self, name: str, kind: int) -> Answer | None:
        ip = _reversed_ip(name)
        if not ip:
            return None
        targets: dict[str, None] = {}
        for service in self._cluster.services_at(ip):
            meta = service["metadata"]
            targets[f"{meta['name']}.{meta['namespace']}.svc{self._suffix}"] = None
        if not targets:
            targets = dict.fromkeys(self._hosts_at(ip))
        if not targets:
            return None
        if kind not in (Kind.PTR, Kind.ANY):
            return self._no_data()
        return self._records(
            [Record(name, Kind.PTR, TTL_S, encode_name(target)) for target in targets]
        )

    def _hosts_at(self, ip: str) -> Iterator[str]:
        """Names of the endpoints of headless services at an address."""
        for item in self._cluster.slices_at(ip):
            meta = item["metadata"]
            owner = (meta.get("labels") or {}).get("kubernetes.io/service-name", "")
            service = self._cluster.service(meta["namespace"], owner)
            if service is None or not _is_headless(service):
                continue
            for endpoint in _ready_endpoints([item], service):
                if endpoint.ip == ip:
                    host = endpoint.hostname
                    yield f"{host}.{owner}.{meta['namespace']}.svc{self._suffix}"

    def _endpoints(self, service: Object) -> Iterator[_Endpoint]:
        meta = service["metadata"]
        return _ready_endpoints(self._cluster.slices(meta["namespace"], meta["name"]), service)

    def _has_port(self, service: Object, port: str, protocol: str) -> bool:
        wanted = (port[1:], protocol[1:])
        return any(_port_matches(item, wanted) for item in _service_ports(service))

    def _version(self, name: str) -> list[Record]:
        return [Record(name, Kind.TXT, TTL_S, txt_data(_SCHEMA_VERSION))]

    def _soa(self) -> Record:
        data = soa_data(self._domain, self._cluster.serial, TTL_S)
        return Record(self._domain, Kind.SOA, TTL_S, data)

    def _records(self, records: Sequence[Record], additional: Iterable[Record] = ()) -> Answer:
        """An answer; without records the name is there, but nothing of that type (NODATA)."""
        if not records:
            return self._no_data()
        return Answer(Sections(answers=tuple(records), additional=tuple(additional)))

    def _no_data(self) -> Answer:
        return Answer(Sections(authority=(self._soa(),)))

    def _no_name(self) -> Answer:
        return Answer(Sections(Code.NO_NAME, authority=(self._soa(),)))


def _addresses(owner: str, ips: Iterable[str], kind: int) -> list[Record]:
    """A or AAAA records for those addresses that fit the type asked for; each once."""
    out: dict[Record, None] = {}
    for text in ips:
        try:
            address = ip_address(text)
        except ValueError:
            continue
        of = Kind.A if address.version == 4 else Kind.AAAA
        if kind in (of, Kind.ANY):
            out[Record(owner, of, TTL_S, address.packed)] = None
    return list(out)


def _is_headless(service: Object) -> bool:
    return service["spec"].get("clusterIP") in (None, "", "None")


def _cluster_ips(service: Object) -> list[str]:
    return service["spec"].get("clusterIPs") or [service["spec"]["clusterIP"]]


def _service_ports(service: Object) -> Sequence[Object]:
    return service["spec"].get("ports") or ()


def _port_matches(port: Object, wanted: tuple[str, str]) -> bool:
    label, protocol = wanted
    return (not label or port.get("name") == label) and (
        not protocol or port.get("protocol", "TCP").lower() == protocol
    )


def _ready_endpoints(slices: Iterable[Object], service: Object) -> Iterator[_Endpoint]:
    """Endpoints that have names; a service may ask for those that are not ready as well."""
    everything = bool(service["spec"].get("publishNotReadyAddresses"))
    for item in slices:
        ports = tuple(
            (port.get("name") or "", (port.get("protocol") or "TCP").lower(), port["port"])
            for port in item.get("ports") or ()
            if port.get("port")
        )
        for endpoint in item.get("endpoints") or ():
            ready = (endpoint.get("conditions") or {}).get("ready")
            addresses = endpoint.get("addresses") or ()
            if addresses and (ready is not False or everything):
                ip = addresses[0]
                name = endpoint.get("hostname") or ip.replace(".", "-").replace(":", "-")
                yield _Endpoint(name.lower(), ip, ports)


def _reversed_ip(name: str) -> str:
    """The address an .arpa name stands for, "" if it is not a whole one."""
    found = _REVERSE.match(name)
    try:
        if found:
            return str(IPv4Address(".".join(reversed(found.groups()))))
        found = _REVERSE_6.match(name)
        if found:
            digits = found[1].replace(".", "")[::-1]
            return str(IPv6Address(int(digits, 16)))
    except ValueError:
        pass
    return ""
