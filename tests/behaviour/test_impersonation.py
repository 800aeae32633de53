"""Constrained impersonation (KEP-5284): a right to be somebody, and one to do this as somebody."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from sampan.server.entrance import receive
from sampan.server.exchange import Request, Response, User
from tests.kit.cluster import Cluster, api_cluster

RBAC = "rbac.authorization.k8s.io"
AUTHN = "authentication.k8s.io"
PODS = "/api/v1/namespaces/default/pods"
ADMIN = User("root", ("system:masters",))
HELPER = User("helper", ("system:authenticated",))
AGENT = User(
    "system:serviceaccount:default:agent",
    ("system:serviceaccounts", "system:authenticated"),
    "",
    {"authentication.kubernetes.io/node-name": ("n1",)},
)
TOKENS = {"admin": ADMIN, "helper": HELPER, "agent": AGENT}


def rule(verb: str, plural: str, group: str = AUTHN, *names: str) -> dict[str, Any]:
    found: dict[str, Any] = {"verbs": [verb], "apiGroups": [group], "resources": [plural]}
    return found | ({"resourceNames": list(names)} if names else {})


async def grant(cluster: Cluster, name: str, rules: list[dict[str, Any]], user: str) -> None:
    api = f"/apis/{RBAC}/v1"
    body: dict[str, Any] = {"metadata": {"name": name}, "rules": rules}
    assert (await cluster.http("POST", f"{api}/clusterroles", body)).status == 201
    subject = {"apiGroup": RBAC, "kind": "User", "name": user}
    ref = {"apiGroup": RBAC, "kind": "ClusterRole", "name": name}
    body = {"metadata": {"name": name}, "roleRef": ref, "subjects": [subject]}
    assert (await cluster.http("POST", f"{api}/clusterrolebindings", body)).status == 201


async def ask(
    cluster: Cluster, token: str, headers: dict[str, str], path: str = PODS, method: str = "GET"
) -> tuple[int, str, Request]:
    named = {f"impersonate-{key}": value for key, value in headers.items()}
    request = Request(method, path, {}, {"authorization": f"Bearer {token}", **named}, b"{}")
    answer = receive(cluster.server, request, None)
    if not isinstance(answer, Response):
        answer = await answer  # type: ignore[misc]
    assert isinstance(answer, Response)
    return answer.status, str(orjson.loads(answer.body or b"{}").get("message", "")), request


async def test_both_rights_are_needed_and_hold_for_this_verb_alone() -> None:
    async with api_cluster(tokens=TOKENS) as cluster:
        await grant(cluster, "bob", [rule("list", "pods", "")], "bob")
        be_bob = rule("impersonate:user-info", "users", AUTHN, "bob")
        on_list = rule("impersonate-on:user-info:list", "pods", "")
        status, why, _ = await ask(cluster, "helper", {"user": "bob"})
        assert (status, why) == (
            403,
            'pods is forbidden: User "helper" cannot impersonate-on:user-info:list resource "pods"'
            ' in API group "" in the namespace "default"',
        )
        await grant(cluster, "on", [on_list], "helper")
        status, why, _ = await ask(cluster, "helper", {"user": "bob"})
        assert (status, why) == (
            403,
            'users.authentication.k8s.io "bob" is forbidden: User "helper" cannot'
            ' impersonate:user-info resource "users" in API group "authentication.k8s.io" at the'
            " cluster scope",
        )
        await grant(cluster, "be", [be_bob], "helper")
        status, _, request = await ask(cluster, "helper", {"user": "bob"})
        assert status == 200
        assert request.user.name == "bob"
        assert request.constraint == "impersonate:user-info"
        assert request.impersonator == HELPER
        for headers, path, method in (
            ({"user": "bob"}, f"{PODS}/x", "GET"),
            ({"user": "bob"}, PODS, "POST"),
            ({"user": "eve"}, PODS, "GET"),
            ({"user": "bob", "group": "dev"}, PODS, "GET"),
            ({"user": "bob", "uid": "7"}, PODS, "GET"),
            ({"user": "bob", "extra-x.y%2fz": "1"}, PODS, "GET"),
        ):
            status, why, _ = await ask(cluster, "helper", headers, path, method)
            assert status == 403
            assert "impersonate" in why


async def test_masters_are_out_of_reach_of_constrained_rights() -> None:
    async with api_cluster(tokens=TOKENS) as cluster:
        rules = [rule("impersonate:user-info", "*"), rule("impersonate-on:user-info:list", "*", "")]
        await grant(cluster, "all", rules, "helper")
        status, why, _ = await ask(cluster, "helper", {"user": "bob", "group": "system:masters"})
        assert status == 403
        assert why.endswith("impersonating the system:masters group is not allowed")
        # Neither nodes nor service accounts are people.
        for name in ("system:node:n1", "system:serviceaccount:default:x"):
            status, _, _ = await ask(cluster, "helper", {"user": name})
            assert status == 403


async def test_an_agent_may_act_as_its_own_node_and_no_other() -> None:
    async with api_cluster(tokens=TOKENS) as cluster:
        rules = [
            rule("impersonate:associated-node", "nodes"),
            rule("impersonate-on:associated-node:get", "nodes", ""),
        ]
        await grant(cluster, "own", rules, AGENT.name)
        await cluster.http("POST", "/api/v1/nodes", {"metadata": {"name": "n1"}})
        node = "/api/v1/nodes/n1"
        status, why, request = await ask(cluster, "agent", {"user": "system:node:n1"}, node)
        assert status == 200, why
        assert request.user.groups == ("system:nodes", "system:authenticated")
        assert (await ask(cluster, "agent", {"user": "system:node:n2"}, node))[0] == 403
        assert (await ask(cluster, "helper", {"user": "system:node:n1"}, node))[0] == 403


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("system:node:n1", ("system:nodes", "system:authenticated")),
        (
            "system:serviceaccount:a:b",
            ("system:serviceaccounts", "system:serviceaccounts:a", "system:authenticated"),
        ),
        ("bob", ("system:authenticated",)),
    ],
)
async def test_who_may_do_everything_is_given_the_groups_of_whom_they_act_as(
    name: str, groups: tuple[str, ...]
) -> None:
    async with api_cluster(tokens=TOKENS) as cluster:
        _, _, request = await ask(cluster, "admin", {"user": name})
        assert request.user.groups == groups
        # Masters only the old way, which upstream keeps.
        _, _, request = await ask(cluster, "admin", {"user": name, "group": "system:masters"})
        assert request.constraint == ""
        assert "system:masters" in request.user.groups
