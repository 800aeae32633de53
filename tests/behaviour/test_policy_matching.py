"""Which writes a policy is about and with which parameters; policies and webhooks that see each
other's changes; what the audit log hears."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

from sampan.server import turns
from sampan.server.admission.policies import validating
from tests.behaviour.test_audit import EVERYTHING, audited, written
from tests.behaviour.test_policies import MAPS, RULE, binding, config_map, mutating, policy, put
from tests.behaviour.test_webhooks import bench, patched
from tests.kit.cluster import Cluster, api_cluster
from tests.kit.definitions import DEFINITIONS, WIDGETS, definition, version, widget

KIND = {"apiVersion": "v1", "kind": "ConfigMap"}
MERGE = "application/merge-patch+json"
V2 = WIDGETS.replace("/v1/", "/v2/")


def labelled(name: str, most: str, **labels: str) -> dict[str, Any]:
    body = config_map(name, most=most)
    body["metadata"]["labels"] = labels
    return body


async def test_a_selector_gives_every_parameter_it_picks() -> None:
    async with api_cluster() as cluster:
        for name, most in (("loose", "3"), ("tight", "1")):
            await cluster.http("POST", MAPS, labelled(name, most, limits="yes"))
        await cluster.http("POST", MAPS, labelled("other", "0", limits="no"))
        test = {"expression": "size(object.data) <= int(params.data.most)",
                "messageExpression": "'at most ' + params.data.most"}  # fmt: skip
        selector = {"matchLabels": {"limits": "yes"}}
        await put(
            cluster,
            policy(paramKind=KIND, validations=[test]),
            binding(paramRef={"selector": selector, "parameterNotFoundAction": "Deny"}),
        )
        # No namespace: parameters come from the object's own.
        answer = await cluster.http("POST", MAPS, config_map(a="1", b="2"))
        assert answer.message.endswith("denied request: at most 1")
        assert (await cluster.http("POST", MAPS, config_map("one", a="1"))).status == 201
        await cluster.http("POST", "/api/v1/namespaces", {"metadata": {"name": "bare"}})
        there = "/api/v1/namespaces/bare/configmaps"
        assert (await cluster.http("POST", there, config_map())).message.endswith(
            "failed to configure binding: no params found for policy binding with `Deny`"
            " parameterNotFoundAction"
        )


@pytest.mark.parametrize("pick", [{"name": "w"}, {"selector": {"matchLabels": {"limits": "yes"}}}])
async def test_parameters_are_seen_in_the_version_that_is_named(pick: dict[str, Any]) -> None:
    """They are stored in another."""
    async with api_cluster() as cluster:
        versions = version("v1"), version("v2", storage=False)
        await cluster.http("POST", DEFINITIONS, definition(*versions))
        body = widget("w")
        body["metadata"]["labels"] = {"limits": "yes"}
        assert (await cluster.http("POST", WIDGETS, body)).status == 201
        kind = {"apiVersion": "example.com/v2", "kind": "Widget"}
        test = {"expression": "false", "messageExpression": "string(params.apiVersion)"}
        reference = {**pick, "namespace": "default", "parameterNotFoundAction": "Deny"}
        await put(cluster, policy(paramKind=kind, validations=[test]), binding(paramRef=reference))
        answer = await cluster.http("POST", MAPS, config_map(a="1"))
        assert answer.message.endswith("denied request: example.com/v2"), answer.message


@pytest.mark.parametrize(("action", "status"), [("Allow", 201), ("Deny", 422)])
async def test_parameters_that_are_not_there(action: str, status: int) -> None:
    async with api_cluster() as cluster:
        reference = {"name": "no", "namespace": "default", "parameterNotFoundAction": action}
        await put(
            cluster,
            policy(paramKind=KIND, validations=[{"expression": "false"}]),
            binding(paramRef=reference),
        )
        assert (await cluster.http("POST", MAPS, config_map())).status == status


async def test_bindings_and_kinds_that_do_not_fit() -> None:
    async with api_cluster() as cluster:
        rule = {**RULE, "resources": ["namespaces"], "operations": ["CREATE"]}
        reference = {"name": "x", "parameterNotFoundAction": "Allow"}
        await put(
            cluster,
            policy(matchConstraints={"resourceRules": [rule]}, paramKind=KIND,
                   validations=[{"expression": "true"}]),
            binding(paramRef=reference),
            policy("unknown", paramKind={"apiVersion": "example.com/v1", "kind": "Widget"},
                   validations=[{"expression": "true"}]),
            binding("u", "unknown", paramRef=reference),
        )  # fmt: skip
        answer = await cluster.http("POST", "/api/v1/namespaces", {"metadata": {"name": "n"}})
        assert answer.message.endswith(
            "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
        )
        answer = await cluster.http("POST", MAPS, config_map())
        assert answer.message.endswith(
            "failed to find resource referenced by paramKind: 'example.com/v1, Kind=Widget'"
        )
        # A definition that comes is a kind from then on.
        await cluster.http("POST", DEFINITIONS, definition())
        assert (await cluster.http("POST", MAPS, config_map())).status == 201


async def two_versions(cluster: Cluster) -> None:
    body = definition(version("v1"), version("v2", storage=False))
    assert (await cluster.http("POST", DEFINITIONS, body)).status == 201


@pytest.mark.parametrize(("match", "status"), [("Equivalent", 422), ("Exact", 201)])
async def test_requests_in_other_versions(match: str, status: int) -> None:
    async with api_cluster() as cluster:
        await two_versions(cluster)
        rule = {**RULE, "apiGroups": ["example.com"], "resources": ["widgets"]}
        where = {"resourceRules": [rule], "matchPolicy": match}
        seen = "object.apiVersion + ' ' + request.kind.version + ' ' + request.requestKind.version"
        test = {"expression": "object.spec.size < 3", "messageExpression": seen}
        await put(cluster, policy(matchConstraints=where, validations=[test]), binding())
        answer = await cluster.http("POST", V2, widget("a", "example.com/v2", size=5))
        assert answer.status == status, answer.message
        if status == 422:
            assert answer.message.endswith("denied request: example.com/v1 v1 v2")
        own = await cluster.http("POST", WIDGETS, widget("b", size=5))
        assert own.message.endswith("denied request: example.com/v1 v1 v1")


async def test_mutations_of_equivalent_versions_are_converted_back() -> None:
    async with api_cluster() as cluster:
        await two_versions(cluster)
        rule = {**RULE, "apiGroups": ["example.com"], "resources": ["widgets"]}
        apply = "Object{spec: Object.spec{seen: object.apiVersion}}"
        mutation = {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": apply}}
        match = {"resourceRules": [rule], "matchPolicy": "Equivalent"}
        await put(
            cluster, *mutating(matchConstraints=match, mutations=[mutation]), prefix="mutating"
        )
        answer = await cluster.http("POST", V2, widget("a", "example.com/v2", size=5))
        assert answer.status == 201, answer.message
        assert answer.json["apiVersion"] == "example.com/v2"
        assert answer.json["spec"] == {"size": 5, "seen": "example.com/v1"}


def noting(name: str, test: str, mark: str, again: str) -> list[dict[str, Any]]:
    """A mutating policy that adds data.MARK where `test` holds and it is not there."""
    apply = f"Object{{data: {{'{mark}': string(size(object.data))}}}}"
    return mutating(
        name,
        reinvocationPolicy=again,
        matchConditions=[
            {"name": "t", "expression": f"{test} && !('{mark}' in object.data)"}
        ],
        mutations=[
            {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": apply}}
        ],
    )  # fmt: skip


@pytest.mark.parametrize(("again", "seen"), [("IfNeeded", True), ("Never", False)])
async def test_a_policy_sees_what_a_webhook_did(again: str, seen: bool) -> None:
    def script(path: str, request: dict[str, Any]) -> dict[str, Any]:
        if "hooked" in request["object"]["data"]:
            return {"allowed": True}
        return patched({"op": "add", "path": "/data/hooked", "value": "1"})

    async with bench(script) as b:
        # A policy is asked again only if it had been asked the first time.
        always = noting("early", "true", "early", again)
        late = "'hooked' in object.data"
        conditional = (
            f"{late} ? Object{{data: {{'late': 'yes'}}}} : Object{{data: {{'first': 'yes'}}}}"
        )
        mutation = {"patchType": "ApplyConfiguration",
                    "applyConfiguration": {"expression": conditional}}  # fmt: skip
        other = mutating("late", reinvocationPolicy=again, mutations=[mutation])
        await put(b.cluster, *always, *other, prefix="mutating")
        await b.register("mutating", "hook")
        made = await b.create(data={"own": "x"})
        assert made.status == 201, made.message
        wanted = {"own": "x", "early": "1", "first": "yes", "hooked": "1"}
        assert made.json["data"] == wanted | ({"late": "yes"} if seen else {})


async def test_a_webhook_sees_what_a_reinvoked_policy_did() -> None:
    def script(path: str, request: dict[str, Any]) -> dict[str, Any]:
        data = request["object"]["data"]
        if "hooked" not in data:
            return patched({"op": "add", "path": "/data/hooked", "value": "1"})
        if "late" in data and "seen" not in data:
            return patched({"op": "add", "path": "/data/seen", "value": "1"})
        return {"allowed": True}

    async with bench(script) as b:
        expression = (
            "'hooked' in object.data ? Object{data: {'late': '1'}} : Object{data: {'first': '1'}}"
        )
        mutation = {"patchType": "ApplyConfiguration",
                    "applyConfiguration": {"expression": expression}}  # fmt: skip
        again = mutating("p", reinvocationPolicy="IfNeeded", mutations=[mutation])
        await put(b.cluster, *again, prefix="mutating")
        await b.register("mutating", "hook", reinvocationPolicy="IfNeeded")
        made = await b.create(data={"own": "x"})
        assert made.json["data"] == {
            "own": "x", "first": "1", "hooked": "1", "late": "1", "seen": "1",
        }  # fmt: skip
        assert b.paths == ["/hook", "/hook"]


async def test_what_the_audit_log_hears(tmp_path: Path) -> None:
    async with audited(tmp_path, EVERYTHING, omitStages=["RequestReceived"]) as cluster:
        notes = [
            {"key": "size", "valueExpression": "'size ' + string(size(object.data))"},
            {"key": "none", "valueExpression": "null"},
        ]
        refusing = {"expression": "!('bad' in object.data)", "message": "no bad"}
        await put(
            cluster,
            policy(auditAnnotations=notes, validations=[refusing]),
            binding(validationActions=["Audit", "Warn"]),
        )
        answer = await cluster.http("POST", MAPS, config_map(bad="1"))
        assert answer.status == 201
        assert "no bad" in answer.headers["Warning"]
    event = next(
        item for item in written(tmp_path) if item["objectRef"]["resource"] == "configmaps"
    )
    annotations = event["annotations"]
    assert annotations["p/size"] == "size 1"
    assert "p/none" not in annotations
    (failure,) = orjson.loads(annotations["validation.policy.admission.k8s.io/validation_failure"])
    assert failure == {
        "message": "no bad", "policy": "p", "binding": "b", "expressionIndex": 0,
        "validationActions": ["Audit", "Warn"],
    }  # fmt: skip


async def test_a_policy_goes_with_its_binding() -> None:
    async with api_cluster() as cluster:
        await put(cluster, policy(validations=[{"expression": "false"}]))
        assert (await cluster.http("POST", MAPS, config_map("a"))).status == 201
        await put(cluster, binding())
        assert (await cluster.http("POST", MAPS, config_map("b"))).status == 422
        path = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/b"
        only = {"spec": {"matchResources": {"namespaceSelector": {"matchLabels": {"x": "y"}}}}}
        assert (await cluster.http("PATCH", path, only, content_type=MERGE)).status == 200
        assert (await cluster.http("POST", MAPS, config_map("b"))).status == 201
        await cluster.http("DELETE", path)
        assert (await cluster.http("POST", MAPS, config_map("c"))).status == 201


async def test_every_verb_of_other_versions_is_seen_in_the_rules_version() -> None:
    def script(path: str, request: dict[str, Any]) -> dict[str, Any]:
        return {"allowed": True}

    async with bench(script) as b:
        await two_versions(b.cluster)
        rules = [{**RULE, "apiGroups": ["example.com"], "resources": ["widgets"],
                  "operations": ["*"]}]  # fmt: skip
        await b.register("validating", "seen", rules=rules)
        http = b.cluster.http
        assert (await http("POST", V2, widget("a", "example.com/v2", size=1))).status == 201
        patch = {"spec": {"size": 2}}
        assert (await http("PATCH", f"{V2}/a", patch, content_type=MERGE)).status == 200
        apply = {**widget("a", "example.com/v2"), "spec": {"more": 3}}
        query = "?fieldManager=me&force=true"
        kind = "application/apply-patch+yaml"
        assert (await http("PATCH", f"{V2}/a{query}", apply, content_type=kind)).status == 200
        assert (await http("DELETE", f"{V2}/a")).status == 200
        assert [item["operation"] for item in b.requests] == [
            "CREATE", "UPDATE", "UPDATE", "DELETE",
        ]  # fmt: skip
        for request in b.requests:
            assert request["kind"]["version"] == "v1"
            assert request["requestKind"]["version"] == "v2"
            for name in ("object", "oldObject"):
                if request[name] is not None:
                    assert request[name]["apiVersion"] == "example.com/v1"
        assert b.requests[3]["oldObject"]["spec"] == {"size": 2, "more": 3}


async def turns_of(cluster: Cluster, name: str, **data: str) -> int:
    """How many turns the loop takes while a config map is created."""
    task = asyncio.create_task(cluster.http("POST", MAPS, config_map(name, **data)))
    turns = 0
    while not task.done():
        turns += 1
        await asyncio.sleep(0)
    assert (await task).status == 201
    return turns


async def test_costly_policies_let_others_have_their_turns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with api_cluster() as cluster:
        for number in range(20):
            name, test = f"p{number}", {"expression": f"size(object.data) < {number + 2}"}
            await put(cluster, policy(name, validations=[test]), binding(name, name))
        await turns_of(cluster, "warm", a="1")
        quick = await turns_of(cluster, "a", a="1")
        monkeypatch.setattr(validating, "LONG_S", 0.0)
        assert await turns_of(cluster, "b", a="1") - quick >= 20


# Some 360,000 of the 1,000,000 that one expression may cost, and as much time as the loop must not
# be kept.
LONG = "object.data.all(x, object.data.all(y, size(x) + size(y) > 0))"
MANY = {f"k{number}": "" for number in range(200)}
QUICK = "authorizer.group('').resource('configmaps').check('create').allowed()"


async def test_expressions_that_take_long_do_so_in_a_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever evaluates expressions does; what is cheap, or costs only by upstream's count, stays
    in the loop, and either way the outcome is the same."""
    aside: list[str] = []

    async def spy(work: Any, *arguments: Any) -> Any:
        aside.append(work.__name__)
        return await thread(work, *arguments)

    def script(path: str, request: dict[str, Any]) -> dict[str, Any]:
        return {"allowed": True}

    thread = turns.aside
    monkeypatch.setattr(turns, "aside", spy)
    async with bench(script) as b:
        cluster = b.cluster

        async def create(name: str) -> tuple[int, str, list[str]]:
            aside.clear()
            made = await cluster.http("POST", MAPS, config_map(name, **MANY))
            return made.status, made.message if made.status != 201 else "", list(aside)

        async def change(**spec: Any) -> None:
            path = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/p"
            changed = await cluster.http("PATCH", path, {"spec": spec}, content_type=MERGE)
            assert changed.status == 200, changed.message

        cheap = [{"expression": QUICK}, {"expression": "size(object.metadata.name) < 9"}]
        await put(cluster, policy(validations=cheap), binding())
        assert await create("a") == (201, "", [])
        # Three questions are more than upstream allows one expression.
        await change(validations=[{"expression": " && ".join([QUICK] * 3)}])
        status, message, where = await create("b")
        assert (status, where) == (422, ["judge"])
        assert "cost limit exceeded" in message

        asking = [
            {"expression": f"{LONG} && {QUICK}"},
            {"expression": f"!({LONG})", "messageExpression": "'too ' + 'long'"},
        ]
        await change(validations=asking)
        status, message, where = await create("b")
        assert (status, where) == (422, ["judge"])
        assert "too long" in message

        conditions = [{"name": "long", "expression": f"!({LONG})"}]
        await change(matchConditions=conditions)
        assert await create("c") == (201, "", ["_meets"])

        await b.register("validating", "seen", matchConditions=conditions)
        assert await create("d") == (201, "", ["_meets", "_meets"])
        assert not b.requests


async def test_a_loop_has_its_turns_while_the_thread_evaluates() -> None:
    async with api_cluster() as cluster:
        await put(cluster, policy(validations=[{"expression": LONG}] * 3), binding())
        await turns_of(cluster, "warm", a="1")
        assert await turns_of(cluster, "a", **MANY) > 20
