"""Field errors of pods that are seldom met, in upstream's words: systems, profiles, restarts,
files of variables, gated updates, statuses."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from sampan.api.resources import resource

POD = resource("pods").rules
TEMPLATE = resource("podtemplates").rules
C = "spec.containers[0]"
RULE = {"action": "Restart", "exitCodes": {"operator": "In", "values": [3]}}
SECCOMP = "container.seccomp.security.alpha.kubernetes.io/c"
SECCOMP_POD = "seccomp.security.alpha.kubernetes.io/pod"
APPARMOR = "container.apparmor.security.beta.kubernetes.io/c"
WINDOWS = {"os": {"name": "windows"}}
ON_WINDOWS = "Forbidden: cannot be set for a windows pod"


def made(container: dict[str, Any], spec: dict[str, Any], **annotations: str) -> dict[str, Any]:
    obj: dict[str, Any] = {
        "metadata": {"name": "p", "namespace": "n", "annotations": annotations},
        "spec": {"containers": [{"name": "c", "image": "i", **container}], **spec},
    }
    assert POD.prepare is not None
    obj = copy.deepcopy(obj)
    POD.prepare(obj, None)
    POD.default(obj)
    return obj


def errors(obj: dict[str, Any], old: dict[str, Any] | None = None) -> list[str]:
    return [str(cause) for cause in POD.validate(obj, old)]


CASES: list[tuple[dict[str, Any], dict[str, Any], list[str]]] = [
    ({"restartPolicy": "Never", "restartPolicyRules": [RULE]}, {}, []),
    (
        {"restartPolicyRules": [RULE]},
        {},
        [f"{C}.restartPolicy: Required value: must specify restartPolicy when restart rules are "
         "used"],
    ),
    (
        {"restartPolicy": "Often"},
        {},
        [f'{C}.restartPolicy: Unsupported value: "Often": supported values: "Always", "Never", '
         '"OnFailure"'],
    ),
    (
        {"restartPolicy": "Never", "restartPolicyRules": [{"action": "Stop"}]},
        {},
        [f'{C}.restartPolicyRules[0].action: Unsupported value: "Stop": supported values: '
         '"Restart", "RestartAllContainers"',
         f"{C}.restartPolicyRules[0].exitCodes: Required value: must be specified"],
    ),
    (
        {"restartPolicy": "Never", "restartPolicyRules": [{**RULE, "exitCodes": {}}]},
        {},
        [f'{C}.restartPolicyRules[0].exitCodes.operator: Unsupported value: "": supported values: '
         '"In", "NotIn"'],
    ),
    (
        {"restartPolicy": "Never", "restartPolicyRules": [RULE] * 21},
        {},
        [f"{C}.restartPolicyRules: Too many: 21: must have at most 20 items"],
    ),
    (
        {"restartPolicy": "Never", "restartPolicyRules": [
            {**RULE, "exitCodes": {"operator": "In", "values": list(range(256))}}
        ]},
        {},
        [f"{C}.restartPolicyRules[0].exitCodes.values: Too many: 256: must have at most 255 "
         "items"],
    ),
    (
        {"env": [{"name": "A", "valueFrom": {"fileKeyRef": {"volumeName": "v"}}}]},
        {},
        [f'{C}.env[0].valueFrom.fileKeyRef.volumeName: Not found: "v"',
         f"{C}.env[0].valueFrom.fileKeyRef.path: Required value",
         f"{C}.env[0].valueFrom.fileKeyRef.key: Required value"],
    ),
    (
        {"env": [{"name": "A", "valueFrom": {
            "fileKeyRef": {"volumeName": "v", "path": "/a", "key": "K"}
        }}]},
        {"volumes": [{"name": "v"}]},
        [f'{C}.env[0].valueFrom.fileKeyRef.path: Invalid value: "/a": must be a relative path'],
    ),
    ({}, {"hostnameOverride": "a.b.c"}, []),
    (
        {},
        {"hostnameOverride": "a" * 63 + ".b"},
        ["spec.hostnameOverride: Too long: may not be more than 64 bytes"],
    ),
    (
        {"securityContext": {"windowsOptions": {"hostProcess": True}}},
        {"os": {"name": "linux"}},
        ["spec.hostNetwork: Invalid value: false: hostNetwork must be true if pod contains any "
         "hostProcess containers",
         f"{C}.securityContext.windowsOptions: Forbidden: windows options cannot be set for a "
         "linux pod"],
    ),
    (
        {"securityContext": {"privileged": False, "capabilities": {}}},
        {**WINDOWS, "hostPID": True, "hostUsers": True, "securityContext": {"runAsUser": 0}},
        [f"spec.hostUsers: {ON_WINDOWS}",
         f"spec.hostPID: {ON_WINDOWS}",
         f"spec.securityContext.runAsUser: {ON_WINDOWS}",
         f"{C}.securityContext.capabilities: {ON_WINDOWS}",
         f"{C}.securityContext.privileged: {ON_WINDOWS}"],
    ),
    ({}, {"os": {}}, ["spec.os.name: Required value: cannot be empty"]),
    (
        {},
        {"volumes": [{"name": "v", "image": {"pullPolicy": "Often"}}]},
        ["spec.volumes[0].image.reference: Required value",
         'spec.volumes[0].image.pullPolicy: Unsupported value: "Often": supported values: '
         '"Always", "IfNotPresent", "Never"'],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("container", "spec", "expected"), CASES)
def test_specs(container: dict[str, Any], spec: dict[str, Any], expected: list[str]) -> None:
    assert errors(made(container, spec)) == expected


def test_a_template_may_leave_the_image_of_a_volume_open() -> None:
    volume = {"name": "v", "image": {"pullPolicy": "Always"}}
    spec = {"containers": [{"name": "c", "image": "i"}], "volumes": [volume]}
    obj = {"metadata": {"name": "t"}, "template": {"spec": spec}}
    TEMPLATE.default(obj)
    assert TEMPLATE.validate(obj, None) == []


@pytest.mark.parametrize(
    ("annotations", "profile", "expected"),
    [
        ({SECCOMP: "unconfined"}, {}, []),
        (
            {SECCOMP_POD: "other"},
            {},
            [f'metadata.annotations.{SECCOMP_POD}: Invalid value: "other": must be a valid seccomp '
             "profile"],
        ),
        (
            {SECCOMP: "localhost/../x"},
            {},
            [f'metadata.annotations.{SECCOMP}: Invalid value: "../x": must not contain \'..\''],
        ),
        (
            {SECCOMP: "unconfined"},
            {"seccompProfile": {"type": "RuntimeDefault"}},
            [f"{C}.securityContext.seccompProfile.type: Forbidden: seccomp type in annotation and "
             "field must match"],
        ),
        (
            {SECCOMP: "localhost/a"},
            {"seccompProfile": {"type": "Localhost", "localhostProfile": "b"}},
            [f"{C}.securityContext.seccompProfile.localhostProfile: Forbidden: seccomp profile in "
             "annotation and field must match"],
        ),
        (
            {APPARMOR + "x": "odd"},
            {},
            [f'metadata.annotations[{APPARMOR}x]: Invalid value: "cx": container not found',
             f'metadata.annotations[{APPARMOR}x]: Invalid value: "odd": invalid AppArmor profile '
             'name: "odd"'],
        ),
        (
            {APPARMOR: "unconfined"},
            {"appArmorProfile": {"type": "RuntimeDefault"}},
            [f"{C}.securityContext.appArmorProfile.type: Forbidden: apparmor type in annotation "
             "and field must match"],
        ),
    ],
)  # fmt: skip
def test_profiles(
    annotations: dict[str, str], profile: dict[str, Any], expected: list[str]
) -> None:
    assert errors(made({"securityContext": profile}, {}, **annotations)) == expected


def terms(*found: list[dict[str, Any]]) -> dict[str, Any]:
    required = [{"matchExpressions": item} for item in found]
    selector = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": required}}
    return {"nodeAffinity": selector}


A, B = ({"key": key, "operator": "Exists"} for key in "ab")
TERMS = (
    "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"
)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({}, {"affinity": terms([A])}, []),
        ({"affinity": terms([A])}, {"affinity": terms([A, B])}, []),
        (
            {"affinity": terms([A])},
            {"affinity": terms([B])},
            [f"{TERMS}[0]: Invalid value: "
             '{"matchExpressions":[{"key":"b","operator":"Exists"}]}: only additions are allowed '
             "(no mutations or deletions)"],
        ),
        (
            {"affinity": terms([A])},
            {},
            [f'{TERMS}: Invalid value: "null": no additions/deletions to non-empty '
             "NodeSelectorTerms list are allowed"],
        ),
        ({"nodeSelector": {"a": "b"}}, {"nodeSelector": {"a": "b", "c": "d"}}, []),
        (
            {"nodeSelector": {"a": "b"}},
            {"nodeSelector": {"a": "c"}},
            ['spec.nodeSelector: Invalid value: {"a":"c"}: only additions to spec.nodeSelector '
             "are allowed (no mutations or deletions)"],
        ),
    ],
)  # fmt: skip
def test_a_gated_pod_only_gets_narrower(
    before: dict[str, Any], after: dict[str, Any], expected: list[str]
) -> None:
    gates = {"schedulingGates": [{"name": "example.com/g"}]}
    old, new = made({}, gates | before), made({}, gates | after)
    assert errors(new, old) == expected


def test_a_key_is_matched_and_selected_once() -> None:
    term = {
        "topologyKey": "zone",
        "labelSelector": {"matchLabels": {"app": "a"}},
        "matchLabelKeys": ["app"],
    }
    affinity = {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    obj: dict[str, Any] = {
        "metadata": {"name": "p", "namespace": "n", "labels": {"app": "a"}},
        "spec": {"containers": [{"name": "c", "image": "i"}], "affinity": affinity},
    }
    assert POD.prepare is not None
    POD.prepare(obj, None)
    POD.default(obj)
    assert errors(obj) == [
        "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0][0]: Invalid "
        'value: "app": exists in both matchLabelKeys and labelSelector'
    ]


ENDED = {"name": "c", "state": {"terminated": {"exitCode": 3}}}
RUNS = {"name": "c", "state": {"running": {}}}
STILL = (
    "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"
)


@pytest.mark.parametrize(
    ("container", "expected"),
    [
        ({}, [STILL]),
        ({"restartPolicy": "OnFailure"}, []),
        ({"restartPolicy": "Never", "restartPolicyRules": [RULE]}, []),
        (
            {"restartPolicy": "Never", "restartPolicyRules": [
                {**RULE, "exitCodes": {"operator": "NotIn", "values": [3]}}
            ]},
            [STILL],
        ),
    ],
)  # fmt: skip
def test_a_container_restarts_by_its_own_rules(
    container: dict[str, Any], expected: list[str]
) -> None:
    old = made(container, {"restartPolicy": "Never"})
    new = copy.deepcopy(old)
    old["status"]["containerStatuses"], new["status"]["containerStatuses"] = [ENDED], [RUNS]
    assert [str(cause) for cause in POD.validate_status(new, old)] == expected


def test_an_init_container_may_restart_all_others() -> None:
    old = made({}, {"restartPolicy": "Never"})
    watcher = {"restartPolicy": "Always", "restartPolicyRules": [RULE]}
    old["spec"]["initContainers"] = [{"name": "w", "image": "i"} | watcher]
    new = copy.deepcopy(old)
    old["status"]["containerStatuses"], new["status"]["containerStatuses"] = [ENDED], [RUNS]
    assert [str(cause) for cause in POD.validate_status(new, old)] == [STILL]
    action = RULE | {"action": "RestartAllContainers"}
    old["spec"]["initContainers"][0]["restartPolicyRules"] = [action]
    assert POD.validate_status(new, old) == []


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (
            {"resourceClaimStatuses": [{"name": "x"}, {"name": "x", "resourceClaimName": "A"}]},
            ['status.resourceClaimStatuses[0].name: Invalid value: "x": must match the name of an '
             "entry in `spec.resourceClaims`"],
        ),
        (
            {"containerStatuses": [{"name": "c", "user": {"linux": {"uid": -1, "gid": 0}}}]},
            ["status.containerStatuses[0].linux.uid: Invalid value: -1: must be between 0 and "
             "2147483647, inclusive"],
        ),
        (
            {"containerStatuses": [
                {"name": "c", "allocatedResourcesStatus": [
                    {"name": "example.com/a", "resources": [{"resourceID": "1", "health": "Ill"}]}
                ]}
            ]},
            ["status.containerStatuses[0].allocatedResourcesStatus[0].name: Invalid value: "
             '"example.com/a": must match one of the container\'s resource requests'],
        ),
        (
            {"ephemeralContainerStatuses": [
                {"name": "e", "allocatedResourcesStatus": [{"name": "a"}]}
            ]},
            ["status.ephemeralContainerStatuses[0].allocatedResourcesStatus: Forbidden: must not "
             "be specified in container status"],
        ),
    ],
)  # fmt: skip
def test_statuses(status: dict[str, Any], expected: list[str]) -> None:
    old = made({}, {})
    new = copy.deepcopy(old)
    new["status"] |= status
    found = [str(cause) for cause in POD.validate_status(new, old)]
    assert found[: len(expected)] == expected
