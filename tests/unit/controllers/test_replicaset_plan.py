"""Which pods a ReplicaSet gives up first, and what it counts."""

from __future__ import annotations

from typing import Any

from sampan.api.errors import Object
from sampan.api.times import format_time
from sampan.controllers.replicaset_plan import (
    BURST,
    DELETION_COST,
    Failure,
    Observed,
    available_later_s,
    plan,
    rank,
    status_of,
)

NOW_S = 1_700_000_000.0


def replica_set(replicas: int = 3, **spec: Any) -> Object:
    return {
        "metadata": {"name": "s", "namespace": "ns", "uid": "s", "generation": 4},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "a"}},
            "template": {"metadata": {"labels": {"app": "a", "tier": "t"}}},
            **spec,
        },
    }


def pod(name: str, **changes: Any) -> Object:
    """A pod that is the least likely to go: running, ready and old."""
    ready_s = changes.pop("ready_s", 1e5)
    age_s = changes.pop("age_s", 1e5)
    annotations = {DELETION_COST: changes.pop("cost")} if "cost" in changes else {}
    restarts = changes.pop("restarts", 0)
    labels = changes.pop("labels", {"app": "a", "tier": "t"})
    ready = {"type": "Ready", "status": "True" if ready_s is not None else "False"}
    if ready_s is not None:
        ready["lastTransitionTime"] = format_time(NOW_S - ready_s)
    return {
        "metadata": {
            "name": name, "uid": name, "namespace": "ns", "labels": labels,
            "annotations": annotations, "creationTimestamp": format_time(NOW_S - age_s),
        },
        "spec": {"nodeName": changes.pop("node", "n1")},
        "status": {
            "phase": changes.pop("phase", "Running"),
            "conditions": [ready],
            "containerStatuses": [{"restartCount": restarts}],
        },
    }  # fmt: skip


def names(pods: list[Object]) -> str:
    return " ".join(item["metadata"]["name"] for item in pods)


def test_order_of_deletion() -> None:
    pods = [
        pod("keep", age_s=1e6),
        pod("young", age_s=10),
        pod("restarted", restarts=3),
        pod("lately-ready", ready_s=10),
        pod("crowded", node="n2"),
        pod("cheap", cost="-5"),
        pod("unready", ready_s=None),
        pod("pending", phase="Pending"),
        pod("unbound", node=""),
    ]
    found = rank(pods, {"n1": 1, "n2": 2, "": 1}, NOW_S)
    assert names(found) == (
        "unbound pending unready cheap crowded lately-ready restarted young keep"
    )


def test_a_cost_that_is_no_number_counts_as_zero() -> None:
    pods = [pod("b", cost="0x10"), pod("a", cost="+7"), pod("c", cost="-1")]
    assert names(rank(pods, {}, NOW_S)) == "c a b"


def test_plans_the_difference_and_no_more_than_a_burst() -> None:
    pods = [pod("a"), pod("b")]
    assert plan(Observed(replica_set(3), pods), NOW_S).create == 1
    assert names([*plan(Observed(replica_set(0), pods), NOW_S).delete]) == "a b"
    assert plan(Observed(replica_set(5000), []), NOW_S).create == BURST
    going = replica_set(3)
    going["metadata"]["deletionTimestamp"] = format_time(NOW_S)
    assert plan(Observed(going, pods), NOW_S).create == 0


def test_status_counts_and_failure() -> None:
    pods = [
        pod("a", ready_s=100.0),
        pod("b", ready_s=5.0),
        pod("c", ready_s=None, labels={"app": "a"}),
    ]
    observed = Observed(replica_set(minReadySeconds=30), pods, terminating=2)
    status = status_of(observed, None, NOW_S)
    assert status == {
        "replicas": 3,
        "fullyLabeledReplicas": 2,
        "readyReplicas": 2,
        "availableReplicas": 1,
        "terminatingReplicas": 2,
        "observedGeneration": 4,
    }
    assert available_later_s(observed, NOW_S) == 25.0
    failed = status_of(observed, Failure("Create", "quota"), NOW_S)
    assert failed["conditions"] == [
        {
            "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
            "message": "quota", "lastTransitionTime": "2023-11-14T22:13:20Z",
        }
    ]  # fmt: skip
    again = Observed({**replica_set(), "status": failed}, pods)
    assert "conditions" not in status_of(again, None, NOW_S)
