"""Warnings about valid objects, in upstream's words."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from sampan.api.resources import resource

RECOMMENDED = (
    "which can result in surprising behavior; a DNS label is recommended: [must not contain dots]"
)
NO_SELECTOR = "labelSelector: a null labelSelector results in matching no pod"


def warnings(
    plural: str, group: str, obj: dict[str, Any], old: dict[str, Any] | None = None
) -> list[str]:
    rules = resource(plural, group).rules
    obj = copy.deepcopy(obj)
    obj.setdefault("metadata", {}).setdefault("name", "x")
    rules.default(obj)
    if old is not None:
        rules.default(old)
    return rules.warnings(obj, old)


def containers(*given: dict[str, Any]) -> dict[str, Any]:
    return {
        "containers": [
            {"name": f"c{position}", "image": "i", **item} for position, item in enumerate(given)
        ]
    }


PODS: list[tuple[dict[str, Any], list[str]]] = [
    (containers({}), []),
    (
        {**containers({}), "nodeSelector": {"beta.kubernetes.io/os": "linux"}},
        [
            "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; "
            'use "kubernetes.io/os" instead'
        ],
    ),
    (
        {
            **containers({}),
            "topologySpreadConstraints": [
                {"topologyKey": "beta.kubernetes.io/arch", "maxSkew": 1, "labelSelector": {}},
                {"topologyKey": "zone", "maxSkew": 1},
            ],
        },
        [
            "spec.topologySpreadConstraints[0].topologyKey: beta.kubernetes.io/arch is "
            'deprecated since v1.14; use "kubernetes.io/arch" instead',
            f"spec.topologySpreadConstraints[1].{NO_SELECTOR}",
        ],
    ),
    (
        {
            **containers({}),
            "affinity": {
                "podAntiAffinity": {
                    "preferredDuringSchedulingIgnoredDuringExecution": [
                        {"weight": 1, "podAffinityTerm": {"topologyKey": "z"}}
                    ]
                }
            },
        },
        [
            "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0]."
            f"podAffinityTerm.{NO_SELECTOR}"
        ],
    ),
    (
        {
            **containers({}),
            "volumes": [
                {"name": "a", "gitRepo": {"repository": "r"}},
                {"name": "b", "storageos": {}},
                {
                    "name": "c",
                    "projected": {
                        "sources": [
                            {"serviceAccountToken": {"path": "t"}},
                            {"configMap": {"name": "m", "items": [{"key": "k", "path": "t"}]}},
                        ]
                    },
                },
            ],
        },
        [
            "spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+",
            "spec.volumes[1].storageOS: deprecated in v1.22, non-functional in v1.25+",
            "spec.volumes[2].projected.sources.configMap[0]: has duplicated path with "
            'ServiceAccountToken "t"',
        ],
    ),
    (
        {
            **containers({}),
            "hostAliases": [{"ip": "1.1.1.1"}, {"ip": "1.1.1.1"}, {"ip": "2001:db8:0::2"}],
            "imagePullSecrets": [{"name": "a"}, {"name": "a"}, {"name": ""}],
            "terminationGracePeriodSeconds": -1,
        },
        [
            'spec.hostAliases[1].ip: duplicate ip "1.1.1.1"',
            'spec.hostAliases[2].ip: IPv6 address "2001:db8:0::2" should be in RFC 5952 '
            'canonical format ("2001:db8::2")',
            'spec.imagePullSecrets[1].name: duplicate name "a"',
            'spec.imagePullSecrets[2].name: invalid empty name ""',
            "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and "
            "will be treated as 1",
        ],
    ),
    (
        containers({"resources": {"requests": {"memory": "100m"}, "limits": {"memory": "1Gi"}}}),
        [
            "spec.containers[0].resources.requests[memory]: fractional byte value "
            '"100m" is invalid, must be an integer'
        ],
    ),
    (
        containers(
            {
                "env": [
                    {"name": "A", "value": "1"},
                    {"name": "A", "value": "$(A)2"},
                    {"name": "A", "value": "$(A)"},
                    {"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                ]
            }
        ),
        [
            f'spec.containers[0].env[{position}]: hides previous definition of "A", which may be '
            "dropped when using apply"
            for position in (2, 3)
        ],
    ),
    (
        containers(
            {"ports": [{"containerPort": 80, "name": "web"}, {"containerPort": 81, "hostPort": 1}]},
            {
                "ports": [
                    {"containerPort": 80, "name": "web"},
                    {"containerPort": 81, "hostPort": 1, "hostIP": "1.2.3.4"},
                    {"containerPort": 81},
                    {"containerPort": 90, "hostIP": "1.2.3.4"},
                ]
            },
        ),
        [
            "spec.containers[1].ports[0]: duplicate port definition with "
            "spec.containers[0].ports[0]",
            "spec.containers[1].ports[1]: dangerously ambiguous port definition with "
            "spec.containers[0].ports[1]",
            "spec.containers[1].ports[2]: overlapping port definition with "
            "spec.containers[0].ports[1]",
            "spec.containers[1].ports[2]: overlapping port definition with "
            "spec.containers[1].ports[1]",
            "spec.containers[1].ports[3]: hostIP set without hostPort: {Name: HostPort:0 "
            "ContainerPort:90 Protocol:TCP HostIP:1.2.3.4}",
            'spec.containers[1].ports[0]: duplicate port name "web" with '
            "spec.containers[0].ports[0], services and probes that select ports by name will use "
            "spec.containers[0].ports[0]",
        ],
    ),
]


@pytest.mark.parametrize(("spec", "expected"), PODS)
def test_pods(spec: dict[str, Any], expected: list[str]) -> None:
    assert warnings("pods", "", {"spec": spec}) == expected
    template = {"spec": {"template": {"spec": spec}}}
    moved = [text.replace("spec.", "spec.template.spec.") for text in expected]
    assert warnings("deployments", "apps", template) == moved


def test_old_annotations() -> None:
    annotations = {
        "scheduler.alpha.kubernetes.io/critical-pod": "",
        "container.apparmor.security.beta.kubernetes.io/c0": "unconfined",
        "seccomp.security.alpha.kubernetes.io/pod": "unconfined",
    }
    obj = {"metadata": {"annotations": annotations}, "spec": containers({})}
    critical = 'non-functional in v1.16+; use the "priorityClassName" field instead'
    seccomp = 'non-functional in v1.27+; use the "seccompProfile" field instead'
    assert warnings("pods", "", obj) == [
        f"metadata.annotations[scheduler.alpha.kubernetes.io/critical-pod]: {critical}",
        f"metadata.annotations[seccomp.security.alpha.kubernetes.io/pod]: {seccomp}",
    ]
    inside = warnings("daemonsets", "apps", {"spec": {"template": obj}})
    assert inside[-1] == (
        "spec.template.metadata.annotations[container.apparmor.security.beta.kubernetes.io/c0]: "
        'deprecated since v1.30; use the "appArmorProfile" field instead'
    )


def test_an_update_that_leaves_the_spec_alone_says_nothing() -> None:
    obj: dict[str, Any] = {
        "metadata": {"name": "a.b"},
        "spec": {"template": {"spec": {**containers({}), "terminationGracePeriodSeconds": -1}}},
    }
    assert len(warnings("deployments", "apps", obj)) == 2, "its name, and the template"
    assert warnings("deployments", "apps", obj, copy.deepcopy(obj)) == []
    pods = "metadata.name: this is used in Pod names and hostnames"
    for plural, group in (
        ("replicasets", "apps"),
        ("replicationcontrollers", ""),
        ("jobs", "batch"),
    ):
        assert warnings(plural, group, obj)[0] == f"{pods}, {RECOMMENDED}"


OTHERS: list[tuple[str, str, dict[str, Any], list[str]]] = [
    (
        "services", "",
        {"spec": {"externalIPs": ["1.2.3.4"], "trafficDistribution": "PreferClose",
                  "loadBalancerSourceRanges": ["192.12.2.8/24"], "externalName": "a"}},
        [
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters",
            'spec.loadBalancerSourceRanges[0]: CIDR value "192.12.2.8/24" is ambiguous in this '
            'context (should be "192.12.2.0/24" or "192.12.2.8/32"?)',
            'spec.externalName is ignored when spec.type is not "ExternalName"',
            'spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"',
        ],
    ),
    (
        "services", "",
        {"spec": {"clusterIP": "None", "clusterIPs": ["None"], "loadBalancerIP": "1.2.3.4",
                  "sessionAffinity": "ClientIP"}},
        [
            "spec.loadBalancerIP is ignored for headless services",
            "spec.SessionAffinity is ignored for headless services",
        ],
    ),
    (
        "statefulsets", "apps",
        {"spec": {"revisionHistoryLimit": -1, "volumeClaimTemplates": [
            {"spec": {"resources": {"requests": {"storage": "200m"}}}}]}},
        [
            "spec.volumeClaimTemplates[0].resources.requests[storage]: fractional byte value "
            '"200m" is invalid, must be an integer',
            "spec.revisionHistoryLimit: a negative value retains all historical revisions; "
            "a value >= 0 is recommended",
        ],
    ),
    (
        "jobs", "batch",
        {"spec": {"completionMode": "Indexed", "completions": 100_001, "parallelism": 10_001}},
        [
            "spec: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism "
            "higher than 10^4, Kubernetes might not be able to track completedIndexes when a big "
            "number of indexes fail"
        ],
    ),
    (
        "persistentvolumes", "",
        {"spec": {"persistentVolumeReclaimPolicy": "Recycle", "rbd": {}}},
        [
            "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. "
            "Instead, the recommended approach is to use dynamic provisioning.",
            "spec.rbd: deprecated in v1.28, non-functional in v1.31+",
        ],
    ),
    (
        "persistentvolumeclaims", "",
        {"metadata": {"annotations": {"volume.beta.kubernetes.io/storage-class": "a"}}},
        [
            "metadata.annotations[volume.beta.kubernetes.io/storage-class]: deprecated since v1.8; "
            'use "storageClassName" attribute instead'
        ],
    ),
    (
        "ingresses", "networking.k8s.io",
        {"metadata": {"annotations": {"kubernetes.io/ingress.class": "a"}}},
        [
            'annotation "kubernetes.io/ingress.class" is deprecated, please use '
            "'spec.ingressClassName' instead"
        ],
    ),
    (
        "storageclasses", "storage.k8s.io",
        {"allowedTopologies": [{"matchLabelExpressions": [{"key": "beta.kubernetes.io/os"}]}]},
        [
            "allowedTopologies[0].matchLabelExpressions[0].key: deprecated since v1.14; "
            'use "kubernetes.io/os" instead'
        ],
    ),
    (
        "nodes", "", {"spec": {"externalID": "a", "podCIDRs": ["10.0.0.8/24"]}},
        [
            "spec.externalID: this field is deprecated, and is unused by Kubernetes",
            'spec.podCIDRs[0]: CIDR value "10.0.0.8/24" is ambiguous in this context '
            '(should be "10.0.0.0/24" or "10.0.0.8/32"?)',
        ],
    ),
    (
        "networkpolicies", "networking.k8s.io",
        {"spec": {"egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8",
                                                  "except": ["10.0.0.8/24"]}}]}]}},
        [
            'spec.egress[0].to[0].ipBlock.except[0]: CIDR value "10.0.0.8/24" is ambiguous in this '
            'context (should be "10.0.0.0/24" or "10.0.0.8/32"?)'
        ],
    ),
    (
        "endpointslices", "discovery.k8s.io", {"addressType": "FQDN"},
        ["spec.addressType: FQDN endpoints are deprecated"],
    ),
    (
        "endpoints", "", {"subsets": [{"addresses": [{"ip": "::ffff:1.2.3.4"}]}]},
        [
            'subsets[0].addresses[0].ip: non-standard IP address "::ffff:1.2.3.4" will be '
            'considered invalid in a future Kubernetes release: use "1.2.3.4"'
        ],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("plural", "group", "obj", "expected"), OTHERS)
def test_others(plural: str, group: str, obj: dict[str, Any], expected: list[str]) -> None:
    assert warnings(plural, group, obj) == expected
