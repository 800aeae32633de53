"""Authorisers in the administrator's order, some of them elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from sampan.api.errors import Object
from sampan.api.resources import resource
from sampan.server import settings
from sampan.server.authz.configuration import parse
from sampan.server.documents import BadDocument
from sampan.server.entrance import receive
from sampan.server.exchange import Request, Response, User
from sampan.server.webhooks.target import CallFailed
from tests.kit.clock import FakeClock
from tests.kit.cluster import Cluster, api_cluster
from tests.kit.house import House, house

RBAC = "rbac.authorization.k8s.io"
ANN = User("ann", ("system:authenticated", "g"), "7", {"k": ("v",)})
BOB = User("bob", ("system:authenticated",))
MAPS = "/api/v1/namespaces/default/configmaps"
REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
Judge = Callable[[Object], Object]


def webhook(**changes: Any) -> Object:
    return {
        "timeout": "5s",
        "subjectAccessReviewVersion": "v1",
        "failurePolicy": "NoOpinion",
        "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": "judge.kubeconfig"},
        **changes,
    }


def document(*authorizers: Object) -> Object:
    return {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AuthorizationConfiguration",
        "authorizers": list(authorizers),
    }


def usual(**changes: Any) -> Object:
    return document(
        {"type": "Node", "name": "node"},
        {"type": "Webhook", "name": "judge", "webhook": webhook(**changes)},
        {"type": "RBAC", "name": "rbac"},
    )


@asynccontextmanager
async def judged(
    folder: Path, judge: Judge, **changes: Any
) -> AsyncIterator[tuple[Cluster, House]]:
    """A cluster with a webhook that gives the status `judge` says for a spec."""
    async with house() as at:
        at.write_kubeconfig(folder / "judge.kubeconfig", "/judge")
        at.answers["/judge"] = lambda review: {**review, "status": judge(review["spec"])}
        (folder / "authorization.yaml").write_text(yaml.safe_dump(usual(**changes)))
        tokens = {"bob": BOB}
        async with api_cluster(folder=folder, clock=FakeClock(), tokens=tokens) as cluster:
            yield cluster, at


def only(user: str, status: Object) -> Judge:
    return lambda spec: status if spec["user"] == user else {"allowed": False}


async def may(cluster: Cluster, user: User, path: str = MAPS) -> int:
    return (await cluster.http("GET", path, user=user)).status


async def advance(cluster: Cluster, seconds: float) -> None:
    assert isinstance(cluster.server.clock, FakeClock)
    await cluster.server.clock.advance(seconds)


async def bind(cluster: Cluster, user: str, role: str) -> None:
    await cluster.client.create(
        resource("clusterrolebindings", RBAC),
        {
            "metadata": {"generateName": "b-"},
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "User", "apiGroup": RBAC, "name": user}],
        },
    )


async def test_a_webhook_allows_and_is_remembered(tmp_path: Path) -> None:
    async with judged(tmp_path, only("ann", {"allowed": True, "reason": "sure"})) as (cluster, at):
        query = "?labelSelector=app%3Dweb&fieldSelector=metadata.name%3Dx"
        statuses = await asyncio.gather(*(may(cluster, ANN, MAPS + query) for _ in range(5)))
        assert statuses == [200] * 5
        assert len(at.asked) == 1, "five at once share one question"
        [review] = at.bodies
        assert (review["apiVersion"], review["kind"]) == (
            "authorization.k8s.io/v1", "SubjectAccessReview",
        )  # fmt: skip
        assert review["spec"] == {
            "user": "ann",
            "uid": "7",
            "groups": ["system:authenticated", "g"],
            "extra": {"k": ["v"]},
            "resourceAttributes": {
                "namespace": "default",
                "verb": "list",
                "version": "v1",
                "resource": "configmaps",
                "name": "x",
                "fieldSelector": {
                    "requirements": [{"key": "metadata.name", "operator": "In", "values": ["x"]}]
                },
                "labelSelector": {
                    "requirements": [{"key": "app", "operator": "In", "values": ["web"]}]
                },
            },
        }
        await advance(cluster, 299)
        assert await may(cluster, ANN, MAPS + query) == 200
        assert len(at.asked) == 1
        await advance(cluster, 2)
        assert await may(cluster, ANN, MAPS + query) == 200
        assert len(at.asked) == 2
        assert await may(cluster, ANN, "/metrics") == 200
        assert at.bodies[-1]["spec"]["nonResourceAttributes"] == {"path": "/metrics", "verb": "get"}
        text = (await cluster.http("GET", "/metrics")).body.decode()
        series = 'apiserver_authorization_webhook_evaluations_total{name="judge",result="success"}'
        assert f"{series} 3\n" in text


async def test_no_opinion_leaves_it_to_rbac_and_a_denial_does_not(tmp_path: Path) -> None:
    status: Object = {"allowed": False}
    async with judged(tmp_path, lambda spec: status) as (cluster, _):
        answer = await cluster.http("GET", MAPS, user=BOB)
        assert (answer.status, answer.json["reason"]) == (403, "Forbidden")
        await bind(cluster, "bob", "view")
        assert await may(cluster, BOB) == 200, "what is remembered is the webhook's word alone"
        status = {"allowed": False, "denied": True, "reason": "not bob"}
        await advance(cluster, 31)
        answer = await cluster.http("GET", MAPS, user=BOB)
        assert answer.status == 403
        assert answer.message.endswith('in the namespace "default": not bob')
        asked = {"namespace": "default", "verb": "list", "resource": "configmaps", "version": "v1"}
        spec = {"user": "bob", "groups": ["system:authenticated"], "resourceAttributes": asked}
        answer = await cluster.http("POST", REVIEWS, {"spec": spec})
        assert answer.json["status"] == {"allowed": False, "denied": True, "reason": "not bob"}
        path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
        await advance(cluster, 31)
        status = {"allowed": True}
        answer = await cluster.http("POST", path, {"spec": {"namespace": "a"}}, user=BOB)
        assert answer.json["status"]["incomplete"]
        assert "webhook authorizer does not support" in answer.json["status"]["evaluationError"]


@pytest.mark.parametrize(("policy", "expected"), [("NoOpinion", 200), ("Deny", 500)])
async def test_a_webhook_that_fails(tmp_path: Path, policy: str, expected: int) -> None:
    judge = only("", {})
    async with judged(tmp_path, judge, failurePolicy=policy) as (cluster, at):
        at.answers["/judge"] = None
        await bind(cluster, "ann", "view")
        assert await may(cluster, ANN) == expected
        answer = await cluster.http("GET", MAPS, user=BOB)
        assert answer.status == 500, "nobody allows it, and one could not be asked"
        assert answer.message.startswith(f'Internal Server Error: "{MAPS}": ')
        before = len(at.asked)
        assert await may(cluster, BOB) == 500
        assert len(at.asked) == before, "it is not asked at once again"
        spec = {"user": "bob", "nonResourceAttributes": {"path": "/x", "verb": "get"}}
        answer = await cluster.http("POST", REVIEWS, {"spec": spec})
        assert answer.json["status"]["evaluationError"]
        assert answer.json["status"].get("denied", False) == (policy == "Deny")


async def test_a_webhook_that_is_busy_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with judged(tmp_path, only("bob", {"allowed": True})) as (cluster, _):
        post, failures = cluster.server.webhooks.post_json, [CallFailed("busy", 429)]

        async def busy(*args: Any, **named: Any) -> Object:
            if failures:
                raise failures.pop()
            return await post(*args, **named)

        monkeypatch.setattr(cluster.server.webhooks, "post_json", busy)
        asking = asyncio.create_task(may(cluster, BOB))
        while not asking.done():
            await advance(cluster, 0.2)
        assert await asking == 200


async def test_conditions_say_what_a_webhook_is_asked_about(tmp_path: Path) -> None:
    conditions = [
        {"expression": "has(request.resourceAttributes)"},
        {"expression": "request.resourceAttributes.namespace == 'kube-system'"},
        {"expression": "!('system:serviceaccounts' in request.groups)"},
    ]
    changes = {"matchConditions": conditions, "matchConditionSubjectAccessReviewVersion": "v1"}
    async with judged(tmp_path, only("ann", {"allowed": True}), **changes) as (cluster, at):
        assert await may(cluster, ANN) == 403
        assert await may(cluster, ANN, "/metrics") == 403
        account = User("ann", ("system:serviceaccounts",))
        assert await may(cluster, account, "/api/v1/namespaces/kube-system/pods") == 403
        assert at.asked == []
        assert await may(cluster, ANN, "/api/v1/namespaces/kube-system/pods") == 200
        assert len(at.asked) == 1


async def test_a_condition_that_fails_is_a_failure(tmp_path: Path) -> None:
    failing = [{"expression": "request.extra['absent'][0] == 'x'"}]
    changes = {"matchConditions": failing, "matchConditionSubjectAccessReviewVersion": "v1"}
    async with judged(
        tmp_path, only("ann", {"allowed": True}), failurePolicy="Deny", **changes
    ) as (cluster, at):
        await bind(cluster, "ann", "view")
        answer = await cluster.http("GET", MAPS, user=ANN)
        assert answer.status == 500
        assert "cel evaluation error" in answer.message
        assert at.asked == []


async def test_questions_in_the_middle_of_a_write_are_answered(tmp_path: Path) -> None:
    """Who may bind a role is known only once the object is read: nothing is written twice."""
    async with judged(tmp_path, only("ann", {"allowed": True})) as (cluster, at):
        body = {
            "metadata": {"generateName": "b-"},
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "User", "apiGroup": RBAC, "name": "carl"}],
        }
        path = f"/apis/{RBAC}/v1/clusterrolebindings"
        answer = await cluster.http("POST", path, body, user=ANN)
        assert answer.status == 201, answer.message
        verbs = [body["spec"]["resourceAttributes"]["verb"] for body in at.bodies]
        assert verbs == ["create", "bind"]
        found = cluster.server.list_objects(resource("clusterrolebindings", RBAC))
        assert [item["metadata"]["name"].startswith("b-") for item in found].count(True) == 1


async def test_a_webhook_may_allow_impersonation(tmp_path: Path) -> None:
    async with judged(tmp_path, only("bob", {"allowed": True})) as (cluster, _):
        headers = {"authorization": "Bearer bob", "impersonate-user": "carl"}
        path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
        request = Request("POST", path, {}, headers, b"{}")
        answer = receive(cluster.server, request, None)
        answer = await answer if asyncio.iscoroutine(answer) else answer
        assert isinstance(answer, Response)
        assert answer.status == 201, answer.body
        assert b'"username":"carl"' in (answer.body or b"")
        request = Request("GET", MAPS, {}, {**headers, "authorization": "Bearer no"}, b"")
        answer = receive(cluster.server, request, None)
        assert isinstance(answer, Response)
        assert answer.status == 401


async def test_the_file_is_read_again(tmp_path: Path) -> None:
    async with judged(tmp_path, only("ann", {"allowed": True})) as (cluster, _):
        assert await may(cluster, ANN) == 200
        path = tmp_path / "authorization.yaml"
        path.write_text(yaml.safe_dump(document({"type": "RBAC", "name": "rbac"})))
        settings.load(cluster.server)
        assert await may(cluster, ANN) == 403
        path.write_text("kind: nonsense\n")
        with pytest.raises(ValueError, match="AuthorizationConfiguration"):
            settings.load(cluster.server)
        assert await may(cluster, ANN) == 403
        path.write_text(yaml.safe_dump(document({"type": "AlwaysAllow", "name": "all"})))
        # One that is no good does not keep the others from being taken.
        (tmp_path / "authentication.yaml").write_text("kind: nonsense\n")
        with pytest.raises(ValueError, match="AuthenticationConfiguration"):
            settings.load(cluster.server)
        assert await may(cluster, BOB) == 200
        lines = (await cluster.http("GET", "/metrics")).body.decode().splitlines()
        seen = {
            (of, status): line.rsplit(" ", 1)[1]
            for line in lines
            for of in ("authentication", "authorization")
            for status in ("success", "failure")
            if line.startswith(f"apiserver_{of}_config_controller_automatic_reloads_total{{")
            and f'status="{status}"' in line
        }
        assert seen == {
            ("authorization", "success"): "2",
            ("authorization", "failure"): "1",
            ("authentication", "failure"): "1",
        }


WEBHOOK = {"type": "Webhook", "name": "w", "webhook": webhook()}


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (document(), "authorizers: Required value: at least one authorization mode must be"),
        (document({"type": "XBAC", "name": "a"}), 'authorizers[0].type: Unsupported value: "XBAC"'),
        (document({"type": "RBAC"}), "authorizers[0].name: Required value"),
        (document({"type": "RBAC", "name": "A"}), 'authorizers[0].name: Invalid value: "A"'),
        (document({"type": "RBAC", "name": "a"}, {"type": "RBAC", "name": "b"}),
         'authorizers[1].type: Duplicate value: "RBAC"'),
        (document(WEBHOOK, WEBHOOK), 'authorizers[1].name: Duplicate value: "w"'),
        (document({"type": "Webhook", "name": "w"}), "webhook: Required value"),
        (usual(timeout="31s"), "webhook.timeout: Invalid value: must be <= 30s"),
        (usual(timeout="soon"), "not a duration: soon"),
        (usual(authorizedTTL="0s"), "must be > 0s"),
        (usual(subjectAccessReviewVersion="v2"), 'supported values: "v1", "v1beta1"'),
        (usual(failurePolicy=""), "failurePolicy: Required value"),
        (usual(matchConditions=[{"expression": "true"}]),
         "matchConditionSubjectAccessReviewVersion: Required value"),
        (usual(connectionInfo={"type": "InCluster"}), "connectionInfo.type: Unsupported"),
        (usual(connectionInfo={"type": "InClusterConfig", "kubeConfigFile": "x"}),
         "can only be set when type=KubeConfigFile"),
        (usual(connectionInfo={"type": "KubeConfigFile", "kubeConfigFile": "no"}),
         "kubeconfig file does not exist"),
        (usual(timeOut="1s"), "unknown field authorizers[1].webhook.timeOut"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_good_says_where(tmp_path: Path, raw: Object, text: str) -> None:
    (tmp_path / "judge.kubeconfig").write_text("")
    with pytest.raises(BadDocument) as caught:
        parse(raw, tmp_path)
    assert text in str(caught.value)


async def test_a_condition_that_does_not_compile_stops_the_start(tmp_path: Path) -> None:
    async with house() as at:
        at.write_kubeconfig(tmp_path / "judge.kubeconfig", "/")
        bad = usual(
            matchConditions=[{"expression": "request.nothing"}],
            matchConditionSubjectAccessReviewVersion="v1",
        )
        (tmp_path / "authorization.yaml").write_text(yaml.safe_dump(bad))
        with pytest.raises(BadDocument, match="undefined field 'nothing'"):
            async with api_cluster(folder=tmp_path):
                pass
