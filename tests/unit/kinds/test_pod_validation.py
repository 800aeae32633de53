"""Field errors of pods, in upstream's words."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from sampan.api.resources import resource

POD = resource("pods").rules
C = "spec.containers[0]"
LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and "
    "must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used "
    "for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)


def pod(container: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    obj: dict[str, Any] = {
        "metadata": {"name": "p", "namespace": "n"},
        "spec": {"containers": [{"name": "c", "image": "i", **(container or {})}], **spec},
    }
    assert POD.prepare is not None
    POD.prepare(obj, None)
    POD.default(obj)
    return obj


def errors(obj: dict[str, Any], old: dict[str, Any] | None = None) -> list[str]:
    return [str(cause) for cause in POD.validate(obj, old)]


CONTAINER_CASES: list[tuple[dict[str, Any], list[str]]] = [
    ({"image": ""}, [f"{C}.image: Required value"]),
    (
        {"image": " i"},
        [f'{C}.image: Invalid value: " i": must not have leading or trailing whitespace'],
    ),
    ({"name": ""}, [f"{C}.name: Required value"]),
    ({"name": "A_b"}, [f'{C}.name: Invalid value: "A_b": {LABEL}']),
    ({"name": "a.b"}, [f'{C}.name: Invalid value: "a.b": must not contain dots']),
    (
        {"imagePullPolicy": "Later"},
        [
            f'{C}.imagePullPolicy: Unsupported value: "Later": supported values: "Always", '
            '"IfNotPresent", "Never"'
        ],
    ),
    (
        {"ports": [{"containerPort": 70000}]},
        [
            f"{C}.ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, "
            "inclusive"
        ],
    ),
    ({"ports": [{}]}, [f"{C}.ports[0].containerPort: Required value"]),
    (
        {"ports": [{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}]},
        [f'{C}.ports[1].name: Duplicate value: "a"'],
    ),
    (
        {"ports": [{"containerPort": 1, "protocol": "ICMP"}]},
        [
            f'{C}.ports[0].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", '
            '"UDP"'
        ],
    ),
    (
        {"ports": [{"containerPort": 1, "hostPort": 5}, {"containerPort": 2, "hostPort": 5}]},
        [f'{C}.ports[1].hostPort: Duplicate value: "TCP//5"'],
    ),
    ({"env": [{"value": "x"}]}, [f"{C}.env[0].name: Required value"]),
    (
        {"env": [{"name": "a=b"}]},
        [
            f'{C}.env[0].name: Invalid value: "a=b": a valid environment variable name must '
            "consist only of printable ASCII characters other than '='"
        ],
    ),
    (
        {"env": [{"name": "A", "valueFrom": {}}]},
        [
            f'{C}.env[0].valueFrom: Invalid value: "": must specify one of: `fieldRef`, '
            "`resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"
        ],
    ),
    (
        {"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.x"}}}]},
        [
            f'{C}.env[0].valueFrom.fieldRef.fieldPath: Invalid value: "spec.x": error converting '
            "fieldPath: field label not supported: spec.x"
        ],
    ),
    (
        {"volumeMounts": [{"name": "x", "mountPath": "/a"}]},
        [f'{C}.volumeMounts[0].name: Not found: "x"'],
    ),
    (
        {"volumeMounts": [{"name": "v", "mountPath": "/a"}, {"name": "v", "mountPath": "/a"}]},
        [f'{C}.volumeMounts[1].mountPath: Invalid value: "/a": must be unique'],
    ),
    (
        {"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}},
        [
            f'{C}.resources.requests: Invalid value: "2": must be less than or equal to cpu limit '
            "of 1"
        ],
    ),
    (
        {"resources": {"requests": {"memory": "-1"}}},
        [
            f'{C}.resources.requests[memory]: Invalid value: "-1": must be greater than or equal '
            "to 0"
        ],
    ),
    (
        {"resources": {"limits": {"disk": "1"}}},
        [
            f'{C}.resources.{part}[disk]: Invalid value: "disk": {why}'
            for part in ("limits", "requests")
            for why in (
                "must be a standard resource type or fully qualified",
                "must be a standard resource for containers",
            )
        ],
    ),
    (
        {"resources": {"requests": {"example.com/gpu": "1"}}},
        [
            f"{C}.resources.limits: Required value: Limit must be set for non overcommitable "
            "resources"
        ],
    ),
    (
        {"livenessProbe": {}},
        [f"{C}.livenessProbe: Required value: must specify a handler type"],
    ),
    (
        {"livenessProbe": {"tcpSocket": {"port": 1}, "successThreshold": 2}},
        [f"{C}.livenessProbe.successThreshold: Invalid value: 2: must be 1"],
    ),
    (
        {"readinessProbe": {"exec": {}, "periodSeconds": -1}},
        [
            f"{C}.readinessProbe.exec.command: Required value",
            f"{C}.readinessProbe.periodSeconds: Invalid value: -1: must be greater than or equal "
            "to 0",
        ],
    ),
    (
        {"securityContext": {"privileged": True, "allowPrivilegeEscalation": False}},
        [
            f'{C}.securityContext: Invalid value: {{"privileged":true,'
            '"allowPrivilegeEscalation":false}: cannot set `allowPrivilegeEscalation` to false '
            "and `privileged` to true"
        ],
    ),
]


@pytest.mark.parametrize(("container", "expected"), CONTAINER_CASES)
def test_containers(container: dict[str, Any], expected: list[str]) -> None:
    assert errors(pod(container, volumes=[{"name": "v"}])) == expected


TOLERATION = "spec.tolerations[0]"
SPEC_CASES: list[tuple[dict[str, Any], list[str]]] = [
    ({"containers": []}, ["spec.containers: Required value"]),
    (
        {"restartPolicy": "Sometimes"},
        [
            'spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", '
            '"OnFailure", "Never"'
        ],
    ),
    (
        {"dnsPolicy": "Default2"},
        [
            'spec.dnsPolicy: Unsupported value: "Default2": supported values: '
            '"ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"'
        ],
    ),
    (
        {"dnsPolicy": "None"},
        ["spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"],
    ),
    (
        {"activeDeadlineSeconds": 0},
        [
            "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, "
            "inclusive"
        ],
    ),
    (
        {"volumes": [{"name": "a"}, {"name": "a"}]},
        ['spec.volumes[1].name: Duplicate value: "a"'],
    ),
    (
        {"volumes": [{"name": "a", "emptyDir": {}, "hostPath": {"path": "/x"}}]},
        ["spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"],
    ),
    (
        {"volumes": [{"name": "a", "secret": {}}]},
        ["spec.volumes[0].secret.secretName: Required value"],
    ),
    (
        {"volumes": [{"name": "a", "hostPath": {"path": "/../x"}}]},
        ["spec.volumes[0].hostPath.path: Invalid value: \"/../x\": must not contain '..'"],
    ),
    (
        {"tolerations": [{"key": "k", "operator": "Maybe"}]},
        [f'{TOLERATION}.operator: Unsupported value: "Maybe": supported values: "Equal", "Exists"'],
    ),
    (
        {"tolerations": [{"operator": "Equal"}]},
        [
            f'{TOLERATION}.operator: Invalid value: "Equal": operator must be Exists when `key` '
            'is empty, which means "match all values and all keys"'
        ],
    ),
    (
        {"tolerations": [{"operator": "Exists", "tolerationSeconds": 1}]},
        [
            f"{TOLERATION}.effect: Invalid value: \"\": effect must be 'NoExecute' when "
            "`tolerationSeconds` is set"
        ],
    ),
    (
        {
            "affinity": {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}
                }
            }
        },
        [
            "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution."
            "nodeSelectorTerms: Required value: must have at least one node selector term"
        ],
    ),
    (
        {"topologySpreadConstraints": [{"maxSkew": 0, "topologyKey": "z"}]},
        [
            "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than "
            "zero",
            'spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: "": supported '
            'values: "DoNotSchedule", "ScheduleAnyway"',
        ],
    ),
    (
        {"initContainers": [{"name": "c", "image": "i"}]},
        ['spec.initContainers[0].name: Duplicate value: "c"'],
    ),
    (
        {"initContainers": [{"name": "d", "image": "i", "lifecycle": {}}]},
        [
            "spec.initContainers[0].lifecycle: Forbidden: may not be set for init containers "
            "without restartPolicy=Always"
        ],
    ),
    (
        {"ephemeralContainers": [{"name": "e", "image": "i"}]},
        ["spec.ephemeralContainers: Forbidden: cannot be set on create"],
    ),
    (
        {"hostPID": True, "shareProcessNamespace": True},
        [
            "spec.securityContext.shareProcessNamespace: Invalid value: true: "
            "ShareProcessNamespace and HostPID cannot both be enabled"
        ],
    ),
    (
        {"securityContext": {"runAsUser": -1}},
        [
            "spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, "
            "inclusive"
        ],
    ),
    (
        {"hostname": "a.b"},
        ['spec.hostname: Invalid value: "a.b": must not contain dots'],
    ),
]


@pytest.mark.parametrize(("spec", "expected"), SPEC_CASES)
def test_specs(spec: dict[str, Any], expected: list[str]) -> None:
    assert errors(pod(**spec)) == expected


def test_a_pods_own_resources_are_for_all_its_containers() -> None:
    """By whole units, as upstream; what only containers can ask for is theirs."""
    gpu = {"example.com/gpu": "1", "cpu": "1500m"}
    resources = {"requests": gpu, "limits": {"example.com/gpu": "1", "hugepages-2Mi": "4Mi"}}
    own = {"requests": {"cpu": "1200m"}, "limits": {"cpu": "2", "hugepages-2Mi": "4Mi"}}
    assert errors(pod({"resources": resources}, resources=own)) == []
    small = {"requests": {"cpu": "1"}, "limits": {"cpu": "2", "hugepages-2Mi": "2Mi"}}
    assert errors(pod({"resources": resources}, resources=small)) == [
        'spec.resources.requests[cpu]: Invalid value: "1": must be greater than or equal to '
        "aggregate container requests of 1500m",
        'spec.resources.requests[hugepages-2Mi]: Invalid value: "2Mi": must be greater than or '
        "equal to aggregate container requests of 4Mi",
        'spec.resources.limits[hugepages-2Mi]: Invalid value: "2Mi": must be greater than or equal '
        "to aggregate container limits of 4Mi",
        'spec.resources.containers[0][hugepages-2Mi].limits: Invalid value: "4Mi": must be less '
        "than or equal to pod limits of 2Mi",
    ]


def changed(**spec: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    old = pod(activeDeadlineSeconds=100, tolerations=[{"operator": "Exists"}])
    new = copy.deepcopy(old)
    new["spec"].update(spec)
    return new, old


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"activeDeadlineSeconds": 50},
        {"tolerations": [{"operator": "Exists"}, {"key": "k", "operator": "Exists"}]},
        {"hostNetwork": False, "volumes": [], "nodeName": ""},
    ],
)
def test_allowed_updates(spec: dict[str, Any]) -> None:
    new, old = changed(**spec)
    new["spec"]["containers"][0]["image"] = "other:2"
    assert errors(new, old) == []


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (
            {"activeDeadlineSeconds": 200},
            "spec.activeDeadlineSeconds: Invalid value: 200: must be less than or equal to "
            "previous value",
        ),
        (
            {"tolerations": []},
            "spec.tolerations: Forbidden: existing toleration can not be modified except its "
            "tolerationSeconds",
        ),
        (
            {"initContainers": [{"name": "i", "image": "i", "imagePullPolicy": "Always",
                                 "terminationMessagePolicy": "File"}]},
            "spec.initContainers: Forbidden: pod updates may not add or remove containers",
        ),
        (
            {"schedulingGates": [{"name": "g"}]},
            "spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new "
            "scheduling gate 'g'",
        ),
    ],
)  # fmt: skip
def test_refused_updates(spec: dict[str, Any], expected: str) -> None:
    new, old = changed(**spec)
    assert errors(new, old) == [expected]


def test_the_rest_is_immutable_and_the_difference_is_shown() -> None:
    new, old = changed(nodeName="n1")
    (error,) = errors(new, old)
    assert error.startswith(
        "spec: Forbidden: pod updates may not change fields other than "
        "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,"
        "`spec.tolerations` (only additions to existing tolerations),"
        "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously "
        "negative)\n  core.PodSpec{\n"
    )
    assert '+ \tnodeName: "n1",' in error


def test_ephemeral_containers_only_grow() -> None:
    old = pod()
    old["spec"]["serviceAccountName"] = "default"
    new = copy.deepcopy(old)
    new["spec"]["ephemeralContainers"] = [{"name": "debug", "image": "busybox"}]
    POD.default(new)
    check = POD.validate_parts["ephemeralcontainers"]
    assert check(new, old) == []
    (cause,) = check(old, new)
    assert cause.text == 'Forbidden: existing ephemeral containers "debug" may not be removed\n'


def test_status_keeps_what_is_final() -> None:
    old = pod(restartPolicy="Never")
    old["status"]["containerStatuses"] = [{"name": "c", "state": {"terminated": {"exitCode": 0}}}]
    new = copy.deepcopy(old)
    new["status"]["qosClass"] = "Guaranteed"
    new["status"]["containerStatuses"] = [{"name": "c", "state": {"running": {}}}]
    assert [str(cause) for cause in POD.validate_status(new, old)] == [
        'status.qosClass: Invalid value: "Guaranteed": field is immutable',
        "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated "
        "state",
    ]
