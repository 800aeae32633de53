"""Decisions, their reasons, and that a changed role is heard at once."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.server.authz.authorizer import REMEMBERED, Authorizer
from sampan.server.authz.policy import default_policy, missing_parts
from sampan.server.authz.rules import compile_rules, uncovered
from sampan.server.exchange import ANONYMOUS, User

GROUP = "rbac.authorization.k8s.io"
PODS = ("", "pods", "")
BOB = User("bob", ("system:authenticated", "team"))


def role(name: str, namespace: str, *rules: dict[str, Any]) -> dict[str, Any]:
    meta = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"metadata": meta, "rules": list(rules)}


def binding(
    name: str, namespace: str, ref: tuple[str, str], *subjects: tuple[str, str]
) -> dict[str, Any]:
    meta = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {
        "metadata": meta,
        "roleRef": {"apiGroup": GROUP, "kind": ref[0], "name": ref[1]},
        "subjects": [{"kind": kind, "name": subject} for kind, subject in subjects],
    }


READ_PODS = {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]}
ONE_POD = {**READ_PODS, "resourceNames": ["web"]}


@pytest.fixture
def authorizer() -> Authorizer:
    made = Authorizer()
    made.grants.role_changed("ADDED", role("reader", "", READ_PODS), None)
    made.grants.role_changed("ADDED", role("one", "a", ONE_POD), None)
    return made


def test_a_role_binding_reaches_its_namespace_only(authorizer: Authorizer) -> None:
    bound = binding("b", "a", ("ClusterRole", "reader"), ("User", "bob"))
    authorizer.grants.binding_changed("ADDED", bound, None)
    assert authorizer.allows(BOB, "get", PODS, "a", "x") == (
        True,
        'RBAC: allowed by RoleBinding "b/a" of ClusterRole "reader" to User "bob"',
    )
    assert authorizer.allows(BOB, "get", PODS, "b", "x") == (False, "")
    assert authorizer.allows(BOB, "list", PODS, "", "") == (False, "")
    assert authorizer.allows(BOB, "delete", PODS, "a", "x") == (False, "")


def test_changes_are_heard_at_once(authorizer: Authorizer) -> None:
    bound = binding("b", "", ("ClusterRole", "reader"), ("Group", "team"))
    grants = authorizer.grants
    steps = [
        (lambda: None, False),
        (lambda: grants.binding_changed("ADDED", bound, None), True),
        (lambda: grants.role_changed("MODIFIED", role("reader", ""), None), False),
        (lambda: grants.role_changed("MODIFIED", role("reader", "", READ_PODS), None), True),
        (lambda: grants.binding_changed("MODIFIED", {**bound, "subjects": []}, bound), False),
        (lambda: grants.binding_changed("MODIFIED", bound, None), True),
        (lambda: grants.binding_changed("DELETED", bound, None), False),
    ]
    for step, expected in steps:
        step()
        assert authorizer.allows(BOB, "list", PODS, "a", "")[0] is expected


def test_names_allow_only_themselves(authorizer: Authorizer) -> None:
    bound = binding("b", "a", ("Role", "one"), ("User", "bob"))
    authorizer.grants.binding_changed("ADDED", bound, None)
    assert authorizer.allows(BOB, "get", PODS, "a", "web")[0]
    assert not authorizer.allows(BOB, "get", PODS, "a", "other")[0]
    assert not authorizer.allows(BOB, "list", PODS, "a", "")[0]


def test_a_missing_role_is_the_reason(authorizer: Authorizer) -> None:
    for name in ("x", "y"):
        bound = binding(name, "", ("ClusterRole", name), ("User", "bob"))
        authorizer.grants.binding_changed("ADDED", bound, None)
    allowed, reason = authorizer.allows(BOB, "get", PODS, "a", "x")
    assert not allowed
    assert reason == (
        'RBAC: [clusterrole.rbac.authorization.k8s.io "x" not found,'
        ' clusterrole.rbac.authorization.k8s.io "y" not found]'
    )
    authorizer.grants.role_changed("ADDED", role("x", "", READ_PODS), None)
    assert authorizer.allows(BOB, "get", PODS, "a", "x")[0]


def test_service_accounts_are_users_by_their_name(authorizer: Authorizer) -> None:
    bound = binding("b", "a", ("ClusterRole", "reader"))
    bound["subjects"] = [{"kind": "ServiceAccount", "name": "app", "namespace": "other"}]
    authorizer.grants.binding_changed("ADDED", bound, None)
    assert authorizer.allows(User("system:serviceaccount:other:app"), "get", PODS, "a", "x")[0]
    assert not authorizer.allows(User("system:serviceaccount:a:app"), "get", PODS, "a", "x")[0]


def test_namespaced_bindings_never_grant_paths(authorizer: Authorizer) -> None:
    rule = {"verbs": ["get"], "nonResourceURLs": ["/metrics"]}
    authorizer.grants.role_changed("ADDED", role("m", "", rule), None)
    bound = binding("b", "a", ("ClusterRole", "m"), ("User", "bob"))
    authorizer.grants.binding_changed("ADDED", bound, None)
    assert not authorizer.allows_path(BOB, "get", "/metrics")[0]
    authorizer.grants.binding_changed(
        "ADDED", binding("c", "", ("ClusterRole", "m"), ("User", "bob")), None
    )
    assert authorizer.allows_path(BOB, "get", "/metrics")[0]


def test_the_memory_of_decisions_is_bounded(authorizer: Authorizer) -> None:
    for number in range(REMEMBERED + 10):
        authorizer.allows(BOB, "get", PODS, f"n{number}", "")
        authorizer.allows_path(BOB, "get", f"/{number}")
    assert len(authorizer._resources) <= REMEMBERED
    assert len(authorizer._paths) <= REMEMBERED


def test_long_questions_are_not_remembered(authorizer: Authorizer) -> None:
    """Anybody may ask about anything; nobody fills the memory with it."""
    letters = "x" * 1000
    authorizer.allows(BOB, letters, PODS, "a", "")
    authorizer.allows(BOB, "get", ("", letters, ""), "a", "")
    authorizer.allows(User("bob", tuple(map(str, range(1000)))), "get", PODS, "a", "")
    authorizer.allows_path(BOB, "get", f"/{letters}")
    assert not authorizer._resources
    assert not authorizer._paths


@pytest.fixture(scope="module")
def defaults() -> Authorizer:
    made = Authorizer()
    for item in default_policy():
        is_role = item.resource.plural.endswith("roles")
        change = made.grants.role_changed if is_role else made.grants.binding_changed
        change("ADDED", item.obj, None)
    return made


def test_every_default_binding_names_a_role_that_exists(defaults: Authorizer) -> None:
    for held in defaults.grants._subjects.values():
        for item in held:
            assert defaults.grants.rules_of(item.role) is not None, item


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz", "/version"])
def test_anonymous_may_ask_for_health_and_version(defaults: Authorizer, path: str) -> None:
    assert defaults.allows_path(ANONYMOUS, "get", path)[0]
    assert not defaults.allows_path(ANONYMOUS, "post", path)[0]


@pytest.mark.parametrize("path", ["/", "/api", "/apis", "/openapi/v2", "/metrics", "/healthz/etcd"])
def test_anonymous_may_ask_for_nothing_else(defaults: Authorizer, path: str) -> None:
    assert not defaults.allows_path(ANONYMOUS, "get", path)[0]
    assert not defaults.allows(ANONYMOUS, "get", PODS, "default", "x")[0]


def test_default_policy_is_stable() -> None:
    for item in default_policy():
        assert missing_parts(item.obj, item.obj) is None


def test_missing_rules_come_back_and_added_ones_stay() -> None:
    item = next(item for item in default_policy() if item.key == ("", "system:volume-scheduler"))
    added = {"verbs": ["get"], "apiGroups": [""], "resources": ["nodes"]}
    stored = {**item.obj, "rules": [added, item.obj["rules"][0]]}
    mended = missing_parts(stored, item.obj)
    assert mended is not None
    assert mended["rules"] == [added, *item.obj["rules"]]
    off = {"rbac.authorization.kubernetes.io/autoupdate": "false"}
    kept = {**stored, "metadata": {**item.obj["metadata"], "annotations": off}}
    assert missing_parts(kept, item.obj) is None


def test_what_is_missing_is_told_in_its_own_order() -> None:
    wanted = {"verbs": ["watch", "get"], "apiGroups": ["b", "a"], "resources": ["y", "x"]}
    told = [
        (rule["apiGroups"][0], rule["resources"][0], rule["verbs"])
        for rule in uncovered((), compile_rules([wanted]))
    ]
    verbs = ["watch", "get"]
    assert told == [("b", "y", verbs), ("b", "x", verbs), ("a", "y", verbs), ("a", "x", verbs)]
