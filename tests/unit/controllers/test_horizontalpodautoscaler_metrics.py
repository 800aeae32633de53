"""What autoscalers read from the metrics APIs, those of good and of bad servers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pytest

from sampan.api.errors import NotFound, Object
from sampan.api.selectors import Selector, parse_labels
from sampan.api.times import format_time
from sampan.client.api import Client
from sampan.controllers.horizontalpodautoscaler_metrics import MetricsError, MetricsReader, Sample
from sampan.controllers.horizontalpodautoscaler_replicas import Scaled, Tolerance
from sampan.controllers.horizontalpodautoscaler_sources import (
    SourceError,
    Target,
    propose,
)
from sampan.controllers.runtime.scales import Scales

NOW_S = 1_700_000_000.0
WEB: Selector = parse_labels("app=web")


class Metrics:
    """A transport that answers as the metrics APIs do."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    async def request(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, **_: Any
    ) -> Object:
        shown = "&".join(f"{key}={value}" for key, value in sorted((query or {}).items()))
        self.asked.append(f"{path}?{shown}" if shown else path)
        if path not in self.answers:
            raise NotFound("the server could not find the requested resource")
        return cast(Object, self.answers[path])


class NoDefinitions:
    """No custom resources."""

    def on_change(self, handler: Any) -> None:
        pass


def reader(answers: Mapping[str, Any]) -> tuple[MetricsReader, Metrics]:
    transport = Metrics(answers)
    client = Client(transport)  # type: ignore[arg-type]
    return MetricsReader(client, Scales(client, NoDefinitions())), transport  # type: ignore[arg-type]


def group(*versions: str) -> Object:
    served = [{"version": version} for version in versions]
    return {"versions": served, "preferredVersion": served[0]}


def values(*found: Object) -> Object:
    return {"items": [{"timestamp": format_time(NOW_S), **item} for item in found]}


def of(name: str, value: str, **more: Any) -> Object:
    return {"describedObject": {"name": name}, "value": value, **more}


CUSTOM = "/apis/custom.metrics.k8s.io"
SHOP = "namespaces/ns/services/shop/orders"
INGRESS = "namespaces/ns/ingresses.networking.k8s.io/shop/orders"


async def test_custom_metrics_of_pods() -> None:
    path = f"{CUSTOM}/v1beta2/namespaces/ns/pods/*/orders"
    found, transport = reader(
        {
            CUSTOM: group("v1beta2", "v1beta1"),
            path: values(of("a", "1500m", windowSeconds=30), of("b", "2"), of("c", "1k", window=5)),
        }
    )
    assert await found.pods("ns", WEB, "orders", {"matchLabels": {"kind": "big"}}) == {
        "a": Sample(1500, NOW_S, 30),
        "b": Sample(2000, NOW_S, 60),
        "c": Sample(1_000_000, NOW_S, 5),
    }
    assert transport.asked[-1] == f"{path}?labelSelector=app=web&metricLabelSelector=kind=big"


@pytest.mark.parametrize(
    ("described", "path"),
    [
        ({"apiVersion": "v1", "kind": "Service", "name": "shop"}, SHOP),
        ({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "shop"}, INGRESS),
        # Whatever name it gives, an autoscaler sees its own namespace only.
        ({"kind": "Namespace", "name": "other"}, "namespaces/ns/metrics/orders"),
    ],
)
async def test_custom_metrics_of_an_object(described: Object, path: str) -> None:
    # Of the versions that are served, one that is understood.
    whole = f"{CUSTOM}/v1beta1/{path}"
    found, transport = reader({CUSTOM: group("v1", "v1beta1"), whole: values(of("shop", "7"))})
    assert await found.object("ns", described, "orders", None) == 7000
    assert transport.asked == [CUSTOM, whole]


async def test_external_metrics_are_summed() -> None:
    path = "/apis/external.metrics.k8s.io/v1beta1/namespaces/ns/queue"
    found, transport = reader({path: values({"value": "10"}, {"value": "5500m"})})
    selector = {"matchExpressions": [{"key": "q", "operator": "In", "values": ["b", "a"]}]}
    assert await found.external("ns", "queue", selector) == [10_000, 5_500]
    assert transport.asked == [f"{path}?labelSelector=q in (a,b)"]


NOBODY = "no custom metrics API (custom.metrics.k8s.io) registered"
PATH = f"{CUSTOM}/v1beta1/{SHOP}"
NONE = "no metrics returned from custom metrics API"
BROKEN = "unable to fetch metrics from custom metrics API: "


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ({}, f"{BROKEN}{NOBODY}"),
        ({CUSTOM: group("v2")}, f"{BROKEN}{NOBODY}"),
        ({CUSTOM: group("v1beta1")}, f"{BROKEN}the server could not find the requested resource"),
        ({CUSTOM: group("v1beta1"), PATH: {"items": []}}, NONE),
        ({CUSTOM: group("v1beta1"), PATH: {"items": None}}, NONE),
        ({CUSTOM: group("v1beta1"), PATH: {}}, BROKEN),
        ({CUSTOM: group("v1beta1"), PATH: {"items": [{"value": "x"}]}}, BROKEN),
        ({CUSTOM: {"versions": 7}}, BROKEN),
    ],
)  # fmt: skip
async def test_what_is_wrong_with_a_server(answers: Object, why: str) -> None:
    described = {"apiVersion": "v1", "kind": "Service", "name": "shop"}
    with pytest.raises(MetricsError) as caught:
        await reader(answers)[0].object("ns", described, "orders", None)
    assert str(caught.value).startswith(why)


def pod(name: str) -> Object:
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": format_time(NOW_S - 900)}
    status = {"phase": "Running", "startTime": format_time(NOW_S - 900), "conditions": [ready]}
    return {"metadata": {"name": name}, "spec": {"containers": []}, "status": status}


def target(answers: Mapping[str, Any], pods: int = 2) -> Target:
    scaled = Scaled(pods, pods, [pod(str(n)) for n in range(pods)], Tolerance(), NOW_S)
    return Target("ns", WEB, scaled, reader(answers)[0])


async def test_sources_propose() -> None:
    answers = {
        CUSTOM: group("v1beta1"),
        f"{CUSTOM}/v1beta1/{SHOP}": values(of("shop", "40")),
        f"{CUSTOM}/v1beta1/namespaces/ns/pods/*/orders": values(of("0", "40"), of("1", "20")),
        "/apis/external.metrics.k8s.io/v1beta1/namespaces/ns/orders": values({"value": "90"}),
    }
    metric, described = {"name": "orders"}, {"apiVersion": "v1", "kind": "Service", "name": "shop"}
    each, whole = {"type": "AverageValue", "averageValue": "10"}, {"type": "Value", "value": "10"}
    rows = []
    for kind, source in (
        ("Pods", {"metric": metric, "target": each}),
        ("Object", {"metric": metric, "target": whole, "describedObject": described}),
        ("Object", {"metric": metric, "target": each, "describedObject": described}),
        ("External", {"metric": metric, "target": whole}),
        ("External", {"metric": metric, "target": each}),
    ):
        found = await propose(target(answers), {"type": kind, kind.lower(): source})
        assert found.status["type"] == kind
        rows.append((found.replicas, found.metric, found.status[kind.lower()]["current"]))
    assert rows == [
        (6, "pods metric orders", {"averageValue": "30"}),
        (8, "Service metric orders", {"value": "40"}),
        (4, "external metric orders(nil)", {"averageValue": "20"}),
        (18, "external metric orders(nil)", {"value": "90"}),
        (9, "external metric orders(nil)", {"averageValue": "45"}),
    ]
    # From nothing: a queue of nine times what one can do.
    none = await propose(
        target(answers, 0), {"type": "External", "external": {"metric": metric, "target": whole}}
    )
    assert none.replicas == 9


async def test_a_source_that_is_none() -> None:
    with pytest.raises(SourceError) as caught:
        await propose(target({}), {"type": "Moon"})
    assert (caught.value.reason, str(caught.value)) == (
        "InvalidMetricSourceType",
        'unknown metric source type "Moon"',
    )
