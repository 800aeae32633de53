"""What the proxy says of itself, under kube-proxy's names."""

from __future__ import annotations

import asyncio
import json
from ipaddress import ip_network
from typing import Any, cast

import pytest

from sampan.api.errors import Object
from sampan.client.informer import Informers
from sampan.proxy.endpoints import Place
from sampan.proxy.families import IPV4
from sampan.proxy.metrics import MAX_TRIGGERS, TRIGGERED, Metrics
from sampan.proxy.rules import Scope
from sampan.proxy.run import Proxy
from sampan.proxy.status import LATE_S, Status, is_eligible, unserved_policies

SCOPE = Scope(Place("here"), ip_network("10.244.0.0/24"), IPV4)


def a_slice(when: str) -> Object:
    return {"metadata": {"annotations": {TRIGGERED: when}}}


def test_a_change_is_timed_from_its_cause_to_the_kernel() -> None:
    now = [1_000_000_000.0]  # 2001-09-09T01:46:40Z
    metrics = Metrics(["IPv4", "IPv6"], lambda: now[0])
    now[0] += 10
    metrics.service_changed()
    metrics.slice_changed(a_slice("2001-09-09T01:46:49Z"))
    metrics.slice_changed(a_slice("2001-09-09T01:46:00Z"))  # Before the proxy.
    metrics.slice_changed(a_slice("nonsense"))
    metrics.slice_changed(None)
    lines = [*metrics.lines({("IPv4", "external"): 2})]
    assert "kubeproxy_sync_proxy_rules_endpoint_changes_pending 4" in lines
    assert "kubeproxy_sync_proxy_rules_service_changes_total 1" in lines
    assert metrics.waiting_since == now[0]
    metrics.planned()
    metrics.slice_changed(a_slice("2001-09-09T01:46:50Z"))  # For the next transaction.
    now[0] += 0.5
    metrics.synced("IPv4", 0.003, whole=False)
    metrics.failed("IPv6")
    metrics.forgot(3, 0.001)
    metrics.settled()
    lines = [*metrics.lines({("IPv4", "external"): 2})]
    network = "kubeproxy_network_programming_duration_seconds"
    for expected in (
        f'{network}_bucket{{ip_family="IPv6",le="1"}} 0',
        f'{network}_bucket{{ip_family="IPv6",le="2"}} 1',
        f'{network}_count{{ip_family="IPv4"}} 1',
        'kubeproxy_sync_partial_proxy_rules_duration_seconds_bucket{ip_family="IPv4",le="0.004"} 1',
        'kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family="IPv4"} 1',
        'kubeproxy_sync_proxy_rules_nftables_sync_failures_total{ip_family="IPv6"} 1',
        'kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv4"} 1000000010.5',
        'kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family="IPv4"} 3',
        "kubeproxy_sync_proxy_rules_endpoint_changes_pending 1",
        'kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family="IPv4",'
        'traffic_policy="external"} 2',
    ):
        assert expected in lines
    assert metrics.waiting_since == now[0] - 0.5
    metrics.planned()
    metrics.settled()
    assert not metrics.waiting_since
    for _ in range(MAX_TRIGGERS + 5):
        metrics.slice_changed(a_slice("2001-09-09T01:46:50Z"))
    assert len(metrics._triggers) == MAX_TRIGGERS


class Standing:
    """A proxy that stands still."""

    def __init__(self) -> None:
        self.metrics = Metrics(["IPv4"])
        self.ready = asyncio.Event()

    def scopes(self) -> list[Scope]:
        return [SCOPE]

    def services(self) -> list[Object]:
        return [{"spec": {"externalTrafficPolicy": "Local", "ports": [{"port": 80}]}}]

    def slices_of(self, service: Object) -> list[Object]:
        entry = {"addresses": ["10.244.1.9"], "nodeName": "there"}
        return [{"ports": [{"port": 80}], "endpoints": [entry]}]


class Nodes:
    """An informer of one Node."""

    def __init__(self) -> None:
        self.node: Object = {"metadata": {}}

    def informer(self, *_: Any, **__: Any) -> Nodes:
        return self

    def get(self, *_: str) -> Object:
        return self.node


def code_of(body: bytes) -> int:
    return int(body.split(b" ", 2)[1])


def test_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    proxy, nodes = Standing(), Nodes()
    status = Status(cast(Proxy, proxy), cast(Informers, nodes), "here", "127.0.0.1")
    assert code_of(status.health("/livez")) == 503  # Nothing is in the kernel yet.
    proxy.ready.set()
    said = status.health("/healthz")
    assert code_of(said) == 200
    assert json.loads(said.partition(b"\r\n\r\n")[2])["nodeEligible"] is True
    nodes.node = {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}
    assert [code_of(status.health(path)) for path in ("/healthz", "/livez")] == [503, 200]
    nodes.node = {"metadata": {}}
    proxy.metrics.service_changed()
    assert code_of(status.health("/healthz")) == 200
    late = proxy.metrics.waiting_since + LATE_S + 1
    monkeypatch.setattr("sampan.proxy.status.time.time", lambda: late)
    assert code_of(status.health("/healthz")) == 503
    assert status.figures("/proxyMode").endswith(b"\r\n\r\nnftables")
    assert code_of(status.figures("/else")) == 404
    text = status.figures("/metrics").decode()
    assert 'kubeproxy_proxy_healthz_total{code="503"} 2' in text
    name = "kubeproxy_sync_proxy_rules_no_local_endpoints_total"
    assert f'{name}{{ip_family="IPv4",traffic_policy="external"}} 1' in text


def test_nodes_that_go_get_nothing_new() -> None:
    taint = {"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}
    assert is_eligible(None)
    assert is_eligible({"metadata": {}, "spec": {"taints": [{"key": "other"}]}})
    assert not is_eligible({"metadata": {}, "spec": {"taints": [taint]}})


def test_who_is_served_by_other_nodes_alone() -> None:
    spec = {"internalTrafficPolicy": "Local", "externalTrafficPolicy": "Local", "ports": [{}]}
    here, there = ({"addresses": ["10.244.0.9"], "nodeName": name} for name in ("here", "there"))

    def policies(*entries: Object) -> list[str]:
        found = [{"ports": [{"port": 80}], "endpoints": [*entries]}]
        return [*unserved_policies({"spec": spec}, found, SCOPE)]

    assert policies(there) == ["internal", "external"]
    assert policies(there, here) == []
    assert policies() == []
    spec["internalTrafficPolicy"] = "Cluster"
    assert policies(there) == ["external"]
