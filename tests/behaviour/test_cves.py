"""TRUST row 11, the API's part: attacks that others have suffered, refused; and each shown to work
again when the guard against it is taken away."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sampan.api.descriptor import Descriptor
from sampan.server import routes
from sampan.server.admission import denyserviceexternalips, noderestriction
from sampan.server.exchange import User
from sampan.wire import jsonpatch, yaml
from tests.kit.cluster import Answer, Cluster, api_cluster
from tests.kit.fuzz_schemas import CRDS
from tests.kit.wire import AUTH, connected, listening, status

pytestmark = pytest.mark.trust

NS = "/api/v1/namespaces/default"
CM = f"{NS}/configmaps"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
JANE = User("jane", ("system:authenticated",))
NODE = User("system:node:n1", ("system:nodes", "system:authenticated"))
MERGE = "application/merge-patch+json"
Guard = Callable[[pytest.MonkeyPatch], None]


async def bomb(cluster: Cluster) -> bool:
    """CVE-2019-11253: aliases of aliases; 59,049 words in 300 bytes."""
    lines = ["a0: &a0 [x]"]
    lines += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 6)]
    body = "\n".join([*lines, "metadata: {name: z}"]).encode()
    answer = await cluster.http("POST", CM, body, content_type="application/yaml")
    return answer.status == 201


async def operations(cluster: Cluster) -> bool:
    """CVE-2019-1002100: a patch of very many operations."""
    await cluster.http("POST", CM, {"metadata": {"name": "z"}, "data": {"a": "b"}})
    body = [{"op": "test", "path": "/data/a", "value": "b"}] * 10_001
    media = "application/json-patch+json"
    answer = await cluster.http("PATCH", f"{CM}/z", body, content_type=media)
    assert answer.status in (200, 413)
    return answer.status == 200


async def grant(cluster: Cluster, rule: dict[str, Any], user: User, namespace: str = "") -> None:
    scope = f"/namespaces/{namespace}" if namespace else ""
    kind = "Role" if namespace else "ClusterRole"
    ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": "x"}
    subject = {"apiGroup": ref["apiGroup"], "kind": "User", "name": user.name}
    plural = kind.lower()
    made = await cluster.http("POST", f"{RBAC}{scope}/{plural}s",
                              {"metadata": {"name": "x"}, "rules": [rule]})  # fmt: skip
    assert made.status == 201, made.message
    body = {"metadata": {"name": "x"}, "roleRef": ref, "subjects": [subject]}
    binding = "rolebindings" if namespace else "clusterrolebindings"
    made = await cluster.http("POST", f"{RBAC}{scope}/{binding}", body)
    assert made.status == 201, made.message


async def misplaced(cluster: Cluster) -> bool:
    """CVE-2019-11247: a cluster's object through a namespace one has rights in."""
    rule = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}
    await grant(cluster, rule, JANE, "default")
    path = f"{RBAC}/namespaces/default/clusterroles/cluster-admin"
    answer = await cluster.http("GET", path, user=JANE)
    return answer.status == 200


async def external(cluster: Cluster) -> bool:
    """CVE-2020-8554: somebody else's address as one's own."""
    spec = {"ports": [{"port": 80}], "externalIPs": ["8.8.8.8"]}
    body = {"metadata": {"name": "s"}, "spec": spec}
    return (await cluster.http("POST", f"{NS}/services", body)).status == 201


async def owned(cluster: Cluster) -> bool:
    """CVE-2025-5187: a node that gives itself an owner, to be deleted with it."""
    node = {"metadata": {"name": "n1"}}
    assert (await cluster.http("POST", "/api/v1/nodes", node, user=NODE)).status == 201
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "1"}
    body = {"metadata": {"ownerReferences": [owner]}}
    answer = await cluster.http("PATCH", "/api/v1/nodes/n1", body, user=NODE, content_type=MERGE)
    assert answer.status in (200, 403)
    return answer.status == 200


async def escalated(cluster: Cluster) -> bool:
    """CVE-2017-1002100's kin: a role with rights its maker does not hold."""
    rule = {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["*"], "verbs": ["create"]}
    await grant(cluster, rule, JANE)
    body = {"metadata": {"name": "all"},
            "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]}  # fmt: skip
    answer = await cluster.http("POST", f"{RBAC}/clusterroles", body, user=JANE)
    assert answer.status in (201, 403)
    return answer.status == 201


async def patched_past_admission(cluster: Cluster) -> bool:
    """CVE-2016-1905: what a create may not do, done by a patch."""
    service = {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}
    made = await cluster.http("POST", f"{NS}/services", service)
    assert made.status == 201, made.message
    body = {"spec": {"externalIPs": ["8.8.8.8"]}}
    answer = await cluster.http("PATCH", f"{NS}/services/s", body, content_type=MERGE)
    return answer.status == 200


def allow(monkeypatch: pytest.MonkeyPatch, where: Any, name: str, value: Any) -> None:
    monkeypatch.setattr(where, name, value)


ATTACKS: dict[Callable[[Cluster], Awaitable[bool]], Guard] = {
    bomb: lambda patch: allow(patch, yaml, "MAX_ALIASED", 1 << 40),
    operations: lambda patch: allow(patch, jsonpatch, "MAX_OPERATIONS", 1 << 40),
    misplaced: lambda patch: allow(patch, routes, "is_misplaced", lambda *_: False),
    external: lambda patch: _without(patch, denyserviceexternalips),
    patched_past_admission: lambda patch: _without(patch, denyserviceexternalips),
    owned: lambda patch: _without(patch, noderestriction),
    escalated: lambda patch: _without_escalation(patch),
}


def _without(patch: pytest.MonkeyPatch, module: Any) -> None:
    """The chain without one plugin."""
    from sampan.server import admission

    chain = tuple(plugin for plugin in admission.CHAIN if plugin is not module.PLUGIN)
    assert len(chain) < len(admission.CHAIN)
    patch.setattr(admission.Admission.__init__, "__defaults__", (chain,))


def _without_escalation(patch: pytest.MonkeyPatch) -> None:
    from sampan.server.admission import rbacescalation

    _without(patch, rbacescalation)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
@pytest.mark.parametrize("guarded", [True, False], ids=["guarded", "unguarded"])
async def test_an_attack(
    attack: Callable[[Cluster], Awaitable[bool]], guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not guarded:
        ATTACKS[attack](monkeypatch)
    async with api_cluster() as cluster:
        assert await attack(cluster) is not guarded


async def test_metrics_do_not_grow_with_what_strangers_ask() -> None:
    """CVE-2020-8552's kin: names, paths, methods and selectors are no labels."""
    async with api_cluster() as cluster:
        await ask_around(cluster, 0)
        before = len(cluster.server.metrics.requests), len(cluster.server.metrics.durations)
        for number in range(1, 60):
            await ask_around(cluster, number)
        after = len(cluster.server.metrics.requests), len(cluster.server.metrics.durations)
        assert after == before


async def ask_around(cluster: Cluster, number: int) -> None:
    for method, path in (
        ("GET", f"{CM}/x{number}"), ("GET", f"/api/v1/namespaces/x{number}/configmaps"),
        ("GET", f"/x{number}"), ("GET", f"/apis/x{number}/v1/namespaces/a/b"),
        ("GET", f"{CM}?labelSelector=a%3Dx{number}"), ("POST", f"/api/v1/x{number}s"),
        ("DELETE", f"{CM}/x{number}"), ("GET", f"/api/v1/namespaces/a/pods/p/x{number}"),
    ):  # fmt: skip
        await cluster.http(method, path)


@pytest.mark.parametrize(
    "header",
    ["X-Remote-User: system:admin", "X-Remote-Group: system:masters", "X-Forwarded-User: admin",
     "Impersonate-User: admin", "Impersonate-Group: system:masters"],
)  # fmt: skip
async def test_headers_name_nobody(header: str) -> None:
    """What a front proxy says of a client is believed from a front proxy alone."""
    async with listening() as (_, listener), connected(listener) as wire:
        wire.writer.write(f"GET {CM} HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n".encode())
        head = await wire.head()
        assert status(head) in (400, 401, 403)
        await wire.body(head)
        # The control: with credentials the same request is answered.
        wire.writer.write(f"GET {CM} HTTP/1.1\r\n{AUTH}\r\n".encode())
        assert status(await wire.head()) == 200


async def test_one_resource_is_not_read_by_anothers_path() -> None:
    """CVE-2022-3162: a right to one kind of a group leads to no other of the same group."""
    async with api_cluster() as cluster:
        rule = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}
        await grant(cluster, rule, JANE)
        secret = {"metadata": {"name": "s"}, "stringData": {"k": "hidden"}}
        assert (await cluster.http("POST", f"{NS}/secrets", secret)).status == 201
        for name in (
            "../secrets/s",
            "..%2fsecrets%2fs",
            "%2e%2e/secrets/s",
            "../../default/secrets/s",
        ):
            answer = await cluster.http("GET", f"{CM}/{name}", user=JANE)
            assert answer.status in (403, 404)
            assert b"aGlkZGVu" not in answer.body


async def test_names_of_sysctls_are_names() -> None:
    """CVE-2022-0811: a value that brought more settings along."""
    async with api_cluster() as cluster:
        for name in ("kernel.x+kernel.core_pattern=|/x", "a b", "../a", "", "a\n"):
            answer = await create_pod(cluster, {"sysctls": [{"name": name, "value": "1"}]})
            assert answer.status == 422, (name, answer.body)


async def create_pod(cluster: Cluster, security: dict[str, Any]) -> Answer:
    account = {"metadata": {"name": "default"}}
    await cluster.http("POST", f"{NS}/serviceaccounts", account)
    spec = {"containers": [{"name": "c", "image": "x"}], "securityContext": security}
    return await cluster.http("POST", f"{NS}/pods", {"metadata": {"name": "p"}, "spec": spec})


async def test_a_definition_that_is_gone_is_forgotten() -> None:
    """Nobody fills the memory by making and deleting definitions."""
    async with api_cluster() as cluster:
        for number in range(4):
            schema = {"type": "object", "properties": {"a": {"type": "integer", "default": number}}}
            version = {"name": "v1", "served": True, "storage": True,
                       "schema": {"openAPIV3Schema": schema}}  # fmt: skip
            names = {"kind": "Gone", "plural": "gones"}
            spec = {"group": "x.io", "scope": "Cluster", "names": names, "versions": [version]}
            made = await cluster.http(
                "POST", CRDS, {"metadata": {"name": "gones.x.io"}, "spec": spec}
            )
            assert made.status == 201, made.message
            await turns()
            path = "/apis/x.io/v1/gones?fieldManager=f"
            assert (await cluster.http("POST", path, {"metadata": {"name": "a"}})).status == 201
            assert known() == 1
            await cluster.http("DELETE", f"{CRDS}/gones.x.io")
            await turns()
        # What fairness and the history of changes remember for a while goes with what is next.
        cluster.server.fairness._flows.clear()
        gc.collect()
        assert known() == 0


async def turns() -> None:

    for _ in range(300):
        await asyncio.sleep(0)


def known() -> int:
    """Descriptors of the definition there are."""
    return sum(type(item) is Descriptor and item.plural == "gones" for item in gc.get_objects())
