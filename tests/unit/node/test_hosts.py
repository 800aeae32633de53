"""Files in /etc, as upstream writes them."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.node.hosts import Resolver, hostname, hosts_text, parse_resolver, resolver

HOST = parse_resolver("search lan\nnameserver 9.9.9.9 # x\noptions rotate\nsearch home.lan\n")


def pod(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p", "namespace": "ns"}, "spec": spec}


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (
            {},
            "search ns.svc.cluster.local svc.cluster.local cluster.local home.lan\n"
            "nameserver 10.96.0.10\noptions ndots:5\n",
        ),
        ({"dnsPolicy": "Default"}, "search home.lan\nnameserver 9.9.9.9\noptions rotate\n"),
        ({"hostNetwork": True}, "search home.lan\nnameserver 9.9.9.9\noptions rotate\n"),
        (
            {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"},
            "search ns.svc.cluster.local svc.cluster.local cluster.local home.lan\n"
            "nameserver 10.96.0.10\noptions ndots:5\n",
        ),
        (
            {
                "dnsPolicy": "None",
                "dnsConfig": {
                    "nameservers": ["1.1.1.1"],
                    "searches": ["x"],
                    "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}],
                },
            },
            "search x\nnameserver 1.1.1.1\noptions ndots:2 edns0\n",
        ),
        (
            {"dnsConfig": {"options": [{"name": "ndots", "value": "1"}]}},
            "search ns.svc.cluster.local svc.cluster.local cluster.local home.lan\n"
            "nameserver 10.96.0.10\noptions ndots:1\n",
        ),
    ],
)
def test_resolv_conf(spec: dict[str, Any], text: str) -> None:
    assert resolver(pod(**spec), HOST, "10.96.0.10", "cluster.local").text() == text


def test_parse_keeps_the_last_search() -> None:
    assert Resolver(["9.9.9.9"], ["home.lan"], ["rotate"]) == HOST


def test_hosts_file() -> None:
    head = (
        "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n"
        "::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n"
        "fe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n"
    )
    assert hosts_text(pod(), ["10.0.0.2"], "cluster.local", "") == head + "10.0.0.2\tp\n"
    named = pod(
        hostname="h", subdomain="sub", hostAliases=[{"ip": "1.1.1.1", "hostnames": ["a", "b"]}]
    )
    assert hosts_text(named, ["10.0.0.2"], "cluster.local", "") == (
        head + "10.0.0.2\th.sub.ns.svc.cluster.local\th\n"
        "\n# Entries added by HostAliases.\n1.1.1.1\ta\tb\n"
    )
    assert hosts_text(pod(hostNetwork=True), [], "cluster.local", "x\n") == (
        "# Kubernetes-managed hosts file (host network).\nx\n"
    )
    assert hostname(named, "cluster.local") == "h"
    fqdn = pod(hostname="h", subdomain="sub", setHostnameAsFQDN=True)
    assert hostname(fqdn, "cluster.local") == "h.sub.ns.svc.cluster.local"


def test_a_name_that_overrides_has_no_domain() -> None:
    named = pod(hostname="h", subdomain="sub", hostnameOverride="db.example.com")
    assert hostname(named, "cluster.local") == "db.example.com"
    text = hosts_text(named, ["10.0.0.2"], "cluster.local", "")
    assert text.endswith("\n10.0.0.2\tdb.example.com\n")


def test_a_full_name_has_to_fit_into_the_kernel() -> None:
    long = pod(hostname="h" * 40, subdomain="sub", setHostnameAsFQDN=True)
    with pytest.raises(ValueError, match=r"too long \(64 characters is the max, 65 characters"):
        hostname(long, "cluster.local")
