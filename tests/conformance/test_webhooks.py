"""Admission webhooks (as upstream's test/e2e/apimachinery/webhook.go). The webhook server runs
beside the tests, and is reached by a service, as upstream's."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import orjson
import pytest

from tests.kit.definitions import DEFINITIONS, WIDGETS, definition, version, widget
from tests.kit.hooks import Call, HookServer, Reply, hook_server

from .bench import CORE, MAPS, NS, PODS, Bench, Obj, config, discovered, pod

GROUP = "admissionregistration.k8s.io"
MUTATING = f"/apis/{GROUP}/v1/mutatingwebhookconfigurations"
VALIDATING = f"/apis/{GROUP}/v1/validatingwebhookconfigurations"
BOTH = pytest.mark.parametrize("path", [MUTATING, VALIDATING], ids=["mutating", "validating"])
NONE: Obj = {"name": "e2e"}
Script = Callable[[Obj], Any]


def rule(resource: str, *operations: str, group: str = "") -> Obj:
    return {"operations": list(operations or ("CREATE",)), "apiGroups": [group],
            "apiVersions": ["*"], "resources": [resource]}  # fmt: skip


class Hooks:
    """A server of webhooks: each path answers by its own script."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.scripts: dict[str, Script] = {}
        self.server: HookServer

    async def answer(self, call: Call) -> Reply:
        review = call.json
        request = review["request"]
        response = self.scripts[call.target.partition("?")[0]](request)
        if isinstance(response, Awaitable):
            response = await response
        review["response"] = {"uid": request["uid"], **response}
        return Reply({key: review[key] for key in ("kind", "apiVersion", "response")})

    def webhook(self, name: str, script: Script, *rules: Obj, **fields: Any) -> Obj:
        self.scripts[f"/{name}"] = script
        service = {"namespace": "default", "name": "hook", "port": self.server.port}
        return {
            "name": f"{name}.k8s.io",
            "clientConfig": {
                "service": {**service, "path": f"/{name}"}, "caBundle": self.server.bundle,
            },
            "rules": list(rules or (rule("configmaps"),)),
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            **fields,
        }  # fmt: skip

    async def register(
        self, path: str, *webhooks: Obj, name: str = "e2e", labels: Obj | None = None
    ) -> Any:
        metadata = {"name": name, "labels": labels or {}}
        return await self.bench.create(path, {"metadata": metadata, "webhooks": list(webhooks)})


@pytest.fixture
async def hooks(bench: Bench) -> AsyncIterator[Hooks]:
    made = Hooks(bench)
    async with hook_server(made.answer) as made.server:
        service = {"metadata": {"name": "hook"},
                   "spec": {"type": "ExternalName", "externalName": "localhost"}}  # fmt: skip
        await bench.create(f"{NS}/services", service)
        yield made


def deny(request: Obj) -> Obj:
    message = "the object contains unwanted configuration data"
    return {"allowed": False, "status": {"message": message}}


def adds(*operations: Obj) -> Script:
    text = base64.b64encode(orjson.dumps(operations)).decode()
    return lambda request: {"allowed": True, "patchType": "JSONPatch", "patch": text}


def set_data(key: str) -> Obj:
    return {"op": "add", "path": f"/data/{key}", "value": "yes"}


def script_of(path: str) -> Script:
    """What the tests of either kind do to a config map: change it, or refuse it."""
    return adds(set_data("mutated")) if path == MUTATING else deny


async def takes_effect(bench: Bench, path: str, name: str) -> bool:
    """Whether creating a config map is changed, or refused."""
    answer = await bench.http("POST", MAPS, config(name, a="b"))
    if path == VALIDATING:
        assert answer.status in (201, 400, 403), answer.message
        return answer.status != 201
    assert answer.status == 201, answer.message
    return bool(answer.json["data"].get("mutated") == "yes")


async def test_they_are_in_the_discovery_documents(bench: Bench) -> None:
    names = ("mutatingwebhookconfigurations", "validatingwebhookconfigurations")
    await discovered(bench, GROUP, "v1", *names)


async def test_pods_and_config_maps_are_denied(hooks: Hooks) -> None:
    bench = hooks.bench

    async def check_pod(request: Obj) -> Obj:
        if request["object"]["metadata"]["name"] == "hanging":
            await asyncio.Event().wait()
        bad = "unwanted" in orjson.dumps(request["object"]["metadata"]).decode()
        return deny(request) if bad else {"allowed": True}

    def check_map(request: Obj) -> Obj:
        value = (request["object"].get("data") or {}).get("webhook-e2e-test")
        return deny(request) if value == "webhook-disallow" else {"allowed": True}

    skip = {"matchExpressions": [{"key": "skip-webhook-admission", "operator": "NotIn",
                                  "values": ["yes"]}]}  # fmt: skip
    await hooks.register(
        VALIDATING,
        hooks.webhook("pods", check_pod, rule("pods"), timeoutSeconds=1, namespaceSelector=skip),
        hooks.webhook(
            "maps", check_map, rule("configmaps", "CREATE", "UPDATE"), namespaceSelector=skip
        ),
    )
    words = 'admission webhook "pods.k8s.io" denied the request: the object contains unwanted'
    answer = await bench.refused(400, "POST", PODS, pod("p", {"unwanted": "yes"}))
    assert words in answer.message
    answer = await bench.refused(500, "POST", PODS, pod("hanging"))
    assert "context deadline exceeded" in answer.message
    bad = {"webhook-e2e-test": "webhook-disallow"}
    answer = await bench.refused(400, "POST", MAPS, config("bad", **bad))
    assert 'admission webhook "maps.k8s.io" denied the request' in answer.message
    good = await bench.create(MAPS, config("good", admit="this"))
    await bench.refused(400, "PUT", f"{MAPS}/good", {**good, "data": bad})
    answer = await bench.http(
        "PATCH", f"{MAPS}/good", {"data": bad}, content_type="application/merge-patch+json"
    )
    assert answer.status == 400
    free = {"metadata": {"name": "free", "labels": {"skip-webhook-admission": "yes"}}}
    await bench.create(f"{CORE}/namespaces", free)
    await bench.create(f"{CORE}/namespaces/free/configmaps", config("bad", **bad))


async def test_attaching_is_denied(hooks: Hooks) -> None:
    bench = hooks.bench
    await bench.create(PODS, pod("to-be-attached-pod"))
    await bench.state(
        f"{PODS}/to-be-attached-pod", lambda obj: obj["status"].get("phase") == "Running"
    )
    text = "attaching to pod 'to-be-attached-pod' is not allowed"
    said = {"allowed": False, "status": {"message": text}}
    seen: list[Obj] = []

    def refuse(request: Obj) -> Obj:
        seen.append(request)
        return said

    await hooks.register(
        VALIDATING, hooks.webhook("attach", refuse, rule("pods/attach", "CONNECT"))
    )
    path = f"{PODS}/to-be-attached-pod/attach?stdin=true&stdout=true&container=c"
    answer = await bench.refused(400, "POST", path, None)
    assert text in answer.message
    assert [(item["operation"], item["subResource"]) for item in seen] == [("CONNECT", "attach")]


async def test_custom_resources_are_denied(hooks: Hooks) -> None:
    bench = hooks.bench
    await bench.create(DEFINITIONS, definition())

    def check(request: Obj) -> Obj:
        obj = request["object"] or request["oldObject"]
        bad = obj["spec"].get("webhook-e2e-test") in ("webhook-disallow", "webhook-nondeletable")
        return deny(request) if bad else {"allowed": True}

    operations = ("CREATE", "UPDATE", "DELETE")
    webhook = hooks.webhook("custom", check, rule("widgets", *operations, group="example.com"))
    await bench.create(WIDGETS, widget("kept", **{"webhook-e2e-test": "webhook-nondeletable"}))
    await hooks.register(VALIDATING, webhook)
    bad = {"webhook-e2e-test": "webhook-disallow"}
    await bench.refused(400, "POST", WIDGETS, widget("bad", **bad))
    made = await bench.create(WIDGETS, widget("good"))
    await bench.refused(400, "PUT", f"{WIDGETS}/good", {**made, "spec": bad})
    await bench.refused(400, "DELETE", f"{WIDGETS}/kept", None)
    free = {"spec": {"webhook-e2e-test": "webhook-delete-allowed"}}
    hooks.scripts["/custom"] = lambda request: (
        check(request) if request["operation"] == "DELETE" else {"allowed": True}
    )
    await bench.patch(f"{WIDGETS}/kept", free)
    await bench.delete(f"{WIDGETS}/kept")


async def test_what_cannot_be_called_is_closed(hooks: Hooks) -> None:
    bench = hooks.bench
    webhook = hooks.webhook("closed", lambda request: {"allowed": True}, failurePolicy="Fail")
    del webhook["clientConfig"]["caBundle"]
    await hooks.register(VALIDATING, webhook)
    answer = await bench.refused(500, "POST", MAPS, config())
    assert 'failed calling webhook "closed.k8s.io"' in answer.message


async def test_config_maps_are_mutated_in_order(hooks: Hooks) -> None:
    def stage(after: str, key: str) -> Script:
        def script(request: Obj) -> Any:
            has = request["object"]["data"].get(after) == "yes"
            return adds(set_data(key))(request) if has else {"allowed": True}

        return script

    first = hooks.webhook("stage-1", stage("mutation-start", "mutation-stage-1"))
    second = hooks.webhook("stage-2", stage("mutation-stage-1", "mutation-stage-2"))
    await hooks.register(MUTATING, first, second)
    made = await hooks.bench.create(MAPS, config(**{"mutation-start": "yes"}))
    assert made["data"] == {
        "mutation-start": "yes", "mutation-stage-1": "yes", "mutation-stage-2": "yes",
    }  # fmt: skip


async def test_mutated_pods_are_defaulted(hooks: Hooks) -> None:
    container = {"name": "webhook-added-init-container", "image": "webhook-added-image"}
    operation = {"op": "add", "path": "/spec/initContainers", "value": [container]}
    await hooks.register(MUTATING, hooks.webhook("pods", adds(operation), rule("pods")))
    made = await hooks.bench.create(PODS, pod("p"))
    (added,) = made["spec"]["initContainers"]
    assert added["name"] == "webhook-added-init-container"
    assert added["terminationMessagePolicy"] == "File"


async def test_configurations_are_no_webhooks_business(hooks: Hooks) -> None:
    bench = hooks.bench
    kinds = ("mutatingwebhookconfigurations", "validatingwebhookconfigurations")
    rules = [rule(kind, "*", group=GROUP) for kind in kinds]
    label = {"op": "add", "path": "/metadata/labels", "value": {"mutated": "yes"}}
    await hooks.register(VALIDATING, hooks.webhook("deny", deny, *rules), name="deny")
    await hooks.register(MUTATING, hooks.webhook("change", adds(label), *rules), name="change")
    for path in (MUTATING, VALIDATING):
        made = await hooks.register(path, hooks.webhook("other", deny), name="dummy")
        assert "mutated" not in made["metadata"].get("labels", {})
        await bench.delete(f"{path}/dummy")
    assert hooks.server.calls == []


def add_stages(request: Obj) -> Any:
    """Upstream's webhook for custom resources adds two keys of data, one after the other."""
    return adds(set_data("mutation-stage-1"), set_data("mutation-stage-2"))(request)


KEYS = {
    "type": "object",
    "properties": {
        "mutation-start": {"type": "string"},
        "mutation-stage-1": {"type": "string"},
    },
}


def of_data(data: Obj, **changes: Any) -> Obj:
    return version(schema={"openAPIV3Schema": {"type": "object", "properties": {"data": data}}},
                   **changes)  # fmt: skip


FREE = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


async def mutated(hooks: Hooks, data: Obj) -> Obj:
    await hooks.bench.create(DEFINITIONS, definition(of_data(data)))
    await hooks.register(
        MUTATING, hooks.webhook("custom", add_stages, rule("widgets", group="example.com"))
    )
    body = {**widget(), "data": {"mutation-start": "yes"}}
    made: Obj = await hooks.bench.create(WIDGETS, body)
    return made


async def test_custom_resources_are_mutated(hooks: Hooks) -> None:
    made = await mutated(hooks, FREE)
    assert made["data"] == {
        "mutation-start": "yes", "mutation-stage-1": "yes", "mutation-stage-2": "yes",
    }  # fmt: skip


async def test_mutated_custom_resources_are_pruned(hooks: Hooks) -> None:
    made = await mutated(hooks, KEYS)
    assert made["data"] == {"mutation-start": "yes", "mutation-stage-1": "yes"}


async def test_custom_resources_are_mutated_after_their_storage_version_changed(
    hooks: Hooks,
) -> None:
    bench = hooks.bench
    body = definition(of_data(FREE), of_data(FREE, name="v2", storage=False))
    await bench.create(DEFINITIONS, body)
    operations = ("CREATE", "UPDATE")
    webhook = hooks.webhook(
        "custom", adds({"op": "add", "path": "/data/mutation-stage-1", "value": "yes"}),
        rule("widgets", *operations, group="example.com"),
    )  # fmt: skip
    await hooks.register(MUTATING, webhook)
    await bench.create(WIDGETS, {**widget(), "data": {"mutation-start": "yes"}})
    name = f"{DEFINITIONS}/widgets.example.com"
    found = await bench.get(name)
    for item in found["spec"]["versions"]:
        item["storage"] = item["name"] == "v2"
    await bench.put(name, found)
    path = WIDGETS.replace("/v1/", "/v2/")
    patched = await bench.patch(f"{path}/a", {"data": {"dummy": "test"}})
    assert patched["apiVersion"] == "example.com/v2"
    assert patched["data"] == {
        "mutation-start": "yes", "mutation-stage-1": "yes", "dummy": "test",
    }  # fmt: skip


async def test_definitions_are_denied(hooks: Hooks) -> None:
    bench = hooks.bench
    kinds = rule("customresourcedefinitions", group="apiextensions.k8s.io")
    chosen = {"matchLabels": {"webhook-e2e-test": "webhook-disallow"}}
    await hooks.register(VALIDATING, hooks.webhook("crd", deny, kinds, objectSelector=chosen))
    bad = definition()
    bad["metadata"]["labels"] = {"webhook-e2e-test": "webhook-disallow"}
    answer = await bench.refused(400, "POST", DEFINITIONS, bad)
    assert 'admission webhook "crd.k8s.io" denied the request' in answer.message
    await bench.create(DEFINITIONS, definition())


async def test_time_outs_are_kept(hooks: Hooks) -> None:
    """The webhook takes 1.2 s, where upstream's takes 5."""
    bench = hooks.bench

    async def slow(request: Obj) -> Obj:
        async with asyncio.timeout(10):
            await asyncio.sleep(1.2)
        return {"allowed": True}

    async def try_it(timeout_s: int | None, policy: str) -> Any:
        """One configuration of its own, for config maps of its own."""
        name = f"slow-{timeout_s}-{policy}".lower()
        chosen = {"matchLabels": {"case": name}}
        fields = {} if timeout_s is None else {"timeoutSeconds": timeout_s}
        webhook = hooks.webhook(name, slow, objectSelector=chosen, failurePolicy=policy, **fields)
        await hooks.register(VALIDATING, webhook, name=name)
        return await bench.http("POST", MAPS, config(name, {"case": name}))

    # All at once: nothing is said of one by the others.
    short, ignored, long, default = await asyncio.gather(
        try_it(1, "Fail"), try_it(1, "Ignore"), try_it(10, "Fail"), try_it(None, "Fail")
    )
    assert short.status == 500
    assert "context deadline exceeded" in short.message
    assert [item.status for item in (ignored, long, default)] == [201] * 3


@BOTH
async def test_operations_may_be_changed(hooks: Hooks, path: str) -> None:
    """By an update and by a patch."""
    bench = hooks.bench
    made = await hooks.register(path, hooks.webhook("maps", script_of(path)))
    assert await takes_effect(bench, path, "one")
    made["webhooks"][0]["rules"][0]["operations"] = ["UPDATE"]
    await bench.put(f"{path}/e2e", made)
    assert not await takes_effect(bench, path, "two")
    patch = [{"op": "replace", "path": "/webhooks/0/rules/0/operations", "value": ["CREATE"]}]
    await bench.patch(f"{path}/e2e", patch, "application/json-patch+json")
    assert await takes_effect(bench, path, "three")


@BOTH
async def test_many_are_listed_and_deleted(hooks: Hooks, path: str) -> None:
    bench = hooks.bench
    labels = {"e2e-list-test-uuid": "x"}
    for number in range(10):
        webhook = hooks.webhook(f"maps-{number}", script_of(path))
        await hooks.register(path, webhook, name=f"e2e-{number}", labels=labels)
    chosen = f"{path}?labelSelector=e2e-list-test-uuid%3Dx"
    assert len(await bench.names(chosen)) == 10
    assert await takes_effect(bench, path, "one")
    await bench.delete(chosen)
    assert await bench.names(chosen) == []
    assert not await takes_effect(bench, path, "two")


@BOTH
async def test_match_conditions_are_kept(hooks: Hooks, path: str) -> None:
    bench = hooks.bench
    conditions = [{"name": "expression-1", "expression": "object.metadata.namespace == 'x'"}]
    webhook = hooks.webhook("maps", script_of(path), matchConditions=conditions)
    await hooks.register(path, webhook)
    found = await bench.get(f"{path}/e2e")
    assert found["webhooks"][0]["matchConditions"] == conditions
    more = [{"name": "expression-1", "expression": "object.metadata.namespace == 'y'"},
            {"name": "expression-2", "expression": "object.metadata.name == 'm'"}]  # fmt: skip
    found["webhooks"][0]["matchConditions"] = more
    await bench.put(f"{path}/e2e", found)
    assert (await bench.get(f"{path}/e2e"))["webhooks"][0]["matchConditions"] == more


@BOTH
async def test_match_conditions_that_do_not_compile_are_refused(hooks: Hooks, path: str) -> None:
    conditions = [{"name": "invalid-expression-1", "expression": "... [] bad expression"}]
    webhook = hooks.webhook("maps", script_of(path), matchConditions=conditions)
    answer = await hooks.bench.refused(422, "POST", path, {"metadata": NONE, "webhooks": [webhook]})
    assert "compilation failed" in answer.message


async def test_all_but_one_name_is_mutated(hooks: Hooks) -> None:
    bench = hooks.bench
    conditions = [{"name": "skip-me", "expression": "object.metadata.name != 'skip-me'"}]
    webhook = hooks.webhook("maps", script_of(MUTATING), matchConditions=conditions)
    await hooks.register(MUTATING, webhook)
    assert not await takes_effect(bench, MUTATING, "skip-me")
    assert await takes_effect(bench, MUTATING, "mutate-me")
