"""The zone, record by record: the specification's examples, and CoreDNS's ways beyond them."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

import dnslib
import pytest

from sampan.dns.answer import Answer, Zone
from sampan.dns.message import Code, Kind, Query, respond


class Objects:
    """A cluster of a few services."""

    serial = 41

    def __init__(self) -> None:
        self._services: dict[tuple[str, str], dict[str, Any]] = {}
        self._slices: dict[tuple[str, str], list[dict[str, Any]]] = {}

    def add(self, name: str, *slices: dict[str, Any], **spec: Any) -> None:
        meta = {"namespace": "default", "name": name}
        self._services["default", name] = {"metadata": meta, "spec": spec}
        labels = {"labels": {"kubernetes.io/service-name": name}}
        self._slices["default", name] = [{"metadata": meta | labels, **one} for one in slices]

    def service(self, namespace: str, name: str) -> dict[str, Any] | None:
        return self._services.get((namespace, name))

    def slices(self, namespace: str, name: str) -> Sequence[dict[str, Any]]:
        return self._slices.get((namespace, name), [])

    def has_namespace(self, namespace: str) -> bool:
        return any(key[0] == namespace for key in self._services)

    def may_have_pods(self, namespace: str) -> bool:
        return self.has_namespace(namespace)

    def services_at(self, ip: str) -> Sequence[dict[str, Any]]:
        return [
            item
            for item in self._services.values()
            if ip in (item["spec"].get("clusterIP"), *item["spec"].get("clusterIPs", ()))
        ]

    def slices_at(self, ip: str) -> Sequence[dict[str, Any]]:
        return [
            item
            for some in self._slices.values()
            for item in some
            if any(ip in entry["addresses"] for entry in item["endpoints"])
        ]


def endpoint(ip: str, hostname: str = "", **conditions: bool) -> dict[str, Any]:
    extra = {"hostname": hostname} if hostname else {}
    return {"addresses": [ip], "conditions": conditions, **extra}


@pytest.fixture
def zone() -> Zone:
    objects = Objects()
    ports = [{"name": "https", "port": 443, "protocol": "TCP"}, {"port": 8080}]
    endpoints = [endpoint("10.3.1.1", "one"), endpoint("10.3.1.2")]
    slice_ports = [{"name": "https", "port": 6443, "protocol": "TCP"}]
    objects.add(
        "kubernetes",
        {"endpoints": endpoints, "ports": slice_ports},
        clusterIP="10.3.0.1",
        ports=ports,
    )
    objects.add("dual", clusterIP="10.3.0.2", clusterIPs=["10.3.0.2", "fd00::2"], ports=ports[1:])
    objects.add(
        "headless",
        {
            "endpoints": [
                endpoint("10.3.0.100", "my-pet"),
                endpoint("10.3.0.101"),
                endpoint("10.3.0.102", "asleep", ready=False),
            ],
            "ports": slice_ports,
        },
        clusterIP="None",
        ports=ports[:1],
    )
    objects.add(
        "eager",
        {"endpoints": [endpoint("10.3.0.103", ready=False)], "ports": []},
        clusterIP="None",
        publishNotReadyAddresses=True,
    )
    objects.add("empty", clusterIP="None", ports=ports)
    objects.add(
        "both",
        {"endpoints": [endpoint("10.3.0.110", "duo")], "ports": slice_ports},
        {"endpoints": [endpoint("fd00::110", "duo")], "ports": slice_ports},
        clusterIP="None",
        ports=ports[:1],
    )
    objects.add(
        "waiting",
        {"endpoints": [endpoint("10.3.0.120", "w", ready=False)], "ports": slice_ports},
        clusterIP="None",
        ports=ports[:1],
    )
    udp = [{"name": "dns", "port": 53, "protocol": "UDP"}, {**ports[0], "name": "web"}]
    objects.add("mixed", clusterIP="10.3.0.4", ports=udp)
    objects.add("foo", type="ExternalName", externalName="www.Example.com")
    objects.add("near", type="ExternalName", externalName="kubernetes.default.svc.cluster.local")
    objects.add("ring", type="ExternalName", externalName="gnir.default.svc.cluster.local")
    objects.add("gnir", type="ExternalName", externalName="ring.default.svc.cluster.local")
    objects.add("bad", type="ExternalName", externalName="a..b")
    return Zone(objects, "cluster.local", "10.3.0.10")


def said(zone: Zone, name: str, kind: Kind) -> str:
    """The answer as another implementation reads it, in a few words."""
    found = zone.answer(name, kind)
    if found is None:
        return "not ours"
    question = dnslib.DNSRecord.question(name, kind.name).pack()[12:]
    query = Query(1, 0x0100, name, kind, question, 0, dnssec=False)
    reply = dnslib.DNSRecord.parse(respond(query, found.sections, 4096))
    if found.alias:
        return f"{' '.join(str(item.rdata) for item in reply.rr)} then {found.alias}"
    if not reply.rr:
        if found.sections.code == Code.SERVER_FAILURE:
            return "SERVFAIL"
        # Resolvers keep a "no" for as long as the SOA says.
        assert reply.auth[0].rdata.times[0] == 41
        return "NXDOMAIN" if found.sections.code == Code.NO_NAME else "NODATA"
    return ", ".join(sorted(f"{dnslib.QTYPE[item.rtype]} {item.rdata}" for item in reply.rr))


SVC = "default.svc.cluster.local"


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        (f"kubernetes.{SVC}", Kind.A, "A 10.3.0.1"),
        (f"kubernetes.{SVC}", Kind.AAAA, "NODATA"),
        (f"kubernetes.{SVC}", Kind.TXT, "NODATA"),
        (f"dual.{SVC}", Kind.AAAA, "AAAA fd00::2"),
        (f"dual.{SVC}", Kind.ANY, "A 10.3.0.2, AAAA fd00::2"),
        (f"_https._tcp.kubernetes.{SVC}", Kind.SRV, f"SRV 0 100 443 kubernetes.{SVC}."),
        (f"_https._udp.kubernetes.{SVC}", Kind.SRV, "NXDOMAIN"),
        (f"_http._tcp.kubernetes.{SVC}", Kind.SRV, "NXDOMAIN"),
        (f"_https._tcp.kubernetes.{SVC}", Kind.A, "NODATA"),
        (f"_tcp.kubernetes.{SVC}", Kind.A, "NODATA"),
        (
            f"kubernetes.{SVC}",
            Kind.SRV,
            f"SRV 0 50 443 kubernetes.{SVC}., SRV 0 50 8080 kubernetes.{SVC}.",
        ),
        (f"one.kubernetes.{SVC}", Kind.A, "A 10.3.1.1"),
        (f"headless.{SVC}", Kind.A, "A 10.3.0.100, A 10.3.0.101"),
        (f"my-pet.headless.{SVC}", Kind.A, "A 10.3.0.100"),
        (f"10-3-0-101.headless.{SVC}", Kind.A, "A 10.3.0.101"),
        (f"asleep.headless.{SVC}", Kind.A, "NXDOMAIN"),
        (f"eager.{SVC}", Kind.A, "A 10.3.0.103"),
        (f"empty.{SVC}", Kind.A, "NXDOMAIN"),
        (
            f"_https._tcp.headless.{SVC}",
            Kind.SRV,
            f"SRV 0 50 6443 10-3-0-101.headless.{SVC}., SRV 0 50 6443 my-pet.headless.{SVC}.",
        ),
        # Both families: one name, records of each, and each in its own reverse tree.
        (f"both.{SVC}", Kind.A, "A 10.3.0.110"),
        (f"both.{SVC}", Kind.AAAA, "AAAA fd00::110"),
        (f"duo.both.{SVC}", Kind.AAAA, "AAAA fd00::110"),
        (f"duo.both.{SVC}", Kind.SRV, f"SRV 0 50 6443 duo.both.{SVC}."),
        (f"headless.{SVC}", Kind.AAAA, "NODATA"),
        # Not ready: no addresses, no ports, no names back, unless the service says otherwise.
        (f"waiting.{SVC}", Kind.A, "NXDOMAIN"),
        (f"_https._tcp.waiting.{SVC}", Kind.SRV, "NXDOMAIN"),
        ("120.0.3.10.in-addr.arpa", Kind.PTR, "not ours"),
        (f"10-3-0-103.eager.{SVC}", Kind.A, "A 10.3.0.103"),
        ("103.0.3.10.in-addr.arpa", Kind.PTR, f"PTR 10-3-0-103.eager.{SVC}."),
        # Ports by name and protocol.
        (f"_dns._udp.mixed.{SVC}", Kind.SRV, f"SRV 0 100 53 mixed.{SVC}."),
        (f"_web._tcp.mixed.{SVC}", Kind.SRV, f"SRV 0 100 443 mixed.{SVC}."),
        (f"_dns._tcp.mixed.{SVC}", Kind.SRV, "NXDOMAIN"),
        (f"_https._tcp.empty.{SVC}", Kind.SRV, "NXDOMAIN"),
        (f"foo.{SVC}", Kind.A, "www.example.com. then www.example.com"),
        (f"foo.{SVC}", Kind.CNAME, "CNAME www.example.com."),
        (f"near.{SVC}", Kind.A, f"A 10.3.0.1, CNAME kubernetes.{SVC}."),
        (f"ring.{SVC}", Kind.A, "SERVFAIL"),
        (f"bad.{SVC}", Kind.A, "SERVFAIL"),
        (f"x.foo.{SVC}", Kind.A, "NXDOMAIN"),
        (f"missing.{SVC}", Kind.A, "NXDOMAIN"),
        (f"a.b.c.d.kubernetes.{SVC}", Kind.A, "NXDOMAIN"),
        (f"web\\.x.{SVC}", Kind.A, "NXDOMAIN"),
        (SVC, Kind.A, "NODATA"),
        ("other.svc.cluster.local", Kind.A, "NXDOMAIN"),
        ("svc.cluster.local", Kind.A, "NODATA"),
        ("10-244-0-5.default.pod.cluster.local", Kind.A, "A 10.244.0.5"),
        ("10-244-0-5.default.pod.cluster.local", Kind.AAAA, "NODATA"),
        ("fd00--5.default.pod.cluster.local", Kind.AAAA, "AAAA fd00::5"),
        ("10-244-0-256.default.pod.cluster.local", Kind.A, "NXDOMAIN"),
        ("a.default.pod.cluster.local", Kind.A, "NXDOMAIN"),
        ("10-244-0-5.nonesuch.pod.cluster.local", Kind.A, "NXDOMAIN"),
        ("pod.cluster.local", Kind.A, "NODATA"),
        ("dns-version.cluster.local", Kind.TXT, 'TXT "1.1.0"'),
        ("ns.dns.cluster.local", Kind.A, "A 10.3.0.10"),
        ("cluster.local", Kind.NS, "NS ns.dns.cluster.local."),
        ("cluster.local", Kind.A, "NODATA"),
        ("nothing.cluster.local", Kind.A, "NXDOMAIN"),
        ("1.0.3.10.in-addr.arpa", Kind.PTR, f"PTR kubernetes.{SVC}."),
        ("100.0.3.10.in-addr.arpa", Kind.PTR, f"PTR my-pet.headless.{SVC}."),
        ("102.0.3.10.in-addr.arpa", Kind.PTR, "not ours"),
        (f"2.{'0.' * 27}0.0.d.f.ip6.arpa", Kind.PTR, f"PTR dual.{SVC}."),
        (f"0.1.1.{'0.' * 25}0.0.d.f.ip6.arpa", Kind.PTR, f"PTR duo.both.{SVC}."),
        (f"{'0.' * 30}d.ip6.arpa", Kind.PTR, "not ours"),
        ("1.1.3.10.in-addr.arpa", Kind.PTR, "not ours"),
        ("1.0.3.10.in-addr.arpa", Kind.A, "NODATA"),
        ("999.0.3.10.in-addr.arpa", Kind.PTR, "not ours"),
        ("example.com", Kind.A, "not ours"),
        ("notcluster.local", Kind.A, "not ours"),
        ("", Kind.NS, "not ours"),
    ],
)
def test_answers(zone: Zone, name: str, kind: Kind, expected: str) -> None:
    assert said(zone, name, kind) == expected


def test_the_targets_of_srv_records_come_along(zone: Zone) -> None:
    found = zone.answer(f"_https._tcp.headless.{SVC}", Kind.SRV)
    assert found is not None
    assert {str(ip_address(item.data)) for item in found.sections.additional} == {
        "10.3.0.100",
        "10.3.0.101",
    }


def test_the_zone_has_a_start_of_authority(zone: Zone) -> None:
    found = zone.answer("cluster.local", Kind.SOA)
    assert isinstance(found, Answer)
    assert found.sections.answers[0].kind == Kind.SOA
