"""What objects count as, which quotas they meet, and what a quota says when it is full."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.api.quota import pods
from sampan.api.quota.amounts import read, shown, texts
from sampan.api.quota.check import (
    Refused,
    asking,
    charge,
    check_limited,
    limited_of,
    pertinent,
)
from sampan.api.quota.evaluators import evaluator_of
from sampan.api.quota.scopes import Requirement, requirements_of

Object = dict[str, Any]
NOW = 1_700_000_000.0


def box(name: str = "c", **amounts: Any) -> Object:
    """A container; cpu="1/2" is a request of 1 and a limit of 2."""
    resources: Object = {}
    for what, place in (("requests", 0), ("limits", 1)):
        found = {key: text.split("/")[place] for key, text in amounts.items() if "/" in text}
        found = {key: text for key, text in found.items() if text}
        if found:
            resources[what] = found
    return {"name": name, "resources": resources}


def pod(*containers: Object, **spec: Any) -> Object:
    return {"metadata": {"name": "p"}, "spec": {"containers": [*containers], **spec}}


def quota(hard: Object, used: Object | None = None, **spec: Any) -> Object:
    zero = dict.fromkeys(hard, "0")
    return {
        "metadata": {"name": "q"},
        "spec": {"hard": hard, **spec},
        "status": {"hard": hard, "used": zero if used is None else used},
    }


def usage(group: str, plural: str, obj: Object) -> dict[str, str]:
    evaluator = evaluator_of(group, plural)
    assert evaluator is not None
    return texts(evaluator.usage(obj, NOW))


USAGES: tuple[tuple[str, Object, Object], ...] = (
    ("pods", pod(box()), {"count/pods": "1", "pods": "1"}),
    ("pods", pod(box(cpu="100m/200m", memory="1Gi/"), box("d", cpu="1/")),
     {"count/pods": "1", "pods": "1", "cpu": "1100m", "requests.cpu": "1100m",
      "limits.cpu": "200m", "memory": "1Gi", "requests.memory": "1Gi"}),
    ("pods", pod(box(cpu="1/"), initContainers=[box("i", cpu="3/")]),
     {"count/pods": "1", "pods": "1", "cpu": "3", "requests.cpu": "3"}),
    ("pods", pod(box(cpu="1/"), overhead={"cpu": "1"},
                 initContainers=[{**box("s", cpu="1/"), "restartPolicy": "Always"}]),
     {"count/pods": "1", "pods": "1", "cpu": "3", "requests.cpu": "3"}),
    ("pods", pod(box(cpu="1/1"), resources={"requests": {"cpu": "5"}}),
     {"count/pods": "1", "pods": "1", "cpu": "5", "requests.cpu": "5", "limits.cpu": "1"}),
    ("pods", pod({"name": "c", "resources": {"requests": {
        "example.com/gpu": "2", "hugepages-2Mi": "4Mi", "ephemeral-storage": "1Gi"}}}),
     {"count/pods": "1", "pods": "1", "requests.example.com/gpu": "2", "hugepages-2Mi": "4Mi",
      "requests.hugepages-2Mi": "4Mi", "ephemeral-storage": "1Gi",
      "requests.ephemeral-storage": "1Gi"}),
    ("pods", {**pod(box(cpu="1/")), "status": {"phase": "Succeeded"}}, {"count/pods": "1"}),
    ("pods", {**pod(box(cpu="1/")), "status": {"containerStatuses": [
        {"name": "c", "allocatedResources": {"cpu": "2"}}]}},
     {"count/pods": "1", "pods": "1", "cpu": "2", "requests.cpu": "2"}),
    ("services", {"metadata": {}, "spec": {"type": "ClusterIP", "ports": [{}]}},
     {"services": "1", "count/services": "1", "services.nodeports": "0",
      "services.loadbalancers": "0"}),
    ("services", {"metadata": {}, "spec": {"type": "LoadBalancer", "ports": [{}, {}]}},
     {"services": "1", "count/services": "1", "services.nodeports": "2",
      "services.loadbalancers": "1"}),
    ("services", {"metadata": {}, "spec": {"type": "LoadBalancer", "ports": [{}, {"nodePort": 9}],
                                           "allocateLoadBalancerNodePorts": False}},
     {"services": "1", "count/services": "1", "services.nodeports": "1",
      "services.loadbalancers": "1"}),
    ("persistentvolumeclaims",
     {"metadata": {}, "spec": {"storageClassName": "fast",
                               "resources": {"requests": {"storage": "2Gi"}}}},
     {"persistentvolumeclaims": "1", "count/persistentvolumeclaims": "1",
      "requests.storage": "2Gi", "fast.storageclass.storage.k8s.io/requests.storage": "2Gi",
      "fast.storageclass.storage.k8s.io/persistentvolumeclaims": "1"}),
    ("secrets", {"metadata": {}}, {"secrets": "1", "count/secrets": "1"}),
)  # fmt: skip


@pytest.mark.parametrize(("plural", "obj", "expected"), USAGES)
def test_what_it_counts_as(plural: str, obj: Object, expected: Object) -> None:
    assert usage("", plural, obj) == dict(sorted(expected.items()))


def test_other_kinds_count_as_objects() -> None:
    assert usage("apps", "deployments", {}) == {"count/deployments.apps": "1"}
    assert usage("example.com", "widgets", {}) == {"count/widgets.example.com": "1"}
    assert evaluator_of("", "events") is None
    claim = {"spec": {"devices": {"requests": [
        {"exactly": {"deviceClassName": "gpu", "count": 2}},
        {"firstAvailable": [{"deviceClassName": "gpu", "count": 1},
                            {"deviceClassName": "gpu", "count": 4}]},
        {"exactly": {"deviceClassName": "all", "allocationMode": "All"}},
    ]}}}  # fmt: skip
    assert usage("resource.k8s.io", "resourceclaims", claim) == {
        "all.deviceclass.resource.k8s.io/devices": "32",
        "count/resourceclaims.resource.k8s.io": "1",
        "gpu.deviceclass.resource.k8s.io/devices": "6",
    }


def test_a_pod_that_should_be_gone_counts_no_more() -> None:
    obj = pod(box())
    obj["metadata"] |= {
        "deletionTimestamp": "2023-11-14T22:13:00Z",
        "deletionGracePeriodSeconds": 10,
    }
    assert pods.counts(obj, NOW - 30)
    assert not pods.counts(obj, NOW)


LOOKING = {"requiredDuringSchedulingIgnoredDuringExecution": [{"namespaces": ["x"]}]}
SCOPES = (
    ({"scopes": ["BestEffort"]}, pod(box()), pod(box(cpu="1/"))),
    ({"scopes": ["NotBestEffort"]}, pod(box(cpu="1/")), pod(box())),
    ({"scopes": ["Terminating"]}, pod(activeDeadlineSeconds=0), pod()),
    ({"scopes": ["NotTerminating"]}, pod(), pod(activeDeadlineSeconds=1)),
    ({"scopes": ["PriorityClass"]}, pod(priorityClassName="a"), pod()),
    ({"scopes": ["CrossNamespacePodAffinity"]}, pod(affinity={"podAntiAffinity": LOOKING}), pod()),
    ({"scopeSelector": {"matchExpressions": [
        {"scopeName": "PriorityClass", "operator": "In", "values": ["a", "b"]}]}},
     pod(priorityClassName="b"), pod(priorityClassName="c")),
    ({"scopeSelector": {"matchExpressions": [
        {"scopeName": "PriorityClass", "operator": "NotIn", "values": ["a"]}]}},
     pod(), pod(priorityClassName="a")),
    ({"scopeSelector": {"matchExpressions": [
        {"scopeName": "PriorityClass", "operator": "DoesNotExist"}]}},
     pod(), pod(priorityClassName="a")),
)  # fmt: skip


@pytest.mark.parametrize(("spec", "inside", "outside"), SCOPES)
def test_scopes(spec: Object, inside: Object, outside: Object) -> None:
    evaluator = evaluator_of("", "pods")
    assert evaluator is not None
    about = quota({"pods": "1"}, **spec)
    assert evaluator.applies(about, inside)
    assert not evaluator.applies(about, outside)


def test_a_claims_attributes_are_a_scope_and_nothing_else_is_in_one() -> None:
    evaluator = evaluator_of("", "persistentvolumeclaims")
    assert evaluator is not None
    scope = Requirement("VolumeAttributesClass", "In", ("gold",))
    target = {"modifyVolumeStatus": {"targetVolumeAttributesClassName": "gold"}}
    assert evaluator.meets({"spec": {}, "status": target}, scope)
    assert not evaluator.meets({"spec": {"volumeAttributesClassName": "tin"}}, scope)
    secrets = evaluator_of("", "secrets")
    assert secrets is not None
    assert not secrets.applies(quota({"secrets": "1"}, scopes=["BestEffort"]), {"metadata": {}})


def refused(about: Object, obj: Object, old: Object | None = None, plural: str = "pods") -> str:
    evaluator = evaluator_of("", plural)
    assert evaluator is not None
    try:
        ask = asking(evaluator, obj, old, NOW)
        if pertinent(about, ask):
            charge(about, ask.delta)
    except Refused as error:
        return str(error)
    return ""


def test_what_a_quota_says() -> None:
    full = quota({"pods": "3", "cpu": "2"}, {"pods": "3", "cpu": "1500m"})
    assert refused(full, pod(box(cpu="1/"))) == (
        "exceeded quota: q, requested: cpu=1,pods=1, used: cpu=1500m,pods=3, limited: cpu=2,pods=3"
    )
    assert refused(quota({"limits.cpu": "1", "memory": "1"}), pod(box("a"), box("b"))) == (
        "failed quota: q: must specify limits.cpu for: a,b; memory for: a,b"
    )
    assert refused(quota({"pods": "1", "cpu": "1"}, {"cpu": "0"}), pod(box(cpu="1/"))) == (
        "status unknown for quota: q, resources: cpu,pods"
    )
    below = pod({"name": "c", "resources": {"requests": {"cpu": "-1"}}})
    assert refused(full, below) == ("quota usage is negative for resource(s): cpu,requests.cpu")
    assert refused(quota({"pods": "1"}), pod(box())) == ""


def test_an_update_is_charged_what_it_adds() -> None:
    def claim(size: str) -> Object:
        return {"metadata": {}, "spec": {"resources": {"requests": {"storage": size}}}}

    about = quota({"requests.storage": "5Gi", "persistentvolumeclaims": "1"},
                  {"requests.storage": "2Gi", "persistentvolumeclaims": "1"})  # fmt: skip
    assert refused(about, claim("5Gi"), claim("2Gi"), "persistentvolumeclaims") == ""
    assert refused(about, claim("6Gi"), claim("2Gi"), "persistentvolumeclaims") == (
        "exceeded quota: q, requested: requests.storage=4Gi, used: requests.storage=2Gi, "
        "limited: requests.storage=5Gi"
    )


def test_what_is_limited_needs_a_quota() -> None:
    evaluator = evaluator_of("", "pods")
    assert evaluator is not None
    ask = asking(evaluator, pod(box(cpu="1/"), priorityClassName="high"), None, NOW)
    by_name = limited_of({"resource": "pods", "matchContains": ["cpu"]})
    by_scope = limited_of({"resource": "pods", "matchScopes": [
        {"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]})  # fmt: skip
    with pytest.raises(Refused, match=r"insufficient quota to consume: cpu,requests\.cpu"):
        check_limited([by_name], [], ask)
    with pytest.raises(Refused, match=r"these scopes: \[\{PriorityClass In \[high\]\}\]"):
        check_limited([by_scope], [quota({"pods": "1"})], ask)
    covering = quota({"cpu": "9", "requests.cpu": "9"}, scopes=["PriorityClass"])
    check_limited([by_name, by_scope], [covering], ask)


def test_amounts_are_shown_as_they_are_written() -> None:
    assert shown(read({"b": "1000m", "a": "1024Mi", "bad": "x"})) == "a=1Gi,b=1,bad=0"
    assert requirements_of(quota({}, scopes=["BestEffort"])) == [Requirement("BestEffort")]
