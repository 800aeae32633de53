"""What admission counts, under the names that dashboards ask for."""

from __future__ import annotations

from typing import Any

from sampan.server.admission import CHAIN
from tests.behaviour.test_policies import MAPS, binding, config_map, policy, put
from tests.kit.cluster import Cluster, api_cluster

RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted",
              "pod-security.kubernetes.io/warn": "baseline"}  # fmt: skip
BARE = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
DEFAULT_ON = (
    "NamespaceLifecycle", "LimitRanger", "ServiceAccount", "TaintNodesByCondition", "PodSecurity",
    "Priority", "DefaultTolerationSeconds", "DefaultStorageClass", "StorageObjectInUseProtection",
    "PersistentVolumeClaimResize", "RuntimeClass", "CertificateApproval", "CertificateSigning",
    "ClusterTrustBundleAttest", "CertificateSubjectRestriction", "DefaultIngressClass",
    "PodTopologyLabels", "PodResizeValidator", "MutatingAdmissionPolicy",
    "MutatingAdmissionWebhook", "ValidatingAdmissionPolicy", "ValidatingAdmissionWebhook",
    "ResourceQuota",
)  # fmt: skip
"""In upstream's order; those of kinds that are not served (PodGroup) aside."""


async def metrics(cluster: Cluster) -> dict[str, float]:
    """Samples by name and labels."""
    text = (await cluster.http("GET", "/metrics")).body.decode()
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def test_plugins_that_are_on_by_default_are_there_in_upstreams_order() -> None:
    assert [plugin.name for plugin in CHAIN if plugin.name in DEFAULT_ON] == list(DEFAULT_ON)


async def test_steps_and_plugins_are_timed() -> None:
    async with api_cluster() as cluster:
        before = await metrics(cluster)
        await cluster.http("POST", MAPS, config_map())
        missing = "/api/v1/namespaces/missing/configmaps"
        assert (await cluster.http("POST", missing, config_map())).status == 404
        found = await metrics(cluster)
        step = "apiserver_admission_step_admission_duration_seconds_count"
        plugin = "apiserver_admission_controller_admission_duration_seconds_count"

        def more(name: str, labels: str) -> float:
            return found[f"{name}{{{labels}}}"] - before.get(f"{name}{{{labels}}}", 0)

        assert more(step, 'type="admit",operation="CREATE",rejected="false"') == 1
        assert more(step, 'type="validate",operation="CREATE",rejected="false"') == 1
        assert more(step, 'type="admit",operation="CREATE",rejected="true"') == 1
        named = 'name="NamespaceLifecycle",type="admit",operation="CREATE"'
        assert more(plugin, f'{named},rejected="false"') == 1
        assert more(plugin, f'{named},rejected="true"') == 1


async def test_policies_and_expressions_are_counted() -> None:
    async with api_cluster() as cluster:
        refusing = {"expression": "!has(object.data.bad)"}
        failing = {"expression": "object.data.nope == 'x'"}
        named: dict[str, Any] = {
            "matchConditions": [{"name": "n", "expression": "object.metadata.name != 'skip'"}]
        }
        await put(
            cluster,
            policy(validations=[refusing], **named),
            binding(validationActions=["Deny", "Audit"]),
            policy("lax", validations=[failing], failurePolicy="Ignore"),
            binding("c", "lax"),
        )
        assert (await cluster.http("POST", MAPS, config_map(bad="1"))).status == 422
        assert (await cluster.http("POST", MAPS, config_map("skip", bad="1"))).status == 201
        found = await metrics(cluster)
        name = "apiserver_validating_admission_policy_check"
        labels = 'policy="p",policy_binding="b",error_type="invalid_error",enforcement_action='
        assert found[f'{name}_total{{{labels}"deny"}}'] == 1
        assert found[f'{name}_total{{{labels}"audit"}}'] == 1
        assert found[f'{name}_duration_seconds_count{{{labels}"deny"}}'] == 1
        ignored = 'policy="lax",policy_binding="c",error_type="invalid_error"'
        assert found[f'{name}_total{{{ignored},enforcement_action="allow"}}'] == 2
        excluded = 'name="p",kind="policy",type="validate",operation="CREATE"'
        assert found[f"apiserver_admission_match_condition_exclusions_total{{{excluded}}}"] == 1
        took = f"apiserver_admission_match_condition_evaluation_seconds_count{{{excluded}}}"
        assert found[took] == 2
        # Two conditions and three validations.
        assert found["apiserver_cel_evaluation_duration_seconds_count"] == 5
        assert found["apiserver_cel_compilation_duration_seconds_count"] == 3


async def test_pod_security_is_counted() -> None:
    async with api_cluster() as cluster:
        space = {"metadata": {"name": "strict", "labels": RESTRICTED}}
        assert (await cluster.http("POST", "/api/v1/namespaces", space)).status == 201
        for name in ("strict", "default"):
            account = {"metadata": {"name": "default"}}
            await cluster.http("POST", f"/api/v1/namespaces/{name}/serviceaccounts", account)
        bad = await cluster.http("POST", "/api/v1/namespaces/strict/pods", BARE)
        assert bad.status == 403
        good = await cluster.http("POST", "/api/v1/namespaces/default/pods", BARE)
        assert good.status == 201
        found = await metrics(cluster)

        def evaluations(decision: str, level: str) -> float:
            labels = (
                f'decision="{decision}",policy_level="{level}",policy_version="latest",'
                'mode="enforce",request_operation="create",resource="pod",subresource=""'
            )
            return found[f"pod_security_evaluations_total{{{labels}}}"]

        assert evaluations("deny", "restricted") == 1
        assert evaluations("allow", "privileged") == 1


async def test_nothing_is_said_of_what_was_never_used() -> None:
    async with api_cluster() as cluster:
        text = (await cluster.http("GET", "/metrics")).body.decode()
        for name in ("apiserver_cel", "validating_admission_policy", "pod_security"):
            assert name not in text
