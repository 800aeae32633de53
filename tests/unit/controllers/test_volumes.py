"""What claims and volumes are to each other, as tables."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.api.volumes import best_match, is_bound_to, mismatch
from sampan.controllers.localvolumes_plan import (
    hosts,
    is_populated,
    refusal,
    snapshot_source,
    volume_for,
)
from sampan.controllers.volumebinder_metrics import exposition

RWO, RWX = "ReadWriteOnce", "ReadWriteMany"


def claim(size: str = "1Gi", modes: tuple[str, ...] = (RWO,), **spec: Any) -> dict[str, Any]:
    requests = {"requests": {"storage": size}}
    return {
        "metadata": {"name": "c", "namespace": "ns", "uid": "u", "resourceVersion": "7"},
        "spec": {"accessModes": [*modes], "resources": requests, "storageClassName": ""} | spec,
    }


def volume(
    name: str, size: str = "1Gi", modes: tuple[str, ...] = (RWO,), **spec: Any
) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": {"n": name}},
        "spec": {"accessModes": [*modes], "capacity": {"storage": size}} | spec,
        "status": {"phase": "Available"},
    }


KEPT: dict[str, Any] = {"claimRef": {"name": "c", "namespace": "ns"}}
GONE: dict[str, Any] = {"claimRef": {"name": "c", "namespace": "ns", "uid": "another"}}


@pytest.mark.parametrize(
    ("wish", "there", "found"),
    [
        (claim(), [volume("a", "2Gi"), volume("b", "1Gi"), volume("c", "1000Mi")], "b"),
        # Few access modes come before little space, as upstream's index has it.
        (claim(), [volume("a", "1Gi", (RWO, RWX)), volume("b", "5Gi")], "b"),
        (claim(modes=(RWX,)), [volume("a"), volume("b", "5Gi", (RWO, RWX))], "b"),
        (claim(), [volume("a"), volume("b", "9Gi", **KEPT)], "b"),
        (claim(), [volume("a", "2Gi"), volume("b", **GONE)], "a"),
        (claim(volumeMode="Block"), [volume("a"), volume("b", volumeMode="Block")], "b"),
        (claim(storageClassName="x"), [volume("a"), volume("b", storageClassName="x")], "b"),
        (claim(selector={"matchLabels": {"n": "b"}}), [volume("a"), volume("b", "2Gi")], "b"),
        (claim("3Gi"), [volume("a", "2Gi"), volume("b", "2Gi", **KEPT)], ""),
    ],
)
def test_the_best_match(wish: Any, there: Any, found: str) -> None:
    got = best_match(wish, there)
    assert (got or {"metadata": {"name": ""}})["metadata"]["name"] == found


def test_a_delayed_claim_takes_what_is_kept_for_it_or_what_fits_a_node() -> None:
    there = [volume("a")]
    assert best_match(claim(), there, delayed=True) is None
    assert best_match(claim(), there, delayed=True, fits=lambda item: True) is there[0]
    assert best_match(claim(), there, delayed=True, fits=lambda item: False) is None
    kept = volume("b", **KEPT)
    assert best_match(claim(), [kept], delayed=True) is kept
    assert best_match(claim(), [kept], fits=lambda item: False) is None
    leaving = volume("c")
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    taken = volume("d") | {"status": {"phase": "Released"}}
    assert best_match(claim(), [leaving, taken]) is None


@pytest.mark.parametrize(
    ("there", "text"),
    [
        (volume("a"), ""),
        (volume("a", "1Mi"), "requested PV is too small"),
        (volume("a", storageClassName="x"), "storageClassName does not match"),
        (volume("a", volumeMode="Block"), "incompatible volumeMode"),
        (volume("a", modes=(RWX,)), "incompatible accessMode"),
    ],
)
def test_why_a_named_volume_does_not_do(there: Any, text: str) -> None:
    assert mismatch(there, claim()) == text


def test_who_a_volume_is_kept_for() -> None:
    assert is_bound_to(volume("a", **KEPT), claim())
    assert not is_bound_to(volume("a", **GONE), claim())
    assert not is_bound_to(volume("a"), claim())


def refusal_of(claim: Any, **kind: Any) -> str:
    return refusal(claim, {"metadata": {"name": "standard"}} | kind)


def test_volumes_begin_as_copies_of_claims_and_snapshots_alone() -> None:
    assert refusal_of(claim()) == ""
    assert refusal_of(claim(volumeMode="Block")) == ""
    snapshot = {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "s"}
    assert refusal_of(claim(dataSource=snapshot)) == ""
    assert snapshot_source(claim(dataSource=snapshot)) == "s"
    bucket = {"apiGroup": "example.com", "kind": "Bucket", "name": "s"}
    assert is_populated(claim(dataSourceRef=bucket))
    assert not any(is_populated(claim(dataSourceRef=item)) for item in (snapshot, None))
    assert snapshot_source(claim(dataSourceRef=bucket)) == ""
    other = {"kind": "PersistentVolumeClaim", "name": "s"}
    assert refusal_of(claim(dataSource=other, dataSourceRef=other)) == ""
    assert "same namespace" in refusal_of(claim(dataSourceRef=other | {"namespace": "other"}))
    assert refusal_of(claim(), mountOptions=["a", "b=c"]) == (
        "Mount options are not supported by the provisioner but StorageClass "
        '"standard" has mount options [a b=c]'
    )
    assert "Selector" in refusal_of(claim(selector={"matchLabels": {"a": "b"}}))


def test_a_claim_that_does_not_wait_gets_a_node_that_is_ready() -> None:
    def node(name: str, status: str, **spec: Any) -> Any:
        conditions = [{"type": "Ready", "status": status}]
        return {"metadata": {"name": name}, "spec": spec, "status": {"conditions": conditions}}

    there = [node("a", "False"), node("b", "True"), node("c", "True", unschedulable=True)]
    found = hosts(there, claim(), {})
    assert found is not None
    assert found["metadata"]["name"] == "b"
    assert hosts(there[:1], claim(), {}) is None
    terms = [{"matchLabelExpressions": [{"key": "zone", "values": ["z"]}]}]
    assert hosts(there, claim(), {"allowedTopologies": terms}) is None
    there[1]["metadata"]["labels"] = {"zone": "z"}
    assert hosts(there, claim(), {"allowedTopologies": terms}) == there[1]


def test_a_volume_carries_what_keeps_it_where_it_is() -> None:
    node = {"metadata": {"name": "n", "labels": {"kubernetes.io/hostname": "h"}}}
    made = volume_for(claim(), {"metadata": {"name": "standard"}}, node, "/d")
    assert made["metadata"]["finalizers"] == ["external-provisioner.volume.kubernetes.io/finalizer"]
    assert made["spec"]["claimRef"]["uid"] == "u"
    terms = made["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    assert terms[0]["matchExpressions"][0]["values"] == ["h"]
    kept = volume_for(claim(), {"metadata": {"name": "s"}, "reclaimPolicy": "Retain"}, node, "/d")
    assert "finalizers" not in kept["metadata"]


def test_counts() -> None:
    bound = claim() | {"status": {"phase": "Bound"}}
    text = exposition([volume("a", hostPath={"path": "/"}), volume("b")], [bound, claim()])
    assert 'pv_collector_total_pv_count{plugin_name="N/A",volume_mode="Filesystem"} 1' in text
    assert 'plugin_name="kubernetes.io/host-path"' in text
    assert 'pv_collector_unbound_pv_count{storage_class=""} 2' in text
    labels = 'namespace="ns",storage_class="",volume_attributes_class=""'
    assert f"pv_collector_bound_pvc_count{{{labels}}} 1" in text
    assert exposition([], []) == ""
