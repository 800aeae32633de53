"""Policies in a file, one a line: whom they allow what."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sampan.server.authz.abac import FILE, Policies
from sampan.server.authz.questions import Asked, Verdict
from sampan.server.documents import BadDocument
from sampan.server.exchange import User
from sampan.server.webhooks.files import target_in_cluster
from tests.kit.cluster import api_cluster

ANN = User("ann", ("system:authenticated", "ops"))
BOB = User("bob", ("system:authenticated",))


def line(**spec: Any) -> str:
    version = "abac.authorization.kubernetes.io/v1beta1"
    return json.dumps({"apiVersion": version, "kind": "Policy", "spec": spec})


def policies(folder: Path, *lines: str) -> Policies:
    (folder / FILE).write_text("# who may what\n\n" + "\n".join(lines) + "\n")
    return Policies(folder / FILE)


def pods(user: User, verb: str = "get", namespace: str = "n", group: str = "") -> Asked:
    return Asked(user, verb, group, "pods", "", namespace)


ALL = {"namespace": "*", "resource": "*", "apiGroup": "*"}
CASES = [
    ({"user": "ann", **ALL}, pods(ANN, "delete"), True),
    ({"user": "ann", **ALL}, pods(BOB), False),
    ({"user": "*", **ALL}, pods(BOB), True),
    ({"group": "ops", **ALL}, pods(ANN), True),
    ({"group": "ops", **ALL}, pods(BOB), False),
    ({"group": "*", **ALL}, pods(BOB), True),
    ({"user": "ann", "group": "others", **ALL}, pods(ANN), False),
    (ALL, pods(ANN), False),
    ({"user": "ann", "readonly": True, **ALL}, pods(ANN, "watch"), True),
    ({"user": "ann", "readonly": True, **ALL}, pods(ANN, "update"), False),
    ({"user": "ann", "namespace": "n", "resource": "pods"}, pods(ANN), True),
    ({"user": "ann", "namespace": "m", "resource": "pods"}, pods(ANN), False),
    ({"user": "ann", "namespace": "n", "resource": "pods"}, pods(ANN, group="x"), False),
    ({"user": "ann", **ALL}, Asked(ANN, "get", path="/version"), False),
    ({"user": "ann", "nonResourcePath": "/ver*"}, Asked(ANN, "get", path="/version"), True),
    ({"user": "ann", "nonResourcePath": "/ver"}, Asked(ANN, "get", path="/version"), False),
    ({"user": "ann", "nonResourcePath": "*"}, pods(ANN), False),
]


@pytest.mark.parametrize(("spec", "asked", "allowed"), CASES)
def test_one_policy(tmp_path: Path, spec: Any, asked: Asked, allowed: bool) -> None:
    said = policies(tmp_path, line(user="else"), line(**spec)).decide(asked)
    assert said.verdict is (Verdict.ALLOW if allowed else Verdict.NO_OPINION)
    assert said.reason == ("" if allowed else "No policy matched.")


@pytest.mark.parametrize("bad", ["{", "[]", '{"user":"ann"}', line(owner="x"), line(readonly="no")])
def test_a_file_that_is_no_good_says_where(tmp_path: Path, bad: str) -> None:
    with pytest.raises(BadDocument, match="line 4"):
        policies(tmp_path, line(user="x"), bad)
    with pytest.raises(BadDocument, match="No such file"):
        Policies(tmp_path / "none")


async def test_the_chain_asks_it(tmp_path: Path) -> None:
    policies(tmp_path, line(user="ann", readonly=True, **ALL))
    (tmp_path / "authorization.yaml").write_text(
        "{apiVersion: apiserver.config.k8s.io/v1, kind: AuthorizationConfiguration,"
        " authorizers: [{type: ABAC, name: file}]}"
    )
    path = "/api/v1/namespaces/default/configmaps"
    async with api_cluster(folder=tmp_path) as cluster:
        assert (await cluster.http("GET", path, user=ANN)).status == 200
        assert (await cluster.http("POST", path, {}, user=ANN)).status == 403
        refused = await cluster.http("GET", path, user=BOB)
        assert refused.message.endswith("No policy matched.")


def test_a_pod_asks_its_own_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="unable to load in-cluster configuration"):
        target_in_cluster(tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    with pytest.raises(ValueError, match="token"):
        target_in_cluster(tmp_path)
    (tmp_path / "token").write_text("t0\n")
    (tmp_path / "ca.crt").write_bytes(b"ca")
    target = target_in_cluster(tmp_path)
    assert (target.url, target.ca) == ("https://[fd00::1]:443", b"ca")
    assert target.headers == (("Authorization", "Bearer t0"),)
