"""Services and slices into rules: policies, readiness, names that try to be rules."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import Any

import pytest

from sampan.proxy.destinations import chain_name
from sampan.proxy.endpoints import Place
from sampan.proxy.families import IPV6
from sampan.proxy.hostports import host_rules_of
from sampan.proxy.loopback import Door, doors_of
from sampan.proxy.rules import NOTHING, REFUSE, Rules, Scope, elements, rules_of

KEY = "10.96.0.7 . tcp . 80"
SCOPE = Scope(Place("here"), IPv4Network("10.244.0.0/24"))


def service(ports: list[dict[str, Any]] | None = None, **spec: Any) -> dict[str, Any]:
    ports = ports or [{"name": "http", "port": 80, "protocol": "TCP"}]
    return {
        "metadata": {"namespace": "ns", "name": "web"},
        "spec": {"clusterIP": "10.96.0.7", "ports": ports, **spec},
    }


def endpoint(ip: str, node: str = "here", **conditions: bool) -> dict[str, Any]:
    return {"addresses": [ip], "nodeName": node, "conditions": conditions}


def slice_of(*endpoints: dict[str, Any], name: str = "http", port: int = 8080) -> dict[str, Any]:
    return {
        "addressType": "IPv4",
        "ports": [{"name": name, "port": port, "protocol": "TCP"}],
        "endpoints": list(endpoints),
    }


def test_cluster_ip_leads_to_the_ready_endpoints() -> None:
    slices = [
        slice_of(endpoint("10.244.0.5"), endpoint("10.244.1.6", "there")),
        slice_of(endpoint("10.244.0.5"), endpoint("10.244.0.9", ready=False)),
    ]
    found = rules_of(service(), slices, SCOPE)
    assert found == Rules(
        services={},
        nodeports={},
        chains={},
        hairpins=frozenset({"10.244.0.5"}),
        plain={KEY: ("10.244.0.5 . 8080", "10.244.1.6 . 8080")},
    )
    assert elements(found) == {
        "plain": {KEY: ""},
        "class-2": {KEY: ""},
        "slot-0": {KEY: "10.244.0.5 . 8080"},
        "slot-1": {KEY: "10.244.1.6 . 8080"},
    }


def test_terminating_endpoints_serve_only_when_no_other_does() -> None:
    leaving = endpoint("10.244.0.5", ready=False, serving=True, terminating=True)
    alone = rules_of(service(), [slice_of(leaving)], SCOPE)
    assert alone.plain == {KEY: ("10.244.0.5 . 8080",)}
    # Nothing said is "yes" (discovery.k8s.io/v1, EndpointConditions).
    unsaid = endpoint("10.244.0.5", ready=False, terminating=True)
    assert rules_of(service(), [slice_of(unsaid)], SCOPE).plain == alone.plain
    both = rules_of(service(), [slice_of(leaving, endpoint("10.244.0.6", ready=True))], SCOPE)
    assert both.plain == {KEY: ("10.244.0.6 . 8080",)}


def test_without_endpoints_connections_are_refused() -> None:
    ports = [{"port": 80, "nodePort": 30080}, {"name": "dns", "port": 53, "protocol": "UDP"}]
    found = rules_of(service(ports, type="NodePort"), [], SCOPE)
    assert found.services == {"10.96.0.7 . tcp . 80": REFUSE}
    assert found.plain == {"10.96.0.7 . udp . 53": ()}
    assert found.nodeports == {"tcp . 30080": REFUSE}
    assert not found.chains


def test_node_ports_leave_with_the_nodes_address_unless_the_policy_is_local() -> None:
    ports = [{"name": "http", "port": 80, "nodePort": 30080}]
    slices = [slice_of(endpoint("10.244.0.5"), endpoint("10.244.1.6", "there"))]
    found = rules_of(service(ports, type="NodePort"), slices, SCOPE)
    assert found.nodeports == {"tcp . 30080": "goto ext-ns/web/tcp/http"}
    assert found.chains["ext-ns/web/tcp/http"] == (
        "meta mark set meta mark | 0x4000",
        "goto all-ns/web/tcp/http",
    )
    local = service(ports, type="NodePort", externalTrafficPolicy="Local")
    found = rules_of(local, slices, SCOPE)
    # What is of this node, or of its pods, goes anywhere; others stay here with their address.
    assert found.chains["ext-ns/web/tcp/http"] == (
        "ip saddr 10.244.0.0/24 goto all-ns/web/tcp/http",
        "fib saddr type local meta mark set meta mark | 0x4000",
        "fib saddr type local goto all-ns/web/tcp/http",
        "goto loc-ns/web/tcp/http",
    )
    assert found.chains["loc-ns/web/tcp/http"] == ("meta l4proto tcp dnat ip to 10.244.0.5:8080",)
    found = rules_of(local, [slice_of(endpoint("10.244.1.6", "there"))], SCOPE)
    assert found.chains["ext-ns/web/tcp/http"][-1] == "drop"
    # Where all endpoints are near, clients keep their address under either policy.
    found = rules_of(service(ports, type="NodePort"), [slice_of(endpoint("10.244.0.5"))], SCOPE)
    assert found.chains["ext-ns/web/tcp/http"] == ("goto all-ns/web/tcp/http",)


def test_pods_of_this_node_are_near_whatever_their_addresses() -> None:
    """A CNI plugin has networks of its own; who writes slices need not say a node."""
    plugged = rules_of(service(), [slice_of(endpoint("10.66.0.5"))], SCOPE)
    assert plugged.hairpins == {"10.66.0.5"}
    nameless = {key: value for key, value in endpoint("10.244.0.5").items() if key != "nodeName"}
    assert rules_of(service(), [slice_of(nameless)], SCOPE).hairpins == {"10.244.0.5"}
    assert not rules_of(service(), [slice_of(endpoint("10.66.0.5", "there"))], SCOPE).hairpins


def test_a_local_policy_falls_back_to_what_leaves_this_node() -> None:
    local = service(internalTrafficPolicy="Local")
    leaving = endpoint("10.244.0.5", ready=False, serving=True, terminating=True)
    found = rules_of(local, [slice_of(leaving, endpoint("10.244.1.6", "there"))], SCOPE)
    assert found.chains["svc-ns/web/tcp/http"] == ("meta l4proto tcp dnat ip to 10.244.0.5:8080",)


def test_external_addresses_are_of_the_outside() -> None:
    named = service(externalIPs=["192.0.2.77", "junk }"])
    found = rules_of(named, [slice_of(endpoint("10.244.0.5"))], SCOPE)
    assert found.services["192.0.2.77 . tcp . 80"] == "goto ext-ns/web/tcp/http"
    assert len(found.services) == 2


def test_each_family_has_rules_of_its_own() -> None:
    scope = Scope(Place("here"), IPv6Network("fd00:1::/64"), IPV6)
    both = service(clusterIPs=["10.96.0.7", "fd00:2::7"])
    slices = [
        slice_of(endpoint("10.244.0.5")),
        {
            **slice_of(endpoint("fd00:1::5"), endpoint("fd00:1:0:1::6", "there")),
            "addressType": "IPv6",
        },
    ]
    key = "fd00:2::7 . tcp . 80"
    found = rules_of(both, slices, scope)
    assert found.plain == {key: ("fd00:1:0:1::6 . 8080", "fd00:1::5 . 8080")}
    assert found.hairpins == {"fd00:1::5"}
    assert rules_of(both, slices, SCOPE).plain == {KEY: ("10.244.0.5 . 8080",)}
    ports = [{"name": "http", "port": 80, "nodePort": 30080}]
    found = rules_of({**both, "spec": {**both["spec"], "ports": ports}}, slices[1:], scope)
    assert found.chains["ext-ns/web/tcp/http"][0] == "meta mark set meta mark | 0x4000"
    assert found.chains["svc-ns/web/tcp/http"][1] == "meta l4proto tcp dnat ip6 to [fd00:1::5]:8080"
    balanced = {**both, "spec": {**both["spec"], "type": "LoadBalancer"}}
    balanced["spec"]["loadBalancerSourceRanges"] = ["192.0.2.0/24"]
    balanced["status"] = {"loadBalancer": {"ingress": [{"ip": "fd00:2::9"}]}}
    found = rules_of(balanced, slices, scope)
    # Nobody of this family is let in.
    assert found.chains["lb-ns/web/tcp/http"][0] == "ip6 saddr != { :: } drop"


def hinted(ip: str, zone: str, node: str = "there", *nodes: str) -> dict[str, Any]:
    hints = {"forZones": [{"name": zone}]} if zone else {}
    if nodes:
        hints["forNodes"] = [{"name": name} for name in nodes]
    return {**endpoint(ip, node), "hints": hints}


@pytest.mark.parametrize(
    ("entries", "zone", "expected"),
    [
        ([hinted("10.0.0.1", "a"), hinted("10.0.0.2", "b")], "a", {"10.0.0.1"}),
        # Not on all, not of this zone, or a node without one: everybody.
        ([hinted("10.0.0.1", "a"), endpoint("10.0.0.2")], "a", {"10.0.0.1", "10.0.0.2"}),
        ([hinted("10.0.0.1", "a"), hinted("10.0.0.2", "b")], "c", {"10.0.0.1", "10.0.0.2"}),
        ([hinted("10.0.0.1", "a"), hinted("10.0.0.2", "b")], "", {"10.0.0.1", "10.0.0.2"}),
        # The node goes first, then its zone.
        (
            [hinted("10.0.0.1", "a", "x", "here"), hinted("10.0.0.2", "a", "y", "y")],
            "a",
            {"10.0.0.1"},
        ),
        (
            [hinted("10.0.0.1", "a", "x", "x"), hinted("10.0.0.2", "b", "y", "y")],
            "b",
            {"10.0.0.2"},
        ),
    ],
)
def test_hints_are_followed_where_they_are_whole(
    entries: list[dict[str, Any]], zone: str, expected: set[str]
) -> None:
    scope = Scope(Place("here", zone), IPv4Network("10.244.0.0/24"))
    found = rules_of(service(), [slice_of(*entries)], scope)
    assert {item.split(" . ")[0] for item in found.plain[KEY]} == expected


def pod(**port: Any) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "ns", "name": "web"},
        "spec": {"containers": [{"ports": [{"containerPort": 8080, **port}]}]},
        "status": {"podIP": "10.244.0.5", "phase": "Running"},
    }


def test_host_ports_lead_to_their_pod() -> None:
    found = host_rules_of(pod(hostPort=80))
    chain = "host-ns/web/tcp/80/8080"
    assert found.nodeports == {"tcp . 80": f"goto {chain}"}
    assert found.services == {"127.0.0.1 . tcp . 80": f"goto {chain}"}
    assert found.chains[chain][-1] == "meta l4proto tcp dnat ip to 10.244.0.5:8080"
    found = host_rules_of(pod(hostPort=53, protocol="UDP", hostIP="127.0.0.1"))
    assert found.services == {"127.0.0.1 . udp . 53": "goto host-ns/web/udp/53/8080"}
    assert found.datagrams == {("10.244.0.5", 8080)}
    # At ::1 a listener has it, which needs the node's port alone.
    both = pod(hostPort=80)
    both["status"]["podIPs"] = [{"ip": "10.244.0.5"}, {"ip": "fd00::5"}]
    six = host_rules_of(both, IPV6)
    assert (six.services, doors_of(six, 6)) == ({}, {Door(6, "tcp", 80)})
    # Two addresses of the node, two ports of the pod.
    two = pod(hostPort=80, hostIP="192.0.2.1")
    two["spec"]["containers"][0]["ports"].append(
        {"containerPort": 9090, "hostPort": 80, "hostIP": "192.0.2.2"}
    )
    found = host_rules_of(two)
    led = {key: found.chains[verdict.removeprefix("goto ")][-1].rpartition(":")[2]
           for key, verdict in found.services.items()}  # fmt: skip
    assert led == {"192.0.2.1 . tcp . 80": "8080", "192.0.2.2 . tcp . 80": "9090"}
    over = pod(hostPort=80)
    over["status"]["phase"] = "Failed"
    for other in (pod(), over, pod(hostPort=80, hostIP="} junk")):
        assert host_rules_of(other) == NOTHING


def test_internal_traffic_may_have_to_stay_on_the_node() -> None:
    local = service(internalTrafficPolicy="Local")
    slices = [slice_of(endpoint("10.244.1.6", "there"))]
    assert rules_of(local, slices, SCOPE).services == {"10.96.0.7 . tcp . 80": "drop"}


def test_a_load_balancers_address_lets_only_its_sources_in() -> None:
    balanced = service(type="LoadBalancer", loadBalancerSourceRanges=["192.0.2.0/24", "junk"])
    balanced["status"] = {
        "loadBalancer": {
            "ingress": [
                {"ip": "203.0.113.5"},
                {"ip": "203.0.113.6", "ipMode": "Proxy"},
                {"hostname": "x"},
            ]
        }
    }
    found = rules_of(balanced, [slice_of(endpoint("10.244.0.5"))], SCOPE)
    assert found.services["203.0.113.5 . tcp . 80"] == "goto lb-ns/web/tcp/http"
    assert "203.0.113.6 . tcp . 80" not in found.services
    assert found.chains["lb-ns/web/tcp/http"] == (
        "ip saddr != { 192.0.2.0/24 } drop",
        "goto ext-ns/web/tcp/http",
    )


def test_session_affinity_chooses_by_the_client() -> None:
    slices = [slice_of(endpoint("10.244.0.5"), endpoint("10.244.0.6"))]
    found = rules_of(service(sessionAffinity="ClientIP"), slices, SCOPE)
    one, two = (f"ns/web/tcp/http/10.244.0.{n}/8080" for n in (5, 6))
    assert found.chains["svc-ns/web/tcp/http"] == (
        f"ip saddr @of-{one}/10800 goto to-{one}",
        f"ip saddr @of-{two}/10800 goto to-{two}",
        f"numgen random mod 2 == 0 goto to-{one}",
        f"goto to-{two}",
    )
    assert found.chains[f"to-{one}"] == (
        f"update @of-{one}/10800 {{ ip saddr }}",
        "meta l4proto tcp dnat ip to 10.244.0.5:8080",
    )
    assert set(found.sets) == {f"of-{one}/10800", f"of-{two}/10800"}
    asked = {"clientIP": {"timeoutSeconds": 60}}
    short = service(sessionAffinity="ClientIP", sessionAffinityConfig=asked)
    assert all("timeout 60s" in what for what in rules_of(short, slices, SCOPE).sets.values())


def test_many_endpoints_share_one_map() -> None:
    slices = [slice_of(*(endpoint(f"10.244.0.{n}") for n in range(10, 20)))]
    (rule,) = rules_of(service(), slices, SCOPE).chains["svc-ns/web/tcp/http"]
    assert rule.startswith("meta l4proto tcp dnat ip to numgen random mod 10 map { 0 : 10.244.0.10")


@pytest.mark.parametrize(
    "change",
    [
        {"clusterIP": "None"},
        {"clusterIP": ""},
        {"clusterIP": "fd00::1"},
        {"clusterIP": "10.0.0.1 . tcp . 1 : drop }; flush ruleset #"},
        {"type": "ExternalName"},
    ],
)
def test_what_is_not_proxied(change: dict[str, Any]) -> None:
    assert rules_of(service(**change), [], SCOPE) == NOTHING


@pytest.mark.parametrize("label", ["service-proxy-name", "headless"])
def test_what_another_proxy_has(label: str) -> None:
    other = service()
    other["metadata"]["labels"] = {f"service.kubernetes.io/{label}": ""}
    assert rules_of(other, [], SCOPE) == NOTHING


def test_nothing_in_an_object_becomes_a_rule_of_its_own() -> None:
    evil = "a }\nflush ruleset\n#"
    named = service()
    named["metadata"]["name"] = evil
    assert rules_of(named, [], SCOPE) == NOTHING
    ports = [
        {"name": evil, "port": 80},
        {"name": "b", "port": evil},
        {"name": "c", "port": 80, "protocol": evil},
        {"name": "d", "port": 0},
        {"name": "e", "port": 81, "nodePort": evil},
    ]
    slices = [slice_of(endpoint(evil), endpoint("10.244.0.5"), name="e")]
    slices.append({**slices[0], "ports": [{"name": "e", "port": evil}]})
    found = rules_of(service(ports, type="NodePort"), slices, SCOPE)
    assert found.plain == {"10.96.0.7 . tcp . 81": ("10.244.0.5 . 8080",)}
    assert not found.nodeports
    assert not found.services
    assert evil not in str(found)


def test_long_chain_names_stay_short_and_apart() -> None:
    one, two = (chain_name("svc-", f"{'n' * 63}/{'s' * 63}/tcp/{end}") for end in ("a", "b"))
    assert len(one) <= 127
    assert one != two
