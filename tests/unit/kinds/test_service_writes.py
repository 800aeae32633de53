"""What a write of a service keeps, drops and refuses: addresses, families, node ports."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from sampan.api.kinds.core.servicechanges import settle
from sampan.api.kinds.core.servicefamilies import choose_families
from sampan.api.resources import resource

Spec = dict[str, Any]
V4 = "10.96.0.9"
SPEC: Spec = {"type": "ClusterIP", "clusterIP": V4, "clusterIPs": [V4], "selector": {"a": "b"}}


def settled(spec: Spec, before: Spec | None = None) -> Spec:
    spec = copy.deepcopy(spec)
    settle(spec, before)
    return spec


@pytest.mark.parametrize(
    ("given", "before", "expected"),
    [
        ({"clusterIP": V4}, None, {"clusterIP": V4, "clusterIPs": [V4]}),
        ({"clusterIPs": [V4]}, None, {"clusterIPs": [V4]}),
        ({}, {"clusterIP": V4, "clusterIPs": [V4]}, {"clusterIP": V4, "clusterIPs": [V4]}),
        (
            {"clusterIP": "10.96.0.1", "clusterIPs": [V4]},
            {"clusterIP": V4, "clusterIPs": [V4]},
            {"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"]},
        ),
    ],
)
def test_both_fields_of_an_address(given: Spec, before: Spec | None, expected: Spec) -> None:
    kind = {"type": "ClusterIP"}
    old = None if before is None else {**kind, **before}
    assert settled({**kind, **given}, old) == {**kind, **expected}


def test_node_ports_follow_names_not_numbers() -> None:
    before = {"type": "NodePort", "ports": [{"name": "web", "port": 80, "nodePort": 30080}]}
    moved = {"type": "NodePort", "ports": [{"name": "web", "port": 81}]}
    assert settled(moved, before)["ports"][0]["nodePort"] == 30080
    taken = {
        "type": "LoadBalancer",
        "ports": [{"name": "web", "port": 80}, {"name": "b", "port": 81, "nodePort": 30080}],
    }
    assert "nodePort" not in settled(taken, before)["ports"][0]


def test_what_the_new_type_has_no_use_for_goes() -> None:
    before = {
        "type": "LoadBalancer", "clusterIP": V4, "clusterIPs": [V4], "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack", "externalTrafficPolicy": "Local",
        "healthCheckNodePort": 30001, "allocateLoadBalancerNodePorts": True,
        "loadBalancerClass": "a.b/c", "ports": [{"port": 80, "nodePort": 30080}],
    }  # fmt: skip
    inside = settled({**before, "type": "ClusterIP"}, before)
    assert inside == {
        "type": "ClusterIP", "clusterIP": V4, "clusterIPs": [V4], "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack", "ports": [{"port": 80}],
    }  # fmt: skip
    named = settled({**before, "type": "ExternalName"}, before)
    assert named == {"type": "ExternalName", "ports": [{"port": 80}]}
    # What is set anew stays, and validation refuses it.
    asked = settled({"type": "ClusterIP", "healthCheckNodePort": 30002}, before)
    assert asked["healthCheckNodePort"] == 30002


def test_a_traffic_policy_goes_with_the_last_external_address() -> None:
    before = {**SPEC, "externalIPs": ["203.0.113.1"], "externalTrafficPolicy": "Cluster"}
    after = settled({**before, "externalIPs": []}, before)
    assert "externalTrafficPolicy" not in after


def test_a_status_goes_with_the_load_balancer() -> None:
    rules = resource("services").rules
    assert rules.prepare is not None
    status = {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}, "conditions": []}
    old = {"spec": {"type": "LoadBalancer"}, "status": status}
    new = {"spec": {"type": "ClusterIP"}, "status": dict(status)}
    rules.prepare(new, old)
    assert new["status"] == {"loadBalancer": {}, "conditions": []}
    same = {"spec": {"type": "LoadBalancer"}, "status": dict(status)}
    rules.prepare(same, old)
    assert same["status"] == status


@pytest.mark.parametrize(
    ("spec", "before", "policy", "families"),
    [
        ({}, {}, "SingleStack", ["IPv4"]),
        ({"ipFamilyPolicy": "PreferDualStack"}, {}, "PreferDualStack", ["IPv4"]),
        ({"clusterIP": "None", "clusterIPs": ["None"], "selector": {"a": "b"}}, {},
         "SingleStack", ["IPv4"]),
        ({"clusterIP": "None", "clusterIPs": ["None"]}, {}, "RequireDualStack", ["IPv4", "IPv6"]),
        ({}, {"ipFamilyPolicy": "PreferDualStack"}, "PreferDualStack", ["IPv4"]),
    ],
)  # fmt: skip
def test_families_are_chosen(spec: Spec, before: Spec, policy: str, families: list[str]) -> None:
    spec = copy.deepcopy(spec)
    assert choose_families(spec, before, ["IPv4"]) == []
    assert (spec["ipFamilyPolicy"], spec["ipFamilies"]) == (policy, families)


PAIR = {"clusterIP": V4, "clusterIPs": [V4, "fd00::9"]}


@pytest.mark.parametrize(
    ("spec", "before", "expected"),
    [
        (
            {"ipFamilyPolicy": "RequireDualStack"}, {},
            [
                'spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not '
                "configured for dual-stack services"
            ],
        ),
        (
            {"ipFamilies": ["IPv6"]}, {},
            ['spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster'],
        ),
        (
            {"clusterIP": "fd00::9", "clusterIPs": ["fd00::9"]}, {},
            [
                'spec.clusterIPs[0]: Invalid value: ["fd00::9"]: IPv6 is not configured on this '
                "cluster"
            ],
        ),
        (
            {**PAIR, "ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4", "IPv6"]}, {},
            [
                "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' "
                f"or 'PreferDualStack' when multiple {what} are specified"
                for what in ("cluster IPs", "IP families")
            ],
        ),
        (
            {"clusterIPs": [V4]}, {},
            [
                f'spec.clusterIPs: Invalid value: ["{V4}"]: must be empty when `clusterIP` is not '
                "specified"
            ],
        ),
        (
            {"clusterIP": V4, "clusterIPs": [V4], "ipFamilyPolicy": "PreferDualStack"}, PAIR,
            [
                "spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be 'SingleStack' to "
                "release the secondary cluster IP"
            ],
        ),
    ],
)  # fmt: skip
def test_families_that_cannot_be(spec: Spec, before: Spec, expected: list[str]) -> None:
    assert [str(cause) for cause in choose_families(spec, before, ["IPv4"])] == expected


def test_one_family_is_given_up_by_the_policy_alone() -> None:
    before = {**PAIR, "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack"}
    spec = {**copy.deepcopy(before), "ipFamilyPolicy": "SingleStack"}
    assert choose_families(spec, before, ["IPv4"]) == []
    assert (spec["clusterIPs"], spec["ipFamilies"]) == ([V4], ["IPv4"])


def refused(spec: Spec, before: Spec | None = None, **annotations: str) -> list[str]:
    rules = resource("services").rules
    objects = []
    for item in (spec, before):
        obj = {"metadata": {"name": "x"}, "spec": {"ports": [{"port": 80}], **(item or {})}}
        rules.default(obj)
        objects.append(obj)
    if annotations:
        objects[0]["metadata"]["annotations"] = dict(annotations)
    old = None if before is None else objects[1]
    return [str(cause) for cause in rules.validate(objects[0], old)]


def test_ranges_of_a_balancer_may_stand_in_an_annotation() -> None:
    key = "service.beta.kubernetes.io/load-balancer-source-ranges"
    given = {key: "10.0.0.0/8, x"}
    path = f"metadata.annotations[{key}]"
    wrong = (
        f'{path}: Invalid value: "x": must be a valid CIDR value, (e.g. 10.9.8.0/24 or '
        "2001:db8::/64)"
    )
    assert refused({"type": "LoadBalancer"}, **given) == [wrong]
    only = f"{path}: Forbidden: may only be used when `type` is 'LoadBalancer'"
    assert refused({}, **given) == [only, wrong]


@pytest.mark.parametrize(
    ("spec", "before", "expected"),
    [
        (
            {**SPEC, "ipFamilies": ["IPv6"]}, {**SPEC, "ipFamilies": ["IPv4"]},
            ['spec.ipFamilies[0]: Invalid value: ["IPv6"]: may not change once set'],
        ),
        (
            {**SPEC, "ipFamilies": ["IPv4"], "ipFamilyPolicy": "PreferDualStack"},
            {**SPEC, "ipFamilies": ["IPv4", "IPv6"]},
            [
                "spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be set to "
                "'SingleStack' when releasing the secondary ipFamily"
            ],
        ),
        (
            {"type": "LoadBalancer", "loadBalancerClass": "a/b"}, {"type": "LoadBalancer"},
            ['spec.loadBalancerClass: Invalid value: "a/b": may not change once set'],
        ),
    ],
)  # fmt: skip
def test_what_stays(spec: Spec, before: Spec, expected: list[str]) -> None:
    assert [text for text in refused(spec, before) if "clusterIPs[0]" not in text] == expected
