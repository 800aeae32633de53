"""Services and names in real containers of one cluster: upstream's conformance behaviours of
sig-network that take packets (test/e2e/network and test/e2e/common/network)."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from functools import cache

import pytest

from tests.kit.cli import User
from tests.kit.images import busybox_archive
from tests.kit.machine import NOTHING, traces
from tests.kit.ports import free_port
from tests.kit.resolvers import COMPILERS, Names, name_server, resolvers
from tests.system.service_world import (
    HTTP,
    IMAGE,
    UDP,
    World,
    answering,
    ask_udp,
    pod,
    service,
)

pytestmark = pytest.mark.root

WEB = {"app": "web"}
SVC = "default.svc.cluster.local"
NAMES = ("web-0", "web-1", "web-2")
UDP_PORT = {"name": "udp", "port": 81, "targetPort": "udp", "protocol": "UDP"}
TCP_PORT = {"name": "http", "port": 80, "targetPort": "http"}
CUSTOM = {
    "dnsPolicy": "None",
    "dnsConfig": {"nameservers": ["1.1.1.1"], "searches": ["resolv.conf.local"]},
}
SUBDOMAIN = {"hostname": "dns-querier", "subdomain": "heads"}


def host_port(name: str, ip: str, protocol: str = "TCP") -> dict:
    inner = HTTP if protocol == "TCP" else UDP
    ports = [{"hostPort": 54323, "containerPort": inner, "hostIP": ip, "protocol": protocol}]
    return pod(name, container={"ports": ports})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("services")
    (folder / "home").mkdir()
    user = User("services", folder / "data", folder / "home")
    archive = busybox_archive(folder / "busybox.tar", IMAGE, extra=resolvers(folder))
    try:
        user.sampan("up", "--listen", f"127.0.0.1:{free_port()}").ok
        user.sampan("image", "load", str(archive)).ok
        world = World(user)
        pods = [
            *(pod(name, WEB) for name in NAMES),
            pod("client"),
            pod("querier", {"app": "heads"}, **SUBDOMAIN),
            pod("custom", **CUSTOM),
        ]
        world.apply(
            *pods,
            service("plain"),
            service("ports", TCP_PORT, UDP_PORT),
            service("node", TCP_PORT, UDP_PORT, type="NodePort"),
            service("heads", app="heads", clusterIP="None"),
            {**service("alias"), "spec": {"type": "ExternalName", "externalName": "example.com"}},
        )
        names = [f"pod/{item['metadata']['name']}" for item in pods]
        user.kubectl("wait", *names, "--for=condition=Ready", "--timeout=60s").ok
        yield world
    finally:
        user.sampan("down", "--purge").ok
    assert traces(user.name, user.data) == NOTHING


@cache
def cluster_ip(world: World, name: str) -> str:
    return str(world.user.get("service", name)["spec"]["clusterIP"])


@cache
def pod_ip(world: World, name: str) -> str:
    return str(world.user.get("pod", name)["status"]["podIP"])


# Names


def test_names_of_the_cluster(world: World) -> None:
    for name in ("kubernetes", "kubernetes.default.svc.cluster.local"):
        assert cluster_ip(world, "kubernetes") in world.look_up("client", name)
    reached = "nc -w 3 kubernetes.default 443 </dev/null && echo reached"
    assert world.run("client", reached) == "reached"


def test_names_in_the_hosts_file(world: World) -> None:
    text = world.run("querier", "cat /etc/hosts; hostname; hostname -f")
    ip = pod_ip(world, "querier")
    full = "dns-querier.heads.default.svc.cluster.local"
    assert f"{ip}\t{full}\tdns-querier" in text
    assert text.endswith(f"dns-querier\n{full}")


def test_names_of_services(world: World) -> None:
    ip, own = cluster_ip(world, "ports"), pod_ip(world, "querier")
    for name, address in (("ports", ip), ("heads", own)):
        assert address in world.look_up("client", f"{name}.default.svc.cluster.local")
    found = world.look_up("client", "_http._tcp.ports.default.svc.cluster.local", "srv")
    assert "80 ports.default.svc.cluster.local" in found
    found = world.look_up("client", "_http._tcp.heads.default.svc.cluster.local", "srv")
    assert f"{HTTP} dns-querier.heads.default.svc.cluster.local" in found
    backwards = ".".join(reversed(ip.split("."))) + ".in-addr.arpa"
    assert "ports.default.svc.cluster.local" in world.look_up("client", backwards, "ptr")


def test_partial_names_of_services(world: World) -> None:
    """The C library walks the search list; so does the name server, for its first question."""
    assert world.ask("client", "plain")[0] in NAMES
    assert world.ask("client", "plain.default")[0] in NAMES
    assert world.ask("client", "plain.default.svc")[0] in NAMES
    for name in ("heads", "heads.default", "heads.default.svc"):
        assert world.ask("client", f"{name}:{HTTP}") == ["querier"]


def test_names_of_a_pod_with_a_hostname(world: World) -> None:
    for name in ("dns-querier.heads", "dns-querier.heads.default.svc.cluster.local"):
        assert world.ask("client", f"{name}:{HTTP}") == ["querier"]


def test_names_of_a_pods_subdomain(world: World) -> None:
    assert world.ask("client", f"heads.default.svc.cluster.local:{HTTP}") == ["querier"]
    assert pod_ip(world, "querier") in world.look_up("querier", f"heads.{SVC}")


def test_names_of_external_services(world: World) -> None:
    name = "alias.default.svc.cluster.local"
    assert "canonical name = example.com" in world.look_up("client", name, "cname")
    world.patch("alias", externalName="kube-dns.kube-system.svc.cluster.local")
    dns = world.user.get("service", "kube-dns", "-n", "kube-system")["spec"]["clusterIP"]
    world.until(lambda: world.look_up("client", name), lambda said: dns in said)
    changed = world.patch(
        "alias", type="ClusterIP", externalName=None, ports=[{"port": 80, "name": "http"}]
    )
    ip = changed["spec"]["clusterIP"]
    world.until(lambda: world.look_up("client", name), lambda said: ip in said)


def test_name_servers_of_a_pods_own(world: World) -> None:
    text = world.run("custom", "cat /etc/resolv.conf").splitlines()
    assert sorted(text) == ["nameserver 1.1.1.1", "search resolv.conf.local"]


OUTSIDE = {
    "both.outside.test": ["192.0.2.1", "2001:db8::1"],
    "four.outside.test": ["192.0.2.4"],
    "six.outside.test": ["2001:db8::6"],
    "five.dots.are.not.searched.outside.test": ["192.0.2.5"],
    "big.outside.test": [f"192.0.2.{number}" for number in range(1, 100)],
}


@pytest.fixture(scope="module")
def outside(world: World) -> Iterator[Names]:
    """A stub domain whose names are known."""
    host = world.node_address()
    names = Names(OUTSIDE)
    with name_server(host, names) as port:
        stubs = json.dumps({"outside.test": [f"{host}:{port}"]})
        meta = {"name": "kube-dns", "namespace": "kube-system"}
        settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta}
        world.apply({**settings, "data": {"stubDomains": stubs}})
        world.until(lambda: resolve(world, "musl", "four.outside.test"), lambda found: any(found))
        yield names
        world.user.kubectl("delete", "configmap", "kube-dns", "-n", "kube-system").ok


def resolve(world: World, library: str, *names: str) -> list[list[str]]:
    """The addresses that a C library finds for each name, or one word that says why none."""
    said = world.run("client", f"resolve-{library} {' '.join(names)}").splitlines()
    found = dict(line.split(" ", 1) for line in said if " " in line)
    return [sorted(found.get(name, "").split()) for name in names]


@pytest.mark.parametrize("library", COMPILERS)
def test_both_c_libraries_find_the_same(world: World, outside: Names, library: str) -> None:
    """Search lists with ndots, A and AAAA asked side by side, "no such name" told from "nothing of
    that type": musl gives a name up, or goes on with the next, by what either answer says."""
    world.apply(service("families", ipFamilyPolicy="PreferDualStack"))
    world.patch("alias", type="ExternalName", externalName="both.outside.test", clusterIP=None,
                clusterIPs=None, ports=None, selector=None)  # fmt: skip
    both = sorted(world.user.get("service", "families")["spec"]["clusterIPs"])
    plain = [cluster_ip(world, "plain")]
    expected = {
        **dict.fromkeys(("plain", "plain.default", "plain.default.svc", f"plain.{SVC}"), plain),
        **dict.fromkeys(("families", "families.default", f"families.{SVC}."), both),
        "heads": [pod_ip(world, "querier")],
        "dns-querier.heads": [pod_ip(world, "querier")],
        "alias": OUTSIDE["both.outside.test"],
        **{name: found for name, found in OUTSIDE.items() if name != "big.outside.test"},
        **{name: ["NONAME"] for name in ("none.outside.test", f"none.{SVC}", f"none.plain.{SVC}")},
    }
    assert dict(zip(expected, resolve(world, library, *expected), strict=True)) == expected


def test_more_than_a_datagram_takes(world: World, outside: Names) -> None:
    """glibc asks again over TCP; musl of before 1.2.4 cannot, and has what fitted."""
    whole = set(OUTSIDE["big.outside.test"])
    (found,) = resolve(world, "glibc", "big.outside.test")
    assert set(found) == whole
    (found,) = resolve(world, "musl", "big.outside.test")
    assert len(found) > 20
    assert set(found) <= whole
    assert ("tcp", "big.outside.test", 1) in outside.asked
    assert (
        len([name for _, name, kind in outside.asked if (name, kind) == ("big.outside.test", 1)])
        == 2
    )


# Pods and nodes


def test_pods_reach_pods_by_http(world: World) -> None:
    for name in NAMES:
        assert world.ask("client", f"{pod_ip(world, name)}:{HTTP}") == [name]


def test_pods_reach_pods_by_udp(world: World) -> None:
    with answering(*NAMES):
        for name in NAMES:
            assert ask_udp("client", pod_ip(world, name), UDP) == name


def test_the_node_reaches_pods_by_http(world: World) -> None:
    for name in NAMES:
        url = f"http://{pod_ip(world, name)}:{HTTP}/hostname"
        with urllib.request.urlopen(url, timeout=5) as answer:
            assert answer.read().decode().strip() == name


def test_the_node_reaches_pods_by_udp(world: World) -> None:
    with answering(*NAMES):
        for name in NAMES:
            assert ask_udp("", pod_ip(world, name), UDP) == name


def test_a_host_port_is_had_by_address_and_protocol(world: World) -> None:
    address = world.node_address()
    world.apply(
        host_port("one", "127.0.0.1"), host_port("two", address), host_port("three", address, "UDP")
    )
    names = ("one", "two", "three")
    done = [f"pod/{name}" for name in names]
    world.user.kubectl("wait", *done, "--for=condition=Ready", "--timeout=60s").ok
    for ip, name in (("127.0.0.1", "one"), (address, "two")):
        with urllib.request.urlopen(f"http://{ip}:54323/hostname", timeout=5) as answer:
            assert answer.read().decode().strip() == name
    with answering("three"):
        assert ask_udp("", address, 54323) == "three"
    world.user.kubectl("delete", *done, "--now", "--wait=false").ok


def test_pods_and_services_behind_the_api_server(world: World) -> None:
    base = "/api/v1/namespaces/default"
    for path in ("pods/web-0:8080/proxy/hostname", "pods/http:web-0:8080/proxy/hostname"):
        assert world.user.kubectl("get", "--raw", f"{base}/{path}").ok.strip() == "web-0"
    for path in ("services/plain:http/proxy/hostname", "services/http:plain:80/proxy/hostname"):
        assert world.user.kubectl("get", "--raw", f"{base}/{path}").ok.strip() in NAMES


# Services


def test_a_node_port(world: World) -> None:
    found = world.user.get("service", "node")
    port = found["spec"]["ports"][0]["nodePort"]
    address = world.node_address()
    for url in ("node", found["spec"]["clusterIP"], f"{address}:{port}"):
        assert world.ask("client", url)[0] in NAMES
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/hostname", timeout=5) as answer:
        assert answer.read().decode().strip() in NAMES


def test_one_port_of_two_protocols(world: World) -> None:
    both = [{"name": "http", "port": 80, "targetPort": "http"},
            {"name": "udp", "port": 80, "targetPort": "udp", "protocol": "UDP"}]  # fmt: skip
    world.apply(service("same", *both))
    ip = cluster_ip(world, "same")
    with answering(*NAMES):
        assert world.ask("client", ip)[0] in NAMES
        world.until(lambda: ask_udp("client", ip, 80), lambda said: said in NAMES)
        world.patch("same", ports=both[:1])
        world.until(lambda: ask_udp("client", ip, 80, 0.2), lambda said: said == "")
        assert world.ask("client", ip)[0] in NAMES
        world.patch("same", ports=both[1:])
        world.until(lambda: ask_udp("client", ip, 80), lambda said: said in NAMES)
        refused = world.user.kubectl("exec", "client", "--", "wget", "-qO-", f"http://{ip}/")
        assert refused.code != 0


def sticks(world: World, url: str) -> None:
    assert len({*world.ask("client", url, 15)}) == 1


def spreads(world: World, url: str) -> None:
    world.until(lambda: {*world.ask("client", url, 15)}, lambda heard: len(heard) > 1)


def test_clients_stay_with_their_endpoint(world: World) -> None:
    world.apply(service("sticky", sessionAffinity="ClientIP"))
    sticks(world, cluster_ip(world, "sticky"))


def test_affinity_is_switched(world: World) -> None:
    ip = cluster_ip(world, "sticky")
    world.patch("sticky", sessionAffinity="None")
    spreads(world, ip)
    world.patch("sticky", sessionAffinity="ClientIP")
    world.until(lambda: {*world.ask("client", ip, 15)}, lambda heard: len(heard) == 1)


def node_url(world: World, name: str) -> str:
    port = world.user.get("service", name)["spec"]["ports"][0]["nodePort"]
    return f"{world.node_address()}:{port}"


def test_clients_of_a_node_port_stay(world: World) -> None:
    world.apply(service("sticky-node", sessionAffinity="ClientIP", type="NodePort"))
    sticks(world, node_url(world, "sticky-node"))


def test_affinity_of_a_node_port_is_switched(world: World) -> None:
    url = node_url(world, "sticky-node")
    world.patch("sticky-node", sessionAffinity="None")
    spreads(world, url)
    world.patch("sticky-node", sessionAffinity="ClientIP")
    world.until(lambda: {*world.ask("client", url, 15)}, lambda heard: len(heard) == 1)


EXTERNAL = {"type": "ExternalName", "externalName": "plain.default.svc.cluster.local"}
NO_ADDRESS = {"clusterIP": None, "clusterIPs": None, "ports": None, "selector": None,
              "ipFamilies": None, "ipFamilyPolicy": None}  # fmt: skip


def leads_elsewhere(world: World, name: str) -> None:
    """An ExternalName service has no address, and its name is another's."""
    changed = world.patch(name, **EXTERNAL, **NO_ADDRESS)
    assert "clusterIP" not in changed["spec"]
    plain = cluster_ip(world, "plain")
    world.until(lambda: world.look_up("client", f"{name}.{SVC}"), lambda said: plain in said)


def external(name: str) -> dict:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": EXTERNAL}


def serves(world: World, name: str, kind: str) -> dict:
    spec = {"externalName": None, "ports": [TCP_PORT], "selector": WEB}
    changed = world.patch(name, type=kind, **spec)
    assert world.ask("client", changed["spec"]["clusterIP"])[0] in NAMES
    assert world.ask("client", name)[0] in NAMES
    return changed


def test_from_cluster_ip_to_external_name(world: World) -> None:
    world.apply(service("change-1"))
    leads_elsewhere(world, "change-1")


def test_from_node_port_to_external_name(world: World) -> None:
    world.apply(service("change-2", type="NodePort"))
    port = world.user.get("service", "change-2")["spec"]["ports"][0]["nodePort"]
    leads_elsewhere(world, "change-2")
    # The port is free for another.
    world.apply(service("change-3", {**TCP_PORT, "nodePort": port}, type="NodePort"))


def test_from_external_name_to_cluster_ip(world: World) -> None:
    world.apply(external("change-4"))
    serves(world, "change-4", "ClusterIP")


def test_from_external_name_to_node_port(world: World) -> None:
    world.apply(external("change-5"))
    changed = serves(world, "change-5", "NodePort")
    port = changed["spec"]["ports"][0]["nodePort"]
    assert world.ask("client", f"{world.node_address()}:{port}")[0] in NAMES


# Beyond upstream's


def test_both_families_and_a_flushed_ruleset(world: World) -> None:
    """Somebody flushes the node's rules: they are back at once, and an event says so."""
    world.apply(service("both", ipFamilyPolicy="RequireDualStack"))
    spec = world.user.get("service", "both")["spec"]
    four, six = spec["clusterIPs"]
    for url in (four, f"[{six}]"):
        assert world.ask("client", url)[0] in NAMES
    (table,) = [
        name for name in _tables() if name.startswith("ip sampan-services") and "." not in name
    ]
    world.user.run("nft", "delete", "table", *table.split()).ok
    assert world.ask("client", four)[0] in NAMES
    said = world.until(
        lambda: world.user.get("events", "--field-selector=reason=ServiceRulesRestored")["items"],
        bool,
    )
    assert said[0]["involvedObject"]["kind"] == "Node"


def _tables() -> list[str]:
    import subprocess

    done = subprocess.run(["nft", "-j", "list", "tables"], capture_output=True, check=True)
    found = json.loads(done.stdout)["nftables"]
    return [f"{item['table']['family']} {item['table']['name']}" for item in found
            if "table" in item]  # fmt: skip
