"""Services and the other kinds of the core group: defaults, field errors, what may change."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from sampan.api.resources import resource


def made(plural: str, group: str = "", name: str = "x", **fields: Any) -> dict[str, Any]:
    rules = resource(plural, group).rules
    obj: dict[str, Any] = {"metadata": {"name": name, "namespace": "n"}, **copy.deepcopy(fields)}
    if rules.prepare is not None:
        rules.prepare(obj, None)
    rules.default(obj)
    return obj


def errors(
    obj: dict[str, Any], plural: str, group: str = "", old: dict[str, Any] | None = None
) -> list[str]:
    return [str(cause) for cause in resource(plural, group).rules.validate(obj, old)]


def service(**spec: Any) -> dict[str, Any]:
    return made("services", spec={"ports": [{"port": 80}], **spec})


def test_service_defaults() -> None:
    obj = service()
    assert obj["status"] == {"loadBalancer": {}}
    assert obj["spec"] == {
        "type": "ClusterIP",
        "sessionAffinity": "None",
        "internalTrafficPolicy": "Cluster",
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
    }
    sticky = service(sessionAffinity="ClientIP", type="LoadBalancer")["spec"]
    assert sticky["sessionAffinityConfig"] == {"clientIP": {"timeoutSeconds": 10800}}
    assert sticky["externalTrafficPolicy"] == "Cluster"
    assert sticky["allocateLoadBalancerNodePorts"] is True
    assert service(clusterIP="None")["spec"]["clusterIPs"] == ["None"]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, []),
        ({"ports": []}, ["spec.ports: Required value"]),
        ({"ports": [], "clusterIP": "None"}, []),
        (
            {"ports": [{"port": 80}, {"port": 81}]},
            ["spec.ports[0].name: Required value", "spec.ports[1].name: Required value"],
        ),
        (
            {"ports": [{"port": 0, "targetPort": "much-too-long-name"}]},
            [
                "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                'spec.ports[0].targetPort: Invalid value: "much-too-long-name": must be no more '
                "than 15 bytes",
            ],
        ),
        (
            {"ports": [{"port": 80, "nodePort": 30000}]},
            ["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
        ),
        (
            {"type": "Magic"},
            [
                'spec.type: Unsupported value: "Magic": supported values: "ClusterIP", '
                '"ExternalName", "LoadBalancer", "NodePort"'
            ],
        ),
        ({"type": "ExternalName", "ports": []}, ["spec.externalName: Required value"]),
        (
            {"type": "NodePort", "clusterIP": "None"},
            [
                "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for "
                "NodePort services"
            ],
        ),
        (
            {"externalIPs": ["127.0.0.1"]},
            [
                'spec.externalIPs[0]: Invalid value: "127.0.0.1": may not be in the loopback '
                "range (127.0.0.0/8, ::1/128)"
            ],
        ),
        (
            {"externalTrafficPolicy": "Local"},
            [
                'spec.externalTrafficPolicy: Invalid value: "Local": may only be set for '
                "externally-accessible services"
            ],
        ),
        (
            {"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.2"]},
            ['spec.clusterIPs: Invalid value: ["10.0.0.2"]: first value must match `clusterIP`'],
        ),
    ],
)
def test_service_errors(spec: dict[str, Any], expected: list[str]) -> None:
    assert errors(service(**spec), "services") == expected


def test_cluster_address_stays() -> None:
    old = service(clusterIP="10.96.0.1")
    new = service(clusterIP="10.96.0.2")
    assert errors(new, "services", old=old) == [
        'spec.clusterIPs[0]: Invalid value: ["10.96.0.2"]: may not change once set'
    ]
    assert errors(service(type="ExternalName", externalName="a.b"), "services", old=old) == []


def test_changing_the_type_drops_what_no_longer_fits() -> None:
    rules = resource("services").rules
    old = service(type="NodePort")
    new = copy.deepcopy(old)
    new["spec"]["type"] = "ClusterIP"
    assert rules.prepare is not None
    rules.prepare(new, old)
    assert "externalTrafficPolicy" not in new["spec"]


def test_namespace() -> None:
    obj = made("namespaces", name="dev")
    assert obj["metadata"]["labels"] == {"kubernetes.io/metadata.name": "dev"}
    assert obj["spec"] == {"finalizers": ["kubernetes"]}
    assert obj["status"] == {"phase": "Active"}
    obj["status"]["phase"] = "Terminating"
    (cause,) = resource("namespaces").rules.validate_status(obj, None)
    assert str(cause) == (
        "status.Phase: Invalid value: \"Terminating\": may only be 'Active' if "
        "`deletionTimestamp` is empty"
    )


def test_node_taints_and_address_range() -> None:
    old = made("nodes", spec={"podCIDRs": ["10.244.0.0/24"]})
    new = copy.deepcopy(old)
    new["spec"] = {
        "podCIDRs": ["10.244.1.0/24"],
        "taints": [{"key": "k", "effect": "NoSchedule"}, {"key": "k", "effect": "NoSchedule"}],
    }
    assert errors(new, "nodes", old=old) == [
        'metadata.taints[1]: Duplicate value: {"key":"k","effect":"NoSchedule"}: taints must be '
        "unique by key and effect pair",
        'spec.podCIDRs: Forbidden: node updates may not change podCIDR except from "" to valid',
    ]


def test_configmap_and_secret() -> None:
    config = made("configmaps", data={"a/b": "x", "k": "v"}, binaryData={"k": ""})
    assert errors(config, "configmaps") == [
        'data[a/b]: Invalid value: "a/b": a valid config key must consist of alphanumeric '
        "characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used "
        "for validation is '[-._a-zA-Z0-9]+')",
        'data[k]: Invalid value: "k": duplicate of key present in binaryData',
    ]
    big = made("configmaps", data={"k": "x" * (1024 * 1024 + 1)})
    assert errors(big, "configmaps") == ["[]: Too long: may not be more than 1048576 bytes"]
    frozen = made("configmaps", data={"k": "v"}, immutable=True)
    changed = made("configmaps", data={"k": "w"}, immutable=True)
    assert errors(changed, "configmaps", old=frozen) == [
        "data: Forbidden: field is immutable when `immutable` is set"
    ]
    secret = made("secrets", stringData={"k": "v"}, data={"k": "b2xk"})
    assert secret["type"] == "Opaque"
    assert secret["data"] == {"k": "dg=="}
    assert "stringData" not in secret
    tls = made("secrets", type="kubernetes.io/tls")
    assert errors(tls, "secrets") == [
        "data[tls.crt]: Required value",
        "data[tls.key]: Required value",
    ]
    assert errors(made("secrets", type="x"), "secrets", old=secret) == [
        'type: Invalid value: "x": field is immutable'
    ]


def claim(**spec: Any) -> dict[str, Any]:
    fields = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
        **spec,
    }
    return made("persistentvolumeclaims", spec=fields)


def test_claims() -> None:
    plural = "persistentvolumeclaims"
    assert errors(claim(), plural) == []
    assert errors(claim(accessModes=[], resources={}), plural) == [
        "spec.accessModes: Required value: at least 1 access mode is required",
        "spec.resources[storage]: Required value",
    ]
    bound = claim(volumeName="v")
    bound["status"]["phase"] = "Bound"
    grown = copy.deepcopy(bound)
    grown["spec"]["resources"]["requests"]["storage"] = "2Gi"
    assert errors(grown, plural, old=bound) == []
    moved = copy.deepcopy(bound)
    moved["spec"]["volumeName"] = "w"
    (error,) = errors(moved, plural, old=bound)
    assert error.startswith(
        "spec: Forbidden: spec is immutable after creation except resources.requests and "
        "volumeAttributesClassName for bound claims\n"
    )


def test_limit_range() -> None:
    obj = made(
        "limitranges",
        spec={"limits": [{"type": "Container", "max": {"cpu": "1"}, "min": {"cpu": "2"}}]},
    )
    assert obj["spec"]["limits"][0]["default"] == {"cpu": "1"}
    assert obj["spec"]["limits"][0]["defaultRequest"] == {"cpu": "1"}
    assert errors(obj, "limitranges")[0] == (
        'spec.limits[0].min[cpu]: Invalid value: "2": min value 2 is greater than max value 1'
    )


def test_events_of_both_apis() -> None:
    event = made("events", involvedObject={"namespace": "other"})
    assert errors(event, "events") == [
        'involvedObject.namespace: Invalid value: "other": does not match event.namespace'
    ]
    new = made("events", "events.k8s.io", regarding={"namespace": "n"}, type="Odd")
    assert errors(new, "events", "events.k8s.io") == [
        "eventTime: Required value",
        'type: Invalid value: "": has invalid value: Odd',
    ]


@pytest.mark.parametrize(
    ("plural", "group", "fields", "expected"),
    [
        (
            "ingresses", "networking.k8s.io", {"spec": {}},
            ["spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"],
        ),
        (
            "ingresses", "networking.k8s.io",
            {"spec": {"rules": [{"http": {"paths": [{"backend": {}}]}}]}},
            ["spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified"],
        ),
        (
            "ingresses", "networking.k8s.io",
            {"spec": {"defaultBackend": {"service": {"name": "s"}}}},
            ["spec.defaultBackend: Required value: port name or number is required"],
        ),
        (
            "networkpolicies", "networking.k8s.io",
            {"spec": {"ingress": [{"from": [{}]}]}},
            ["spec.ingress[0].from[0]: Required value: must specify a peer"],
        ),
        (
            "roles", "rbac.authorization.k8s.io", {"rules": [{"apiGroups": [""]}]},
            [
                "rules[0].verbs: Required value: verbs must contain at least one value",
                "rules[0].resources: Required value: resource rules must supply at least one "
                "resource",
            ],
        ),
        (
            "rolebindings", "rbac.authorization.k8s.io",
            {"roleRef": {"kind": "Thing", "name": "r"}},
            [
                'roleRef.kind: Unsupported value: "Thing": supported values: "Role", '
                '"ClusterRole"'
            ],
        ),
        (
            "poddisruptionbudgets", "policy",
            {"spec": {"minAvailable": 1, "maxUnavailable": 1}},
            [
                'spec: Invalid value: {"minAvailable":1,"maxUnavailable":1}: minAvailable and '
                "maxUnavailable cannot be both set"
            ],
        ),
        (
            "priorityclasses", "scheduling.k8s.io", {"value": 1_000_000_001},
            [
                "value: Forbidden: maximum allowed value of a user defined priority is 1000000000"
            ],
        ),
        (
            "horizontalpodautoscalers", "autoscaling",
            {"spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d"}}},
            [
                "spec.maxReplicas: Invalid value: 0: must be greater than 0",
                "spec.maxReplicas: Invalid value: 0: must be greater than or equal to "
                "`minReplicas`",
            ],
        ),
        (
            "leases", "coordination.k8s.io", {"spec": {"leaseDurationSeconds": 0}},
            ["spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"],
        ),
        (
            "apiservices", "apiregistration.k8s.io",
            {"spec": {"group": "a.b", "version": "v1", "groupPriorityMinimum": 1,
                      "versionPriority": 1}},
            [
                'metadata.name: Invalid value: "x": must be `spec.version+"."+spec.group`: '
                '"v1.a.b"'
            ],
        ),
        (
            "endpointslices", "discovery.k8s.io",
            {"addressType": "IPv4", "endpoints": [{"addresses": ["x"]}, {"addresses": []}]},
            [
                'endpoints[0].addresses[0]: Invalid value: "x": must be a valid IPv4 address',
                'endpoints[0].addresses[0]: Invalid value: "x": must be a valid IP address',
                "endpoints[1].addresses: Required value: must contain at least 1 address",
            ],
        ),
    ],
)  # fmt: skip
def test_other_kinds(plural: str, group: str, fields: dict[str, Any], expected: list[str]) -> None:
    assert errors(made(plural, group, **fields), plural, group) == expected


def crd(**spec: Any) -> dict[str, Any]:
    fields = {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"plural": "foos", "kind": "Foo"},
        "versions": [
            {"name": "v1", "served": True, "storage": True,
             "schema": {"openAPIV3Schema": {"type": "object"}}},
        ],
        **spec,
    }  # fmt: skip
    kinds = "customresourcedefinitions"
    return made(kinds, "apiextensions.k8s.io", "foos.example.com", spec=fields)


def test_custom_resource_definition() -> None:
    plural, group = "customresourcedefinitions", "apiextensions.k8s.io"
    good = crd()
    assert good["spec"]["names"] == {
        "plural": "foos", "kind": "Foo", "singular": "foo", "listKind": "FooList",
    }  # fmt: skip
    assert good["spec"]["conversion"] == {"strategy": "None"}
    assert good["status"]["storedVersions"] == ["v1"]
    assert errors(good, plural, group) == []
    assert errors(crd(group="other.com"), plural, group) == [
        'metadata.name: Invalid value: "foos.example.com": must be spec.names.plural+"."+spec.group'
    ]
    bad = crd(scope="Here", versions=[{"name": "v1", "storage": True}])
    assert errors(bad, plural, group) == [
        'spec.scope: Unsupported value: "Here": supported values: "Cluster", "Namespaced"',
        "spec.versions[0].schema.openAPIV3Schema: Required value: schemas are required",
    ]
    good["status"]["conditions"] = [{"type": "Established", "status": "True"}]
    moved = crd(scope="Cluster")
    moved["status"] = good["status"]
    assert errors(moved, plural, group, good) == [
        'spec.scope: Invalid value: "Cluster": field is immutable'
    ]


def test_webhook_configuration() -> None:
    plural, group = "validatingwebhookconfigurations", "admissionregistration.k8s.io"
    hook = {
        "name": "a.example.com",
        "clientConfig": {"service": {"namespace": "n", "name": "s"}},
        "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"],
                   "resources": ["pods"]}],
    }  # fmt: skip
    obj = made(plural, group, webhooks=[hook])
    made_hook = obj["webhooks"][0]
    assert made_hook["failurePolicy"] == "Fail"
    assert made_hook["timeoutSeconds"] == 10
    assert made_hook["clientConfig"]["service"]["port"] == 443
    assert made_hook["rules"][0]["scope"] == "*"
    assert errors(obj, plural, group) == [
        "webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun",
        "webhooks[0].admissionReviewVersions: Required value: must specify one of v1, v1beta1",
    ]


def test_autoscaler_views() -> None:
    v2 = made(
        "horizontalpodautoscalers", "autoscaling",
        spec={"scaleTargetRef": {"kind": "Deployment", "name": "d"}, "maxReplicas": 3},
    )  # fmt: skip
    rules = resource("horizontalpodautoscalers", "autoscaling", "v1").rules
    assert rules.from_stored is not None
    v1 = rules.from_stored(v2)
    assert v1["apiVersion"] == "autoscaling/v1"
    assert v1["spec"]["targetCPUUtilizationPercentage"] == 80
    assert "metrics" not in v1["spec"]


def test_what_a_client_of_autoscaling_v1_writes_back() -> None:
    """As upstream: what v1 has no field for travels in annotations, all metrics of the status too;
    the CPU target comes behind the others; and an annotation nobody can read is nothing."""
    rules = resource("horizontalpodautoscalers", "autoscaling", "v1").rules
    assert rules.from_stored is not None
    assert rules.to_stored is not None
    cpu = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}
    pods = {"metric": {"name": "m"}, "target": {"type": "AverageValue", "averageValue": "1"}}
    used = {"name": "cpu", "current": {"averageUtilization": 40, "averageValue": "20m"}}
    spec = {"scaleTargetRef": {"kind": "Deployment", "name": "d"}, "maxReplicas": 3}
    stored = {
        "metadata": {"name": "a"},
        "spec": {
            **spec,
            "metrics": [{"type": "Resource", "resource": cpu}, {"type": "Pods", "pods": pods}],
        },
        "status": {"currentMetrics": [{"type": "Resource", "resource": used}]},
    }
    v1 = rules.from_stored(stored)
    assert v1["spec"] == {**spec, "targetCPUUtilizationPercentage": 50}
    assert v1["status"] == {"currentCPUUtilizationPercentage": 40}
    back = rules.to_stored(v1)
    assert [metric["type"] for metric in back["spec"]["metrics"]] == ["Pods", "Resource"]
    assert back["status"] == stored["status"]
    prefix = "autoscaling.alpha.kubernetes.io/"
    for name in ("metrics", "current-metrics", "behavior", "conditions"):
        v1["metadata"]["annotations"] = {prefix + name: '{"not": [what it says'}
        plain = rules.to_stored(v1)
        assert "annotations" not in plain["metadata"]
        assert plain["spec"]["metrics"] == [{"type": "Resource", "resource": cpu}]
        assert "behavior" not in plain["spec"]
        assert plain["status"].keys() == {"currentMetrics"}
