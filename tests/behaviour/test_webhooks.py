"""Admission webhooks: who is called, with what, and what the answers do (as upstream's
test/e2e/apimachinery/webhook.go)."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from sampan.server import settings
from sampan.server.admission.webhooks import dispatch
from sampan.server.exchange import User
from tests.kit.cluster import Answer, Cluster, api_cluster
from tests.kit.hooks import Call, HookServer, Reply, hook_server

GROUP = "/apis/admissionregistration.k8s.io/v1"
NS = "/api/v1/namespaces/default"
MAPS = f"{NS}/configmaps"
MERGE = "application/merge-patch+json"
KINDS = {
    "mutating": "mutatingwebhookconfigurations",
    "validating": "validatingwebhookconfigurations",
}
WRITES = [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}]


def maps(*operations: str) -> list[dict[str, Any]]:
    return [
        {"operations": list(operations or ("CREATE",)), "apiGroups": [""], "apiVersions": ["v1"],
         "resources": ["configmaps"]}
    ]  # fmt: skip


Script = Callable[[str, dict[str, Any]], Any]
"""(path, AdmissionRequest) -> the response without uid, or a whole Reply."""


@dataclass(slots=True)
class Bench:
    cluster: Cluster
    hook: HookServer

    async def register(self, kind: str, name: str, **fields: Any) -> Answer:
        """One configuration with one webhook, at /NAME of the test's server."""
        webhook = {
            "name": f"{name}.example.com",
            "clientConfig": {"url": self.hook.url(f"/{name}"), "caBundle": self.hook.bundle},
            "rules": maps(),
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            **fields,
        }
        path = f"{GROUP}/{KINDS[kind]}"
        answer = await self.cluster.http(
            "POST", path, {"metadata": {"name": name}, "webhooks": [webhook]}
        )
        assert answer.status == 201, answer.message
        return answer

    async def unregister(self, kind: str, name: str) -> None:
        await self.cluster.http("DELETE", f"{GROUP}/{KINDS[kind]}/{name}")

    async def create(self, name: str = "m", query: str = "", **fields: Any) -> Answer:
        return await self.cluster.http("POST", MAPS + query, {"metadata": {"name": name}, **fields})

    @property
    def requests(self) -> list[dict[str, Any]]:
        return [call.json["request"] for call in self.hook.calls]

    @property
    def paths(self) -> list[str]:
        return [call.target.split("?")[0] for call in self.hook.calls]


def allow(path: str, request: dict[str, Any]) -> dict[str, Any]:
    return {"allowed": True}


def patched(*operations: dict[str, Any]) -> dict[str, Any]:
    text = base64.b64encode(orjson.dumps(operations)).decode()
    return {"allowed": True, "patch": text, "patchType": "JSONPatch"}


def added(name: str, value: str) -> dict[str, Any]:
    return {"op": "add", "path": f"/data/{name}", "value": value}


@asynccontextmanager
async def bench(script: Script = allow, **config: Any) -> AsyncIterator[Bench]:
    async def answer(call: Call) -> Reply:
        review = call.json
        said = script(call.target.split("?")[0], review["request"])
        if isinstance(said, Awaitable):
            said = await said
        if isinstance(said, Reply):
            return said
        response = {"uid": review["request"]["uid"], **said}
        return Reply({"apiVersion": review["apiVersion"], "kind": review["kind"],
                      "response": response})  # fmt: skip

    async with api_cluster(**config) as cluster, hook_server(answer) as hook:
        yield Bench(cluster, hook)


async def test_what_a_webhook_is_told() -> None:
    async with bench() as b:
        await b.register("validating", "look", rules=maps("CREATE", "UPDATE", "DELETE"))
        user = User("jane", ("system:masters",), "u1", {"scopes": ["a"]})
        body = {"metadata": {"name": "m", "labels": {"a": "b"}}, "data": {"k": "v"}}
        path = f"{MAPS}?fieldManager=tester&fieldValidation=Strict"
        assert (await b.cluster.http("POST", path, body, user=user)).status == 201
        review = b.hook.calls[0].json
        assert (review["kind"], review["apiVersion"]) == ("AdmissionReview", "admission.k8s.io/v1")
        request = dict(review["request"])
        assert len(request.pop("uid")) == 36
        new = request.pop("object")
        assert (new["kind"], new["apiVersion"], new["data"]) == ("ConfigMap", "v1", {"k": "v"})
        assert new["metadata"]["uid"]
        assert request == {
            "kind": {"group": "", "version": "v1", "kind": "ConfigMap"},
            "resource": {"group": "", "version": "v1", "resource": "configmaps"},
            "requestKind": {"group": "", "version": "v1", "kind": "ConfigMap"},
            "requestResource": {"group": "", "version": "v1", "resource": "configmaps"},
            "name": "m",
            "namespace": "default",
            "operation": "CREATE",
            "userInfo": {"username": "jane", "uid": "u1", "groups": ["system:masters"],
                         "extra": {"scopes": ["a"]}},
            "oldObject": None,
            "dryRun": False,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1",
                        "fieldManager": "tester", "fieldValidation": "Strict"},
        }  # fmt: skip
        await b.cluster.http("PATCH", f"{MAPS}/m", {"data": {"k": "w"}}, content_type=MERGE)
        update = b.requests[1]
        assert (update["oldObject"]["data"], update["object"]["data"]) == ({"k": "v"}, {"k": "w"})
        # Nothing the client has not said.
        assert update["options"] == {"kind": "UpdateOptions", "apiVersion": "meta.k8s.io/v1"}
        await b.cluster.http("DELETE", f"{MAPS}/m", {"gracePeriodSeconds": 0})
        gone = b.requests[2]
        assert (gone["operation"], gone["object"]) == ("DELETE", None)
        assert gone["oldObject"]["data"] == {"k": "w"}
        assert gone["options"]["gracePeriodSeconds"] == 0
        for name in ("x", "y"):
            await b.create(name)
        await b.cluster.http("DELETE", MAPS)
        assert [item["oldObject"]["metadata"]["name"] for item in b.requests[-2:]] == ["x", "y"]


async def test_denials_are_the_webhooks_own() -> None:
    answers: dict[str, Any] = {
        "plain": {},
        "told": {"status": {"message": "not today", "code": 418, "reason": "Teapot"}},
        "reason": {"status": {"reason": "Forbidden", "code": 403}},
        "lies": {"status": {"message": "fine", "code": 200, "status": "Success", "details": 7}},
    }

    def script(path: str, request: dict[str, Any]) -> dict[str, Any]:
        return {"allowed": False, **answers[request["name"]]}

    async with bench(script) as b:
        await b.register("validating", "no")
        said = {name: await b.create(name) for name in answers}
        prefix = 'admission webhook "no.example.com" denied the request'
        assert {name: (item.status, item.message) for name, item in said.items()} == {
            "plain": (400, f"{prefix} without explanation"),
            "told": (418, f"{prefix}: not today"),
            "reason": (403, f"{prefix}: Forbidden"),
            "lies": (400, f"{prefix}: fine"),
        }
        assert said["told"].json["reason"] == "Teapot"
        assert "reason" not in said["plain"].json
        assert (await b.cluster.http("GET", f"{MAPS}/plain")).status == 404
        # The very next write is free when the configuration is gone.
        await b.unregister("validating", "no")
        assert (await b.create("plain")).status == 201


async def test_mutations_follow_each_other_by_name() -> None:
    def script(path: str, request: dict[str, Any]) -> dict[str, Any]:
        if path == "/second" and "first" not in request["object"]["data"]:
            return {"allowed": False}
        return patched(added(path[1:], "yes"), {"op": "add", "path": "/bogus", "value": 1})

    async with bench(script) as b:
        await b.register("mutating", "second")
        await b.register("mutating", "first")
        made = await b.create(data={"own": "x"})
        assert made.status == 201, made.message
        assert made.json["data"] == {"own": "x", "first": "yes", "second": "yes"}
        assert "bogus" not in made.json
        assert b.paths == ["/first", "/second"]
        early = b.requests[0]["object"]["metadata"]
        assert "uid" not in early
        assert "creationTimestamp" not in early
        assert made.json["metadata"]["uid"]


async def test_reinvocation() -> None:
    def script(path: str, request: dict[str, Any]) -> dict[str, Any]:
        data = request["object"]["data"]
        if path == "/a-again" and "late" in data:
            return patched(added("seen", "late"))
        if path == "/b-late" and "late" not in data:
            return patched(added("late", "1"))
        return {"allowed": True}

    async with bench(script) as b:
        await b.register("mutating", "a-again", reinvocationPolicy="IfNeeded")
        await b.register("mutating", "b-late")
        made = await b.create(data={"own": "x"})
        assert made.json["data"] == {"own": "x", "late": "1", "seen": "late"}
        assert b.paths == ["/a-again", "/b-late", "/a-again"]
        b.hook.calls.clear()
        await b.unregister("mutating", "b-late")
        await b.create("other", data={"own": "x"})
        assert b.paths == ["/a-again"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Reply({"kind": "AdmissionReview"}),
         "received invalid webhook response: webhook response was absent"),
        (Reply({"response": {"uid": "other", "allowed": True}}),
         "received invalid webhook response: expected response.uid="),
        (Reply(b"garbage"), "failed to call webhook: "),
        (Reply({}, 302, {"Location": "https://localhost:1/"}),
         "failed to call webhook: the server responded with the status code 302 but did not "
         "return more information"),
        (Reply(b"boom", 500, {"Content-Type": "text/plain"}),
         'failed to call webhook: an error on the server ("boom") has prevented the request from '
         "succeeding"),
        ({"allowed": True, "patch": "W10="},
         "received invalid webhook response: webhook returned response.patch but not "
         "response.patchType"),
        ({"allowed": True, "patch": "!", "patchType": "JSONPatch"},
         "received invalid webhook response: illegal base64 data"),
        ({"allowed": True, "patch": "eyJ9", "patchType": "JSONPatch"},
         "received undecodable patch in webhook response: "),
        ({"allowed": True, "patch": "W10=", "patchType": "Merge"}, "unsupported patch type"),
        ({"allowed": True, "warnings": 5}, "response.warnings is of the wrong type"),
    ],
)  # fmt: skip
async def test_a_webhook_that_talks_nonsense(answer: Any, words: str) -> None:
    async with bench(lambda path, request: answer) as b:
        await b.register("mutating", "bad")
        said = await b.create()
        assert said.status == 500
        assert said.json["reason"] == "InternalError"
        start = 'Internal error occurred: failed calling webhook "bad.example.com": '
        assert said.message.startswith(start), said.message
        assert words in said.message
        await b.unregister("mutating", "bad")
        await b.register("mutating", "lenient", failurePolicy="Ignore")
        assert (await b.create()).status == 201


async def test_patches_that_do_not_apply() -> None:
    operations = [{"op": "remove", "path": "/data/nope"}]
    async with bench(lambda path, request: patched(*operations)) as b:
        await b.register("mutating", "bad", failurePolicy="Ignore")
        said = await b.create()
        assert (said.status, said.json["reason"]) == (500, "InternalError")
        operations[:] = [{"op": "add", "path": "/data", "value": [1]}]
        assert (await b.create()).status == 500
        operations[:] = [{"op": "replace", "path": "/metadata", "value": 7}]
        assert (await b.create()).status == 500
        # What is wrong with a patched object is the object's error.
        operations[:] = [{"op": "add", "path": "/data", "value": {"not a key": "x"}}]
        assert (await b.create()).status == 422


async def test_a_webhook_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(path: str, request: dict[str, Any]) -> Any:
        await asyncio.Event().wait()

    async with bench(hang) as b:
        await b.register("validating", "slow")
        (hook,) = b.cluster.server.admission.hooks._hooks["validate"]
        hook.timeout_s = 0.05
        said = await b.create()
        assert said.message == (
            'Internal error occurred: failed calling webhook "slow.example.com": failed to call '
            f'webhook: Post "{b.hook.url("/slow")}?timeout=1s": context deadline exceeded'
        )
        hook.timeout_s = 30
        monkeypatch.setattr(dispatch, "REQUEST_S", 0.05)
        said = await b.create()
        assert (said.status, said.json["reason"]) == (504, "Timeout")
        # On a busy machine the whole write's time would be up before the webhook's.
        monkeypatch.undo()
        hook.ignore, hook.timeout_s = True, 0.01
        assert (await b.create()).status == 201


async def test_validating_webhooks_are_called_at_once() -> None:
    arrived = asyncio.Semaphore(0)
    both = asyncio.Event()

    async def meet(path: str, request: dict[str, Any]) -> Any:
        arrived.release()
        if path == "/two":
            both.set()
        await asyncio.wait_for(both.wait(), 5)
        return {"allowed": True, "warnings": [f"from {path}"]}

    async with bench(meet) as b:
        await b.register("validating", "one")
        await b.register("validating", "two")
        made = await b.create()
        assert made.status == 201
        assert "from /" in made.headers.get("Warning", "")


async def test_selectors_and_scope() -> None:
    async with bench() as b:
        await b.register("validating", "space", namespaceSelector={"matchLabels": {"hooked": "y"}})
        await b.register("validating", "object", objectSelector={"matchLabels": {"hooked": "y"}},
                         rules=maps("CREATE", "UPDATE"))  # fmt: skip
        cluster_wide = [{**WRITES[0], "resources": ["*"], "scope": "Cluster"}]
        await b.register("validating", "wide", rules=cluster_wide)
        await b.create("plain")
        assert b.paths == []
        labelled = {"metadata": {"name": "l", "labels": {"hooked": "y"}}}
        await b.cluster.http("POST", MAPS, labelled)
        assert b.paths == ["/object"]
        # What loses the label is still the webhook's business.
        patch = {"metadata": {"labels": {"hooked": None}}}
        await b.cluster.http("PATCH", f"{MAPS}/l", patch, content_type=MERGE)
        assert b.paths == ["/object"] * 2
        b.hook.calls.clear()
        space = {"metadata": {"name": "other", "labels": {"hooked": "y"}}}
        await b.cluster.http("POST", "/api/v1/namespaces", space)
        assert b.paths == ["/wide"]
        assert b.requests[0]["namespace"] == "other"
        await b.cluster.http("POST", "/api/v1/namespaces/other/configmaps",
                             {"metadata": {"name": "m"}})  # fmt: skip
        assert b.paths == ["/wide", "/space"]


async def test_equivalent_resources_are_converted() -> None:
    rules = [{"operations": ["CREATE"], "apiGroups": ["autoscaling"], "apiVersions": ["v1"],
              "resources": ["horizontalpodautoscalers"]}]  # fmt: skip

    def script(path: str, request: dict[str, Any]) -> dict[str, Any]:
        return patched({"op": "replace", "path": "/spec/targetCPUUtilizationPercentage",
                        "value": 70})  # fmt: skip

    async with bench(script) as b:
        await b.register("mutating", "equal", rules=rules)
        await b.register("mutating", "exact", rules=rules, matchPolicy="Exact")
        spec = {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "d"},
                "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target":
                             {"type": "Utilization", "averageUtilization": 50}}}]}  # fmt: skip
        path = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers"
        made = await b.cluster.http("POST", path, {"metadata": {"name": "h"}, "spec": spec})
        assert made.status == 201, made.message
        assert b.paths == ["/equal"]
        request = b.requests[0]
        assert request["kind"]["version"] == "v1"
        assert request["requestKind"]["version"] == "v2"
        assert request["object"]["spec"]["targetCPUUtilizationPercentage"] == 50
        metric = made.json["spec"]["metrics"][0]["resource"]
        assert metric["target"]["averageUtilization"] == 70


async def test_subresources_have_their_own_kinds() -> None:
    def rules(*resources: str) -> list[dict[str, Any]]:
        return [{**WRITES[0], "resources": list(resources)}]

    async with bench() as b:
        account = {"metadata": {"name": "default"}}
        await b.cluster.http("POST", f"{NS}/serviceaccounts", account)
        pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
        await b.cluster.http("POST", f"{NS}/pods", pod)
        deployment = {
            "metadata": {"name": "d"},
            "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {
                "metadata": {"labels": {"a": "b"}}, "spec": pod["spec"]}},
        }  # fmt: skip
        apps = "/apis/apps/v1/namespaces/default/deployments"
        assert (await b.cluster.http("POST", apps, deployment)).status == 201
        await b.register("validating", "parts", rules=rules("pods/eviction", "deployments/scale"))
        await b.cluster.http("PATCH", f"{NS}/pods/p", {"metadata": {"labels": {"a": "b"}}},
                             content_type=MERGE)  # fmt: skip
        assert b.paths == []
        eviction = {"metadata": {"name": "p"}}
        await b.cluster.http("POST", f"{NS}/pods/p/eviction", eviction)
        scale = {"spec": {"replicas": 4}}
        await b.cluster.http("PATCH", f"{apps}/d/scale", scale, content_type=MERGE)
        kinds = [(item["kind"]["kind"], item["subResource"]) for item in b.requests]
        assert ("Eviction", "eviction") in kinds
        assert kinds[-1] == ("Scale", "scale")
        assert b.requests[-1]["object"]["spec"] == {"replicas": 4}
        assert b.requests[-1]["object"]["apiVersion"] == "autoscaling/v1"
        b.hook.calls.clear()
        await b.cluster.http("POST", f"{NS}/pods", pod)
        await b.register("validating", "connect", rules=rules("pods/exec"))
        path = f"{NS}/pods/p/exec?command=ls&command=-l&stdin=true&container=c"
        await b.cluster.http("POST", path)
        request = next(item for item in b.requests if item["operation"] == "CONNECT")
        assert request["kind"]["kind"] == "PodExecOptions"
        assert request["object"] == {
            "kind": "PodExecOptions", "apiVersion": "v1", "command": ["ls", "-l"], "stdin": True,
            "container": "c",
        }  # fmt: skip
        assert (request["oldObject"], request["options"]) == (None, None)


async def test_status_is_not_a_webhooks_to_set_with_the_spec() -> None:
    def script(path: str, request: dict[str, Any]) -> dict[str, Any]:
        return patched({"op": "add", "path": "/status", "value": {"phase": "Terminating"}},
                       {"op": "add", "path": "/metadata/labels", "value": {"a": "b"}})  # fmt: skip

    async with bench(script) as b:
        rules = [{**WRITES[0], "operations": ["UPDATE"], "resources": ["namespaces"]}]
        await b.register("mutating", "eager", rules=rules)
        patch = {"metadata": {"annotations": {"x": "y"}}}
        said = await b.cluster.http("PATCH", NS, patch, content_type=MERGE)
        assert said.json["metadata"]["labels"]["a"] == "b"
        assert said.json["status"] == {"phase": "Active"}


async def test_dry_run_needs_webhooks_without_side_effects() -> None:
    async with bench() as b:
        await b.register("validating", "safe", sideEffects="NoneOnDryRun")
        assert (await b.create(query="?dryRun=All")).status == 201
        assert b.requests[0]["dryRun"] is True
        assert b.requests[0]["options"]["dryRun"] == ["All"]
        (hook,) = b.cluster.server.admission.hooks._hooks["validate"]
        # Only what is left of v1beta1 may still say so; v1 does not let it in.
        hook.dry = False
        said = await b.create(query="?dryRun=All")
        assert (said.status, said.message) == (
            400, 'admission webhook "safe.example.com" does not support dry run',
        )  # fmt: skip


async def test_configurations_are_never_intercepted() -> None:
    async with bench(lambda path, request: {"allowed": False}) as b:
        await b.register("validating", "all", rules=WRITES)
        assert (await b.create()).status == 400
        await b.register("mutating", "more", rules=WRITES)
        await b.unregister("validating", "all")
        await b.unregister("mutating", "more")
        assert (await b.create()).status == 201


async def test_v1beta1_reviews() -> None:
    async with bench() as b:
        await b.register("validating", "old", admissionReviewVersions=["v2", "v1beta1", "v1"])
        assert (await b.create()).status == 201
        assert b.hook.calls[0].json["apiVersion"] == "admission.k8s.io/v1beta1"


async def test_deletions_cannot_be_patched() -> None:
    async with bench(lambda path, request: patched(added("x", "y"))) as b:
        await b.create()
        await b.register("mutating", "eager", rules=maps("DELETE"))
        said = await b.cluster.http("DELETE", f"{MAPS}/m")
        assert said.status == 500
        assert "attempted to modify the object, which is not supported" in said.message


async def test_a_restart_does_not_wait_for_webhooks() -> None:
    async with bench(lambda path, request: {"allowed": False}) as b:
        await b.register("validating", "all", rules=WRITES)
        await b.cluster.http("DELETE", "/apis/scheduling.k8s.io/v1/priorityclasses/nope")
        store = b.cluster.store
        before = len(b.hook.calls)
        async with api_cluster(store=store) as again:
            assert len(b.hook.calls) == before
            assert (await again.http("POST", MAPS, {"metadata": {"name": "m"}})).status == 400


async def test_conditions_and_metrics() -> None:
    async with bench() as b:
        conditions = [
            {"name": "named", "expression": "object.metadata.name.startsWith('yes')"},
            {"name": "who", "expression": "request.userInfo.username == 'admin'"},
        ]
        await b.register("validating", "cond", matchConditions=conditions)
        await b.create("no")
        assert b.paths == []
        await b.create("yes-1")
        assert b.paths == ["/cond"]
        text = (await b.cluster.http("GET", "/metrics")).body.decode()
        labels = 'name="cond.example.com",type="validating",operation="CREATE"'
        assert (
            f'apiserver_admission_webhook_request_total{{{labels},code="200",rejected="false"}} 1'
            in text
        )
        assert (
            'apiserver_admission_match_condition_exclusions_total{name="cond.example.com",'
            'kind="webhook",type="validate",operation="CREATE"} 1' in text
        )


async def test_without_webhooks_they_are_not_in_the_chain() -> None:
    async with bench() as b:
        steps = b.cluster.server.admission._pick("", "configmaps", "", "CREATE")
        assert dispatch._validate not in dict(steps.validate)
        await b.register("validating", "one")
        steps = b.cluster.server.admission._pick("", "configmaps", "", "CREATE")
        assert dispatch._validate in dict(steps.validate)


async def test_a_namespace_is_selected_by_its_own_labels() -> None:
    async with bench() as b:
        rules = [{"operations": ["CREATE", "UPDATE", "DELETE"], "apiGroups": [""],
                  "apiVersions": ["v1"], "resources": ["namespaces"]}]  # fmt: skip
        selector = {"matchLabels": {"watched": "yes"}}
        await b.register("validating", "space", rules=rules, namespaceSelector=selector)
        spaces = "/api/v1/namespaces"
        await b.cluster.http("POST", spaces, {"metadata": {"name": "plain"}})
        assert b.paths == []
        # An update is judged by the labels it would set, a deletion by those there are.
        gain = {"metadata": {"labels": {"watched": "yes"}}}
        await b.cluster.http("PATCH", f"{spaces}/plain", gain, content_type=MERGE)
        await b.cluster.http("DELETE", f"{spaces}/plain")
        assert [item["operation"] for item in b.requests] == ["UPDATE", "DELETE"]
        assert b.requests[0]["namespace"] == "plain"


@pytest.mark.parametrize(("policy", "status"), [("Fail", 403), ("Ignore", 201)])
async def test_conditions_that_cannot_be_evaluated(policy: str, status: int) -> None:
    async with bench() as b:
        conditions = [{"name": "there", "expression": "object.data.nope == 'x'"}]
        await b.register("validating", "cond", matchConditions=conditions, failurePolicy=policy)
        said = await b.create(data={"a": "b"})
        assert said.status == status
        if status == 403:
            assert "expression 'object.data.nope == 'x'' resulted in error: no such key: nope" in (
                said.message
            )
        # Whatever is false decides, errors elsewhere notwithstanding.
        more = [*conditions, {"name": "no", "expression": "false"}]
        await b.register("validating", "two", matchConditions=more, failurePolicy=policy)
        await b.unregister("validating", "cond")
        assert (await b.create("other", data={"a": "b"})).status == 201
        assert b.paths == []
        text = (await b.cluster.http("GET", "/metrics")).body.decode()
        labels = 'name="cond.example.com",kind="webhook",type="validate",operation="CREATE"'
        counted = f"apiserver_admission_match_condition_evaluation_errors_total{{{labels}}} 1"
        assert counted in text


async def test_a_refusal_before_the_calls_leaves_none_of_them_begun() -> None:
    async with bench() as b:
        await b.register("validating", "first")
        conditions = [{"name": "there", "expression": "object.data.nope == 'x'"}]
        await b.register("validating", "second", matchConditions=conditions)
        assert (await b.create(data={"a": "b"})).status == 403
        assert b.paths == []


async def test_a_webhook_behind_a_service() -> None:
    async with bench(lambda path, request: {"allowed": path == "/in/here"}) as b:
        service = {"metadata": {"name": "hook"},
                   "spec": {"type": "ExternalName", "externalName": "localhost"}}  # fmt: skip
        await b.cluster.http("POST", f"{NS}/services", service)
        where = {"namespace": "default", "name": "hook", "port": b.hook.port}

        async def said(name: str, **config: Any) -> Answer:
            await b.register("validating", name, clientConfig=config)
            answer = await b.create(name)
            await b.unregister("validating", name)
            return answer

        good = {**where, "path": "/in/here"}
        assert (await said("a", service=good, caBundle=b.hook.bundle)).status == 201
        assert (await said("b", service=where, caBundle=b.hook.bundle)).status == 400
        unknown = await said("c", service=good)
        assert unknown.message.startswith(
            'Internal error occurred: failed calling webhook "c.example.com": failed to call '
            f'webhook: Post "https://hook.default.svc:{b.hook.port}/in/here?timeout=10s": tls: '
            "failed to verify certificate: x509: certificate signed by unknown authority"
        )
        missing = {**good, "name": "nobody"}
        assert 'service "nobody" not found' in (await said("d", service=missing)).message


async def test_refusals_and_what_is_let_through_are_counted() -> None:
    async with bench(lambda path, request: {"allowed": False, "status": {"code": 418}}) as b:
        await b.register("validating", "no")
        await b.create()
        await b.unregister("validating", "no")
        dead = {"url": "https://localhost:1/x"}
        await b.register("validating", "open", clientConfig=dead, failurePolicy="Ignore")
        assert (await b.create()).status == 201
        await b.unregister("validating", "open")
        await b.register("mutating", "shut", clientConfig=dead)
        assert (await b.create("other")).status == 500
        text = (await b.cluster.http("GET", "/metrics")).body.decode()
        for line in (
            'webhook_rejection_count{name="no.example.com",type="validating",operation="CREATE",'
            'error_type="no_error",rejection_code="418"} 1',
            'webhook_fail_open_count{name="open.example.com",type="validating"} 1',
            'webhook_rejection_count{name="shut.example.com",type="admit",operation="CREATE",'
            'error_type="calling_webhook_error",rejection_code="503"} 1',
            'webhook_admission_duration_seconds_count{name="no.example.com",type="validating",'
            'operation="CREATE",rejected="true"} 1',
        ):
            assert f"apiserver_admission_{line}" in text
        # What was waited for is not the server's own time.
        found = b.cluster.server.metrics.durations
        created = [
            item
            for (key, *_), item in found.items()
            if key[:1] + key[3:4] == ("POST", "configmaps")
        ]
        assert [item.own_s < 0 for item in created] == [True]


async def test_what_the_audit_log_hears(tmp_path: Path) -> None:
    def script(path: str, request: dict[str, Any]) -> dict[str, Any]:
        if path == "/note":
            return {"allowed": True, "auditAnnotations": {"why": "because"}}
        if "late" in request["object"]["data"]:
            return {"allowed": True}
        return patched(added("late", "1"))

    async with bench(script, folder=tmp_path, audit_log=tmp_path / "audit.log") as b:
        rules = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": "Request"}]}
        (tmp_path / "audit-policy.yaml").write_text(orjson.dumps(rules).decode())
        settings.load(b.cluster.server)
        await b.register("mutating", "change", reinvocationPolicy="IfNeeded")
        await b.register("mutating", "second")
        await b.register("validating", "note")
        dead = {"url": "https://localhost:1/x"}
        await b.register("validating", "open", clientConfig=dead, failurePolicy="Ignore")
        assert (await b.create(data={"own": "x"})).status == 201
    lines = [orjson.loads(line) for line in (tmp_path / "audit.log").read_bytes().splitlines()]
    (event,) = [item for item in lines if item["objectRef"].get("resource") == "configmaps"
                and item["stage"] == "ResponseComplete"]  # fmt: skip
    notes = event["annotations"]
    assert notes["note.example.com/why"] == "because"
    changed = "mutation.webhook.admission.k8s.io/round_0_index"
    assert orjson.loads(notes[f"{changed}_0"]) == {
        "configuration": "change", "webhook": "change.example.com", "mutated": True,
    }  # fmt: skip
    assert orjson.loads(notes[f"{changed}_1"])["mutated"] is False
    patch = orjson.loads(notes["patch.webhook.admission.k8s.io/round_0_index_0"])
    assert patch["patch"] == [added("late", "1")]
    assert patch["patchType"] == "JSONPatch"
    opened = "failed-open.validating.webhook.admission.k8s.io/round_0_index_1"
    assert notes[opened] == "open.example.com"


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({}, "operation must be `Apply` or `Update`"),
        ({"operation": "Update"}, "apiVersion must not be empty"),
        ({"operation": "Apply", "apiVersion": "v1"}, "missing fieldsType in managed fields entry"),
        ({"operation": "Update", "apiVersion": "v1", "fieldsType": "V2"}, 'invalid fieldsType'),
        ({"operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
          "fieldsV1": {"junk": {}}}, "error decoding versioned set"),
    ],
)  # fmt: skip
async def test_owners_that_make_no_sense_are_not_taken(entry: dict[str, Any], why: str) -> None:
    def script(path: str, request: dict[str, Any]) -> dict[str, Any]:
        patch = {"op": "add", "path": "/metadata/managedFields", "value": [entry]}
        return patched(patch) if request["operation"] == "CREATE" else {"allowed": True}

    async with bench(script) as b:
        await b.register("mutating", "lie")
        made = await b.create(data={"a": "1"})
        assert made.status == 201, made.message
        assert (
            ".metadata.managedFields was in an invalid state after admission"
            in (made.headers["Warning"])
        )
        assert why in made.headers["Warning"]
        (owner,) = made.json["metadata"]["managedFields"]
        assert owner["fieldsV1"] == {"f:data": {".": {}, "f:a": {}}}
        changed = {**made.json, "data": {"a": "2"}}
        answer = await b.cluster.http("PUT", f"{MAPS}/m", changed)
        assert answer.status == 200, answer.message
