"""RBAC end to end: the matrix of who may do what, escalation, and the words of a refusal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from sampan.server.exchange import ANONYMOUS, Stream, Upgrade, User
from tests.kit.cluster import ADMIN, Cluster, api_cluster, request_of

RBAC = "rbac.authorization.k8s.io"
API = f"/apis/{RBAC}/v1"
AUTHENTICATED = "system:authenticated"


def rule(verbs: str, resources: str, group: str = "", names: str = "") -> dict[str, Any]:
    raw: dict[str, Any] = {
        "verbs": verbs.split(),
        "apiGroups": [group],
        "resources": resources.split(),
    }
    if names:
        raw["resourceNames"] = names.split()
    return raw


async def grant(
    cluster: Cluster, name: str, user: str, rules: list[dict[str, Any]], namespace: str = ""
) -> None:
    """A role and its binding; in a namespace, or cluster-wide."""
    scope = f"/namespaces/{namespace}" if namespace else ""
    role, binding = (
        ("roles", "rolebindings")
        if namespace
        else (
            "clusterroles",
            "clusterrolebindings",
        )
    )
    ref = {"apiGroup": RBAC, "kind": "Role" if namespace else "ClusterRole", "name": name}
    subject = {"apiGroup": RBAC, "kind": "User", "name": user}
    for plural, body in (
        (role, {"metadata": {"name": name}, "rules": rules}),
        (binding, {"metadata": {"name": name}, "roleRef": ref, "subjects": [subject]}),
    ):
        answer = await cluster.http("POST", f"{API}{scope}/{plural}", body)
        assert answer.status == 201, answer.message


# The matrix: what each identity holds, and by an independent model what that allows.


@dataclass(frozen=True)
class Identity:
    user: User
    verbs: frozenset[str]
    resources: frozenset[str]
    namespaces: frozenset[str] | None
    """None: everywhere."""
    names: frozenset[str] | None = None

    def may(self, verb: str, target: str, namespace: str, name: str) -> bool:
        if verb not in self.verbs or target not in self.resources:
            return False
        if self.namespaces is not None and namespace not in self.namespaces:
            return False
        return self.names is None or name in self.names


def identity(
    name: str, verbs: str, resources: str, namespaces: str = "", names: str = ""
) -> Identity:
    return Identity(
        User(name, (AUTHENTICATED,)),
        frozenset(verbs.split()),
        frozenset(resources.split()),
        frozenset(namespaces.split()) if namespaces else None,
        frozenset(names.split()) if names else None,
    )


IDENTITIES = (
    identity("nobody", "", ""),
    identity("reader", "get list watch", "pods pods/log services"),
    identity("local", "get list create delete", "pods configmaps", "a"),
    identity("logs", "get", "pods/log", "a"),
    identity("runner", "create", "pods/exec pods/binding pods/eviction", "b"),
    identity("one", "get update patch delete", "configmaps pods pods/status", "a", "x"),
    identity("scaler", "get update patch", "deployments/scale", "a b"),
    identity("sweeper", "deletecollection", "configmaps", "b"),
    identity("tokens", "create", "serviceaccounts/token", "a"),
)
GROUPS = {"deployments": "apps"}
RESOURCES = {
    "pods": ("log", "status", "exec", "binding", "eviction"),
    "configmaps": (),
    "services": ("status",),
    "deployments": ("scale", "status"),
    "serviceaccounts": ("token",),
}
BY_VERB = {"get": "GET", "list": "GET", "watch": "GET", "create": "POST", "update": "PUT",
           "patch": "PATCH", "delete": "DELETE", "deletecollection": "DELETE"}  # fmt: skip
COLLECTION = ("list", "watch", "create", "deletecollection")


@dataclass(frozen=True)
class Case:
    verb: str
    plural: str
    subresource: str
    namespace: str
    name: str

    @property
    def target(self) -> str:
        return f"{self.plural}/{self.subresource}" if self.subresource else self.plural

    @property
    def path(self) -> str:
        group = GROUPS.get(self.plural)
        base = f"/apis/{group}/v1" if group else "/api/v1"
        parts = [base, f"namespaces/{self.namespace}" if self.namespace else "", self.plural]
        path = "/".join(filter(None, [*parts, self.name, self.subresource]))
        return path + ("?watch=true" if self.verb == "watch" else "")


def cases() -> Iterator[Case]:
    for plural, subresources in RESOURCES.items():
        for namespace in ("a", "b"):
            for verb in BY_VERB:
                if verb in COLLECTION:
                    yield Case(verb, plural, "", namespace, "")
                else:
                    yield from (Case(verb, plural, "", namespace, name) for name in "xy")
            for subresource in subresources:
                for verb in ("get", "create", "update", "patch", "delete"):
                    yield from (Case(verb, plural, subresource, namespace, name) for name in "xy")
        for verb in ("list", "watch"):
            yield Case(verb, plural, "", "", "")


def split(resources: frozenset[str]) -> list[dict[str, Any]]:
    return [
        {"apiGroups": [GROUPS.get(item.partition("/")[0], "")], "resources": [item]}
        for item in sorted(resources)
    ]


async def give_rights(cluster: Cluster) -> None:
    for namespace in ("a", "b"):
        await cluster.http("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
        account = {"metadata": {"name": "default"}}
        await cluster.http("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", account)
    for who in IDENTITIES:
        if not who.verbs:
            continue
        extra = {"verbs": sorted(who.verbs)}
        if who.names is not None:
            extra["resourceNames"] = sorted(who.names)
        rules = [{**item, **extra} for item in split(who.resources)]
        for namespace in sorted(who.namespaces) if who.namespaces is not None else ("",):
            await grant(cluster, who.user.name, who.user.name, rules, namespace)


async def status_of(cluster: Cluster, user: User, case: Case) -> tuple[int, str]:
    """Status and reason of the answer; streams are closed at once."""
    merge = "application/merge-patch+json" if case.verb == "patch" else "application/json"
    body = None if BY_VERB[case.verb] == "GET" else {}
    request = request_of(BY_VERB[case.verb], case.path, body, user, merge, "")
    answer = await cluster.server.handle(request)
    if isinstance(answer, Stream):
        await answer.chunks.aclose()  # type: ignore[attr-defined]
        return 200, ""
    assert not isinstance(answer, Upgrade)
    return answer.status, (answer.body or b"").decode()


@pytest.mark.trust
@pytest.mark.parametrize("who", IDENTITIES, ids=lambda who: who.user.name)
async def test_matrix_has_no_leak(who: Identity) -> None:
    """TRUST row 12, at CI's size: what the model forbids is 403 with nothing of the object, and
    what it allows is anything but 403."""
    async with api_cluster() as cluster:
        await give_rights(cluster)
        for case in cases():
            status, text = await status_of(cluster, who.user, case)
            allowed = who.may(case.verb, case.target, case.namespace, case.name)
            # exec by GET asks for the right to create as well, so that readers cannot run things.
            if case.subresource == "exec" and case.verb != "create":
                allowed = False
            assert (status != 403) is allowed, (who.user.name, case, status, text[:200])
            assert status < 500 or (allowed and status != 500), (case, status, text[:200])
            if not allowed:
                assert f'User \\"{who.user.name}\\" cannot' in text, text


@pytest.mark.trust
async def test_matrix_fails_when_the_guard_is_gone() -> None:
    """The negative control: with the authorizer off, the matrix above would not hold."""
    async with api_cluster() as cluster:
        await give_rights(cluster)
        cluster.server.authorizer.authorize = lambda attributes: (True, "")
        status, _ = await status_of(cluster, IDENTITIES[0].user, Case("list", "pods", "", "a", ""))
        assert status == 200


@pytest.mark.parametrize(
    ("method", "path", "message"),
    [
        (
            "GET",
            "/api/v1/namespaces/default/pods",
            'pods is forbidden: User "bob" cannot list resource "pods" in API group "" in the'
            ' namespace "default"',
        ),
        (
            "GET",
            "/api/v1/nodes/n1",
            'nodes "n1" is forbidden: User "bob" cannot get resource "nodes" in API group "" at'
            " the cluster scope",
        ),
        (
            "GET",
            "/api/v1/namespaces/a/pods/p/log",
            'pods "p" is forbidden: User "bob" cannot get resource "pods/log" in API group "" in'
            ' the namespace "a"',
        ),
        (
            "DELETE",
            "/apis/apps/v1/namespaces/a/deployments/d",
            'deployments.apps "d" is forbidden: User "bob" cannot delete resource "deployments" in'
            ' API group "apps" in the namespace "a"',
        ),
        ("GET", "/metrics", 'forbidden: User "bob" cannot get path "/metrics"'),
    ],
)
async def test_refusals_read_as_upstream(method: str, path: str, message: str) -> None:
    async with api_cluster() as cluster:
        answer = await cluster.http(method, path, user=User("bob", (AUTHENTICATED,)))
        assert (answer.status, answer.message) == (403, message)


async def test_nobody_grants_what_they_do_not_hold() -> None:
    bob = User("bob", (AUTHENTICATED,))
    async with api_cluster() as cluster:
        writes = rule("create update patch get", "roles rolebindings clusterroles", RBAC)
        await grant(cluster, "writer", "bob", [writes, rule("get list", "pods")], "default")
        path = f"{API}/namespaces/default"

        async def make_role(name: str, rules: list[dict[str, Any]], user: User = bob) -> Any:
            body = {"metadata": {"name": name}, "rules": rules}
            return await cluster.http("POST", f"{path}/roles", body, user=user)

        assert (await make_role("ok", [rule("get", "pods")])).status == 201
        refused = await make_role("more", [rule("get delete", "pods"), rule("get", "secrets")])
        assert (refused.status, refused.message) == (
            403,
            'roles.rbac.authorization.k8s.io "more" is forbidden: user "bob"'
            ' (groups=["system:authenticated"]) is attempting to grant RBAC permissions not'
            ' currently held:\n{APIGroups:[""], Resources:["pods"], Verbs:["delete"]}\n'
            '{APIGroups:[""], Resources:["secrets"], Verbs:["get"]}',
        )
        patch = {"rules": [rule("*", "*")]}
        grown = await cluster.http(
            "PATCH", f"{path}/roles/ok", patch, user=bob,
            content_type="application/merge-patch+json",
        )  # fmt: skip
        assert grown.status == 403
        label = await cluster.http(
            "PATCH", f"{path}/roles/ok", {"metadata": {"labels": {"a": "b"}}}, user=bob,
            content_type="application/merge-patch+json",
        )  # fmt: skip
        assert label.status == 200

        async def bind(role: str) -> Any:
            ref = {"apiGroup": RBAC, "kind": "ClusterRole", "name": role}
            subject = {"apiGroup": RBAC, "kind": "User", "name": "bob"}
            body = {"metadata": {"name": f"b-{role}"}, "roleRef": ref, "subjects": [subject]}
            return await cluster.http("POST", f"{path}/rolebindings", body, user=bob)

        assert (await bind("cluster-admin")).status == 403
        assert (await bind("view")).status == 403
        assert (await bind("missing")).status == 404
        # The verb `bind` on that role is enough.
        await grant(cluster, "binder", "bob", [rule("bind", "clusterroles", RBAC, "view")],
                    "default")  # fmt: skip
        assert (await bind("view")).status == 201
        assert (await bind("edit")).status == 403


async def test_labels_do_not_smuggle_rules_into_aggregated_roles() -> None:
    bob = User("bob", (AUTHENTICATED,))
    merge = "application/merge-patch+json"
    async with api_cluster() as cluster:
        writes = rule("create update patch get", "clusterroles", RBAC)
        await grant(cluster, "writer", "bob", [writes, rule("get", "pods")])
        path = f"{API}/clusterroles"
        label = {"metadata": {"labels": {f"{RBAC}/aggregate-to-view": "true"}}}
        for name, code in (("cluster-admin", 403), ("system:node", 403)):
            answer = await cluster.http(
                "PATCH", f"{path}/{name}", label, user=bob, content_type=merge
            )
            assert answer.status == code
        selector = {"clusterRoleSelectors": [{"matchLabels": {"any": "thing"}}]}
        body = {"metadata": {"name": "all"}, "aggregationRule": selector, "rules": []}
        refused = await cluster.http("POST", path, body, user=bob)
        assert (refused.status, refused.message) == (
            403,
            'clusterroles.rbac.authorization.k8s.io "all" is forbidden: must have cluster-admin'
            " privileges to use the aggregationRule",
        )
        assert (await cluster.http("POST", path, body)).status == 201
        # Finalizers are the garbage collector's business, which holds nothing.
        finalizers = {"metadata": {"finalizers": ["x.y/z"]}}
        kept = await cluster.http(
            "PATCH", f"{path}/system:node", finalizers, user=bob, content_type=merge
        )
        assert kept.status == 200


async def test_access_reviews_answer_as_the_server_would() -> None:
    bob = User("bob", (AUTHENTICATED,))
    async with api_cluster() as cluster:
        await grant(cluster, "pods", "bob", [rule("get", "pods")], "default")

        async def review(kind: str, spec: dict[str, Any], user: User = ADMIN) -> Any:
            group = "/apis/authorization.k8s.io/v1"
            scope = "/namespaces/default" if kind.startswith("local") else ""
            path = f"{group}{scope}/{kind}"
            answer = await cluster.http("POST", path, {"spec": spec}, user=user)
            return answer.json["status"] if answer.status == 201 else answer

        pods = {"verb": "get", "resource": "pods", "namespace": "default"}
        secrets = {**pods, "resource": "secrets"}
        mine = await review("selfsubjectaccessreviews", {"resourceAttributes": pods}, bob)
        assert mine["allowed"] is True
        assert mine["reason"].startswith('RBAC: allowed by RoleBinding "pods/default" of Role')
        assert (await review("selfsubjectaccessreviews", {"resourceAttributes": secrets}, bob)) == {
            "allowed": False
        }
        of_bob = {"user": "bob", "resourceAttributes": pods}
        assert (await review("subjectaccessreviews", of_bob))["allowed"] is True
        assert (await review("localsubjectaccessreviews", of_bob))["allowed"] is True
        elsewhere = {"user": "bob", "resourceAttributes": {**pods, "namespace": "other"}}
        assert (await review("localsubjectaccessreviews", elsewhere)).status == 422
        assert (await review("subjectaccessreviews", {"resourceAttributes": pods})).status == 422
        path = {"user": "bob", "nonResourceAttributes": {"verb": "get", "path": "/version"}}
        assert (await review("subjectaccessreviews", path))["allowed"] is False
        in_group = {**path, "groups": [AUTHENTICATED]}
        assert (await review("subjectaccessreviews", in_group))["allowed"] is True
        wrong = await review("subjectaccessreviews", {"user": "bob", "resourceAttributes": "x"})
        assert wrong.status == 400
        # Asking about others is itself a right.
        assert (await review("subjectaccessreviews", of_bob, bob)).status == 403
        rules = await review("selfsubjectrulesreviews", {"namespace": "default"}, bob)
        assert {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]} in rules[
            "resourceRules"
        ]
        whoami = await cluster.http(
            "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {}, user=bob
        )
        assert whoami.json["status"]["userInfo"] == {
            "username": "bob",
            "groups": [AUTHENTICATED],
        }


async def test_who_views_a_namespace_sees_what_its_pods_use() -> None:
    """metrics-server's role, whose API is the server's own here."""
    async with api_cluster() as cluster:
        bob = User("bob", (AUTHENTICATED,))
        path = "/apis/metrics.k8s.io/v1beta1/namespaces/{}/pods"
        body = {
            "metadata": {"name": "b"},
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "view"},
            "subjects": [{"kind": "User", "apiGroup": RBAC, "name": "bob"}],
        }
        bindings = f"{API}/namespaces/default/rolebindings"
        assert (await cluster.http("POST", bindings, body)).status == 201
        assert (await cluster.http("GET", path.format("default"), user=bob)).status == 200
        assert (await cluster.http("GET", path.format("kube-system"), user=bob)).status == 403


async def test_anonymous_sees_health_and_version_only() -> None:
    async with api_cluster() as cluster:
        for path in ("/healthz", "/livez", "/readyz", "/version"):
            assert (await cluster.http("GET", path, user=ANONYMOUS)).status == 200, path
        for path in ("/api", "/apis", "/api/v1", "/openapi/v3", "/metrics", "/api/v1/namespaces"):
            assert (await cluster.http("GET", path, user=ANONYMOUS)).status == 403, path


async def test_default_roles_come_back_at_the_next_start() -> None:
    async with api_cluster() as cluster:
        path = f"{API}/clusterroles/system:kube-dns"
        before = (await cluster.http("GET", path)).json
        await cluster.http("PATCH", path, {"rules": []},
                           content_type="application/merge-patch+json")  # fmt: skip
        await cluster.http("DELETE", f"{API}/clusterrolebindings/cluster-admin")
        await cluster.server.close()
        async with api_cluster(store=cluster.store) as again:
            assert (await again.http("GET", path)).json["rules"] == before["rules"]
            found = await again.http("GET", f"{API}/clusterrolebindings/cluster-admin")
            assert found.status == 200
            at = again.store.revision
        async with api_cluster(store=cluster.store) as third:
            assert third.store.revision == at  # nothing is left to do


async def test_reviews_take_selectors_as_part_of_the_question() -> None:
    """KEP-4601: a node may list pods, but only with its own name as the selector."""
    reviews = "/apis/authorization.k8s.io/v1/subjectaccessreviews"

    async def review(cluster: Cluster, selector: Any) -> tuple[int, Any]:
        asked = {"verb": "list", "resource": "pods", "fieldSelector": selector}
        spec = {"user": "system:node:n1", "groups": ["system:nodes"], "resourceAttributes": asked}
        answer = await cluster.http("POST", reviews, {"spec": spec})
        return answer.status, answer.json

    async with api_cluster() as cluster:
        own = [{"key": "spec.nodeName", "operator": "In", "values": ["n1"]}]
        others = [{"key": "spec.nodeName", "operator": "In", "values": ["n2"]}]
        both = [{"key": "spec.nodeName", "operator": "In", "values": ["n1", "n2"]}]
        for selector, allowed in (
            ({"requirements": own}, True),
            ({"rawSelector": "spec.nodeName=n1"}, True),
            ({"requirements": others}, False),
            ({"requirements": both}, False),
            ({"rawSelector": "spec.nodeName!=n1"}, False),
            (None, False),
        ):
            status, answer = await review(cluster, selector)
            assert (status, answer["status"]["allowed"]) == (201, allowed), selector
        for selector in (
            {},
            {"rawSelector": "a=b", "requirements": own},
            {"requirements": [{"key": "a", "operator": "In"}]},
            {"requirements": [{"key": "a", "operator": "Exists", "values": ["b"]}]},
            {"requirements": [{"key": "a", "operator": "Near"}]},
            {"requirements": [{"key": "", "operator": "Exists"}]},
        ):
            status, _ = await review(cluster, selector)
            assert status == 422, selector


# What the three roles for people hold, told by resource rather than by rule.

READ = {"get", "list", "watch"}
CHANGE = {"create", "update", "patch", "delete", "deletecollection"}
USERS_ROLES = {
    ("view", "pods"): READ,
    ("view", "pods/log"): READ,
    ("view", "configmaps"): READ,
    ("view", "serviceaccounts"): READ,
    ("edit", "pods"): READ | CHANGE,
    ("edit", "pods/exec"): READ | CHANGE,
    ("edit", "pods/log"): READ,
    ("edit", "secrets"): READ | CHANGE,
    ("edit", "configmaps"): READ | CHANGE,
    ("edit", "serviceaccounts"): READ | CHANGE | {"impersonate"},
    ("edit", "serviceaccounts/token"): {"create"},
    ("edit", "pods/eviction"): {"create"},
    ("edit", "resourcequotas"): READ,
    ("admin", "roles"): READ | CHANGE,
    ("admin", "rolebindings"): READ | CHANGE,
    ("admin", "secrets"): READ | CHANGE,
    ("admin", "resourcequotas"): READ,
    ("view", "resourcequotas"): READ,
}
ROLES = ("view", "edit", "admin")
TARGETS = sorted({target for _, target in USERS_ROLES} | {"nodes", "pods/binding", "pods/proxy"})
TARGETS += ["persistentvolumes", "clusterroles", "pods/ephemeralcontainers", "secrets/anything"]
PROXY = {("edit", "pods/proxy"): READ | CHANGE}


def expected(role: str, target: str) -> set[str]:
    """Each role holds what the ones before it hold."""
    held = [*ROLES[: ROLES.index(role) + 1]]
    return set().union(*({**USERS_ROLES, **PROXY}.get((item, target), set()) for item in held))


@pytest.mark.trust
@pytest.mark.parametrize("role", ROLES)
async def test_the_roles_for_people_hold_what_they_should_and_no_more(role: str) -> None:
    verbs = sorted(READ | CHANGE | {"impersonate", "bind", "escalate", "use", "approve", "proxy"})
    bob = User("bob", (AUTHENTICATED,))
    async with api_cluster() as cluster:
        ref = {"apiGroup": RBAC, "kind": "ClusterRole", "name": role}
        subject = {"apiGroup": RBAC, "kind": "User", "name": "bob"}
        body = {"metadata": {"name": "b"}, "roleRef": ref, "subjects": [subject]}
        path = f"{API}/namespaces/default/rolebindings"
        assert (await cluster.http("POST", path, body)).status == 201
        for target in TARGETS:
            plural, _, subresource = target.partition("/")
            group = RBAC if plural in ("roles", "rolebindings", "clusterroles") else ""
            asked = (group, plural, subresource)
            allows = cluster.server.authorizer.allows
            found = {verb for verb in verbs if allows(bob, verb, asked, "default", "x")[0]}
            assert found == expected(role, target), target
            elsewhere = {verb for verb in verbs if allows(bob, verb, asked, "kube-system", "x")[0]}
            assert not elsewhere, target


async def test_a_default_binding_to_another_role_is_made_anew_unless_it_is_ones_own() -> None:
    async with api_cluster() as cluster:
        path = f"{API}/clusterrolebindings"
        for name, keep in (("system:discovery", False), ("system:basic-user", True)):
            found = (await cluster.http("GET", f"{path}/{name}")).json
            await cluster.http("DELETE", f"{path}/{name}")
            meta = {"name": name}
            if keep:
                meta["annotations"] = {"rbac.authorization.kubernetes.io/autoupdate": "false"}  # type: ignore[assignment]
            ref = {**found["roleRef"], "name": "view"}
            body = {"metadata": meta, "roleRef": ref, "subjects": found["subjects"]}
            assert (await cluster.http("POST", path, body)).status == 201
        await cluster.server.close()
        async with api_cluster(store=cluster.store) as again:
            names = [
                (await again.http("GET", f"{path}/{name}")).json["roleRef"]["name"]
                for name in ("system:discovery", "system:basic-user")
            ]
            assert names == ["system:discovery", "view"]
