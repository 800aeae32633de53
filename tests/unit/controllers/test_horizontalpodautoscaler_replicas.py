"""How many replicas metrics ask for, with pods that are new, unready or unknown."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.api.errors import Object
from sampan.api.times import format_time
from sampan.controllers.horizontalpodautoscaler_metrics import (
    MetricsError,
    Sample,
    Samples,
)
from sampan.controllers.horizontalpodautoscaler_replicas import (
    Count,
    Scaled,
    Tolerance,
    by_average,
    by_share,
    by_utilization,
    by_value,
)

NOW_S = 1_700_000_000.0


def pod(name: str, phase: str = "Running", *, ready: bool = True, age_s: float = 3600) -> Object:
    since = format_time(NOW_S - age_s)
    status: Object = {
        "phase": phase,
        "startTime": since,
        "conditions": [
            {
                "type": "Ready",
                "status": "True" if ready else "False",
                "lastTransitionTime": since,
            }
        ],
    }
    containers = [
        {"name": "main", "resources": {"requests": {"cpu": "600m"}}},
        {"name": "side", "resources": {"requests": {"cpu": "400m"}}},
    ]
    return {"metadata": {"name": name}, "spec": {"containers": containers}, "status": status}


def target(*pods: Object, replicas: int | None = None, **more: Any) -> Scaled:
    wanted = len(pods) if replicas is None else replicas
    kept = {"running": wanted, "tolerance": Tolerance(), "now_s": NOW_S, **more}
    return Scaled(wanted, pods=pods, **kept)


def used(**values: int) -> Samples:
    return {name: Sample(value, NOW_S, 15.0) for name, value in values.items()}


A, B, C = pod("a"), pod("b"), pod("c")
NEW = pod("n", age_s=10)
UNREADY = pod("u", ready=False)
PENDING = pod("p", "Pending", ready=False)


@pytest.mark.parametrize(
    ("scaled", "samples", "percent", "expected"),
    [
        pytest.param(target(A, B), used(a=300, b=500), 20, Count(4, 400, 40), id="twice"),
        pytest.param(target(A, B), used(a=550, b=540), 50, Count(2, 545, 54), id="within 10%"),
        pytest.param(target(A, B, C), used(a=100, b=100, c=100), 50, Count(1, 100, 10), id="down"),
        # Its CPU is that of its start, and it counts as idle.
        pytest.param(target(A, NEW), used(a=900, n=900), 30, Count(3, 900, 90), id="one is new"),
        pytest.param(target(A, NEW), used(a=500, n=900), 30, Count(2, 500, 50), id="new, enough"),
        pytest.param(target(A, UNREADY), used(a=100, u=900), 50, Count(1, 100, 10), id="unready"),
        pytest.param(target(A, PENDING), used(a=900), 30, Count(3, 900, 90), id="one is pending"),
        # Unknown, it counts as using all it asked for when the others ask for fewer ...
        pytest.param(target(A, B, C), used(a=300, b=300), 60, Count(3, 300, 30), id="unknown"),
        # ... and none of it when they ask for more.
        pytest.param(target(A, B, C), used(a=900, b=900), 60, Count(3, 900, 90), id="unknown up"),
        pytest.param(
            target(A, B, tolerance=Tolerance(0.1, 0.0)), used(a=510, b=510), 50,
            Count(3, 510, 51), id="no tolerance up",
        ),
    ],
)  # fmt: skip
def test_by_utilization(scaled: Scaled, samples: Samples, percent: int, expected: Count) -> None:
    assert by_utilization(scaled, samples, percent, "cpu") == expected


def test_by_utilization_of_a_container() -> None:
    assert by_utilization(target(A), used(a=600), 50, "cpu", "main") == Count(2, 600, 100)


@pytest.mark.parametrize(
    ("scaled", "samples", "resource", "why"),
    [
        (
            target(), used(a=1), "cpu",
            "no pods returned by selector while calculating replica count",
        ),
        (
            target(NEW), used(n=1), "cpu",
            "did not receive metrics for targeted pods (pods might be unready)",
        ),
        (target(A), used(a=1), "memory", "missing request for memory in container main of Pod a"),
        (target(A), used(z=1), "cpu", "no metrics returned matched known pods"),
    ],
)  # fmt: skip
def test_what_cannot_be_told(scaled: Scaled, samples: Samples, resource: str, why: str) -> None:
    with pytest.raises(MetricsError) as caught:
        by_utilization(scaled, samples, 50, resource)
    assert str(caught.value) == why


def test_by_average() -> None:
    assert by_average(target(A, B), used(a=30_000, b=10_000), 10_000) == Count(4, 20_000)
    assert by_average(target(A, B, C), used(a=20_000, b=10_000), 10_000) == Count(3, 15_000)
    # Not CPU: a new pod's figure is as good as another's.
    assert by_average(target(A, NEW), used(a=20_000, n=20_000), 10_000) == Count(4, 20_000)


def test_by_value_and_share() -> None:
    assert by_value(target(A, B), 30_000, 10_000) == Count(6, 30_000)
    assert by_value(target(A, UNREADY), 30_000, 10_000) == Count(3, 30_000)
    assert by_value(target(A, B), 10_500, 10_000) == Count(2, 10_500)
    # From and to nothing.
    assert by_value(target(replicas=0), 25_000, 10_000) == Count(3, 25_000)
    assert by_value(target(A), 0, 10_000) == Count(0, 0)
    assert by_share(target(A, B), 50_000, 10_000) == Count(5, 25_000)
    assert by_share(target(A, B), 21_000, 10_000) == Count(2, 10_500)
    assert by_share(target(replicas=0), 25_000, 10_000) == Count(3, 25_000)
