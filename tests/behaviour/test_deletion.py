"""Deletion: at once, with finalizers, with grace, of collections and namespaces."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kit.clock import FakeClock
from tests.kit.cluster import Cluster, api_cluster

CM = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
MERGE = "application/merge-patch+json"


async def make_pod(cluster: Cluster, name: str, **spec: Any) -> None:
    account = {"metadata": {"name": "default"}}
    await cluster.http("POST", "/api/v1/namespaces/default/serviceaccounts", account)
    body = {
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i"}], **spec},
    }
    made = await cluster.http("POST", PODS, body)
    assert made.status == 201, made.message


async def test_at_once_answers_with_a_status() -> None:
    async with api_cluster() as cluster:
        uid = (await cluster.http("POST", CM, {"metadata": {"name": "a"}})).json["metadata"]["uid"]
        gone = await cluster.http("DELETE", f"{CM}/a")
        assert gone.json["status"] == "Success"
        assert gone.json["details"] == {"name": "a", "kind": "configmaps", "uid": uid}
        again = await cluster.http("DELETE", f"{CM}/a")
        assert (again.status, again.message) == (404, 'configmaps "a" not found')


async def test_preconditions() -> None:
    async with api_cluster() as cluster:
        made = (await cluster.http("POST", CM, {"metadata": {"name": "a"}})).json["metadata"]
        for wrong in ({"uid": "other"}, {"resourceVersion": "1"}):
            refused = await cluster.http("DELETE", f"{CM}/a", {"preconditions": wrong})
            assert refused.status == 409
        right = {"uid": made["uid"], "resourceVersion": made["resourceVersion"]}
        assert (await cluster.http("DELETE", f"{CM}/a", {"preconditions": right})).status == 200


async def test_finalizers_hold_an_object() -> None:
    async with api_cluster() as cluster:
        body = {"metadata": {"name": "a", "finalizers": ["example.com/f"]}}
        await cluster.http("POST", CM, body)
        marked = await cluster.http("DELETE", f"{CM}/a")
        assert marked.json["metadata"]["deletionTimestamp"]
        assert marked.json["metadata"]["deletionGracePeriodSeconds"] == 0
        version = marked.json["metadata"]["resourceVersion"]
        again = await cluster.http("DELETE", f"{CM}/a")
        assert again.json["metadata"]["resourceVersion"] == version
        more = {"metadata": {"finalizers": ["example.com/f", "example.com/g"]}}
        refused = await cluster.http("PATCH", f"{CM}/a", more, content_type=MERGE)
        assert refused.status == 422
        done = {"metadata": {"finalizers": None}}
        assert (await cluster.http("PATCH", f"{CM}/a", done, content_type=MERGE)).status == 200
        assert (await cluster.http("GET", f"{CM}/a")).status == 404


async def test_propagation_becomes_a_finalizer() -> None:
    async with api_cluster() as cluster:
        for policy, finalizer in (("Orphan", "orphan"), ("Foreground", "foregroundDeletion")):
            await cluster.http("POST", CM, {"metadata": {"name": policy.lower()}})
            path = f"{CM}/{policy.lower()}"
            marked = await cluster.http("DELETE", f"{path}?propagationPolicy={policy}")
            assert marked.json["metadata"]["finalizers"] == [finalizer]
        bad = await cluster.http("DELETE", f"{CM}/orphan?propagationPolicy=Never")
        assert bad.status == 422


async def test_a_pod_on_a_node_gets_its_grace() -> None:
    clock = FakeClock()
    async with api_cluster(clock=clock) as cluster:
        await make_pod(cluster, "p", nodeName="n", terminationGracePeriodSeconds=20)
        marked = (await cluster.http("DELETE", f"{PODS}/p")).json["metadata"]
        assert marked["deletionGracePeriodSeconds"] == 20
        assert marked["deletionTimestamp"] > marked["creationTimestamp"]
        longer = (await cluster.http("DELETE", f"{PODS}/p?gracePeriodSeconds=60")).json["metadata"]
        assert longer["deletionGracePeriodSeconds"] == 20
        shorter = (await cluster.http("DELETE", f"{PODS}/p", {"gracePeriodSeconds": 5})).json
        assert shorter["metadata"]["deletionGracePeriodSeconds"] == 5
        assert shorter["metadata"]["deletionTimestamp"] < marked["deletionTimestamp"]
        gone = await cluster.http("DELETE", f"{PODS}/p", {"gracePeriodSeconds": 0})
        assert gone.json["kind"] == "Pod"
        assert (await cluster.http("GET", f"{PODS}/p")).status == 404


async def test_of_a_pod_that_goes_only_the_period_may_be_shortened() -> None:
    async with api_cluster() as cluster:
        await make_pod(cluster, "p", nodeName="n", terminationGracePeriodSeconds=20)
        await cluster.http(
            "PATCH", f"{PODS}/p", {"metadata": {"finalizers": ["a/b"]}},
            content_type="application/merge-patch+json",
        )  # fmt: skip
        marked = (await cluster.http("DELETE", f"{PODS}/p?gracePeriodSeconds=60")).json["metadata"]
        for asked in ("", "?propagationPolicy=Orphan", "?propagationPolicy=Foreground"):
            again = await cluster.http("DELETE", f"{PODS}/p{asked}")
            assert again.json["metadata"] == marked
        await cluster.http("DELETE", f"{PODS}/p?gracePeriodSeconds=0&propagationPolicy=Foreground")
        short = (await cluster.http("GET", f"{PODS}/p")).json["metadata"]
        assert short["deletionGracePeriodSeconds"] == 0
        assert short["finalizers"] == ["a/b", "foregroundDeletion"]


async def test_an_unscheduled_pod_goes_at_once() -> None:
    async with api_cluster() as cluster:
        await make_pod(cluster, "p")
        assert (await cluster.http("DELETE", f"{PODS}/p")).json["kind"] == "Pod"
        assert (await cluster.http("GET", f"{PODS}/p")).status == 404


async def test_a_collection_goes_by_selector() -> None:
    async with api_cluster() as cluster:
        for name, app in (("a", "x"), ("b", "x"), ("c", "y")):
            await cluster.http("POST", CM, {"metadata": {"name": name, "labels": {"app": app}}})
        gone = await cluster.http("DELETE", f"{CM}?labelSelector=app%3Dx")
        assert gone.json["kind"] == "ConfigMapList"
        assert [item["metadata"]["name"] for item in gone.json["items"]] == ["a", "b"]
        left = (await cluster.http("GET", CM)).json["items"]
        assert [item["metadata"]["name"] for item in left] == ["c"]
        assert (await cluster.http("DELETE", "/api/v1/configmaps")).status == 405


async def test_a_namespace_waits_for_its_finalizer() -> None:
    async with api_cluster() as cluster:
        path = "/api/v1/namespaces"
        made = (await cluster.http("POST", path, {"metadata": {"name": "n"}})).json
        assert made["spec"]["finalizers"] == ["kubernetes"]
        marked = (await cluster.http("DELETE", f"{path}/n")).json
        assert marked["status"]["phase"] == "Terminating"
        refused = await cluster.http("POST", f"{path}/n/configmaps", {"metadata": {"name": "a"}})
        assert refused.status == 403
        done = {**marked, "spec": {"finalizers": []}}
        assert (await cluster.http("PUT", f"{path}/n/finalize", done)).status == 200
        assert (await cluster.http("GET", f"{path}/n")).status == 404


async def test_jobs_keep_their_pods_unless_told() -> None:
    async with api_cluster() as cluster:
        path = "/apis/batch/v1/namespaces/default/jobs"
        spec = {"containers": [{"name": "c", "image": "i"}], "restartPolicy": "Never"}
        body = {"metadata": {"name": "j"}, "spec": {"template": {"spec": spec}}}
        assert (await cluster.http("POST", path, body)).status == 201
        marked = await cluster.http("DELETE", f"{path}/j")
        assert marked.json["metadata"]["finalizers"] == ["orphan"]
        assert "child pods are preserved" in marked.headers["Warning"]


UNREADABLE = "ignoreStoreReadErrorWithClusterBreakingPotential"
REFUSED: tuple[tuple[Any, str, int, str], ...] = (
    ({"propagationPolicy": "Later"}, "", 422, 'propagationPolicy: Unsupported value: "Later": '
     'supported values: "Foreground", "Background", "Orphan", "nil"'),
    ({"propagationPolicy": "Orphan", "orphanDependents": True}, "", 422, 'propagationPolicy: '
     'Invalid value: "Orphan": orphanDependents and deletionPropagation cannot be both set'),
    ({"dryRun": ["Some"]}, "", 422,
     'dryRun: Unsupported value: ["Some"]: supported values: "All"'),
    ({UNREADABLE: True, "gracePeriodSeconds": 0}, "", 422,
     f"{UNREADABLE}: Invalid value: true: cannot be set together with .gracePeriodSeconds"),
    (None, f"?{UNREADABLE}=1&dryRun=All", 422,
     f"{UNREADABLE}: Invalid value: true: cannot be set together with .dryRun"),
    (None, "?gracePeriodSeconds=soon", 400, 'strconv.ParseInt: parsing "soon": invalid syntax'),
    ({"gracePeriodSeconds": "1"}, "", 400, "json: cannot unmarshal string into Go struct field "
     "DeleteOptions.gracePeriodSeconds of type int64"),
)  # fmt: skip


@pytest.mark.parametrize(("body", "query", "status", "message"), REFUSED)
async def test_options_nobody_can_follow(body: Any, query: str, status: int, message: str) -> None:
    async with api_cluster() as cluster:
        answer = await cluster.http("DELETE", f"{CM}/a{query}", body)
        prefix = 'DeleteOptions.meta.k8s.io "" is invalid: ' if status == 422 else ""
        assert (answer.status, answer.message) == (status, prefix + message)


async def test_a_body_says_everything() -> None:
    async with api_cluster() as cluster:
        await cluster.http("POST", CM, {"metadata": {"name": "a"}})
        assert (await cluster.http("DELETE", f"{CM}/a?dryRun=All")).status == 200
        assert (await cluster.http("DELETE", f"{CM}/a", {"dryRun": ["All"]})).status == 200
        readable = {UNREADABLE: True}
        assert (await cluster.http("DELETE", f"{CM}/a?dryRun=All", readable)).status == 200
        assert (await cluster.http("GET", f"{CM}/a")).status == 404


async def test_what_a_precondition_says_when_it_fails() -> None:
    async with api_cluster() as cluster:
        made = (await cluster.http("POST", CM, {"metadata": {"name": "a"}})).json["metadata"]
        refused = await cluster.http("DELETE", f"{CM}/a", {"preconditions": {"uid": "x"}})
        assert refused.message == (
            'Operation cannot be fulfilled on ConfigMap "a": the UID in the precondition (x) does '
            f"not match the UID in record ({made['uid']}). The object might have been deleted and "
            "then recreated"
        )


async def test_dependents_that_still_go_are_answered_with_accepted() -> None:
    async with api_cluster() as cluster:
        body = {"metadata": {"name": "a", "finalizers": ["example.com/f"]}}
        await cluster.http("POST", CM, body)
        answer = await cluster.http("DELETE", f"{CM}/a?orphanDependents=false")
        assert answer.status == 202
        assert answer.json["kind"] == "ConfigMap"


async def test_a_collection_is_answered_with_what_it_was() -> None:
    async with api_cluster() as cluster:
        for name in ("a", "b", "c"):
            labels = {"keep": "yes"} if name == "c" else {}
            await cluster.http("POST", CM, {"metadata": {"name": name, "labels": labels}})
        dry = await cluster.http("DELETE", f"{CM}?labelSelector=!keep&dryRun=All")
        gone = await cluster.http("DELETE", f"{CM}?labelSelector=!keep")
        for answer in (dry, gone):
            assert answer.json["kind"] == "ConfigMapList"
            assert [item["metadata"]["name"] for item in answer.json["items"]] == ["a", "b"]
        left = (await cluster.http("GET", CM)).json["items"]
        assert [item["metadata"]["name"] for item in left] == ["c"]
        refused = await cluster.http("DELETE", f"{CM}?sendInitialEvents=true")
        assert refused.status == 422
        assert (await cluster.http("DELETE", "/api/v1/configmaps")).status == 405
