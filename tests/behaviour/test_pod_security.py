"""Pod Security admission, end to end: labels of namespaces, refusals, warnings, exemptions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sampan.api.resources import resource
from tests.behaviour.test_audit import EVERYTHING, audited, written
from tests.kit.cluster import Cluster, api_cluster

PREFIX = "pod-security.kubernetes.io/"
PODS = "/api/v1/namespaces/n/pods"
MERGE = "application/merge-patch+json"


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with api_cluster() as found:
        await prepare(found)
        yield found


async def prepare(cluster: Cluster, **labels: str) -> None:
    marks = {PREFIX + name.replace("_", "-"): value for name, value in labels.items()}
    body = {"metadata": {"name": "n", "labels": marks}}
    assert (await cluster.http("POST", "/api/v1/namespaces", body)).status == 201
    account = {"metadata": {"name": "default"}}
    await cluster.http("POST", "/api/v1/namespaces/n/serviceaccounts", account)


async def label(cluster: Cluster, **labels: str) -> Any:
    marks = {PREFIX + name: value for name, value in labels.items()}
    body = {"metadata": {"labels": marks}}
    return await cluster.http("PATCH", "/api/v1/namespaces/n", body, content_type=MERGE)


def pod(name: str = "p", **context: Any) -> dict[str, Any]:
    container = {"name": "c", "image": "i", "securityContext": context}
    return {"metadata": {"name": name}, "spec": {"containers": [container]}}


async def test_pods_that_violate_are_refused(cluster: Cluster) -> None:
    assert (await cluster.http("POST", PODS, pod("before", privileged=True))).status == 201
    answer = await label(cluster, enforce="baseline")
    assert answer.status == 200
    # The last of two warnings; the first says that existing pods violate the new level.
    assert answer.headers["Warning"] == '299 - "before: privileged"'
    answer = await cluster.http("POST", PODS, pod(privileged=True))
    assert answer.status == 403
    assert answer.message == (
        'pods "p" is forbidden: violates PodSecurity "baseline:latest": privileged (container "c"'
        " must not set securityContext.privileged=true)"
    )
    assert (await cluster.http("POST", PODS, pod())).status == 201
    # What an update leaves as it was is not looked at again.
    body = {"metadata": {"labels": {"a": "b"}}}
    answer = await cluster.http("PATCH", f"{PODS}/before", body, content_type=MERGE)
    assert answer.status == 200


async def test_templates_only_warn(cluster: Cluster) -> None:
    await label(cluster, enforce="restricted", warn="restricted")
    template = {"metadata": {"labels": {"a": "b"}}, "spec": pod()["spec"]}
    body = {
        "metadata": {"name": "d"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template},
    }
    answer = await cluster.http("POST", "/apis/apps/v1/namespaces/n/deployments", body)
    assert answer.status == 201
    assert 'would violate PodSecurity \\"restricted:latest\\"' in answer.headers["Warning"]


async def test_labels_must_make_sense(cluster: Cluster) -> None:
    answer = await label(cluster, enforce="tight")
    assert answer.status == 422
    assert answer.message == (
        'Namespace "n" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid'
        ' value: "tight": must be one of privileged, baseline, restricted'
    )


async def test_defaults_and_exemptions_are_configured(tmp_path: Path) -> None:
    (tmp_path / "pod-security.yaml").write_text(
        "kind: PodSecurityConfiguration\n"
        "apiVersion: pod-security.admission.config.k8s.io/v1\n"
        "defaults: {enforce: baseline}\n"
        "exemptions: {namespaces: [default], usernames: [], runtimeClasses: []}\n"
    )
    async with api_cluster(folder=tmp_path) as cluster:
        await prepare(cluster)
        account = {"metadata": {"name": "default"}}
        await cluster.http("POST", "/api/v1/namespaces/default/serviceaccounts", account)
        assert (await cluster.http("POST", PODS, pod(privileged=True))).status == 403
        free = "/api/v1/namespaces/default/pods"
        assert (await cluster.http("POST", free, pod(privileged=True))).status == 201
        marks = {PREFIX + "enforce": "restricted", PREFIX + "warn": "restricted"}
        body = {"metadata": {"labels": marks}}
        answer = await cluster.http("PATCH", "/api/v1/namespaces/default", body, content_type=MERGE)
        assert answer.headers["Warning"] == (
            '299 - "namespace \\"default\\" is exempt from Pod Security, and the policy '
            '(enforce=restricted:latest, warn=restricted:latest) will be ignored"'
        )
        assert (await cluster.http("POST", free, pod("q", privileged=True))).status == 201


async def test_the_audit_log_hears_what_was_decided(tmp_path: Path) -> None:
    (tmp_path / "pod-security.yaml").write_text(
        "kind: PodSecurityConfiguration\n"
        "apiVersion: pod-security.admission.config.k8s.io/v1\n"
        "exemptions: {namespaces: [default]}\n"
    )
    async with audited(tmp_path, EVERYTHING) as cluster:
        await prepare(cluster)
        default = "/api/v1/namespaces/default"
        account = {"metadata": {"name": "default"}}
        await cluster.http("POST", f"{default}/serviceaccounts", account)
        await cluster.http("POST", f"{default}/pods", pod())
        await cluster.http("POST", PODS, pod("free"))
        # Labels that are wrong can only be there from before; then the strictest level counts.
        record = cluster.server.find_object(resource("namespaces"), "", "n")
        assert record is not None
        record["metadata"]["labels"] = {PREFIX + "enforce": "x", PREFIX + "warn": "y"}
        assert (await cluster.http("POST", PODS, pod("bad"))).status == 403
    found = [
        {key: text for key, text in (event.get("annotations") or {}).items() if PREFIX in key}
        for event in written(tmp_path)
        if event.get("objectRef", {}).get("resource") == "pods"
        and event["stage"] == "ResponseComplete"
    ]
    assert found[0] == {PREFIX + "exempt": "namespace"}
    assert found[1] == {PREFIX + "enforce-policy": "privileged:latest"}
    assert found[2][PREFIX + "enforce-policy"] == "restricted:latest"
    assert found[2][PREFIX + "error"].startswith("Failed to parse policy: [metadata.labels[")
