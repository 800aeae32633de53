"""Whatever is sent to reviews and subresources, the answer is the client's fault, never a 5xx."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.server.exchange import Response
from tests.kit.cluster import ADMIN, Cluster, api_cluster, request_of

NS = "/api/v1/namespaces/default"
RBAC = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
AUTHORIZATION = "/apis/authorization.k8s.io/v1"
META: Any = {"name": "p", "namespace": "default", "labels": {"a": "b"}, "annotations": {"a": "b"}}
POD: Any = {
    "containers": [
        {"name": "c", "image": "x", "resources": {"limits": {"cpu": "1"}}, "volumeMounts": []}
    ],
    "tolerations": [{"key": "a", "operator": "Exists"}],
    "volumes": [{"name": "v", "emptyDir": {}}],
    "priorityClassName": "system-node-critical",
    "runtimeClassName": "none",
    "serviceAccountName": "default",
}
RULE: Any = {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]}
SCALE: Any = {"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": {"name": "d"},
              "spec": {"replicas": 2}}  # fmt: skip
ASKED: Any = {"verb": "get", "resource": "pods", "namespace": "default", "name": "x"}
REVIEW: Any = {
    "spec": {"user": "bob", "groups": ["a"], "extra": {"k": ["v"]}, "resourceAttributes": ASKED}
}
# Where to send, and a body that is well formed, to be spoilt.
TARGETS: tuple[tuple[str, str, Any], ...] = (
    ("POST", f"{NS}/pods/p/binding", {"metadata": META, "target": {"kind": "Node", "name": "n"}}),
    ("POST", f"{NS}/pods/p/eviction?dryRun=All",
     {"metadata": META, "deleteOptions": {"preconditions": {"uid": "1"}}}),
    ("POST", f"{NS}/bindings", {"metadata": META, "target": {"kind": "Node", "name": "n"}}),
    ("POST", f"{NS}/serviceaccounts/default/token",
     {"spec": {"audiences": ["a"], "expirationSeconds": 600,
               "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": "1"}}}),
    ("PUT", "/apis/apps/v1/namespaces/default/deployments/d/scale", SCALE),
    ("PATCH", "/apis/apps/v1/namespaces/default/deployments/d/scale", SCALE),
    ("PUT", "/api/v1/namespaces/default/finalize",
     {"metadata": {"name": "default"}, "spec": {"finalizers": ["kubernetes"]}}),
    ("POST", "/apis/authentication.k8s.io/v1/tokenreviews",
     {"spec": {"token": "a.b.c", "audiences": ["x"]}}),
    ("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {"spec": {}}),
    ("POST", f"{AUTHORIZATION}/subjectaccessreviews", REVIEW),
    ("POST", f"{AUTHORIZATION}/selfsubjectaccessreviews", REVIEW),
    ("POST", f"{AUTHORIZATION}/selfsubjectrulesreviews", {"spec": {"namespace": "default"}}),
    ("POST", f"{AUTHORIZATION}/namespaces/default/localsubjectaccessreviews", REVIEW),
    ("POST", f"{RBAC}/roles", {"metadata": META, "rules": [RULE]}),
    ("POST", f"{RBAC}/rolebindings",
     {"metadata": META, "subjects": [{"kind": "User", "name": "x"}],
      "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}}),
    ("POST", f"{NS}/pods", {"metadata": META, "spec": POD}),
    ("POST", f"{NS}/limitranges",
     {"metadata": META, "spec": {"limits": [{"type": "Container", "max": {"cpu": "1"},
                                             "default": {"cpu": "1"}}]}}),
    ("POST", f"{NS}/persistentvolumeclaims",
     {"metadata": META, "spec": {"accessModes": ["ReadWriteOnce"],
                                 "resources": {"requests": {"storage": "1Gi"}}}}),
    ("POST", "/api/v1/nodes", {"metadata": META, "spec": {"taints": [{"key": "a"}]}}),
    ("GET", f"{NS}/pods/p/log", None),
    ("GET", f"{NS}/pods/p/exec", None),
)  # fmt: skip
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from((-1, 0, 1, 1 << 33, 1 << 62, 0.5, "", "x", "default", "p", "Node", "é\x00")),
)
SPOILT = st.one_of(
    LEAVES,
    st.lists(LEAVES, max_size=2),
    st.dictionaries(st.sampled_from(("name", "kind", "spec", "x")), LEAVES, max_size=2),
)


def places(value: Any) -> int:
    """How many values there are in `value`, itself among them."""
    children = value.values() if isinstance(value, dict) else value
    return 1 + sum(map(places, children)) if isinstance(value, dict | list) else 1


def spoil(value: Any, place: int, spoilt: Any) -> Any:
    """A copy of `value` with the value at `place`, counted in depth-first order, replaced."""
    if place == 0:
        return spoilt
    if not isinstance(value, dict | list):
        return value
    items = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    place -= 1
    changed = []
    for key, child in items:
        size = places(child)
        changed.append((key, spoil(child, place, spoilt) if 0 <= place < size else child))
        place -= size
    return dict(changed) if isinstance(value, dict) else [child for _, child in changed]


QUERIES = st.dictionaries(
    st.sampled_from(("container", "tailLines", "sinceTime", "stream", "command", "dryRun")),
    st.sampled_from(("", "x", "-1", "99999999999999999999", "%00", "All", "c", "١")),
    max_size=3,
)


async def furnish(cluster: Cluster) -> None:
    await cluster.http("POST", f"{NS}/serviceaccounts", {"metadata": {"name": "default"}})
    pod = {"containers": [{"name": "c", "image": "x"}]}
    await cluster.http("POST", f"{NS}/pods", {"metadata": {"name": "p"}, "spec": pod})
    labels = {"app": "d"}
    spec = {
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    made = await cluster.http(
        "POST", "/apis/apps/v1/namespaces/default/deployments", {"metadata": {"name": "d"},
                                                                 "spec": spec}
    )  # fmt: skip
    assert made.status == 201, made.message


@pytest.fixture(scope="module")
def hostile() -> Iterator[tuple[asyncio.Runner, Cluster]]:
    """One cluster for all examples: what they leave behind is part of the hostility."""
    with asyncio.Runner() as runner:
        opened = api_cluster()
        cluster = runner.run(opened.__aenter__())
        runner.run(furnish(cluster))
        yield runner, cluster
        runner.run(opened.__aexit__(None, None, None))


@pytest.mark.trust
@settings(max_examples=1500, deadline=None, derandomize=True)
@given(st.sampled_from(TARGETS), st.lists(st.tuples(st.integers(0, 40), SPOILT), max_size=2),
       QUERIES)  # fmt: skip
def test_no_body_makes_the_server_fail(
    hostile: tuple[asyncio.Runner, Cluster],
    target: tuple[str, str, Any],
    changes: list[tuple[int, Any]],
    query: dict[str, str],
) -> None:
    runner, cluster = hostile
    method, path, body = target
    for place, spoilt in changes:
        body = spoil(body, place % places(body), spoilt)
    separator = "&" if "?" in path else "?"
    url = path + separator + "&".join(f"{key}={value}" for key, value in query.items())
    media = "application/merge-patch+json" if method == "PATCH" else "application/json"
    sent = None if method == "GET" else body
    answer = runner.run(cluster.server.handle(request_of(method, url, sent, ADMIN, media, "")))
    if isinstance(answer, Response):
        assert answer.status < 500, (method, url, body, answer.body)
