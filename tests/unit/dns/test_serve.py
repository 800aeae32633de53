"""The server on loopback, fed by an API server in a dict."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import dnslib
import pytest

from sampan.aio.tasks import Supervisor
from sampan.api.resources import api_resource
from sampan.client.api import Client
from sampan.client.informer import Informers
from sampan.dns.serve import DnsConfig, DnsServer
from sampan.proxy.endpoints import has_zone_hints
from tests.kit.feed import Feed
from tests.kit.ports import free_port
from tests.kit.sockets import free_pair
from tests.kit.wire import until

SERVICES = "/api/v1/namespaces/{}/services/{}"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices/{}"


class Rig:
    def __init__(self, tmp_path: Path) -> None:
        self.port = free_pair()
        self.feed = Feed()
        self.supervisor = Supervisor()
        client = Client(self.feed)
        config = DnsConfig(
            "127.0.0.1", "10.96.0.10", "node-1", port=self.port, resolv_conf=tmp_path / "none",
            metrics_port=free_port(),
        )  # fmt: skip
        self.metrics_port = config.metrics_port
        self.server = DnsServer(client, Informers(client, self.supervisor), config)
        self.settings = self.server._settings
        self.supervisor.start("dns", self.server.run)

    async def exchange(self, data: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            sock.connect(("127.0.0.1", self.port))
            await loop.sock_sendall(sock, data)
            async with asyncio.timeout(5):
                return await loop.sock_recv(sock, 65535)

    async def ask(self, name: str, kind: str = "A") -> dnslib.DNSRecord:
        data = dnslib.DNSRecord.question(name, kind).pack()
        return dnslib.DNSRecord.parse(await self.exchange(data))

    async def changed(self) -> None:
        """Wait until the informers have what was put."""
        seen = asyncio.Event()
        informer = self.server._services
        stop = informer.on_change(lambda old, new: seen.set())
        seen.clear()
        async with asyncio.timeout(5):
            await seen.wait()
        stop()


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path)
    async with asyncio.timeout(5):
        await rig.server.ready.wait()
    yield rig
    await rig.supervisor.stop()


def service(name: str, ip: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": "ns", "name": name}, "spec": {"clusterIP": ip, **spec}}


async def test_it_publishes_itself_and_answers_for_itself(rig: Rig) -> None:
    found = rig.feed.get(SERVICES.format("kube-system", "kube-dns"))
    assert found is not None
    assert found["spec"]["clusterIP"] == "10.96.0.10"
    assert "selector" not in found["spec"]
    assert found["metadata"]["labels"]["k8s-app"] == "kube-dns"
    item = rig.feed.get(SLICES.format("kube-system", "kube-dns-node-1"))
    assert item is not None
    assert item["endpoints"][0]["addresses"] == ["127.0.0.1"]
    # Pods ask their own node's server; that takes nobody a look at where nodes are.
    assert item["endpoints"][0]["hints"] == {"forNodes": [{"name": "node-1"}]}
    assert not has_zone_hints(item)
    reply = await rig.ask("kube-dns.kube-system.svc.cluster.local")
    assert str(reply.rr[0].rdata) == "10.96.0.10"


async def test_what_somebody_deletes_is_published_again(rig: Rig) -> None:
    for path in (
        SERVICES.format("kube-system", "kube-dns"),
        SLICES.format("kube-system", "kube-dns-node-1"),
    ):
        created = asyncio.ensure_future(_created(rig.feed, path))
        await asyncio.sleep(0)
        await rig.feed.remove(path)
        async with asyncio.timeout(5):
            await created


async def _created(feed: Feed, path: str) -> None:
    collection = path.rpartition("/")[0]
    async for event in feed.watch(collection, {"resourceVersion": str(feed._revision)}):
        if event.type == "ADDED":
            return


async def test_a_changed_service_answers_anew_at_once(rig: Rig) -> None:
    name = "web.ns.svc.cluster.local"
    assert (await rig.ask(name)).header.rcode == 3
    for ip in ("10.96.1.1", "10.96.1.2"):
        await put(rig, "web", ip)
        assert str((await rig.ask(name)).rr[0].rdata) == ip


async def test_other_names_fail_fast_without_a_name_server(rig: Rig) -> None:
    assert (await rig.ask("example.com")).header.rcode == 2


async def test_nonsense_gets_an_error_and_the_next_question_an_answer(rig: Rig) -> None:
    question = dnslib.DNSRecord.question("cluster.local", "SOA").pack()
    reply = dnslib.DNSRecord.parse(await rig.exchange(question[:12] + b"\xc0\x0c\0\1\0\1"))
    assert reply.header.rcode == 1
    assert dnslib.DNSRecord.parse(await rig.exchange(question)).rr


async def test_a_service_that_makes_no_sense_costs_only_its_own_name(rig: Rig) -> None:
    changed = asyncio.ensure_future(rig.changed())
    await asyncio.sleep(0)
    broken = service("broken", "10.96.1.1", ports=[{"name": "a", "port": "x" * 9}])
    await rig.feed.put(SERVICES.format("ns", "broken"), broken)
    await changed
    assert (await rig.ask("broken.ns.svc.cluster.local", "SRV")).header.rcode == 2
    assert (await rig.ask("kube-dns.kube-system.svc.cluster.local")).rr


async def test_tcp_carries_what_a_datagram_cannot(rig: Rig) -> None:
    changed = asyncio.ensure_future(rig.changed())
    await asyncio.sleep(0)
    item = {
        "metadata": {
            "namespace": "ns",
            "name": "many-1",
            "labels": {"kubernetes.io/service-name": "many"},
        },
        "addressType": "IPv4",
        "ports": [],
        "endpoints": [{"addresses": [f"10.1.0.{n}"]} for n in range(200)],
    }
    await rig.feed.put(SLICES.format("ns", "many-1"), item)
    await rig.feed.put(SERVICES.format("ns", "many"), service("many", "None"))
    await changed
    cut = await rig.ask("many.ns.svc.cluster.local")
    assert cut.header.tc
    data = dnslib.DNSRecord.question("many.ns.svc.cluster.local").pack()
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    for _ in range(2):
        writer.write(struct.pack(">H", len(data)) + data)
        (size,) = struct.unpack(">H", await reader.readexactly(2))
        whole = dnslib.DNSRecord.parse(await reader.readexactly(size))
        assert len(whole.rr) == 200
    writer.close()
    await writer.wait_closed()


async def test_an_address_in_use_is_said(rig: Rig, tmp_path: Path) -> None:
    config = DnsConfig("127.0.0.1", "10.96.0.10", "node-2", port=rig.port, metrics_port=0)
    client = Client(rig.feed)
    supervisor = Supervisor()
    second = DnsServer(client, Informers(client, supervisor), config)
    with pytest.raises(OSError, match=rf"DNS cannot listen on 127\.0\.0\.1:{rig.port}"):
        await second.run()
    await supervisor.stop()


async def test_what_was_asked_is_counted_under_the_names_of_coredns(rig: Rig) -> None:
    for name in ("kube-dns.kube-system.svc.cluster.local", "no.ns.svc.cluster.local", "x.test"):
        await rig.ask(name)
    rig.server._forwarded(("192.0.2.1", 0), 3, 0.001)
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.metrics_port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    head, _, text = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    assert head.startswith("HTTP/1.1 200 OK")
    place = 'server="dns://:53",view="",zone="."'
    assert f'coredns_dns_requests_total{{family="1",proto="udp",{place},type="A"}} 3' in text
    for plugin, code in (
        ("kubernetes", "NOERROR"), ("kubernetes", "NXDOMAIN"), ("forward", "SERVFAIL"),
    ):  # fmt: skip
        labels = f'plugin="{plugin}",rcode="{code}",{place}'
        assert f"coredns_dns_responses_total{{{labels}}} 1" in text
    assert f"coredns_dns_request_duration_seconds_count{{{place}}} 3" in text
    for line in (
        'coredns_cache_hits_total{server="dns://:53",type="denial",view="",zones="."} 0',
        'coredns_proxy_request_duration_seconds_count{proxy_name="forward",rcode="NXDOMAIN",'
        'to="192.0.2.1:53"} 1',
        'coredns_autopath_success_total{server="dns://:53"} 0',
        f'coredns_plugin_enabled{{name="kubernetes",{place}}} 1',
    ):
        assert line in text
    ports = rig.feed.get(SERVICES.format("kube-system", "kube-dns"))["spec"]["ports"]
    assert [port["port"] for port in ports] == [53, 53, 9153]


async def test_a_config_map_sets_who_is_asked_and_nonsense_changes_nothing(rig: Rig) -> None:
    path = "/api/v1/namespaces/kube-system/configmaps/kube-dns"
    wanted = {"a.test": (("192.0.2.1", 0),)}
    told: list[tuple[str, str]] = []
    rig.server.complain = lambda found, why: told.append((found["kind"], why.split(":")[0]))
    for text, expected in (
        ('{"a.test": ["192.0.2.1"]}', wanted), ("nonsense", wanted), ("", {}),
    ):  # fmt: skip
        seen = asyncio.Event()
        stop = rig.settings.on_change(lambda old, new, seen=seen: seen.set())
        seen.clear()
        meta = {"namespace": "kube-system", "name": "kube-dns"}
        await rig.feed.put(path, {"metadata": meta, "data": {"stubDomains": text}})
        async with asyncio.timeout(5):
            await seen.wait()
        stop()
        assert rig.server._forwarder._routes.stubs == expected
    assert told == [("ConfigMap", "stubDomains")]


async def test_a_pods_search_list_is_walked_for_it(rig: Rig) -> None:
    first = "web.other.mine.svc.cluster.local"
    changed = asyncio.ensure_future(rig.changed())
    await asyncio.sleep(0)
    web = service("web", "10.96.1.1")
    web["metadata"]["namespace"] = "other"
    await rig.feed.put(SERVICES.format("other", "web"), web)
    await changed
    assert (await rig.ask(first)).header.rcode == 3
    pod: dict[str, Any] = {
        "metadata": {"namespace": "mine", "name": "client"},
        "spec": {},
        "status": {"podIP": "127.0.0.1"},
    }
    await put_pod(rig, pod)
    reply = await rig.ask(first)
    assert [str(item.rdata) for item in reply.rr] == ["web.other.svc.cluster.local.", "10.96.1.1"]
    # The other half of the client's question must not say that there is no such name.
    assert (await rig.ask(first, "AAAA")).header.rcode == 0
    # What is in a list of the pod's own comes before the name as it stands.
    pod["spec"] = {"dnsConfig": {"searches": ["Other.svc.cluster.local."]}}
    await put_pod(rig, pod)
    (alias, _) = (await rig.ask("web.mine.svc.cluster.local")).rr
    assert str(alias.rdata) == "web.other.svc.cluster.local."
    pod["spec"] = {"dnsPolicy": "None"}
    await put_pod(rig, pod)
    assert (await rig.ask(first)).header.rcode == 3
    pod["spec"] = {}
    await put_pod(rig, pod)
    # Whom it asks by the name servers nobody can tell: the client goes on by itself.
    assert (await rig.ask("example.com.mine.svc.cluster.local")).header.rcode == 3
    assert (await rig.ask("web.other.another.svc.cluster.local")).header.rcode == 3


async def put_pod(rig: Rig, pod: dict[str, Any]) -> None:
    seen = asyncio.Event()
    stop = rig.server._pods.on_change(lambda old, new: seen.set())
    await rig.feed.put("/api/v1/namespaces/mine/pods/client", {**pod})
    async with asyncio.timeout(5):
        await seen.wait()
    stop()


async def put(rig: Rig, name: str, ip: str) -> None:
    changed = asyncio.ensure_future(rig.changed())
    await asyncio.sleep(0)
    await rig.feed.put(SERVICES.format("ns", name), service(name, ip))
    await changed


async def test_what_follows_a_question_is_not_read(rig: Rig) -> None:
    """A datagram of any size: what is beyond the question counts for nothing, and is not kept."""
    question = dnslib.DNSRecord.question("kube-dns.kube-system.svc.cluster.local").pack()
    for size in (100, 4000, 60_000):
        answer = dnslib.DNSRecord.parse(await rig.exchange(question + bytes(size)))
        assert str(answer.rr[0].rdata) == "10.96.0.10"
    assert len(rig.server._ready) == 1


async def test_an_answer_is_kept_until_its_own_service_changes(rig: Rig) -> None:
    kept = rig.server._ready
    await put(rig, "web", "10.96.0.20")
    await put(rig, "other", "10.96.0.21")
    for _ in range(2):
        found = await rig.ask("web.ns.svc.cluster.local")
        assert str(found.rr[0].rdata) == "10.96.0.20"
        await rig.ask("other.ns.svc.cluster.local")
        # What is not there may come, and whose search list it is depends on the asker.
        await rig.ask("none.ns.svc.cluster.local")
    assert len(kept) == 2
    requests = [line for line in rig.server.metrics.text().splitlines() if 'type="A"' in line]
    assert [line.rsplit(" ", 1)[1] for line in requests] == ["6"]
    await put(rig, "web", "10.96.0.22")
    assert len(kept) == 1
    assert str((await rig.ask("web.ns.svc.cluster.local")).rr[0].rdata) == "10.96.0.22"


async def test_pods_have_names_in_namespaces_that_are_there(rig: Rig) -> None:
    await rig.feed.put("/api/v1/namespaces/one", {"metadata": {"name": "one"}})
    name = "10-244-0-5.{}.pod.cluster.local"
    # From the first such name on, namespaces are watched; then it is exact.
    await rig.ask(name.format("none"))
    informer = rig.server._informers.informer(api_resource("namespaces"))
    async with asyncio.timeout(5):
        await informer.synced()
    assert (await rig.ask(name.format("one"))).short() == "10.244.0.5"
    assert (await rig.ask(name.format("none"))).header.rcode == dnslib.RCODE.NXDOMAIN
    await rig.feed.remove("/api/v1/namespaces/one")
    await until(lambda: informer.get("", "one") is None)
    assert (await rig.ask(name.format("one"))).header.rcode == dnslib.RCODE.NXDOMAIN
